"""Descriptions of environments, read from source that is never run."""

from __future__ import annotations

import sys

import pytest
from gymnasium.envs.registration import EnvSpec

from llm_gym.cli.descriptions import description_of


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "worlds_of_mine" / "inner"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text(
        "from .inner import World as Earth\nraise SystemError"
    )
    (folder / "__init__.py").write_text("from .deep import World\n")
    (folder / "deep.py").write_text(
        'import torch_that_is_not_here\n\nclass World:\n    """A world.\n\n    More."""\n\n'
        "def bare():\n    pass\n"
    )
    (folder / "broken.py").write_text("def (")
    monkeypatch.syspath_prepend(tmp_path)
    return "worlds_of_mine"


@pytest.mark.parametrize(
    ("entry_point", "line"),
    [
        ("{}:Earth", "A world."),
        ("{}.inner:World", "A world."),
        ("{}.inner.deep:World", "A world."),
        ("{}.inner.deep:bare", "(no description)"),
        ("{}.inner.deep:Moon", "(cannot be read: worlds_of_mine.inner.deep has no 'Moon')"),
        ("{}.outer:World", "(cannot be read: there is no module 'worlds_of_mine.outer')"),
        ("no_such_package:World", "(cannot be read: there is no module 'no_such_package')"),
    ],
)
def test_the_first_line_is_found_without_an_import(entry_point, line, package):
    assert description_of(EnvSpec("me/World-v0", entry_point.format(package))) == line
    assert not [name for name in sys.modules if name.startswith(package)]


def test_a_module_that_is_no_python_costs_its_own_line_only(package):
    spec = EnvSpec("me/World-v0", f"{package}.inner.broken:World")
    assert description_of(spec).startswith("(cannot be read: ")


def test_a_task_is_described_by_the_function_of_its_arguments():
    import gymnasium as gym

    import llm_gym

    def sums(**overrides):
        """Adds numbers up.

        Slowly.
        """
        return overrides

    llm_gym.register_task("me/SumsOfMine-v0", sums)
    try:
        assert description_of(gym.spec("me/SumsOfMine-v0")) == "Adds numbers up."
    finally:
        del gym.registry["me/SumsOfMine-v0"]
