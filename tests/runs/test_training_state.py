"""What of a training state cannot be put back: it is said, and nothing else is touched."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

from llm_gym.runs import checkpoint, training_state
from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint
from tests.tiny_runs import tiny_ppo


@pytest.fixture(scope="module")
def algorithm(tiny_dir):
    return tiny_ppo(tiny_dir())


def of_environment(**methods):
    return SimpleNamespace(env=SimpleNamespace(**methods))


def raising(error):
    def method(*_):
        raise error

    return method


def test_an_attribute_is_that_of_the_first_row_or_none():
    rows = of_environment(get_attr=lambda name: [name, "of the second row"])
    assert training_state.environment_attribute(rows, "a") == "a"
    lacking = of_environment(get_attr=raising(AttributeError("a")))
    assert training_state.environment_attribute(lacking, "a") is None


@pytest.mark.parametrize(
    "error", [KeyError("a"), IndexError("a"), TypeError("a"), AttributeError("a")]
)
def test_an_environment_that_does_not_take_its_state_says_why(error):
    env = of_environment(set_state=raising(error))
    with pytest.raises(ValueError, match=f"does not take its saved state: {type(error).__name__}"):
        training_state._restore_environment(env, {})


def test_an_environment_without_a_state_has_none():
    assert training_state._environment_state(of_environment()) is None


def test_a_run_of_another_device_goes_on_with_a_warning_where_it_was_loaded(
    algorithm, tmp_path, monkeypatch
):
    """Otherwise its generator goes on, and nothing is said."""
    save_checkpoint(algorithm, tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(algorithm, tmp_path / "run")
    read, load = checkpoint.read_metadata, checkpoint.load_file

    def of_cuda(directory):
        metadata = read(directory)
        metadata["random"]["policy_device"] = "cuda"
        return metadata

    def with_its_generator(path):
        return load(path) | {"random.policy": torch.zeros(16, dtype=torch.uint8)}

    monkeypatch.setattr(checkpoint, "read_metadata", of_cuda)
    monkeypatch.setattr(checkpoint, "load_file", with_its_generator)
    generator = algorithm.policy.generator
    with pytest.warns(UserWarning, match="saved on cuda and goes on on cpu") as caught:
        load_checkpoint(algorithm, tmp_path / "run")
    assert [warning.filename for warning in caught] == [__file__]
    assert algorithm.policy.generator is generator


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("present", [False, True])
def test_generators_of_gpus_are_put_back_where_there_are_some_and_were(
    saved, present, algorithm, monkeypatch
):
    values, tensors = training_state.collect(algorithm)
    tensors.pop("random.cuda", None)
    if saved:
        tensors["random.cuda"] = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    told = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", told.append)
    training_state._restore_random(algorithm, values["random"], tensors)
    assert len(told) == (saved and present)
    for states in told:
        assert [state.tolist() for state in states] == [[0, 1, 2], [3, 4, 5]]
