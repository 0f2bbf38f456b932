"""Whether a model fits into memory, asked before it is loaded.

A process that asks for more memory than there is gets killed without a word, after minutes of
loading. What is counted here is only what loading and training certainly need, and held against the
most that the machine could make free: activations, caches and copies come on top, so a model that
passes may still be too large, and one that is refused is.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.language_models.adapter_files import is_adapter
from llm_gym.language_models.embedded import resolve
from llm_gym.language_models.hub import cached_file

if TYPE_CHECKING:
    import torch

# Bytes of a number, by safetensors' names.
_STORED = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
_LONGEST_HEADER = 100_000_000  # as safetensors has it
_UNLIMITED = 2**60  # a control group without a limit says a number beyond this, or a word


class MemoryWarning(UserWarning):
    """A model is larger than memory, and will be read from the disk again and again."""


def check_loading(
    source: str | Path, dtype: torch.dtype | str | None, name: str | Path | None = None
) -> None:
    """Refuses a model whose weights cannot be in memory at once.

    Weights that are loaded in the type of their file are mapped, and the system may drop them and
    read them again: of those that are too many there is a warning only.

    Args:
        source: Directory of the model; of a name on the hub nothing is known.
        dtype: Type that the weights are to have; None means float32, `"auto"` the file's own.
        name: What the user calls the model.

    Raises:
        ValueError: They do not fit, with the numbers and what to do.
    """
    stored = stored_numbers(source)
    wanted = _name_of(dtype)
    size = _BYTES.get(wanted)
    if not stored or (size is None and wanted != "auto"):
        return
    converted = {kind: n for kind, n in stored.items() if wanted not in ("auto", _NAMES[kind])}
    if not converted:
        mapped = sum(_STORED[kind] * n for kind, n in stored.items())
        free = free_memory()
        if free is not None and mapped > free:
            warnings.warn(
                f"the weights of {str(name or source)!r} take {_gb(mapped)}, and {_gb(free)} of "
                "memory are free: they will be read from the disk again and again, which is slow",
                MemoryWarning,
                stacklevel=3,
            )
        return
    assert size is not None  # "auto" converts nothing
    needs = {f"weights in {wanted}": size * sum(converted.values())}
    advice = "load it in the type of its file (dtype='auto'), or take a smaller model"
    if size > 2:
        advice = f"load it in bfloat16 (dtype='bfloat16'), {advice}"
    if _too_much(needs, "cpu"):
        numbers = min(sum(converted.values()), _numbers_of(source))
        check_fits({f"weights in {wanted}": size * numbers}, "cpu", str(name or source), advice)


#: What a reference takes beside the policy at its dearest moment, in models of its size. One on the
#: disk is in memory while there are no gradients, which are as large.
REFERENCE_COPIES = {"memory": 1.0, "bfloat16": 0.5, "disk": 0.0}


def check_training(
    name_or_path: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    frozen: bool = False,
    moments: int = 2,
    models: int = 1,
    copies: float = 0,
) -> None:
    """Refuses to train a model whose weights, gradients and moments cannot be in memory at once.

    Args:
        name_or_path: As for `load_causal_lm`; of a saved adapter, that is trained further, its own
            weights are counted. Of what is on the hub and not in its cache nothing is known.
        dtype: Type of the trained weights, or `"auto"`.
        device: Where they are trained.
        frozen: Whether its own weights are not trained, but those of a new adapter, which is
            counted where it is made (`llm_gym.language_models.lora_settings`).
        moments: Numbers that the optimizer keeps for each trained one; two of Adam's.
        models: How many models are trained: two with a separate critic.
        copies: Frozen copies beside them, such as a reference; half a one takes half the bytes.

    Raises:
        ValueError: They do not fit, with the numbers and what to do.
    """
    source = resolve(name_or_path)
    stored = stored_numbers(source)
    if frozen or not stored:
        return
    adapted = is_adapter(source)
    size = 4 if adapted else _BYTES.get(dtype) or min(_STORED[kind] for kind in stored)

    def needs(numbers: int) -> dict[str, int]:
        each = size * numbers
        found = {
            "weights": models * each,
            "gradients": models * each,
            "the optimizer's moments": models * moments * each,
            "a frozen copy": int(copies * each),
        }
        return {name: count for name, count in found.items() if count}

    if not _too_much(needs(sum(stored.values())), device):
        return
    advice = "train an adapter instead (LoRA: --lora-rank 8, lora=dict(r=8)), or a smaller model"
    if adapted:
        advice = "train an adapter of a lower rank, or with fewer modules_to_save"
    if not device.startswith("cuda"):
        advice += ", or take a GPU with more memory (--device cuda)"
    numbers = sum(stored.values()) if adapted else _numbers_of(source)
    check_fits(needs(numbers), device, f"training {name_or_path}", advice)


def check_fits(needs: Mapping[str, int], device: str, what: str, advice: str) -> None:
    """Raises `ValueError` if bytes that are needed are more than could be had.

    Args:
        needs: Bytes by what they are for.
        device: Where.
        what: What needs them, for the message.
        advice: What to do.
    """
    if not _too_much(needs, device):
        return
    free = free_memory(device)
    parts = ", ".join(f"{name} {_gb(count)}" for name, count in needs.items())
    where = "the GPU" if device.startswith("cuda") else "this machine"
    raise ValueError(
        f"{what} needs at least {_gb(sum(needs.values()))} of memory ({parts}), and {where} has "
        f"{_gb(free or 0)} free; {advice}"
    )


def _too_much(needs: Mapping[str, int], device: str) -> bool:
    free = free_memory(device)
    return free is not None and sum(needs.values()) > free


# ------------------------------------------------------------------ what a model has


def stored_numbers(source: str | Path) -> dict[str, int]:
    """How many floating-point numbers a model's weights have, by safetensors' names of types.

    Args:
        source: A directory, or a name on the hub whose files are in its cache; anything else has
            none.

    Returns:
        Counts from the headers of its `*.safetensors`; none where one cannot be read, which is
        somebody else's to say.
    """
    found: dict[str, int] = {}
    directory: Path | None = Path(source)
    if not Path(source).is_dir():
        config = cached_file(str(source), "config.json")
        directory = None if config is None else config.parent
    for file in [] if directory is None else sorted(directory.glob("*.safetensors")):
        try:
            for entry in _header(file).values():
                if entry.get("dtype") in _STORED:
                    count = math.prod(entry["shape"])
                    found[entry["dtype"]] = found.get(entry["dtype"], 0) + count
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}
    return found


def _header(file: Path) -> dict[str, Any]:
    """The table at the beginning of a safetensors file: eight bytes of length, then JSON."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(_LONGEST_HEADER, file.stat().st_size):
            return {}
        table = json.loads(stream.read(length))
    table.pop("__metadata__", None)
    return dict(table)


def _numbers_of(source: str | Path) -> int:
    """How many numbers the model has that a directory's configuration describes.

    Its files may hold more: parts that see or hear, and what is stored twice and used once. Nothing
    is allocated. An encoder that writes no text is counted without a head.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    for kind in (AutoModelForCausalLM, AutoModel):
        with suppress(Exception):  # what is wrong with it is said where it is loaded
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            with torch.device("meta"):
                model = kind.from_config(config)
            return sum(parameter.numel() for parameter in model.parameters())
    return 0


def _name_of(dtype: torch.dtype | str | None) -> str:
    return "float32" if dtype is None else str(dtype).removeprefix("torch.")


# ------------------------------------------------------------------ what the machine has


def free_memory(device: str = "cpu") -> int | None:
    """The most bytes that could be had at the moment, swap and caches included.

    Args:
        device: `"cpu"`, or a GPU by PyTorch's name.

    Returns:
        None where the system does not say (other systems than Linux).
    """
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            return None
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if device != "cpu":
        return None
    return free_in(Path("/"))


def free_in(root: Path) -> int | None:
    """The same of a Linux system whose `proc` and `sys` are below a directory.

    Args:
        root: `/`.
    """
    memory = _table(root / "proc/meminfo", 1024)
    if "MemAvailable" not in memory:
        return None
    # MemAvailable keeps a reserve of the caches, which the kernel gives away in need.
    caches = memory.get("Buffers", 0) + memory.get("Cached", 0) - memory.get("Shmem", 0)
    free = memory.get("MemFree", 0) + caches + memory.get("SReclaimable", 0)
    swap = memory.get("SwapFree", 0)
    limits = [limit + swap for limit in _group_limits(root)]
    return min([max(free, memory["MemAvailable"]) + swap, *limits])


def _group_limits(root: Path) -> list[int]:
    """Bytes that each control group around this process leaves it, caches counted as free."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, place = line.split(":", 2)
        second = not controllers
        if second or "memory" in controllers.split(","):
            mount = root / ("sys/fs/cgroup" if second else "sys/fs/cgroup/memory")
            parts = Path(place.lstrip("/")).parts
            for depth in range(len(parts), -1, -1):
                found += _left(mount.joinpath(*parts[:depth]), second=second)
    return found


def _left(group: Path, *, second: bool) -> list[int]:
    """What one control group leaves, in the files of the first version or of the second."""
    names = (
        ("memory.max", "memory.current")
        if second
        else (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
        )
    )
    try:
        limit, used = ((group / name).read_text().strip() for name in names)
    except OSError:
        return []
    if not limit.isdigit() or int(limit) >= _UNLIMITED:
        return []
    stat = _table(group / "memory.stat")
    prefix = "" if second else "total_"
    cached = sum(stat.get(f"{prefix}{kind}_file", 0) for kind in ("active", "inactive"))
    return [int(limit) - int(used) + cached]


def _table(path: Path, unit: int = 1) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = [line.replace(":", " ").split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: unit * int(line[1]) for line in lines if len(line) > 1 and line[1].isdigit()}


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
