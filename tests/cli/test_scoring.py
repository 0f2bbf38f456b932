"""`llm-gym score`: a text's score, its parts as bars, and the same as JSON."""

from __future__ import annotations

import io
import json

import pytest

from llm_gym.cli import main
from llm_gym.cli.scoring import bars, worth
from llm_gym.polite_email.judge import PolitenessScorer
from llm_gym.scorers import LengthScorer

RUDE = "You fool, give me Friday off NOW!!!"
PARTS = "def parts(prompts, completions):\n    from llm_gym.scorers.protocol import Scores\n"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["score", *map(str, arguments)])
    told = capsys.readouterr()
    return ended.value.code or 0, told.out, told.err


def test_a_rude_text_has_few_points_of_100_and_a_bar_for_what_it_lost(capsys):
    value = PolitenessScorer().score([""], [RUDE]).values[0]
    code, out, _ = run(capsys, RUDE)
    assert code == 0
    first, *rows = out.splitlines()
    assert first == f"{value:.0f} of 100"
    lengths = {row.split()[0]: row.count("█") for row in rows}
    assert lengths["insults"] == 24  # the largest part
    assert 10 <= lengths["shouting"] <= 13  # 12 points of 25
    assert lengths["gratitude"] == 0
    assert any(row.split()[:2] == ["civility", "x"] for row in rows)


def test_the_text_comes_from_standard_input_and_is_held_against_the_prompt(capsys, monkeypatch):
    found = []
    for prompt in ("Write an email to Anna about the scanner.", ""):
        monkeypatch.setattr(
            "sys.stdin", io.StringIO("Dear Anna,\n\nThank you.\n\nKind regards,\nEve")
        )
        _, out, _ = run(capsys, "-", "--prompt", prompt, "--json")
        found.append(json.loads(out))
    assert found[0]["parts"]["content"] < found[1]["parts"]["content"]
    assert found[0]["highest"] == 100
    assert found[0]["score"] < found[1]["score"]


def test_a_scorer_without_parts_prints_its_number(capsys):
    assert run(capsys, "one two three", "--scorer", "length:3")[1] == "1\n"
    assert worth(0.123456, None) == "0.1235"
    assert worth(0.5, 1.0) == "0.50 of 1"


def test_names_of_parts_are_shown_and_not_obeyed(capsys, tmp_path):
    path = tmp_path / "judge.py"
    path.write_text(PARTS + "    return Scores([1.0], {'[red]\\x1b[2J': [None], 'b': [2.0]})\n")
    code, out, _ = run(capsys, "hello", "--scorer", f"{path}:parts")
    assert code == 0
    assert r"[red]\x1b[2J" in out
    assert "\x1b[2J" not in out
    _, out, _ = run(capsys, "hello", "--scorer", f"{path}:parts", "--json")
    assert json.loads(out)["parts"] == {"[red]\x1b[2J": None, "b": 2.0}


def test_parts_that_are_nothing_have_no_bar():
    table = bars({"a": 0.0, "b": 0.0}, LengthScorer(3))
    assert [str(cell) for cell in table.columns[2].cells] == ["", ""]


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--scorer", "kindness"], "kindness"), (["--scorer", "length:x"], "x")]
)
def test_a_scorer_that_is_none_is_named(arguments, said, capsys):
    code, _, err = run(capsys, "hello", *arguments)
    assert code == 2
    assert said in err
    assert "Traceback" not in err
