"""`python -m llm_gym_autopilot modes`."""

from __future__ import annotations

import subprocess
import sys

import pytest
from llm_gym_autopilot.__main__ import main, modes_table


def test_the_table_has_the_books_figures_beside_ours():
    table = modes_table("navion", 53.6448, 0.0)
    for text in ("-2.5000", "2.5900", "-0.0171", "0.2130", "-2.4960", "2.5564"):
        assert text in table


def test_bad_speed_and_aircraft():
    with pytest.raises(ValueError, match="--speed 5 must be from 24 to 85 m/s"):
        modes_table("navion", 5.0, 0.0)
    with pytest.raises(ValueError, match="aircraft='kite' must be one of navion"):
        modes_table("kite", 50.0, 0.0)


def test_command_line(capsys):
    assert main(["modes", "--speed", "54"]) == 0
    assert "phugoid" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["modes", "--sped", "54"])


def test_importing_is_light():
    code = (
        "import sys, llm_gym_autopilot; "
        "heavy = {'torch', 'pygame', 'jsbsim', 'stable_baselines3', 'llm_gym'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
