"""Does every causal architecture of the installed `transformers` decode rightly?

    python benchmarks/architectures/run.py --output architectures.json

Each is made tiny from its configuration class, saved, and given to a policy as a user would give
it. Rows are played beyond every window, first side by side, then growing, standing still and
starting anew at lengths of their own; each distribution is compared with a plain pass of the model
as `transformers` loads it.
An architecture ends in one of five ways:

* `cached`: right, with the prefix cache;
* `recomputed`: right, prefixes recomputed because the check said so (the reason is in the file);
* `refused`: the policy raised `ValueError` or another of its own errors, with a reason;
* `WRONG`: it decoded something else than the plain pass, the worst distance beside it;
* `not tiny`: `transformers` itself does not make, save and load such a model, or it takes too long.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gymnasium import spaces

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.architectures.tiny import ARCHITECTURES, VOCABULARY, WINDOW, tiny_model
from llm_gym.policy import TransformerActorCriticPolicy

LENGTH, ROWS, STEPS, SEED = 28, 4, 40, 3
SIDE_BY_SIDE = WINDOW + 2  # steps
TOLERANCE = 1e-3  # nats; right ones are within 2e-5, wrong ones are off by 0.1 and more
SECONDS = 120  # for one architecture


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON file of results")
    parser.add_argument("--only", nargs="*", default=ARCHITECTURES, help="architectures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    signal.signal(signal.SIGALRM, _too_long)
    results = {}
    for name in options.only:
        signal.alarm(SECONDS)
        results[name] = outcome, reason = try_architecture(name)
        signal.alarm(0)
        print(f"{name:24}{outcome:12}{reason[:100]}", flush=True)
        options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")
    counts = Counter(outcome for outcome, _ in results.values())
    print(f"transformers {transformers.__version__}:", dict(counts))
    return int(counts["WRONG"] > 0)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def try_architecture(name: str) -> tuple[str, str]:
    """How an architecture ends, and the reason or the distance in nats."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            model = tiny_model(name)
            with torch.no_grad():
                model(input_ids=torch.tensor([[3, 4, 5]]), use_cache=False).logits  # noqa: B018
            model.save_pretrained(directory)
            del model
            plain = transformers.AutoModelForCausalLM.from_pretrained(directory).eval()
        except Exception as error:
            return "not tiny", _said(error)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                policy = make_policy(directory)
                distance = worst_distance(policy, plain)
            except TimeoutError as error:
                return "not tiny", _said(error)
            except Exception as error:
                return "refused", _said(error)
        if not distance <= TOLERANCE:
            return "WRONG", f"{distance:.1e}"
        complaints = [str(c.message) for c in caught if "prefix cache" in str(c.message)]
        if complaints:
            return "recomputed", complaints[0].partition(": ")[2]
        return "cached", f"{distance:.1e}"


def make_policy(directory: str, **kwargs: Any) -> TransformerActorCriticPolicy:
    """A policy on a model's directory, for observations of up to `LENGTH` tokens."""
    space = spaces.Dict(
        input_ids=spaces.Box(0, VOCABULARY - 1, (LENGTH,), np.int64),
        attention_mask=spaces.Box(0, 1, (LENGTH,), np.int8),
        completion_mask=spaces.Box(0, 1, (LENGTH,), np.int8),
    )
    return TransformerActorCriticPolicy(
        space, spaces.Discrete(VOCABULARY), lambda _: 1e-3, model=directory, seed=0, **kwargs
    )


def worst_distance(policy: TransformerActorCriticPolicy, plain: Any) -> float:
    """Largest distance of a log-probability from the plain pass over its row alone.

    Rows begin alike and grow side by side beyond the window; then each goes its own way.
    """
    rng = random.Random(SEED)  # noqa: S311

    def more(row: Sequence[int] = (), n_tokens: int = 1) -> list[int]:
        return [*row, *(rng.randrange(VOCABULARY) for _ in range(n_tokens))]

    rows, worst = [more() for _ in range(ROWS)], 0.0
    for step in range(STEPS):
        ids = torch.zeros(ROWS, LENGTH, dtype=torch.int64)
        mask = torch.zeros(ROWS, LENGTH, dtype=torch.int8)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
        observation = {"input_ids": ids, "attention_mask": mask, "completion_mask": mask * 0}
        with torch.no_grad():
            found = policy.get_distribution(observation).distribution.logits.log_softmax(-1)
            for row, log_probs in zip(rows, found, strict=True):
                expected = plain(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]
                worst = max(worst, _distance(log_probs, expected.float().log_softmax(-1)))
        if step < SIDE_BY_SIDE:
            rows = [more(row) for row in rows]
            continue
        rows = [
            more((), rng.randint(1, 8))
            if len(row) + 1 >= LENGTH or rng.random() < 0.05
            else row
            if rng.random() < 0.1
            else more(row)
            for row in rows
        ]
    return worst


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    distance = float((one - other).abs().masked_fill(one == other, 0).max())
    return distance if distance == distance else float("inf")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


if __name__ == "__main__":
    raise SystemExit(main())
