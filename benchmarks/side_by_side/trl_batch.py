"""The first batches of TRL, written down: what it sampled, and the weights it learnt from that.

Runs in the peers' environment, `python -m benchmarks.side_by_side.trl_batch JSON FILE` with
`{"workload": {...}, "options": {...}, "batches": N}`; see `replay.py`, which starts it.
"""

from __future__ import annotations

import json
import os
import sys

import torch
from safetensors.torch import save_file

from benchmarks.systems.trl_group import build
from benchmarks.workload import Workload

SAMPLED = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages")


def main() -> None:
    """Writes `sampled.BATCH.NAME`, in the order learnt from, and `weights.NAME`."""
    task = json.loads(sys.argv[1])
    system = build(Workload(**task["workload"]), **task["options"])
    trainer = system.train.__self__
    tensors: dict[str, torch.Tensor] = {}
    for batch in range(task["batches"]):
        system.train_batch()
        for name in SAMPLED:
            parts = [part[name] for part in trainer._buffered_inputs]
            tensors[f"sampled.{batch}.{name}"] = torch.cat(parts)
    for name, value in trainer.model.state_dict().items():
        tensors[f"weights.{name}"] = value.clone()
    save_file(tensors, sys.argv[2])
    os._exit(0)  # the trainer's thread waits for another batch


if __name__ == "__main__":
    main()
