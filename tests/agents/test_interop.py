"""The scripts for other libraries learn on text, wherever the library is installed."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.interop import run

FOLDER = Path(__file__).parents[2] / "agents" / "interop"
SCRIPTS = {
    "stable_baselines.py": "stable_baselines3",
    "maskable_ppo.py": "sb3_contrib",
    "rl_zoo.py": "rl_zoo3",
    "cleanrl_style.py": "torch",  # which is always there
    "torchrl_ppo.py": "torchrl",
    "skrl_ppo.py": "skrl",
    "tianshou_ppo.py": "tianshou",
    "rllib_ppo.py": "ray",
}


def test_every_script_is_tried():
    assert {path.name for path in FOLDER.glob("*.py")} == {*SCRIPTS, "shared.py"}
    assert {script.file for script in run.SCRIPTS} == set(SCRIPTS)


def test_glue_is_what_a_script_defines_beside_its_main(tmp_path):
    file = tmp_path / "script.py"
    file.write_text(
        'import x\n\n\nclass Model(x.Model):\n    """Not\n    counted."""\n\n'
        '    def act(self, obs):\n        """Nor this."""\n        # nor this\n'
        "        return obs\n\n\nclass MeasuredPPO(x.PPO):\n    pass\n\n\n"
        "@dataclass(frozen=True)\nclass Settings:\n    a: int = 1\n\n\n"
        "def helper():\n    return 1\n\n\ndef main():\n    x.learn(Model())\n"
    )
    assert run.glue_lines(file) == 5


def test_the_page_says_the_glue_that_the_scripts_have():
    page = (FOLDER.parents[1] / "docs" / "interop.md").read_text(encoding="utf-8")
    for script in run.SCRIPTS:
        [row] = re.findall(rf"^\| {re.escape(script.library)} \|.*$", page, re.MULTILINE)
        cells = [cell.strip() for cell in row.split("|")[1:-1]]
        assert int(cells[2]) == run.glue_lines(FOLDER / script.file)
        assert script.file in page


ARGUMENTS = ["--total-tokens", "96", "--num-envs", "4", "--max-new-tokens", "12"]


def printed_here(script, tmp_path, monkeypatch, capsys):
    """What a script prints that needs no library beside those that are loaded by now."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "shared", raising=False)
    runpy.run_path(str(FOLDER / script))["main"](ARGUMENTS)
    monkeypatch.delitem(sys.modules, "shared")
    return capsys.readouterr().out


def printed_by_a_process(script, tmp_path):
    # No output of earlier runs, and no account of the machine, goes where the tests are.
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, FOLDER / script, *ARGUMENTS],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_library_learns_and_decodes_from_the_cache(script, tmp_path, monkeypatch, capsys):
    pytest.importorskip(SCRIPTS[script])
    if script in ("maskable_ppo.py", "cleanrl_style.py"):
        shown = printed_here(script, tmp_path, monkeypatch, capsys)
    else:
        shown = printed_by_a_process(script, tmp_path)
    assert len(re.findall(r"score -?[\d.]+", shown)) == 2  # iterations
    found = re.search(r"(\d+) of (\d+) steps decoded from the cache", shown)
    assert found is not None
    cached, steps = map(int, found.groups())
    assert steps == 24
    assert cached >= steps - 4  # but for those in which every row began a prompt
