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


@pytest.mark.slow
def test_every_fault_ends_all_processes(tmp_path):
    output = tmp_path / "faults"
    command = [sys.executable, "-m", "benchmarks.parallel.faults", "--output", str(output)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads((output / "results.json").read_text())["results"]
    assert len(found) >= 12
    bad = [each for each in found if each["hung"] or not (each["right"] and each["whole"])]
    assert not bad, json.dumps(bad, indent=1)
