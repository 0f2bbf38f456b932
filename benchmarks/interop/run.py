"""Which RL libraries train on text, with how many lines of glue, and how many tokens a CPU second.

Runs the scripts of `agents/interop`, each in the first of the given interpreters that has its
library, some times in turns, and writes `interop.json` and `interop.md`.

    python benchmarks/interop/run.py --output runs/interop
    python benchmarks/interop/run.py --output runs/interop --python .venv/bin/python ray/bin/python

Libraries pin what others do not take (RLlib its own Gymnasium), hence several interpreters; each
needs llm_gym and what `SCRIPTS` says. A library that none of them has is left out, and said.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import ROOT, record
from llm_gym.files.atomic import write_json, write_text

FOLDER = ROOT / "agents" / "interop"
REPORT = re.compile(
    r"rollout (\d+), update (\d+) tokens a CPU second; (\d+) of (\d+) steps decoded from the cache"
)


class Script(NamedTuple):
    """A script of the folder and what it stands for.

    Attributes:
        library: What the table calls it.
        file: Its name.
        distributions: What has to be installed; the first one's version is given.
        options: Beside the size of the run.
    """

    library: str
    file: str
    distributions: tuple[str, ...]
    options: tuple[str, ...] = ()


SCRIPTS = (
    Script("Stable-Baselines3", "stable_baselines.py", ("stable-baselines3",)),
    Script(
        "Stable-Baselines3, its own buffer",
        "stable_baselines.py",
        ("stable-baselines3",),
        ("--buffer", "own"),
    ),
    Script("sb3-contrib, MaskablePPO", "maskable_ppo.py", ("sb3-contrib",)),
    Script("rl-zoo3, by YAML", "rl_zoo.py", ("rl-zoo3",)),
    Script("CleanRL-style file", "cleanrl_style.py", ("torch",)),
    Script("TorchRL", "torchrl_ppo.py", ("torchrl",)),
    Script("Tianshou", "tianshou_ppo.py", ("tianshou",)),
    Script("RLlib", "rllib_ppo.py", ("ray",)),
    Script("skrl", "skrl_ppo.py", ("skrl",)),
)


def glue_lines(path: Path) -> int:
    """Lines of code that a script needs to fit its library, counted from its syntax tree.

    Its own classes and functions beside `main` and what only measures (`Measured...`), without
    blank lines, comments and docstrings.
    """
    source = path.read_text(encoding="utf-8")
    own = [
        node
        for node in ast.parse(source).body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and node.name != "main"
        and not node.name.startswith("Measured")
        and not any("dataclass" in ast.unparse(name) for name in node.decorator_list)  # settings
    ]
    documented: set[int] = set()
    for node in (inner for outer in own for inner in ast.walk(outer)):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            text = node.body[0]
            documented |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    lines = source.splitlines()
    return sum(
        bool(lines[number - 1].strip()) and not lines[number - 1].lstrip().startswith("#")
        for node in own
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if number not in documented
    )


def interpreter_with(
    distributions: Sequence[str], pythons: Sequence[str]
) -> tuple[str, str] | None:
    """The first interpreter that has everything, and the version of the first distribution."""
    code = f"from importlib.metadata import version; print(*map(version, {list(distributions)}))"
    for python in pythons:
        asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return python, asked.stdout.split()[0]
    return None


def run(script: Script, python: str, total_tokens: int) -> tuple[float, float, float]:
    """Runs a script once.

    Returns:
        Tokens a CPU second of rollout and of update; share of steps that were decoded from the
        cache.

    Raises:
        RuntimeError: The script failed, or reported nothing.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [python, FOLDER / script.file, "--total-tokens", str(total_tokens), *script.options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **quiet, "PYTHONPATH": path},
    )
    found = REPORT.search(done.stdout)
    if done.returncode or found is None:
        raise RuntimeError(f"{script.file} failed:\n{done.stderr[-3000:]}")
    rollout, update, cached, steps = map(int, found.groups())
    return rollout, update, cached / steps


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown; medians, and least and most of all runs."""
    head = "| library | version | glue, lines | steps decoded from the cache | rollout | update |"
    lines = [head, "|---|---|---|---|---|---|"]
    for row in rows:
        speeds = [
            f"{np.median(row[phase]):.0f} ({min(row[phase])} to {max(row[phase])})"
            for phase in ("rollout", "update")
        ]
        cells = [row["library"], row["version"], str(row["glue"]), f"{row['cached']:.0%}", *speeds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=Path, help="directory for the figures")
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters to try")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each script")
    parser.add_argument("--total-tokens", type=int, default=1536, help="tokens of a run")
    options = parser.parse_args(argv)

    rows: list[dict[str, Any]] = []
    for script in SCRIPTS:
        found = interpreter_with(script.distributions, options.python)
        if found is None:
            print(f"{script.library}: left out, no interpreter has {script.distributions}")
            continue
        rows.append(
            {
                "library": script.library,
                "version": found[1],
                "glue": glue_lines(FOLDER / script.file),
            }
            | {"script": script, "python": found[0], "rollout": [], "update": [], "cached": 1.0}
        )
    for _ in range(options.repeats):
        for row in rows:
            rollout, update, cached = run(row["script"], row["python"], options.total_tokens)
            row["rollout"].append(rollout)
            row["update"].append(update)
            row["cached"] = min(row["cached"], cached)
            print(f"{row['library']}: rollout {rollout}, update {update}, cached {cached:.0%}")
    for row in rows:
        row["script"] = row["script"].file
        del row["python"]
    head = record({"repeats": options.repeats, "total_tokens": options.total_tokens})
    options.output.mkdir(parents=True, exist_ok=True)
    write_json(options.output / "interop.json", {**head, "rows": rows})
    write_text(options.output / "interop.md", table(rows))
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
