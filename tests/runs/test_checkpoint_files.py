"""Files of a checkpoint: which process writes them, and what is said of one that cannot be read."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import GenerationConfig

from llm_gym.files import owned
from llm_gym.runs import checkpoint as module
from llm_gym.runs import own_state
from llm_gym.runs.checkpoint import (
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    save_model,
    save_numbered_checkpoint,
)
from tests.tiny_runs import ROLLOUT, tiny_ppo


@pytest.fixture(scope="module")
def algorithm(tiny_dir):
    algorithm = tiny_ppo(tiny_dir())
    algorithm.learn(ROLLOUT)
    return algorithm


def as_process(monkeypatch: pytest.MonkeyPatch, rank: int, size: int) -> list[bytes]:
    """Has a checkpoint be written by one of several processes; returns what it tells the others."""
    told: list[bytes] = []

    def gather(data):
        told.append(data)
        return [data] * size

    several = SimpleNamespace(rank=rank, size=size, gather=gather, of_first=lambda value: value)
    monkeypatch.setattr(module, "world", lambda: several)
    return told


@pytest.mark.parametrize("size", [1, 2, 3])
def test_each_process_tells_the_first_what_is_its_own(size, algorithm, tmp_path, monkeypatch):
    told = as_process(monkeypatch, 0, size)
    directory = save_checkpoint(algorithm, tmp_path / "c")
    others = [f"process-{rank}.safetensors" for rank in range(1, size)]
    assert sorted(path.name for path in directory.glob("process-*")) == others
    assert [(directory / name).read_bytes() for name in others] == told * (size - 1)
    for name in others:
        assert own_state._read(directory / name)[0]["environment"]["env"]


def test_only_the_first_process_writes_and_removes(algorithm, tmp_path, monkeypatch):
    for step in (1, 2):
        save_checkpoint(algorithm, tmp_path / f"step-{step}")
    as_process(monkeypatch, 1, 2)
    save_numbered_checkpoint(algorithm, tmp_path, keep_last=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-1", "step-2"]


@pytest.mark.parametrize("version", [1, 3, 2.0, "2", True, None])
def test_of_all_formats_one_is_read(version, algorithm, tmp_path):
    directory = save_checkpoint(algorithm, tmp_path / "c")
    metadata = read_metadata(directory)
    (directory / "checkpoint.json").write_text(json.dumps({**metadata, "format": version}))
    with pytest.raises(ValueError, match=r"checkpoint\.json has format .* reads 2;"):
        read_metadata(directory)


@pytest.mark.parametrize("damage", ["no tensors", "no file"])
def test_tensors_that_cannot_be_read_are_named(damage, algorithm, tmp_path):
    """Although all files are as the list of them says."""
    directory = save_checkpoint(algorithm, tmp_path / "c")
    tensors = directory / "training.safetensors"
    tensors.unlink()
    if damage == "no tensors":
        tensors.write_bytes(b"these are words, not numbers")
    owned.write_marker(directory, "checkpoint", files=owned.manifest(directory))
    with pytest.raises(ValueError) as raised:
        load_checkpoint(algorithm, directory)
    assert str(raised.value).startswith(f"{tensors} is corrupt: ")


@pytest.mark.parametrize(("ends", "written"), [([7], 7), ([7, 3], [7, 3])])
def test_ends_are_written_beside_a_model_that_came_without_any(ends, written, tmp_path):
    module._write_ends(tmp_path, ends)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == written


@pytest.mark.parametrize("error", [ValueError, KeyError, IndexError, AttributeError])
def test_a_tokenizer_that_cannot_say_how_it_was_asked_is_saved_with_a_warning(
    error, algorithm, tmp_path, monkeypatch
):
    def fails() -> None:
        raise error("no template says this")

    [tokenizer] = {id(t): t for t in algorithm.env.get_attr("tokenizer")}.values()
    asked: Any = SimpleNamespace(saved_tokenizer=fails, tokenizer=tokenizer)
    monkeypatch.setattr(
        module.training_state,
        "environment_attribute",
        lambda _, name: asked if name == "prompt_format" else None,
    )
    with pytest.warns(UserWarning, match="the saved tokenizer does not show") as warned:
        directory = save_model(algorithm, tmp_path / "model")
    assert [warning.filename for warning in warned] == [__file__]
    assert (directory / "tokenizer.json").is_file()
    shutil.rmtree(directory)
