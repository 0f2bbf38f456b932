"""Stores, servers and a real browser for the labelling tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from llm_gym.feedback.labelling.addresses import listen
from llm_gym.feedback.labelling.questions import Reply
from llm_gym.feedback.labelling.server import BackgroundServer, create_app
from llm_gym.feedback.labelling.store_desk import StoreDesk
from llm_gym.feedback.preferences.records import Comparison
from llm_gym.feedback.preferences.store import PreferenceStore
from tests.browsing import browser, visit  # noqa: F401 - fixtures


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
