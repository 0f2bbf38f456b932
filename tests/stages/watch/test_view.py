"""What the page is told of a run: figures that grow, looks, and nothing else of the disk."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from llm_gym.feedback.labelling.guard import TOKEN_HEADER
from llm_gym.files.owned import write_marker
from llm_gym.stages.watch.curves import MOST_POINTS, Curves
from llm_gym.stages.watch.server import ASSETS, create_app
from llm_gym.stages.watch.view import WatchedRun
from tests.stages.watch.looks import ADVANTAGE, PROB, write_look, write_run


def row(step, **figures):
    return json.dumps({"step": step, **figures}) + "\n"


def test_curves_go_on_where_they_were_read_and_begin_anew_with_their_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    curves = Curves(path)
    assert curves.read() == []
    path.write_text(row(1, **{"rollout/ep_rew_mean": 5.0}) + '{"step": 2, "rollout/ep_re')
    [score] = curves.read()
    assert score == {"name": "score", "steps": [1.0], "values": [5.0]}
    with path.open("a") as file:
        file.write('w_mean": null}\nnonsense\n' + row(3, **{"rollout/ep_rew_mean": 7}))
    assert curves.read()[0] == {"name": "score", "steps": [1, 2, 3], "values": [5.0, None, 7.0]}
    path.write_text(row(1, **{"train/loss": 1.0}))  # cut back by a run that goes on
    assert [curve["name"] for curve in curves.read()] == ["loss"]
    path.unlink()
    assert curves.read() == []


def test_long_curves_are_thinned_and_keep_their_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(row(step, **{"train/loss": step}) for step in range(3 * MOST_POINTS)))
    [loss] = Curves(path).read()
    assert len(loss["steps"]) == MOST_POINTS
    assert loss["steps"][-1] == loss["values"][-1] == 3 * MOST_POINTS - 1


@pytest.fixture
def client(run):
    client = TestClient(create_app(WatchedRun(run)), base_url="http://127.0.0.1")
    client.headers[TOKEN_HEADER] = client.get("/api/session").json()["token"]
    return client


def test_a_look_is_told_in_probabilities_and_pieces(client):
    summary = client.post("/api/run", json={}).json()
    assert summary["looks"] == [0, 100]
    assert summary["name"] == [["run", False]]
    look = client.post("/api/look", json={"step": 0}).json()
    probe, sample = look["answers"]
    assert sample["quantities"]["prob"] == pytest.approx(PROB, rel=1e-4)
    assert sample["quantities"]["advantage"] == ADVANTAGE
    assert sample["tokens"][1] == [[" Ada", False]]
    assert "advantage" not in probe["quantities"]


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"step": 50}, 404, "There is no look at 50 tokens."),
        ({"step": -1}, 400, "The request cannot be read"),
        ({"step": "../../x"}, 400, "The request cannot be read"),
        ({"step": 0, "path": "/etc/passwd"}, 400, "The request cannot be read"),
    ],
)
def test_nothing_but_looks_can_be_asked_for(client, body, status, sentence):
    answer = client.post("/api/look", json=body)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(sentence)


def test_strangers_are_refused_and_files_name_no_other_place(client, run):
    assert client.post("/api/run", json={}, headers={"Host": "evil.example"}).status_code == 400
    assert client.post("/api/run", json={}, headers={TOKEN_HEADER: "x"}).status_code == 403
    assert client.get("/assets/watch.html").status_code == 404
    page = client.get("/")
    assert "unsafe" not in page.headers["content-security-policy"]
    for text in (page.text, *(path.read_text(encoding="utf-8") for path in ASSETS)):
        for place in text.replace("http://www.w3.org/2000/svg", "").split("//")[:-1]:
            assert not place.endswith(("http:", "https:", '"', "'", "("))
    assert "innerHTML" not in "".join(path.read_text(encoding="utf-8") for path in ASSETS)


def test_damaged_looks_are_said(client, run):
    (run / "trace" / "look-000000000100.safetensors").write_bytes(b"x" * 40)
    answer = client.post("/api/look", json={"step": 100})
    assert answer.status_code == 400
    assert "look-000000000100.safetensors is " in answer.json()["error"]


def test_rlhf_is_watched_where_it_learns(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        WatchedRun(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"holds no run to watch: it has neither metrics\.jsonl"):
        WatchedRun(tmp_path)
    write_marker(tmp_path, "run", command="rlhf", state="running")
    run = WatchedRun(tmp_path)
    assert run.summary()["looks"] == []
    write_run(tmp_path / "ppo")
    write_look(tmp_path / "ppo", 300)
    assert run.summary()["looks"] == [0, 100, 300]
    assert run.summary()["state"] == "running"
    assert run.look(300)["answers"] == []
