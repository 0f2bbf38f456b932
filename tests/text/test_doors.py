"""What other libraries ask of an environment's arguments."""

from __future__ import annotations

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode

from tests.products import covering
from tests.text.helpers import arguments

TEXT = "llm_gym/TextGeneration-v0"
TASKS = [
    (TEXT, None),
    ("llm_gym/PoliteEmail-v0", None),
    ("llm_gym/AreYouSure-v0", "llm_gym_sycophancy"),
    ("llm_gym/KnownOptimum-v0", "llm_gym_known_optimum"),
    ("llm_gym/ReasoningSpellBackward-v0", "llm_gym_reasoning"),
]


@pytest.fixture(params=TASKS, ids=[name for name, _ in TASKS])
def task(request):
    name, plugin = request.param
    if plugin is not None:
        pytest.importorskip(plugin)
    if "Reasoning" in name:
        return name, {"size": 8, "test_size": 8}
    return name, arguments() if name == TEXT else {}


@pytest.mark.parametrize("option", ["frameskip", "zzz", "render_fps"])
def test_an_unknown_option_is_refused_in_pythons_own_words(task, option):
    """TorchRL's `GymEnv(id)` tries `frameskip`, and drops it where it reads this phrase."""
    name, kwargs = task
    with pytest.raises(TypeError, match=f"got an unexpected keyword argument '{option}'"):
        gym.make(name, **kwargs, **{option: 1})


def test_torchrl_makes_it_by_id(task):
    pytest.importorskip("torchrl")
    from torchrl.envs import GymEnv
    from torchrl.envs.utils import check_env_specs

    name, kwargs = task
    check_env_specs(GymEnv(name, categorical_action_encoding=True, **kwargs))


@pytest.mark.parametrize(
    ("mode", "vectorization"),
    covering(["NextStep", "SameStep", "Disabled"], [None, "vector_entry_point", "sync"]),
)
def test_vector_kwargs_say_the_autoreset_mode_in_every_form(task, mode, vectorization):
    name, kwargs = task
    env = gym.make_vec(
        name,
        num_envs=2,
        vectorization_mode=vectorization,
        vector_kwargs={"autoreset_mode": mode},
        **kwargs,
    )
    assert env.metadata["autoreset_mode"] is AutoresetMode(mode)
    assert env.num_envs == 2


@pytest.mark.parametrize("name", ["autoreset_mode", "group_size"])
def test_arguments_of_the_vector_form_say_where_they_go(name):
    with pytest.raises(TypeError, match=r"make_vec\(id, num_envs, .*vector_kwargs"):
        gym.make(TEXT, **arguments(), **{name: 2})


def test_what_vector_kwargs_do_not_know_is_named():
    with pytest.raises(TypeError, match="unexpected keyword argument 'copy'"):
        gym.make_vec(TEXT, num_envs=2, vector_kwargs={"copy": False}, **arguments())
