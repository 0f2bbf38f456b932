"""How long idle threads spin in a command: short, unless the user has said otherwise."""

import os
import subprocess
import sys

import pytest

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
CODE = """
import os, sys
from llm_gym.cli import main
assert "torch" not in sys.modules, "the variables would come too late"
try:
    main(["--version"])
except SystemExit:
    print([os.environ.get(name) for name in sys.argv[1:]])
"""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, ["PASSIVE", "1000"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"GOMP_SPINCOUNT": "7"}, [None, "7"]),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, ["PASSIVE", None]),
    ],
)
def test_idle_threads_spin_shortly_unless_the_user_says_how(said, expected):
    environ = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    line = [sys.executable, "-c", CODE, *VARIABLES]
    ended = subprocess.run(line, env={**environ, **said}, capture_output=True, text=True)
    assert ended.stdout.splitlines()[-1:] == [str(expected)], ended.stderr
