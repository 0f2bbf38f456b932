"""The command `watch`: a run on a page, while it runs or afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_gym.cli.runs import interruptible
from llm_gym.cli.served import Host, NoBrowser, Page, Port, serve_page

EXAMPLES = """\
In one terminal, and in another while the first is at work:

\b
  llm-gym train --env llm_gym/PoliteEmail-v0 --output runs/polite
  llm-gym watch runs/polite"""


def watch(
    directory: Annotated[Path, typer.Argument(help="Of a run of demo, train, rlhf or an agent.")],
    host: Host = "127.0.0.1",
    port: Port = 0,
    no_browser: NoBrowser = False,
) -> None:
    """Watch a run in the browser: its curves, and what every update did to single tokens.

    It only reads what the run writes, and may be started and stopped at
    any time.
    """
    from llm_gym.stages.watch.view import WatchedRun

    run = WatchedRun(directory)
    from llm_gym.stages.watch.server import create_app

    with interruptible("stopped watching; the run, if it is at work, goes on"):
        serve_page(
            create_app(run, host=host),
            host,
            port,
            Page("watching", "the run goes on", "read what the model wrote"),
            browser=not no_browser,
        )
