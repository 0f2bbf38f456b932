from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from llm_gym.feedback.labelling.guard import TOKEN_HEADER
from llm_gym.feedback.labelling.questions import ConflictError, UnknownQuestionError
from llm_gym.scorers.by_name import scorer_from_name
from llm_gym.stages.chat_page.server import ASSETS, create_app
from llm_gym.stages.chat_page.table import Table
from tests.stages.chat_page.speakers import Speaker

LONG = 20.0  # seconds; a test that waits so long has failed


def whole(table, number):
    """A turn when all have answered."""
    turn = {"version": -1, "done": False}
    while not turn["done"]:
        turn = table.turn(number, turn["version"], LONG)
    return turn


def test_all_answer_and_each_has_its_numbers():
    table = Table([Speaker("a", ["Yes", ",", " you"], [1.0, 2.0, 3.0]), Speaker("b", ["No"])])
    turn = whole(table, table.say("Well?"))
    first, second = turn["answers"]
    assert turn["prompt"] == [("Well?", False)]
    assert [piece for pieces in first["tokens"] for piece, _ in pieces] == ["Yes", ",", " you"]
    assert first["quantities"] == {
        "prob": [0.25, 0.5, 0.75],
        "entropy": [0.5] * 3,
        "value": [1.0, 2.0, 3.0],
    }
    assert first["top"][1] == [[[(",", False)], 1, 0.5], [[(" other", False)], 99, 0.01]]
    assert "value" not in second["quantities"]
    assert (turn["stopped"], turn["error"], first["score"]) == (False, "", None)
    assert [model["critic"] for model in table.overview()["models"]] == [True, False]


def test_a_turn_is_told_as_it_grows():
    slow = Speaker("a", ["one", " two"], waits=True)
    table = Table([slow])
    number = table.say("Count.")
    nothing = table.turn(number, -1, LONG)
    assert (nothing["version"], nothing["answers"][0]["tokens"]) == (0, [])
    assert table.turn(number, 0, 0.01)["version"] == 0  # patience has an end
    slow.go.release()
    assert len(table.turn(number, 0, LONG)["answers"][0]["tokens"]) == 1
    with pytest.raises(ConflictError, match="still answering"):
        table.say("And now?")
    slow.go.release(2)
    assert len(whole(table, number)["answers"][0]["tokens"]) == 2
    assert slow.asked == ["Count."]


def test_a_new_token_is_waited_for_no_longer(monkeypatch):
    speaker = Speaker("a", ["one", " two"], waits=True)
    table = Table([speaker])
    number = table.say("Count.")
    speaker.go.release()
    table.turn(number, 0, LONG)
    waits = []
    with monkeypatch.context() as patch:
        enough = lambda goes_on, patience: waits.append((goes_on(), patience))  # noqa: E731
        patch.setattr(table._changed, "wait_for", enough)
        for seen in (-1, 0, 1):
            table.turn(number, seen, 3.5)
    assert waits == [(True, 3.5), (True, 3.5), (False, 3.5)]
    speaker.go.release()
    assert whole(table, number)["version"] == 3


def test_what_is_stopped_keeps_its_half():
    slow = Speaker("a", ["one", " two", " three"], waits=True)
    table = Table([slow, Speaker("b", ["x"])])
    number = table.say("Count.")
    slow.go.release()
    table.turn(number, 0, LONG)
    slow.go.release()  # it is in the middle of its next token, and ends behind that
    table.stop()
    turn = table.turn(number, -1, 0)
    assert (turn["done"], turn["stopped"]) == (True, True)
    assert 1 <= len(turn["answers"][0]["tokens"]) <= 2
    assert slow.closed == 1


def test_scores_are_those_of_the_beginnings_and_of_the_whole():
    scorer = scorer_from_name("length:2", "cpu")
    table = Table([Speaker("a", ["one", " two", " three"]), Speaker("b", [])], scorer, "length:2")
    number = table.say("Count.")
    turn = whole(table, number)
    expected = scorer.score(["Count."] * 3, ["one", "one two", "one two three"]).values
    assert table.scores(number, 0) == pytest.approx(list(expected))
    assert turn["answers"][0]["score"] == pytest.approx(expected[-1])
    assert table.scores(number, 1) == []
    with pytest.raises(UnknownQuestionError, match="no model 2"):
        table.scores(number, 2)
    unjudged = Table([Speaker("a", ["x"])])
    whole(unjudged, unjudged.say("Well?"))
    with pytest.raises(ValueError, match="--scorer NAME"):
        unjudged.scores(0, 0)


def test_a_scorer_that_fails_is_told_and_ends_the_turn():
    class Broken:
        highest = None

        def score(self, prompts, completions):
            raise OSError("the judge is ill")

    table = Table([Speaker("a", ["x"])], Broken(), "broken")
    turn = whole(table, table.say("Well?"))
    assert turn["error"] == "OSError: the judge is ill"
    assert len(turn["answers"][0]["tokens"]) == 1


def test_what_cannot_be_asked_changes_nothing():
    speaker = Speaker("a", ["x"])
    table = Table([speaker])
    for prompt, message in (("  \n", "Nothing was said"), ("too long", "at most 64")):
        with pytest.raises(ValueError, match=message):
            table.say(prompt)
    assert table.overview()["turns"] == []
    whole(table, table.say("Well?"))
    table.reset()
    assert speaker.resets == 1
    assert (table.overview()["turns"], table.overview()["begun"]) == ([], 1)
    with pytest.raises(UnknownQuestionError, match="forgotten"):
        table.turn(0, -1, 0)


@pytest.fixture
def client():
    table = Table([Speaker("a", ["x"])])
    return TestClient(create_app(table), base_url="http://127.0.0.1:80")


def test_requests_need_the_token_and_are_checked(client):
    assert client.post("/api/say", json={"prompt": "x"}).status_code == 403
    headers = {TOKEN_HEADER: client.get("/api/session").json()["token"]}
    for path, body, status in (
        ("say", {"prompt": 3}, 400),
        ("say", {"prompt": ""}, 400),
        ("say", {"prompt": "x" * 20_000}, 413),
        ("turn", {"turn": 7, "seen": -1}, 404),
        ("turn", {"turn": -1, "seen": -1}, 400),
        ("scores", {"turn": 0, "model": 0}, 404),
        ("table", {"more": 1}, 400),
        ("table", {}, 200),
    ):
        found = client.post(f"/api/{path}", json=body, headers=headers)
        assert found.status_code == status, (path, body, found.text)


def test_files_name_no_other_place_and_make_no_markup(client):
    texts = [client.get("/").text, *(path.read_text(encoding="utf-8") for path in ASSETS)]
    for text in texts:
        for place in text.replace("http://www.w3.org/2000/svg", "").split("//")[:-1]:
            assert not place.endswith(("http:", "https:", '"', "'", "("))
        assert "innerHTML" not in text
    for name in ("chat.js", "tokens.js", "tokens.css", "column.js", "transport.js"):
        assert client.get(f"/assets/{name}").status_code == 200
