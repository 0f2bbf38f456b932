"""Tables, and their pages in a browser."""

from __future__ import annotations

import pytest

from llm_gym.feedback.labelling.addresses import listen
from llm_gym.feedback.labelling.server import BackgroundServer
from llm_gym.stages.chat_page.server import create_app
from tests.browsing import browser, visit  # noqa: F401 - fixtures


@pytest.fixture
def serve():
    servers = []

    def start(table):
        servers.append(BackgroundServer(create_app(table), listen()))
        return servers[-1].url

    yield start
    for server in servers:
        server.close()
