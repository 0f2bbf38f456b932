"""Where a server listens, and at which addresses browsers find it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import NamedTuple


class Address(NamedTuple):
    """A place at which a browser may find a server.

    Attributes:
        interface: Name of the network interface; "" where it does not matter.
        url: With the port.
    """

    interface: str
    url: str


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Takes an address, so that it is known before the server starts.

    Args:
        host: Address or name.
        port: 0 takes a free one.

    Returns:
        A listening socket.

    Raises:
        OSError: There is no such address here, or it is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen on {host} port {port}: {error}; choose another") from error


def is_loopback(host: str) -> bool:
    """Whether a host, name or address, can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    host, port = listener.getsockname()[:2]
    return _url("127.0.0.1" if _is_everywhere(host) else host, port)


def addresses_elsewhere(host: str, port: int) -> list[Address]:
    """Where browsers on other machines may find a server.

    Args:
        host: The address that it listens on.
        port: Its port.

    Returns:
        For a server on all addresses those of every network interface that is up, the one that
        leads out of the local network first, as that is the one that phones are in; else its own.
        Nothing for a server on loopback.
    """
    if is_loopback(host):
        return []
    if not _is_everywhere(host):
        return [Address("", _url(host, port))]
    try:
        import psutil
    except ImportError as error:
        raise ImportError(
            "to find this machine's addresses takes psutil: pip install 'llm-gym[label]' "
            "(or give the one to listen on, such as --host 192.168.1.5)"
        ) from error
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    found = [
        (_address_of(entry.address), name)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if name in up and entry.family in (socket.AF_INET, socket.AF_INET6)
    ]
    outward = _outward()
    reached = [
        (address, name)
        for address, name in found
        if not (address.is_loopback or address.is_link_local or address.is_unspecified)
        and (address.version == 4 or host == "::")
    ]
    reached.sort(key=lambda each: (str(each[0]) != outward, each[0].version, int(each[0])))
    return [Address(name, _url(str(address), port)) for address, name in reached]


def _address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text.partition("%")[0])  # behind it stands the interface


def _outward() -> str:
    """The address that this machine uses towards others; "" where there is no network."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; asks which address would be used
        return str(probe.getsockname()[0])
    return ""


def _is_everywhere(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
