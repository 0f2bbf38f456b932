from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm_gym.language_models import load_causal_lm, memory
from llm_gym.language_models.memory import (
    MemoryWarning,
    check_loading,
    check_training,
    free_in,
    free_memory,
    stored_numbers,
)

GIGA = 10**9


@pytest.fixture
def free(monkeypatch):
    """Sets what the machine has."""

    def has(count):
        monkeypatch.setattr(memory, "free_memory", lambda device="cpu": count)

    return has


def numbers_of(directory):
    return sum(parameter.numel() for parameter in load_causal_lm(directory).parameters())


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_headers_say_how_many_numbers_there_are(tiny_dir, architecture):
    directory = tiny_dir(architecture)
    assert stored_numbers(directory) == {"F32": numbers_of(directory)}
    assert memory._numbers_of(directory) == numbers_of(directory)


def test_of_what_cannot_be_read_nothing_is_known(tmp_path, free):
    free(1)
    for content in (b"", b"\xff" * 40, b"\x02" + b"\0" * 7 + b"[]", b"\x04" + b"\0" * 7 + b'{"a"'):
        (tmp_path / "model.safetensors").write_bytes(content)
        assert stored_numbers(tmp_path) == {}
        check_training(tmp_path)
    check_loading("somebody/on-the-hub", "float32")
    check_training("somebody/on-the-hub")


def test_what_fits_to_the_byte_is_loaded_and_a_byte_less_is_refused(tiny_dir, free):
    directory = tiny_dir("llama")
    count = numbers_of(directory)
    free(2 * count)
    assert load_causal_lm(directory, dtype="bfloat16").dtype == torch.bfloat16
    free(2 * count - 1)
    with pytest.raises(ValueError, match=rf"{directory} needs at least .*weights in bfloat16"):
        load_causal_lm(directory, dtype="bfloat16")


def test_weights_of_their_files_type_are_mapped_so_they_are_never_refused(tiny_dir, free):
    free(1)
    for dtype in (None, "float32", "auto", torch.float32):
        with pytest.warns(MemoryWarning, match="read from the disk again and again"):
            load_causal_lm(tiny_dir("gpt2"), dtype=dtype)
    free(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MemoryWarning)
        load_causal_lm(tiny_dir("gpt2"), dtype="bfloat16")


def test_tensors_that_the_model_does_not_have_do_not_count(tiny_dir, tmp_path, free):
    """A picture's half of a model, say, or an output layer that is tied."""
    from shutil import copytree

    directory = copytree(tiny_dir("llama"), tmp_path / "more")
    count = numbers_of(directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["vision.weight"] = torch.zeros(50_000)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    free(2 * count)
    load_causal_lm(directory, dtype="float16")
    free(16 * count)
    check_training(directory)
    free(16 * count - 1)
    with pytest.raises(ValueError, match="needs at least"):
        check_training(directory)


@pytest.mark.parametrize(
    ("options", "bytes_each"),
    [
        ({}, 4 * (1 + 1 + 2)),
        ({"dtype": "bfloat16"}, 2 * (1 + 1 + 2)),
        ({"dtype": "auto"}, 4 * (1 + 1 + 2)),
        ({"moments": 0}, 4 * (1 + 1)),
        ({"models": 2, "copies": 1}, 4 * (2 * 4 + 1)),
        ({"copies": 0.5}, 4 * 4 + 2),
        ({"device": "cuda"}, 4 * (1 + 1 + 2)),
    ],
)
def test_training_needs_weights_gradients_and_moments(tiny_dir, free, options, bytes_each):
    directory = tiny_dir("gpt2")
    needed = bytes_each * numbers_of(directory)
    free(needed)
    check_training(directory, **options)
    free(needed - 1)
    with pytest.raises(ValueError, match=r"training .* needs at least .*weights .*--lora-rank"):
        check_training(directory, **options)


def test_what_is_counted_is_what_training_holds(tiny_dir):
    """After a step: the model's tensors, their gradients, and what the optimizer keeps."""
    from llm_gym.supervised.loop import adamw

    model = load_causal_lm(tiny_dir("gpt2"))
    optimizer = adamw(model, 0.0)
    model(input_ids=torch.arange(5)[None], labels=torch.arange(5)[None]).loss.backward()
    optimizer.step()
    held = [tensor for parameter in model.parameters() for tensor in (parameter, parameter.grad)]
    held += [
        moment for state in optimizer.state.values() for moment in state.values() if moment.ndim
    ]
    assert sum(tensor.nbytes for tensor in held) == 16 * numbers_of(tiny_dir("gpt2"))


def test_an_adapter_is_trained_where_the_model_is_not(tiny_dir, free):
    free(1)
    check_training(tiny_dir("gpt2"), frozen=True)


def test_commands_refuse_before_anything_is_loaded(tiny_dir, tmp_path, free, capsys):
    from llm_gym.cli import main

    (tmp_path / "pairs.jsonl").write_text('{"prompt": "w1", "completion": "w2"}\n' * 20)
    votes = '{"prompt": "w1", "chosen": "w2", "rejected": "w3"}\n'
    (tmp_path / "votes.jsonl").write_text(votes * 20)
    (tmp_path / "prompts.txt").write_text("w1\nw2\n")
    free(1)
    model, output = ["--model", tiny_dir("gpt2")], ["--output", str(tmp_path / "out")]
    for command in (
        ["sft", str(tmp_path / "pairs.jsonl")],
        ["dpo", str(tmp_path / "votes.jsonl")],
        ["train", "--prompts", str(tmp_path / "prompts.txt"), "--scorer", "length:5"],
    ):
        with pytest.raises(SystemExit) as ended:
            main([*command, *model, *output])
        assert ended.value.code == 2
        told = capsys.readouterr().err
        assert "needs at least" in told.splitlines()[-1]
        assert "this machine has 0.0 MB free" in told


# ------------------------------------------------------------------ the machine


def machine(root, *, group="0::/a/b\n", swap=1, **files):
    """A Linux with 8 GB, of which 2 are free and 3 are caches that can be dropped."""
    lines = {"MemTotal": 8, "MemFree": 2, "MemAvailable": 4, "Buffers": 1, "Cached": 3, "Shmem": 1}
    text = "".join(
        f"{name}: {count * 10**6} kB\n" for name, count in {**lines, "SwapFree": swap}.items()
    )
    for path, content in {"proc/meminfo": text, "proc/self/cgroup": group, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return free_in(root)


def test_free_is_what_the_kernel_could_give_with_swap(tmp_path):
    kilo = 1024 * 10**6
    assert machine(tmp_path) == (2 + 1 + 3 - 1 + 1) * kilo
    assert machine(tmp_path, swap=0) == 5 * kilo


def test_a_control_group_leaves_less(tmp_path):
    second = {
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": f"{GIGA}\n",
        "sys/fs/cgroup/a/memory.max": f"{3 * GIGA}\n",
        "sys/fs/cgroup/a/memory.current": f"{2 * GIGA}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon 5\nactive_file {GIGA // 2}\ninactive_file 7\n",
    }
    assert machine(tmp_path, swap=0, **second) == 3 * GIGA - 2 * GIGA + GIGA // 2 + 7


def test_the_first_version_of_groups_is_known_too(tmp_path):
    first = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIGA}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIGA}\n",
        "sys/fs/cgroup/memory/memory.stat": "total_active_file 11\ntotal_inactive_file 5\n",
        "sys/fs/cgroup/memory/elsewhere/memory.limit_in_bytes": f"{2**63 - 4096}\n",
        "sys/fs/cgroup/memory/elsewhere/memory.usage_in_bytes": "1\n",
    }
    group = "4:memory:/elsewhere\n3:cpu,cpuacct:/\n1:name=systemd:/\n"
    assert machine(tmp_path, group=group, swap=0, **first) == GIGA + 16


def test_where_the_system_does_not_say_nothing_is_known(tmp_path):
    assert free_in(tmp_path) is None
    assert free_memory("meta") is None


def test_this_machine_has_some():
    count = free_memory()
    if count is None:
        pytest.skip("this system does not say how much memory is free")
    block = torch.ones(10_000_000)
    assert count > block.nbytes
