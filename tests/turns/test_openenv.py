"""Worlds behind a server of OpenEnv: a real one, on this machine alone."""

from __future__ import annotations

import random
import socket
import threading
import time

import pytest

from llm_gym.turns import WorldError
from llm_gym.turns.worlds import world_maker

pytest.importorskip("openenv.core.env_server", reason="OpenEnv brings much: see docs/worlds.md")


@pytest.fixture(scope="module")
def address():
    """Where a guessing game is served."""
    import uvicorn
    from openenv.core.env_server import create_app
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, Observation, State

    class Said(Action):
        message: str

    class Heard(Observation):
        hint: str = ""
        rules: str = ""

    class Guess(Environment[Said, Heard, State]):
        SUPPORTS_CONCURRENT_SESSIONS = True
        state = State()

        def reset(self, seed=None, episode_id=None, **kwargs):
            self.number = random.Random(seed).randrange(10)
            return Heard(hint="Guess from 0 to 9.", rules="none")

        def step(self, action, timeout_s=None, **kwargs):
            found = action.message == str(self.number)
            return Heard(hint="Yes." if found else "No.", reward=float(found), done=found)

    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(Guess, Said, Heard, env_name="guess", max_concurrent_envs=4)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def test_a_served_world_begins_by_the_seed_answers_and_ends(address):
    worlds = [world_maker(f"openenv:{address}", 1, {"observation": "hint"})() for _ in range(2)]
    for seed, world in enumerate(worlds):
        assert world.reset(seed=seed)[0] == "Guess from 0 to 9."
    for seed, world in enumerate(worlds):
        number = random.Random(seed).randrange(10)
        assert world.step(str(9 - number))[:4] == ("No.", 0.0, False, False)
        assert world.step(str(number))[:4] == ("Yes.", 1.0, True, False)
        world.close()


def test_fields_that_the_server_does_not_have_are_named(address):
    with pytest.raises(ValueError, match=r"observation=None must name one of.*hint, rules"):
        world_maker(f"openenv:{address}", 1, {})().reset(seed=0)


def test_nobody_there():
    with pytest.raises(WorldError, match="could not be made"):
        world_maker("openenv:http://127.0.0.1:9", 1, {})()
