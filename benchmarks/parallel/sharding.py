"""Where PyTorch's sharding of weights (FSDP2, `fully_shard`) resists what this library does.

    python benchmarks/parallel/sharding.py

Each use of a tiny model is tried in two processes on CPUs (gloo), which wait for each other for
five seconds at most. What does not come to its end is printed with what PyTorch says.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

PATIENCE = datetime.timedelta(seconds=5)
IDS = torch.arange(8)[None] % 12  # (1, 8)


def same_passes(model: Any, rank: int) -> None:
    """Both processes make the same passes, forward and backward."""
    for _ in range(3):
        model(IDS).logits.sum().backward()


def cached_decoding(model: Any, rank: int) -> None:
    """A prompt, and a token after it from the cache."""
    with torch.no_grad():
        cache = model(IDS, use_cache=True).past_key_values
        model(IDS[:, :1], past_key_values=cache)


def trunk_and_head_apart(model: Any, rank: int) -> None:
    """The trunk is called for its hidden states, the head for some of them."""
    model.lm_head(model.transformer(IDS).last_hidden_state[:, -1:])


def unequal_answers(model: Any, rank: int) -> None:
    """One process decodes a token more: its longest answer is longer."""
    with torch.no_grad():
        for _ in range(3 + rank):
            model(IDS)
    model(IDS).logits.sum().backward()


def unequal_passes(model: Any, rank: int) -> None:
    """One process reads its minibatch in two passes, the other in one."""
    sum(model(IDS).logits.sum() for _ in range(1 + rank)).backward()


def a_copy(model: Any, rank: int) -> None:
    """The reference is a copy of the model."""
    copy.deepcopy(model)


USES: tuple[Callable[[Any, int], None], ...] = (
    same_passes, cached_decoding, trunk_and_head_apart, unequal_answers, unequal_passes, a_copy,
)  # fmt: skip


def attempt(name: str) -> None:
    """One process's part in a use; prints what became of it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    dist.init_process_group("gloo", timeout=PATIENCE)
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for block in model.transformer.h:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    try:
        {use.__name__: use for use in USES}[name](model, dist.get_rank())
        dist.barrier()
        said = "goes"
    except (RuntimeError, AssertionError) as error:
        said = re.sub(r"^\[\S*\] ", "", str(error).splitlines()[0])  # without PyTorch's own file
    os.write(1, f"{said}\n".encode())  # at once: the other process writes, too


def main() -> None:
    """Tries every use in processes of its own, and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [use.__name__ for use in USES]
    parser.add_argument("--use", choices=names, help="one, in a process that torchrun started")
    if name := parser.parse_args().use:
        attempt(name)
        return
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    for use in USES:
        line = (*launcher, "--nproc-per-node", "2", __file__, "--use", use.__name__)
        tried = subprocess.run(
            line, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        told = tried.stdout.splitlines()
        cause = next((said for said in told if said.startswith("Timed out")), told[-1])
        print(f"{use.__name__.replace('_', ' '):22} {cause}", flush=True)


if __name__ == "__main__":
    main()
