"""Worlds behind a server of OpenEnv: a real one, on this machine alone."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest

from llm_gym.turns import WorldError
from llm_gym.turns.hosts.openenv import openenv_app
from llm_gym.turns.worlds import world_maker

pytest.importorskip("openenv.core.env_server", reason="OpenEnv brings much: see docs/worlds.md")


class Guess:
    """Guess a number from 0 to 9, in at most three turns."""

    def reset(self, *, seed):
        self.number, self.turns = random.Random(seed).randrange(10), 0
        return "Guess from 0 to 9."

    def step(self, text):
        self.turns += 1
        found = text == str(self.number)
        return "Yes." if found else "No.", float(found), found, self.turns == 3, {}


@pytest.fixture(scope="module")
def address():
    """Where the game is served."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(openenv_app(Guess, sessions=4), log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_a_served_world_begins_by_the_seed_answers_and_ends(address):
    worlds = [world_maker(f"openenv:{address}", 1, {"observation": "text"})() for _ in range(2)]
    for seed, world in enumerate(worlds):
        assert world.reset(seed=seed)[0] == "Guess from 0 to 9."
    for seed, world in enumerate(worlds):
        number = random.Random(seed).randrange(10)
        assert world.step(str(9 - number))[:4] == ("No.", 0.0, False, False)
        assert world.step(str(number))[:4] == ("Yes.", 1.0, True, False)
        world.close()


def test_what_the_world_cuts_off_is_done_and_says_so(address):
    world = world_maker(f"openenv:{address}", 1, {"observation": "text"})()
    world.reset(seed=0)
    told = [world.step("none") for _ in range(3)]
    assert [answer[2] for answer in told] == [False, False, True]
    assert told[-1][4]["truncated"] is True


def test_fields_that_the_server_does_not_have_are_named(address):
    with pytest.raises(ValueError, match=r"observation='hint' must name one of.*text"):
        world_maker(f"openenv:{address}", 1, {"observation": "hint"})().reset(seed=0)


def test_nobody_there():
    with pytest.raises(WorldError, match="could not be made"):
        world_maker("openenv:http://127.0.0.1:9", 1, {})()
