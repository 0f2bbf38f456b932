"""What a training run could do, and when: its pilots, kept at every look at it.

They lie in `trace/` of the run's directory, `pilot-000000100352.npz`, numbered by the steps after
which they were taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["pilot_file", "pilots_of_run"]

TRACE = "trace"
_NAME = re.compile(r"pilot-(\d{12,})\.npz")


def pilot_file(run: str | Path, step: int) -> Path:
    """Where a run keeps its pilot of a step.

    Args:
        run: Directory of the run.
        step: Steps after which it was taken.
    """
    return Path(run) / TRACE / f"pilot-{step:012d}.npz"


def pilots_of_run(run: Path, most: int, say: Callable[[str], None]) -> dict[str, Path]:
    """The pilots of a run, oldest first, by a name that says when.

    Args:
        run: Directory of the run.
        most: How many at most; of more some are taken at even distances, the first and the last
            among them.
        say: Called with a sentence if some are left out.

    Raises:
        FileNotFoundError: There is no such directory.
        ValueError: It holds no pilots.
    """
    if not run.is_dir():
        raise FileNotFoundError(f"--checkpoints={str(run)!r}: there is no such directory")
    folder = run / TRACE
    names = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("pilot-*.npz"))
    found = sorted((int(name[1]), path) for path, name in names if name)
    if not found:
        raise ValueError(
            f"--checkpoints={str(run)!r} holds no pilots of a training run ({TRACE}/pilot-*.npz): "
            "give the --output of agents/ppo_autopilot.py, sac_autopilot.py or dqn_autopilot.py"
        )
    if len(found) > most:
        say(f"{most} of {len(found)} looks at the run are flown")
        last = len(found) - 1
        found = [found[round(place * last / (most - 1))] for place in range(most)]
    return {f"after {step:,} steps": path for step, path in found}
