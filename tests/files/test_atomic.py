from __future__ import annotations

import math
import os

import pytest

from llm_gym.files import atomic
from tests.tiny_runs import tiny_ppo


@pytest.fixture
def algorithm(tiny_dir):
    return tiny_ppo(tiny_dir())


def test_text_is_written_with_its_parents_and_nothing_else(tmp_path):
    path = atomic.write_text(tmp_path / "a" / "b.txt", "ä\n")
    assert path.read_bytes() == "ä\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]


def test_failure_keeps_the_old_file(tmp_path):
    path = atomic.write_text(tmp_path / "a.json", "old")
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(path, {"x": math.nan})
    with pytest.raises(UnicodeEncodeError):
        atomic.write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask for reading")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_weights_have_the_permissions_of_every_other_file(umask, mode, tmp_path, algorithm):
    from llm_gym.runs.checkpoint import save_checkpoint, save_model

    before = os.umask(umask)
    try:
        save_checkpoint(algorithm, tmp_path / "checkpoint")
        save_model(algorithm, tmp_path / "model")
        algorithm.policy.save_pretrained(tmp_path / "bare")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in modes} >= {"training.safetensors", "value_head.safetensors"}
    assert set(modes.values()) == {mode}


@pytest.mark.skipif(atomic.fcntl is None, reason="there are no locks")
@pytest.mark.parametrize("locks", [[True], [None], [False, True], [False, False, None]])
def test_what_another_process_took_for_a_leftover_is_left_to_it(locks, tmp_path, monkeypatch):
    answers = iter(locks)
    monkeypatch.setattr(atomic, "_lock", lambda descriptor: next(answers))
    temporary, descriptor = atomic._claimed(tmp_path / "a.json", directory=False)
    os.close(descriptor)
    assert next(answers, "asked as often") == "asked as often"
    assert len(list(tmp_path.iterdir())) == len(locks)
    assert temporary.is_file()
