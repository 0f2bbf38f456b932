"""Pages that a command serves to a browser: their options, and what is said of them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from llm_gym.feedback.labelling.guard import Guard

_PAGE = "The page"

Host = Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=_PAGE)]
Port = Annotated[
    int,
    typer.Option(
        help="Port to listen on; 0 takes a free one.", rich_help_panel=_PAGE, min=0, max=65535
    ),
]
NoBrowser = Annotated[
    bool,
    typer.Option("--no-browser", help="Print the address, open no browser.", rich_help_panel=_PAGE),
]


def serve_page(
    app: Guard, host: str, port: int, *, browser: bool, title: str, ending: str, risk: str
) -> None:
    """Says where a page is, opens it, and serves it until Ctrl-C.

    Args:
        app: The application.
        host: Address to listen on.
        port: 0 takes a free one.
        browser: Whether to open a browser, if it would have a window of its own.
        title: What the page is.
        ending: What is said of Ctrl-C.
        risk: What everybody can do who reaches an address beyond this machine.

    Raises:
        OSError: The address cannot be listened on.
    """
    from llm_gym.feedback.labelling.guard import is_loopback
    from llm_gym.feedback.labelling.server import listen, serve, url_of, urls_elsewhere

    if not is_loopback(host):
        print(
            f"llm-gym: warning: on {host} everybody who can reach this machine can {risk}; there "
            "is no password and no encryption",
            file=sys.stderr,
        )
    with listen(host, port) as listener:
        url = url_of(listener)
        print(f"{title}: {url}  (Ctrl-C stops; {ending})", flush=True)
        for elsewhere in urls_elsewhere(listener):
            print(f"from other machines: {elsewhere}", flush=True)
        if browser and _has_display():
            import webbrowser

            webbrowser.open(url)
        serve(app, listener)


def _has_display() -> bool:
    """Whether a browser would open in a window of its own, rather than in this terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
