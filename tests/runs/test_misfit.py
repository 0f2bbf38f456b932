"""What a checkpoint says of the last observations fits together, or is refused by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint, save_numbered_checkpoint
from llm_gym.runs.misfit import _check_masks, _check_observations, _check_random
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
