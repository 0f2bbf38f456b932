from __future__ import annotations

import ast
import json
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


# Each piece of code has a process of its own, which begins with what the pieces before it needed
# and no more: PyTorch, Transformers and Stable-Baselines3 take seconds to load.
FORKED = """
import importlib, json, os, sys, traceback
for needed, code in json.loads(sys.argv[1]):
    for name in needed:
        importlib.import_module(name)
    child = os.fork()
    if not child:
        try:
            exec(code, {"__name__": "piece"})
        except BaseException:
            print(traceback.format_exc())
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    print("=" * 9, flush=True)
"""
SUBMODULES = (
    "runs.checkpoint.save_model", "runs.callbacks.progress", "feedback.preferences.store",
    "text.tasks.longest_prompt", "stages.rlhf.run", "files.untrusted.printable",
    "feedback.labelling.questions",
)  # fmt: skip
BY_ATTRIBUTE = """
from operator import attrgetter
import llm_gym
print(attrgetter("{name}")(llm_gym) is not None)
"""
KNOWN = """
import importlib.util
assert importlib.util.find_spec("stable_baselines3") is not None
from stable_baselines3 import A2C, PPO
print(*(one.policy_aliases["TransformerPolicy"].__name__ for one in (A2C, PPO)))
"""
BOTH_KNOW_IT = "TransformerActorCriticPolicy TransformerActorCriticPolicy"
WHAT_CHANGES = """
import inspect, sys

def everything():
    found = {}
    for module_name, module in list(sys.modules.items()):
        if not module_name.startswith("stable_baselines3"):
            continue
        for name, value in vars(module).items():
            found[f"{module_name}.{name}"] = value
            if inspect.isclass(value) and value.__module__ == module_name:
                for member, inner in vars(value).items():
                    found[f"{module_name}.{name}.{member}"] = inner
    return found

before = everything()
import llm_gym
after = everything()
print(*(name for name, value in before.items() if after[name] is not value))
"""
PIECES = {
    "llm_gym first": (
        ["torch", "transformers.modeling_layers"],
        "import llm_gym, stable_baselines3" + KNOWN,
    ),
    "stable_baselines3 first": (["stable_baselines3"], WHAT_CHANGES + KNOWN),
    **{name: ([], BY_ATTRIBUTE.format(name=name)) for name in SUBMODULES},
}


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What each of the pieces prints."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, json.dumps(list(PIECES.values()))],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    *answers, rest = done.stdout.split("=" * 9 + "\n")
    assert rest == ""
    return dict(zip(PIECES, map(str.strip, answers), strict=True))


@pytest.mark.parametrize("name", SUBMODULES)
def test_submodules_are_there_by_attribute(name, printed):
    """After `import llm_gym` alone: each is asked for in a process that has loaded no other."""
    assert printed[name] == "True"


def test_llm_gym_may_be_imported_before_stable_baselines3(printed):
    assert printed["llm_gym first"] == BOTH_KNOW_IT


def test_what_changes_in_stable_baselines3_is_what_the_page_says(printed):
    """Where it was imported first, which llm_gym follows as well."""
    names, known = printed["stable_baselines3 first"].splitlines()
    assert known == BOTH_KNOW_IT
    changed = {name.removeprefix("stable_baselines3.") for name in names.split()}
    assert changed == {
        "ppo.ppo.PPO.policy_aliases",
        "a2c.a2c.A2C.policy_aliases",
        "common.base_class.BaseAlgorithm._setup_lr_schedule",
        "common.base_class._patch_env",
        "common.env_util._patch_env",
        "common.vec_env.dummy_vec_env._patch_env",
    }
    page = (Path(__file__).parents[1] / "docs" / "interop.md").read_text(encoding="utf-8")
    for name in changed:
        *_, owner, attribute = name.split(".")
        assert attribute in page
        assert owner in page


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
