"""What a command says of a page that it serves: where it is, for whom, and what that means."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llm_gym.cli.served import Page, announce
from llm_gym.feedback.labelling import addresses
from llm_gym.feedback.labelling.addresses import Address

PAGE = Page("the page", "nothing is lost", "vote")


@pytest.fixture
def said(monkeypatch, capsys):
    """Announces a page that a free port was taken for; gives the address to open and the text."""

    def elsewhere(host, port):
        return [
            Address(url=f"http://10.1.2.3:{port}/", interface="eth0"),
            Address(url=f"http://10.9.9.9:{port}/", interface=""),
        ]

    monkeypatch.setattr(addresses, "addresses_elsewhere", elsewhere)

    def announced(host, page=PAGE):
        listener: Any = SimpleNamespace(getsockname=lambda: (host, 4321))
        app: Any = SimpleNamespace(address=lambda url: f"{url}#key")
        opened = announce(app, listener, host, page)
        return opened, *capsys.readouterr()

    return announced


def test_others_are_told_the_port_that_was_taken_and_of_the_risk(said):
    opened, out, err = said("0.0.0.0")
    assert opened == "http://127.0.0.1:4321/#key"
    assert out.splitlines() == [
        f"the page: {opened}  (Ctrl-C stops; nothing is lost)",
        "from other machines: http://10.1.2.3:4321/#key  (eth0)",
        "from other machines: http://10.9.9.9:4321/#key",
    ]
    assert "on 0.0.0.0 everybody in your network who knows the address can vote" in err


def test_a_page_on_loopback_is_for_nobody_else(said):
    opened, out, err = said("127.0.0.1", PAGE)
    assert (out.count("\n"), err) == (1, "")
    assert opened in out


def test_the_projectors_page_is_the_one_to_open(said):
    opened, out, _ = said("0.0.0.0", Page("the page", "", "vote", projector="class"))
    assert opened == "http://127.0.0.1:4321/class#key"
    assert out.endswith(f"for the projector: {opened}\n")
