from __future__ import annotations

import subprocess
import sys

import pytest

import llm_gym

HEAVY = ["torch", "transformers", "stable_baselines3", "matplotlib", "tokenizers", "rich", "typer"]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light():
    """`import llm_gym` and the registry bring in nothing that takes seconds to load."""
    code = (
        "import sys, gymnasium, llm_gym\n"
        "gymnasium.spec('llm_gym/TextGeneration-v0'); gymnasium.spec('llm_gym/PoliteEmail-v0')\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_environments_do_not_need_torch():
    code = (
        "import sys, llm_gym\n"
        "llm_gym.TextGenerationEnv, llm_gym.TextGenerationVectorEnv, llm_gym.register_task\n"
        "llm_gym.Scorer, llm_gym.WeightedSum\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("name", llm_gym.__all__)
def test_every_exported_name_resolves(name):
    assert getattr(llm_gym, name) is not None
    assert name in dir(llm_gym)


def test_exports_are_sorted_and_unique():
    names = sorted(set(llm_gym.__all__), key=lambda name: name)
    assert sorted(llm_gym.__all__) == names


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'llm_gym' has no attribute 'Nonsense'"):
        llm_gym.Nonsense  # noqa: B018
