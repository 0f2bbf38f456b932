"""No script for text discounts: a reward at the end is due to the first word as well."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml

AGENTS = Path(__file__).parents[2] / "agents"
SCRIPTS = [*sorted(AGENTS.glob("*_text.py")), *sorted((AGENTS / "interop").glob("*.py"))]


def gammas(tree: ast.AST) -> list[float]:
    """Every number that something called gamma is given: argument, entry or default."""
    found = []
    for node in ast.walk(tree):
        values: list[tuple[str | None, ast.expr | None]] = []
        if isinstance(node, ast.keyword):
            values = [(node.arg, node.value)]
        if isinstance(node, ast.Dict):
            values = [
                (getattr(k, "value", None), v) for k, v in zip(node.keys, node.values, strict=True)
            ]
        if isinstance(node, ast.AnnAssign):
            value = node.value.args[0] if isinstance(node.value, ast.Call) else node.value
            values = [(getattr(node.target, "id", None), value)]
        found += [
            value.value
            for name, value in values
            if name in ("gamma", "discount") and isinstance(value, ast.Constant)
        ]
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_for_text_does_not_discount(script):
    assert set(gammas(ast.parse(script.read_text(encoding="utf-8")))) <= {1.0}


def test_they_say_so_where_the_library_would():
    """Stable-Baselines3, sb3-contrib and others discount at 0.99 unless told otherwise."""
    for name in ("interop/stable_baselines.py", "interop/cleanrl_style.py", "trpo_text.py",
                 "maskable_ppo_text.py", "ppo_text.py"):  # fmt: skip
        assert gammas(ast.parse((AGENTS / name).read_text(encoding="utf-8"))), name


def test_settings_for_text_do_not_discount():
    settings = yaml.safe_load((AGENTS / "hyperparams" / "ppo.yml").read_text(encoding="utf-8"))
    of_text = {name: s["gamma"] for name, s in settings.items() if "Autopilot" not in name}
    assert of_text
    assert set(of_text.values()) == {1.0}
