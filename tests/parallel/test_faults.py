"""Whatever goes wrong in one of two processes: both end and say why; checkpoints are whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")


# One of each kind; the benchmark has more of some.
KINDS = (
    "raises in the second", "kill -9 of the first", "Ctrl-C", "disk", "scores", "target_kl",
    "no finished episode", "unequal",
)  # fmt: skip


@pytest.mark.slow
def test_every_kind_of_fault_ends_all_processes(tmp_path):
    output = tmp_path / "faults"
    command = [sys.executable, "-m", "benchmarks.parallel.faults", "--output", str(output)]
    command += ["--only", *KINDS]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads((output / "results.json").read_text())["results"]
    assert len(found) == len(KINDS)
    bad = [each for each in found if each["hung"] or not (each["right"] and each["whole"])]
    assert not bad, json.dumps(bad, indent=1)
