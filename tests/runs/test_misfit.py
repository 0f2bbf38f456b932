"""What a checkpoint says of the last observations fits together, or is refused by name."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint, save_numbered_checkpoint
from llm_gym.runs.misfit import (
    _check_groups,
    _check_masks,
    _check_observations,
    _check_random,
    check_moments,
    check_origin,
)
from tests.tiny_runs import tiny_ppo


def mask(*rows: str) -> np.ndarray:
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.int8)


@pytest.mark.parametrize(
    ("attention", "completion"),
    [("11100", "00110"), ("11100", "01000"), ("11111", "00110"), ("11111", "10001")],
    ids=["beyond the end", "before the end", "before the end of a full row", "twice"],
)
def test_a_completion_is_the_end_of_what_is_attended_to(attention, completion):
    for attended, fine in (("11110", "00110"), ("11100", "00000"), ("11111", "11111")):
        _check_masks(mask(attended), mask(fine))
    with pytest.raises(ValueError, match=r"last_obs\.completion_mask must mark the end"):
        _check_masks(mask("11110", attention), mask("00110", completion))


def test_conversations_have_a_worlds_words_between_those_of_the_agent():
    _check_masks(mask("11110"), mask("01010"), turns=True)
    with pytest.raises(ValueError, match=r"last_obs\.completion_mask must mark the end"):
        _check_masks(mask("11100"), mask("01010"), turns=True)
    with pytest.raises(TypeError):
        _check_masks(mask("11110"), mask("01010"), True)


@pytest.mark.parametrize("attention", ["01100", "11011", "00000"])
def test_what_is_attended_to_is_the_beginning_of_a_row(attention):
    with pytest.raises(ValueError, match=r"last_obs\.attention_mask must be ones, then zeros"):
        _check_masks(mask("11110", attention), mask("00110", "00000"))


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(2, 3, dtype=d) for d in (torch.int16, torch.int64, torch.uint8, torch.float32)]
    + [torch.zeros(n, dtype=torch.int8) for n in ((2, 4), (1, 3), (3, 3), (6,), (2, 3, 1))],
    ids=lambda wrong: f"{wrong.dtype}{list(wrong.shape)}",
)
def test_observations_of_another_type_or_shape_are_named(wrong):
    space = spaces.Dict(x=spaces.Box(0, 9, (3,), np.int8))
    algorithm: Any = SimpleNamespace(observation_space=space, n_envs=2)
    values = {"last_episode_starts": [1, 0]}
    _check_observations(algorithm, values, {"x": torch.zeros(2, 3, dtype=torch.int8)})
    with pytest.raises(ValueError, match=r"last_obs\.x is .*, must be int8 of shape \(2, 3\)"):
        _check_observations(algorithm, values, {"x": wrong})


def test_a_space_is_the_same_in_every_copy_of_it():
    """A space that was pickled has a type that is equal, and another object."""
    space = spaces.Dict(x=spaces.Box(0, 9, (3,), np.dtype(np.int8, copy=True)))
    algorithm: Any = SimpleNamespace(observation_space=space, n_envs=2)
    _check_observations(
        algorithm, {"last_episode_starts": [1, 0]}, {"x": torch.zeros(2, 3, dtype=torch.int8)}
    )


@pytest.mark.parametrize("starts", [None, [True]])
def test_observations_that_are_missing_or_unknown_are_named(starts):
    def check(*names, **known):
        algorithm: Any = SimpleNamespace(observation_space=spaces.Dict(known), n_envs=1)
        saved = {name: torch.zeros(1, 2, dtype=torch.int8) for name in names}
        _check_observations(algorithm, {"last_episode_starts": starts}, saved)

    box = spaces.Box(0, 1, (2,), np.int8)
    check()
    with pytest.raises(ValueError, match=r"^last_obs\.y is none of the environment's$"):
        check("x", "y", x=box)
    with pytest.raises(ValueError, match=r"^last_obs\.y is none of the environment's$"):
        check("y")
    with pytest.raises(ValueError, match=r"^last_obs\.y is missing$"):
        check("x", x=box, y=box)
    if starts is None:
        check(x=box)
        with pytest.raises(ValueError, match="last_obs is there, and last_episode_starts is not"):
            check("x", x=box)
    else:
        check("attention_mask", attention_mask=box)  # one of the two masks says nothing by itself
        check("completion_mask", completion_mask=box)
        with pytest.raises(ValueError, match=r"^last_obs\.x is missing$"):
            check(x=box)


def test_what_was_never_played_has_no_observations(tiny_dir, tmp_path):
    directory = save_checkpoint(tiny_ppo(tiny_dir()), tmp_path / "new")
    algorithm = tiny_ppo(tiny_dir())
    load_checkpoint(algorithm, directory)
    assert algorithm._last_obs is None
    assert algorithm.num_timesteps == 0


@pytest.mark.parametrize("save", [save_checkpoint, save_numbered_checkpoint])
def test_what_else_a_checkpoint_holds_is_given_by_name(save, tiny_dir, tmp_path):
    with pytest.raises(TypeError):
        save(tiny_ppo(tiny_dir()), tmp_path / "new", None)


def random_states(**others: torch.Tensor) -> dict[str, torch.Tensor]:
    state = torch.Generator().get_state()
    words = torch.zeros(624, dtype=torch.int64)
    return {"torch": state, "policy": state, "numpy": words, **others}


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(*n, dtype=torch.uint8) for n in ((16,), (0, 16), (1, 1, 16))]
    + [torch.zeros(1, 16, dtype=torch.int64)],
    ids=lambda wrong: f"{wrong.dtype}{list(wrong.shape)}",
)
def test_states_of_devices_are_rows_of_bytes(wrong):
    algorithm: Any = SimpleNamespace(device=torch.device("cpu"))
    _check_random(algorithm, "cpu", random_states())
    if not torch.cuda.is_available():
        _check_random(algorithm, "cpu", random_states(cuda=torch.zeros(1, 16, dtype=torch.uint8)))
    with pytest.raises(ValueError, match=r"random\.cuda is .*, must be torch\.uint8 with one row"):
        _check_random(algorithm, "cpu", random_states(cuda=wrong))


@pytest.mark.parametrize("shape", [(16,), (9999,)])
def test_a_generator_of_a_device_that_is_not_there_is_none_of_the_cpu(shape):
    algorithm: Any = SimpleNamespace(device=torch.device("cpu"))
    elsewhere = random_states(policy=torch.zeros(shape, dtype=torch.uint8))
    _check_random(algorithm, "cuda", elsewhere)
    with pytest.raises(ValueError, match=r"random\.policy is the state of .* on cpu, not cuda"):
        _check_random(algorithm, "cuda", random_states())


@pytest.mark.parametrize("name", ["torch", "policy"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_what_no_generator_takes_is_no_state(name, dtype):
    algorithm: Any = SimpleNamespace(device=torch.device("cpu"))
    with pytest.raises(ValueError, match=rf"random\.{name} is no state of a generator on cpu: "):
        _check_random(algorithm, "cpu", random_states(**{name: torch.zeros(3, dtype=dtype)}))


def test_states_are_tried_on_each_device_that_is_there(monkeypatch):
    algorithm: Any = SimpleNamespace(device=torch.device("cpu"))
    wrong = random_states(cuda=torch.zeros(2, 3, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    _check_random(algorithm, "cpu", wrong)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"random\.cuda\[0\] is no state of a generator on cuda:0"):
        _check_random(algorithm, "cpu", wrong)


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(n, dtype=torch.int64) for n in ((623,), (625,), (1, 624), (624, 1), ())]
    + [torch.zeros(624, dtype=dtype) for dtype in (torch.int32, torch.uint8, torch.float64)],
    ids=lambda wrong: f"{wrong.dtype}{list(wrong.shape)}",
)
def test_numpys_generator_has_624_words(wrong):
    algorithm: Any = SimpleNamespace(device=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"random\.numpy is .*, must be torch\.int64 of shape"):
        _check_random(algorithm, "cpu", random_states(numpy=wrong))


def test_numpys_words_have_32_bits():
    algorithm: Any = SimpleNamespace(device=torch.device("cpu"))
    words = torch.zeros(624, dtype=torch.int64)
    words[1] = 2**32 - 1
    _check_random(algorithm, "cpu", random_states(numpy=words))
    for wrong in (-1, 2**32, 2**40):
        words[1] = wrong
        with pytest.raises(ValueError, match=r"random\.numpy has values outside 0 to 2\^32 - 1"):
            _check_random(algorithm, "cpu", random_states(numpy=words))


class PPO:
    """As much of an algorithm as is asked whose state it is."""

    def __init__(self, n_envs: int) -> None:
        self.policy, self.n_envs = torch.nn.Linear(2, 1), n_envs

    def state(self, **others: Any) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        tensors = {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        values = {"algorithm": "PPO", "adapter": None, "reference_sha256": None}
        return {**values, "last_episode_starts": None, **others}, tensors


@pytest.mark.parametrize("other", ["A2C", "RLOO", "", "ppo"])
def test_a_state_is_of_the_algorithm_that_saved_it(other):
    algorithm: Any = PPO(1)
    check_origin(algorithm, *algorithm.state())
    with pytest.raises(ValueError, match=f"it was saved by {other}, not PPO"):
        check_origin(algorithm, *algorithm.state(algorithm=other))


@pytest.mark.parametrize("n_envs", [1, 1000])
def test_a_state_is_of_as_many_environments_as_there_are(n_envs):
    algorithm: Any = PPO(n_envs)
    check_origin(algorithm, *algorithm.state(last_episode_starts=[True] * n_envs))
    for other in (n_envs - 1, n_envs + 1):
        starts = [True] * other
        with pytest.raises(
            ValueError, match=f"saved with {other} environments, there are {n_envs}"
        ):
            check_origin(algorithm, *algorithm.state(last_episode_starts=starts))


def parameters(number: int) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.zeros(2)) for _ in range(number)]


def saved_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """As they are in a file."""
    return json.loads(json.dumps(optimizer.state_dict()["param_groups"]))


@pytest.mark.parametrize("number", [1, 2, 300])
def test_an_optimizer_has_as_many_groups_as_were_saved(number):
    optimizer = torch.optim.SGD([{"params": [p]} for p in parameters(number)], lr=0.1)
    groups = saved_groups(optimizer)
    _check_groups(optimizer, groups)
    for wrong in (groups[1:], [*groups, groups[0]]):
        with pytest.raises(
            ValueError, match=rf"^optimizer\.param_groups must be a list of {number}"
        ):
            _check_groups(optimizer, wrong)


def test_of_an_optimizers_settings_the_learning_rate_alone_may_differ():
    """Also in an optimizer whose settings were once read from a file."""
    optimizer = torch.optim.SGD(parameters(1), lr=0.1, nesterov=True, momentum=0.9)
    [group] = saved_groups(optimizer)
    for _ in range(2):
        _check_groups(optimizer, [group | {"lr": 0.5}])
        for wrong in ({"nesterov": 1}, {"nesterov": False}, {"momentum": 0.5}, {"params": [1]}):
            with pytest.raises(ValueError, match="is not that of the optimizer that is there"):
                _check_groups(optimizer, [group | wrong])
        state = json.loads(json.dumps(optimizer.state_dict()))
        optimizer.load_state_dict(state)


def adam() -> tuple[torch.optim.Optimizer, dict[str, torch.Tensor]]:
    moments = ("exp_avg", "exp_avg_sq")
    saved = {f"{place}.{name}": torch.zeros(2) for place in (0, 1) for name in moments}
    saved |= {f"{place}.step": torch.tensor(1.0) for place in (0, 1)}
    return torch.optim.Adam(parameters(2)), saved


def test_moments_that_are_missing_or_unknown_are_named():
    optimizer, saved = adam()
    scalars: dict[str, dict[str, Any]] = {"0": {}, "1": {}}
    check_moments(optimizer, scalars, saved)
    check_moments(optimizer, {}, {})
    for name in saved:
        without = {other: moment for other, moment in saved.items() if other != name}
        with pytest.raises(ValueError, match=rf"^optimizer\.{name} is missing$"):
            check_moments(optimizer, scalars, without)
    with pytest.raises(ValueError, match=r"^optimizer\.0\.exp_avg is missing$"):
        check_moments(optimizer, {"0": {}}, {})
    with pytest.raises(ValueError, match=r"^optimizer\.1\.more is none of the optimizer's$"):
        check_moments(optimizer, scalars, {**saved, "1.more": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"^optimizer\.1\.more is none of the optimizer's$"):
        check_moments(optimizer, {"0": {}, "1": {"more": 1.0}}, saved)


@pytest.mark.parametrize("scalars", [{"0": {}}, {"0": {}, "1": {}, "2": {}}])
def test_moments_are_of_a_parameter(scalars):
    optimizer, saved = adam()
    with pytest.raises(ValueError, match=rf"^optimizer\.{2 if '2' in scalars else 1} is of no"):
        check_moments(optimizer, scalars, saved)


@pytest.mark.parametrize("name", ["step", "exp_avg_sq"])
def test_what_is_a_sum_of_squares_is_never_negative(name):
    optimizer, saved = adam()
    saved["1.exp_avg"] -= 1
    check_moments(optimizer, {"0": {}, "1": {}}, saved)
    saved[f"1.{name}"] = torch.full_like(saved[f"1.{name}"], -1e-6)
    with pytest.raises(ValueError, match=rf"^optimizer\.1\.{name} has values below 0$"):
        check_moments(optimizer, {"0": {}, "1": {}}, saved)


def test_behind_a_parameter_of_which_nothing_is_known_moments_are_checked():
    groups = [{"params": parameters(1)}, {"params": parameters(1), "momentum": 0.9}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    scalars: dict[str, dict[str, Any]] = {"0": {}, "1": {}}
    check_moments(optimizer, scalars, {"1.momentum_buffer": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"^optimizer\.1\.momentum_buffer has shape"):
        check_moments(optimizer, scalars, {"1.momentum_buffer": torch.zeros(3)})
