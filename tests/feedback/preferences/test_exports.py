"""What the package exports, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

import llm_gym.feedback.preferences


def test_everything_exported_is_there_and_in_order():
    names = llm_gym.feedback.preferences.__all__
    assert sorted(set(names)) == sorted(names)
    for name in names:
        assert getattr(llm_gym.feedback.preferences, name) is not None


def test_importing_it_imports_no_heavy_library():
    heavy = ("torch", "transformers", "stable_baselines3", "pyarrow", "scipy", "pandas")
    code = (
        f"import sys, llm_gym.feedback.preferences; print([m for m in {heavy} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
