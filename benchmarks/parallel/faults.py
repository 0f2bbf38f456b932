"""What goes wrong in one of two processes: whether all of them end, say why, and lose nothing.

    python -m benchmarks.parallel.faults --output runs/parallel-faults --times 5

Every fault is met by two processes that train a tiny model together, `--times` times over. They are
forked from this one, which has imported everything, and connect as `torchrun` has them connect. For
each: seconds from the fault to the end of the last process, whether each ended in the way it should
and said why in its last line, and whether the newest checkpoint is whole.
"""

from __future__ import annotations

import argparse
import atexit
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.distributed import TCPStore

from benchmarks.common import record
from llm_gym.cli.failures import failure_of
from llm_gym.files import owned
from llm_gym.files.atomic import write_json
from llm_gym.language_models.loading import quiet_libraries
from llm_gym.learning import ppo
from llm_gym.runs import checkpoint as checkpoints
from llm_gym.runs.callbacks import ProgressCallback
from llm_gym.stages.train import TrainConfig, train
from llm_gym.testing.tiny import save_tiny_model

LIMIT = 15.0
"""Seconds in which all processes must have ended."""

MODEL = {"vocab_size": 12, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
HERE = Path(__file__).parent
_PROCESSES = 2


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        says: What the last line of every process that can speak says; empty where nothing is
            wrong and the run goes to its end.
        environment: For the scorer.
        config: Settings that differ.
        prepare: What is done to this process before it trains; gets its rank.
        killed: Ranks that cannot speak.
        at_once: Whether it comes before the first checkpoint.
    """

    says: str
    environment: str = ""
    config: tuple[tuple[str, Any], ...] = ()
    prepare: Callable[[int], None] = lambda rank: None
    killed: tuple[int, ...] = ()
    at_once: bool = False


def _full_disk(rank: int) -> None:
    own, calls = checkpoints.save_file, iter(range(10**6))

    def save_file(*args: Any, **kwargs: Any) -> None:
        if next(calls) == 2:
            raise OSError(28, "No space left on device", str(args[1]))
        own(*args, **kwargs)

    checkpoints.save_file = save_file


def _nan_weights(rank: int) -> None:
    own, calls = ppo.PPO.train, iter(range(10**6))

    def train(self: Any) -> None:
        if rank == 1 and next(calls) == 4:
            with torch.no_grad():
                next(self.policy.parameters()).fill_(float("nan"))
        own(self)

    ppo.PPO.train = train  # type: ignore[method-assign]


_ENOUGH = r"scorer 'score' raised RuntimeError: this scorer has had enough"
FAULTS: dict[str, Fault] = {
    "a scorer that raises in the second": Fault(_ENOUGH, "raises:1"),
    "a scorer that raises in the first": Fault(_ENOUGH, "raises:0"),
    "a scorer that raises while another waits": Fault(
        _ENOUGH, "raises-while-another-waits:0", at_once=True
    ),
    "kill -9 of the second": Fault("process 1 of 2 .* was killed", "killed:1", killed=(1,)),
    "kill -9 of the first": Fault("process 0 of 2 .* was killed", "killed:0", killed=(0,)),
    "Ctrl-C": Fault("stopped with checkpoint", "interrupted:1"),
    "a disk that is full": Fault("No space left on device", prepare=_full_disk),
    "scores that are no numbers": Fault("returned the score nan", "nan:1"),
    "weights that are no numbers": Fault("diverged|is NaN|not finite", prepare=_nan_weights),
    "target_kl": Fault("", config=(("target_kl", 1e-4), ("learning_rate", 1e-2))),
    "no finished episode": Fault("", config=(("n_steps", 1),)),
    "unequal numbers of prompts": Fault("", config=(("num_envs", 2), ("total_tokens", 60))),
}


def meet(fault: Fault, output: Path, model: str) -> dict[str, Any]:
    """Has two processes meet a fault, and says what came of it."""
    output.mkdir(parents=True)
    # As torchrun keeps it for its processes: it outlives each of them.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    pids: dict[int, int] = {}
    interrupted: list[float] = []

    def hand_on(*_: Any) -> None:
        interrupted.append(time.monotonic())
        for pid in pids.values():
            os.kill(pid, signal.SIGINT)

    signal.signal(signal.SIGUSR1, hand_on)
    for rank in range(_PROCESSES):
        pid = os.fork()
        if not pid:
            _be(rank, store.port, fault, output, model)
        pids[rank] = pid
    codes: dict[int, int] = {}
    ended: list[float] = []
    deadline = time.monotonic() + 8 * LIMIT
    while len(codes) < _PROCESSES and time.monotonic() < deadline:
        for rank, pid in pids.items():
            if rank not in codes and (status := os.waitpid(pid, os.WNOHANG))[0]:
                codes[rank] = os.waitstatus_to_exitcode(status[1])
                ended.append(time.monotonic())
        time.sleep(0.02)
    hung = [rank for rank in pids if rank not in codes]
    for rank in hung:
        os.kill(pids[rank], signal.SIGKILL)
        os.waitpid(pids[rank], 0)
    said = {rank: (output / f"{rank}.txt").read_text().strip() for rank in pids}
    return {
        "hung": hung,
        "codes": [codes.get(rank) for rank in pids],
        "said": [said[rank].splitlines()[-1] if said[rank] else "" for rank in pids],
        "seconds": max(ended) - min([*interrupted, *ended]) if ended else None,
        "right": not hung and all(_is_right(fault, rank, codes, said) for rank in pids),
        "whole": fault.at_once or _newest_is_whole(output / "run"),
    }


def _is_right(fault: Fault, rank: int, codes: dict[int, int], said: dict[int, str]) -> bool:
    if rank in fault.killed:
        return codes[rank] == -signal.SIGKILL
    if not fault.says:
        return codes[rank] == 0 and not said[rank]
    last = said[rank].splitlines()[-1] if said[rank] else ""
    return codes[rank] not in (0, -signal.SIGABRT) and re.search(fault.says, last) is not None


def _newest_is_whole(run: Path) -> bool:
    found = checkpoints.numbered_checkpoints(run / "checkpoints")
    return bool(found) and owned.damage(found[-1], checkpoints.KIND) is None


def _be(rank: int, port: int, fault: Fault, output: Path, model: str) -> None:
    """One of the processes, from its fork to its end."""
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "faults",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(_PROCESSES),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "FAULT": fault.environment,
    }
    file = os.open(output / f"{rank}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 2)
    os.dup2(file, 1)
    ProgressCallback.note = lambda *_: None  # type: ignore[method-assign, assignment]
    warnings.simplefilter("ignore")
    code = 0
    try:
        fault.prepare(rank)
        code = _train(fault, output, model)
    except Exception as error:
        sentence, code = failure_of(error)
        print(sentence, file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        code = 130
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


def _train(fault: Fault, output: Path, model: str) -> int:
    (output / "prompts.txt").write_text("w1\nw2 w3\nw4\nw5\nw6 w7\n")
    settings = {
        "env": "llm_gym/TextGeneration-v0",
        "model": model,
        "scorer": f"{HERE / 'scorer.py'}:score",
        "prompts": str(output / "prompts.txt"),
        "max_new_tokens": 5,
        "total_tokens": 10**6 if fault.says else 120,
        "num_envs": 8,
        "checkpoint_every": 2,
    }
    config = TrainConfig(**{**settings, **dict(fault.config)})
    run = train(output / "run", config, console=Console(quiet=True))
    if run.stopped:
        print(f"stopped with checkpoint {run.checkpoint}", file=sys.stderr)
        return 130
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--times", type=int, default=1, help="how often each fault is met")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of faults to try")
    options = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=False)
    model = save_tiny_model(options.output / "model", "gpt2", **MODEL)
    results = []
    for time_ in range(options.times):
        for number, (name, fault) in enumerate(FAULTS.items()):
            if not any(part in name for part in options.only):
                continue
            result = meet(fault, options.output / f"{number}-{time_}", model)
            results.append({"fault": name, **result})
            mark = "ok " if result["right"] and result["whole"] else "BAD"
            print(f"{mark} {result['seconds']:5.1f} s  {name}: {result['said']}", flush=True)
    good = sum(r["right"] and r["whole"] and r["seconds"] <= LIMIT for r in results)
    print(f"{good} of {len(results)}, at most {max(r['seconds'] for r in results):.1f} s")
    settings = {"times": options.times, "limit_seconds": LIMIT}
    write_json(options.output / "results.json", {**record(settings), "results": results})


if __name__ == "__main__":
    main()
