"""Do TRL and llm_gym learn the same weights from the same samples?

Curves of two systems that sample for themselves can only agree within the noise. Here TRL samples
and learns from three batches (of 4 epochs of 4 minibatches: 48 optimizer steps), and llm_gym learns
from TRL's samples, in TRL's order, from the same starting weights. What is left is arithmetic: the
distance between the two results, as a share of the distance that TRL's moved.

    python benchmarks/side_by_side/replay.py --output runs/side-by-side
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks.common import ROOT, columns, record
from benchmarks.driver import worker_environment
from benchmarks.peers import peer_python
from benchmarks.side_by_side.settings import COMPARISONS, SYSTEMS, TASKS
from benchmarks.systems import ours_groups
from benchmarks.tasks import Task, build_task
from benchmarks.workload import Workload
from llm_gym import PolicyGradient
from llm_gym.files.atomic import write_json
from llm_gym.learning.buffer import EpisodeBuffer

Ids = list[NDArray[np.int64]]
Tensors = dict[str, torch.Tensor]

BATCHES = 3  # the KL penalty is zero in the first: the policy still is the reference


def trl_batches(workload: Workload, options: dict[str, Any], peer: str) -> Tensors:
    """What TRL sampled and learnt in its first batches; see `trl_batch.py`."""
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        file = Path(folder) / "batch.safetensors"
        task = json.dumps({"workload": workload.as_dict(), "options": options, "batches": BATCHES})
        subprocess.run(
            [str(peer_python(peer)), "-m", "benchmarks.side_by_side.trl_batch", task, str(file)],
            cwd=ROOT,
            env=worker_environment(threads=1),
            check=True,
            capture_output=True,
        )
        return load_file(file)


def unpadded(ids: torch.Tensor, mask: torch.Tensor) -> Ids:
    """The rows of padded ids, each without its padding."""
    return [row[kept].numpy() for row, kept in zip(ids, mask.bool(), strict=True)]


def fill(learner: PolicyGradient, prompts: Ids, answers: Ids, scores: list[float]) -> None:
    """Puts finished episodes into the learner's buffer as if it had played them.

    Args:
        learner: The learner; its buffer must be empty.
        prompts: Token ids, one array a row; rows of a group follow each other.
        answers: Token ids, one array a row, without padding.
        scores: Score of each row.
    """
    buffer = learner.rollout_buffer
    assert isinstance(buffer, EpisodeBuffer)
    buffer.reset()
    lengths = np.array([len(answer) for answer in answers])
    ids = np.zeros((len(prompts), max(map(len, prompts))), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = prompt
    mask = np.arange(ids.shape[1]) < np.array([len(prompt) for prompt in prompts])[:, None]
    nothing = torch.zeros(len(prompts))  # values are not used, log-probabilities computed again
    for step in range(lengths.max()):
        tokens = np.array([answer[min(step, len(answer) - 1)] for answer in answers])
        rewards = np.where(step == lengths - 1, scores, 0.0)
        starts = np.isin(lengths, step) | (
            step == 0
        )  # rows that wait begin something that is dropped
        written = np.full(mask.shape, step > 0)  # nothing, where a text begins
        observed = {"input_ids": ids, "attention_mask": mask, "completion_mask": written}
        buffer.add(observed, tokens, rewards, starts, nothing, nothing)
    learner.shaping.recompute_log_probs = True
    assert learner.collector is not None
    learner.collector.end(learner, [0], lengths == lengths.max())


class Answered(NamedTuple):
    """One batch of TRL's answers, ordered so that answers to a prompt follow each other.

    Attributes:
        prompts: Token ids, one array a row.
        answers: Token ids, one array a row.
        scores: What the task's scorer gives them.
        advantages: float `(n,)`, what TRL made of that.
        order: int `(n,)`, the rows in the order that TRL learnt from them.
    """

    prompts: Ids
    answers: Ids
    scores: list[float]
    advantages: torch.Tensor
    order: NDArray[np.int64]


def answered(task: Task, sampled: Tensors) -> Answered:
    """A batch as TRL kept it, without padding and scored again."""
    prompts = unpadded(sampled["prompt_ids"], sampled["prompt_mask"])
    answers = unpadded(sampled["completion_ids"], sampled["completion_mask"])
    rows = sorted(range(len(prompts)), key=lambda row: prompts[row].tolist())
    known = map(tuple, task.tokenizer(task.prompts)["input_ids"])
    instructions = dict(zip(known, task.instructions, strict=True))
    prompts, answers = [prompts[row] for row in rows], [answers[row] for row in rows]
    texts = task.tokenizer.batch_decode(answers, skip_special_tokens=True)
    scores = task.score([instructions[tuple(prompt.tolist())] for prompt in prompts], texts)
    return Answered(prompts, answers, list(scores), sampled["advantages"][rows], np.argsort(rows))


def replay(workload: Workload, ours: dict[str, Any], trl: Tensors) -> dict[str, float]:
    """Learns from TRL's samples.

    Args:
        workload: Model, task and sizes that both learn with.
        ours: Options of `systems.ours_groups.build`.
        trl: As `trl_batches` returns it.

    Returns:
        `advantages` (largest difference in any batch), `weights` (distance of the results over
        the distance that TRL's weights moved) and `largest_weight` (largest difference of one).
    """
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        task = build_task(workload, folder)
    learner = ours_groups.build(workload, **ours).algorithm
    learner._setup_learn(1, callback=None)
    before = {name: value.clone() for name, value in learner.policy.model.state_dict().items()}
    differences = []
    for index in range(BATCHES):
        prefix = f"sampled.{index}."
        batch = answered(
            task, {k.removeprefix(prefix): v for k, v in trl.items() if k.startswith(prefix)}
        )
        fill(learner, batch.prompts, batch.answers, batch.scores)
        learner.rollout_buffer.order = batch.order
        advantages = torch.from_numpy(learner.rollout_buffer.advantages[0])
        differences.append(float((advantages - batch.advantages).abs().max()))
        learner.train()
    after = learner.policy.model.state_dict()
    pairs = [(after[name], trl[f"weights.{name}"], before[name]) for name in before]
    apart = torch.cat([(a - b).flatten() for a, b, _ in pairs])
    moved = torch.cat([(b - c).flatten() for _, b, c in pairs])
    return {
        "advantages": max(differences),
        "weights": float(apart.norm() / moved.norm()),
        "largest_weight": float(apart.abs().max()),
    }


def main() -> None:
    """Replays TRL's RLOO and GRPO for every comparison with them, and write `replay.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args()
    results = record({"tasks": options.tasks})
    results["replays"] = []
    for task, ours, theirs, _ in COMPARISONS:
        entry, peer = SYSTEMS[ours], SYSTEMS[theirs]
        if task not in options.tasks or entry.system != "ours_groups" or entry.workload:
            continue
        if peer.peer is None or peer.missing:
            print(f"{peer.label}: {peer.missing}")
            continue
        workload = TASKS[task].of_seed(0, entry)
        trl = trl_batches(workload, peer.options, peer.peer)
        figures = replay(workload, entry.options, trl)
        results["replays"].append({"task": task, "ours": ours, "theirs": theirs, **figures})
        print(results["replays"][-1], flush=True)
    write_json(options.output / "replay.json", results)
    table = [["task", "ours", "TRL's", "advantages apart", "weights apart / moved"]]
    for row in results["replays"]:
        labels = [SYSTEMS[row[side]].label for side in ("ours", "theirs")]
        table.append([row["task"], *labels, f"{row['advantages']:.1e}", f"{row['weights']:.1e}"])
    print(columns(table))


if __name__ == "__main__":
    main()
