"""People vote while a command waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_gym.cli.labelling import LABELLING, desk_options
from llm_gym.cli.served import announce, open_browser

if TYPE_CHECKING:
    from llm_gym.feedback.preferences.store import PreferenceStore
    from llm_gym.stages.rlhf.settings import RLHFConfig

PANEL = "People's votes"

VotingHost = Annotated[
    str | None,
    typer.Option(
        "--host",
        help="With --raters people: ask them on a page at this address, such as 127.0.0.1 or "
        "0.0.0.0 (for phones), and go on when they have voted.",
        show_default="stop, and name the command that asks",
        rich_help_panel=PANEL,
    ),
]
VotingPort = Annotated[
    int,
    typer.Option(
        "--port", help="Its port; 0 takes a free one.", min=0, max=65535, rich_help_panel=PANEL
    ),
]

_LOOK_EVERY = 1.0  # seconds between looks at how many votes there are


@contextmanager
def voting_page(
    store: Path, config: RLHFConfig, host: str, port: int, *, browser: bool
) -> Iterator[Callable[[], None]]:
    """Serves the labelling page of a run that waits for votes.

    Args:
        store: Its comparisons.
        config: Settings of the run.
        host: Address to listen on.
        port: 0 takes a free one.
        browser: Whether to open a browser.

    Yields:
        Waits, under a bar, until there are enough votes. The page stays until the context ends:
        who voted last shall not see an error, and later votes are kept, though not learnt from.
    """
    from llm_gym.feedback.labelling.addresses import is_loopback, listen
    from llm_gym.feedback.labelling.server import BackgroundServer, create_app
    from llm_gym.feedback.labelling.store_desk import StoreDesk
    from llm_gym.feedback.preferences.store import PreferenceStore

    options = desk_options(config.votes_per_comparison, None, several=not is_loopback(host))
    with PreferenceStore(store) as votes:
        app = create_app(StoreDesk(votes, **options, seed=config.seed), host=host)
        listener = listen(host, port)
        url = announce(app, listener, host, LABELLING)
        server = BackgroundServer(app, listener)
        try:
            if browser:
                open_browser(url)
            yield lambda: _wait(votes, config)
        finally:
            server.close()


def _wait(votes: PreferenceStore, config: RLHFConfig) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from llm_gym.stages.rlhf.stages import votes_wanted

    columns = (TextColumn("[bold]votes"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("votes")
        while True:
            progress = votes.progress(votes_per_comparison=config.votes_per_comparison)
            figures = {"votes": progress.votes, "votes_missing": progress.remaining}
            wanted = votes_wanted(config, figures)
            bar.update(task, completed=progress.votes, total=progress.votes + wanted)
            if not wanted:
                return
            time.sleep(_LOOK_EVERY)
