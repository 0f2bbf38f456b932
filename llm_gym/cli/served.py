"""Pages that a command serves to a browser: their options, and what is said of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import socket

    from llm_gym.feedback.labelling.guard import Guard

_PAGE = "The page"

Host = Annotated[
    str,
    typer.Option(
        help="Address to listen on; 0.0.0.0 lets other machines in.", rich_help_panel=_PAGE
    ),
]
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


@dataclass(frozen=True)
class Page:
    """What is said of a page.

    Attributes:
        title: What it is.
        ending: What Ctrl-C means.
        risk: What everybody can do who knows an address beyond this machine.
        projector: Path of the page that this machine shows to those who join in from others; the
            code that leads them there is printed, too.
    """

    title: str
    ending: str
    risk: str
    projector: str = ""


def serve_page(app: Guard, host: str, port: int, page: Page, *, browser: bool) -> None:
    """Says where a page is, opens it, and serves it until Ctrl-C.

    Args:
        app: The application.
        host: Address to listen on.
        port: 0 takes a free one.
        page: What is said of it.
        browser: Whether to open a browser, if it would have a window of its own.

    Raises:
        OSError: The address cannot be listened on.
    """
    from llm_gym.feedback.labelling.addresses import listen
    from llm_gym.feedback.labelling.server import serve

    with listen(host, port) as listener:
        url = announce(app, listener, host, page)
        if browser:
            open_browser(url)
        serve(app, listener)


def refuse_without_page(needs: str, **options: Any) -> None:
    """Raises `ValueError` for options of a page where there is none.

    Args:
        needs: What makes one.
        **options: Their values by name; what is not given is None, 0 or False.
    """
    for name, value in options.items():
        if value:
            shown = "" if value is True else f" {value}"
            raise ValueError(
                f"--{name.replace('_', '-')}{shown} is of a page, and there is none: {needs}, or "
                "leave it out"
            )


def announce(app: Guard, listener: socket.socket, host: str, page: Page) -> str:
    """Says where a page is, on this machine and elsewhere, and what that means.

    Args:
        app: The application.
        listener: Where it will be served.
        host: As it was asked for.
        page: What is said of it.

    Returns:
        The address to open on this machine.
    """
    from llm_gym.feedback.labelling.addresses import addresses_elsewhere, is_loopback, url_of

    url = url_of(listener)
    print(f"{page.title}: {app.address(url)}  (Ctrl-C stops; {page.ending})", flush=True)
    if is_loopback(host):
        return app.address(url)
    print(
        f"llm-gym: warning: on {host} everybody in your network who knows the address can "
        f"{page.risk}; there is no encryption",
        file=sys.stderr,
    )
    ways = addresses_elsewhere(host, listener.getsockname()[1])
    for way in ways:
        print(f"from other machines: {app.address(way.url)}{_behind(way.interface)}", flush=True)
    if not page.projector:
        return app.address(url)
    if ways:
        _print_code(app.address(ways[0].url))
    print(f"for the projector: {app.address(url + page.projector)}", flush=True)
    return app.address(url + page.projector)


def _behind(interface: str) -> str:
    return f"  ({interface})" if interface else ""


def _print_code(address: str) -> None:
    """The QR code of an address, where there is a screen to scan it from."""
    if not sys.stdout.isatty():
        return
    from llm_gym.feedback.labelling.qr import in_terminal

    try:
        print(in_terminal(address), flush=True)
    except UnicodeEncodeError:
        print("this terminal cannot show a QR code; the projector's page has it", flush=True)


def open_browser(url: str) -> None:
    """Opens a browser, if it would have a window of its own."""
    if _has_display():
        import webbrowser

        webbrowser.open(url)


def _has_display() -> bool:
    """Whether a browser would open in a window of its own, rather than in this terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
