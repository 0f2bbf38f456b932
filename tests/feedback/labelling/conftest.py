"""Stores, servers and a real browser for the labelling tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm_gym.feedback.labelling.questions import Reply
from llm_gym.feedback.labelling.server import BackgroundServer, create_app, listen
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Comparison
from llm_gym.feedback.preferences.store import PreferenceStore
from tests.feedback.labelling.browsing import Watched

CHROMIUM = os.environ.get("LLM_GYM_CHROMIUM") or shutil.which("chromium")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever would leave this machine fails at once, instead of silently working.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def fill(store: PreferenceStore, count: int = 5) -> list[int]:
    return store.add(
        Comparison(f"Prompt {number}", (f"first {number}", f"second {number}"))
        for number in range(count)
    )


def reply_to(question, verdict, *, key=None, seconds=2.0) -> Reply:
    return Reply(
        question.id,
        question.fingerprint,
        verdict,
        question.shown_first,
        seconds,
        key or os.urandom(16).hex(),
    )


@pytest.fixture
def store(tmp_path) -> Iterator[PreferenceStore]:
    with PreferenceStore(tmp_path / "votes.db") as store:
        yield store


@pytest.fixture
def desk(store) -> StoreDesk:
    fill(store)
    return StoreDesk(store)


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, one for each file of tests.

    While it is open, Playwright's event loop runs in this thread, and `asyncio.run` cannot; so it
    ends before the tests of another file begin.
    """
    missing = None
    if not CHROMIUM or not Path(CHROMIUM).exists():
        missing = "there is no chromium here (Debian: apt-get install chromium)"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "Playwright's Python package is not installed"
    if missing:
        if os.environ.get("LLM_GYM_REQUIRE_BROWSER") == "1":
            pytest.fail(f"LLM_GYM_REQUIRE_BROWSER=1, but {missing}")
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def serve():
    """Serves a desk on a free port for the time of a test."""
    servers = []

    def start(desk, **options):
        servers.append(BackgroundServer(create_app(desk, **options), listen()))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def visit(browser):
    contexts = []

    def new(url, **options):
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(60_000)  # a busy machine is slow, not wrong
        return Watched(contexts[-1], url)

    yield new
    for context in contexts:
        context.close()
