"""What the package exports, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llm_gym.scorers


def test_everything_exported_is_there():
    for name in llm_gym.scorers.__all__:
        assert callable(getattr(llm_gym.scorers, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'Politness'"):
        _ = llm_gym.scorers.Politness


def test_importing_the_scorers_imports_no_heavy_library():
    code = (
        "import sys, llm_gym.scorers;"
        "print([m for m in ('torch', 'transformers', 'stable_baselines3') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
