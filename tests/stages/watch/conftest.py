"""A run made by hand, and its page in a browser."""

from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.addresses import listen
from llm_gym.feedback.labelling.server import BackgroundServer
from llm_gym.stages.watch.server import create_app
from llm_gym.stages.watch.view import WatchedRun
from tests.browsing import browser, visit  # noqa: F401 - fixtures
from tests.stages.watch.looks import write_run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def serve():
    servers = []

    def start(directory):
        servers.append(BackgroundServer(create_app(WatchedRun(directory)), listen()))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()
