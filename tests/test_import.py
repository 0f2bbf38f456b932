from __future__ import annotations

import ast
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

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


def test_type_checkers_see_the_names_that_exist():
    """The imports under `if TYPE_CHECKING` are the table that names are looked up in."""
    tree = ast.parse(Path(llm_gym.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == llm_gym._MODULE_OF


SUBMODULES = (
    "runs.checkpoint.save_model", "runs.callbacks.progress", "feedback.preferences.store",
    "text.tasks.longest_prompt", "learning.buffer.EpisodeBuffer", "stages.rlhf.run",
    "statistics.resampling", "files.untrusted.printable", "feedback.labelling.questions",
)  # fmt: skip

EACH_BY_ITSELF = """
import os, stable_baselines3, sys, transformers
from operator import attrgetter
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        import llm_gym
        print(name, attrgetter(name)(llm_gym) is not None, flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_submodules_are_there_by_attribute():
    """After `import llm_gym` alone: each is asked for in a process that has loaded no other."""
    done = subprocess.run(
        [sys.executable, "-c", EACH_BY_ITSELF, *SUBMODULES],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.split("\n")[:-1] == [f"{name} True" for name in SUBMODULES], done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoint", "the module is llm_gym.runs.checkpoint"),
        ("polite_emails", "did you mean llm_gym.polite_email?"),
        ("runs.directries", "did you mean llm_gym.runs.directory?"),
        ("_submodules_", "has no attribute '_submodules_'$"),
    ],
)
def test_a_name_that_is_no_submodule_says_where_it_may_be(name, message):
    with pytest.raises(AttributeError, match=message):
        attrgetter(name)(llm_gym)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'llm_gym' has no attribute 'Nonsense'"):
        llm_gym.Nonsense  # noqa: B018
