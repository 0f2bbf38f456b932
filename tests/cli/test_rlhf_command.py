"""The commands `rlhf` and `compare`."""

from __future__ import annotations

import json
import shlex
import threading

import httpx2
import pytest

from llm_gym.cli import main, voting
from llm_gym.cli import preferences as module
from llm_gym.feedback.preferences import Comparison, PreferenceStore
from llm_gym.stages.rlhf import RLHFConfig
from tests.tiny_rlhf import TINY
from tests.tiny_runs import PROMPTS


def line_of(settings, output):
    """A command line that means the settings, without the program's name."""
    return shlex.split(module._command(settings, output))[1:]


@pytest.mark.parametrize(
    "settings",
    [
        RLHFConfig(),
        RLHFConfig(seed=3, raters="people", enough_votes=40, text="my text.txt"),
        RLHFConfig.quick(),
        RLHFConfig.quick(text="my text.txt", seed=2),
        RLHFConfig.for_class(raters="people"),
        RLHFConfig.for_class(pairs="my pairs.jsonl"),
        TINY,
        TINY.with_values(flattery_bias=-2.5, kl_target=4.0),
    ],
    ids=["default", "people", "quick", "text", "class", "pairs", "tiny", "biased"],
)
def test_the_command_that_is_shown_means_the_same_settings(settings, monkeypatch, tmp_path):
    import llm_gym.stages.rlhf

    seen = []

    def walk(*arguments):
        seen.append(arguments)
        return llm_gym.stages.rlhf.RLHFRun(summary={})

    monkeypatch.setattr(llm_gym.stages.rlhf, "rlhf", walk)
    with pytest.raises(SystemExit):
        main(line_of(settings, tmp_path / "a run"))
    assert seen == [(tmp_path / "a run", settings)]


def vote(url, count):
    """Votes on the page at an address, as a phone does."""
    page, key = url.split("#")
    with httpx2.Client(base_url=page) as client:
        token = client.get("/api/session", headers={"X-LLM-Gym-Key": key}).json()["token"]

        def post(path, **body):
            headers = {"X-LLM-Gym-Token": token}
            return client.post(f"/api/{path}", json=body, headers=headers).json()

        rater = post("seat", rater="", device="a phone")["rater"]
        question = post("next", rater=rater)["question"]
        for number in range(count):
            reply = {name: question[name] for name in ("fingerprint", "shown_first")}
            reply |= {"question_id": question["id"], "verdict": "left", "seconds": 3}
            question = post("vote", rater=rater, key=f"vote {number:8}", **reply)["question"]
        return post("results")["results"]


def test_one_command_asks_a_class_and_goes_on(run, tmp_path, monkeypatch):
    import llm_gym.stages.rlhf

    stored, calls, seen = tmp_path / "votes.db", [], []
    with PreferenceStore(stored) as store:
        store.add(Comparison(f"p{n}", ("a", "b")) for n in range(4))

    def walk(output, config):
        calls.append(config.raters)
        if len(calls) == 1:
            return llm_gym.stages.rlhf.RLHFRun(waits_for_votes=4, label_command="x", store=stored)
        seen.append(vote(urls[0], 0))  # the page is still there
        return llm_gym.stages.rlhf.RLHFRun(summary={})

    urls: list[str] = []

    def open_browser(url):
        urls.append(url.replace("results", ""))
        threading.Thread(target=vote, args=(urls[0], 4), daemon=True).start()

    monkeypatch.setattr(llm_gym.stages.rlhf, "rlhf", walk)
    monkeypatch.setattr(voting, "open_browser", open_browser)
    line = ["rlhf", "--class", "--raters", "people", "--host", "0.0.0.0"]
    code, out, err = run(*line, "--output", tmp_path / "run")
    assert code == 0, err
    assert calls == ["people", "people"]
    assert seen[0]["votes"] == 4
    assert "for the projector: http://127.0.0.1:" in out
    assert err.count("warning") == 1


def test_a_host_is_for_people(run, tmp_path):
    code, _, err = run("rlhf", "--class", "--host", "0.0.0.0", "--output", tmp_path / "run")
    assert code == 2
    assert "--raters people" in err
    assert not (tmp_path / "run").exists()


def test_whole_road_from_the_command_line(run, tmp_path):
    line = line_of(TINY, tmp_path / "run")
    code, out, err = run(*line)
    assert code == 0, err
    for text in ("stage 1 of 5", "stage 5 of 5", "the gain from RLHF", "report:"):
        assert text in out
    _, answer, _ = run(*shlex.split(out.splitlines()[-1])[1:])
    assert answer.startswith("> ")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["tokens"] >= TINY.total_tokens  # answers are played to their ends
    code, out, err = run(*line)
    assert code == 0, err
    assert out.count(" is done") == 5
    code, _, err = run(*line, "--sft-learning-rate", 0.5)
    assert code == 2
    assert f"sft_learning_rate=0.5 (there: {TINY.sft_learning_rate})" in err
    assert err.count("\n") == 1


def test_people_are_told_what_to_do(run, tmp_path):
    settings = TINY.with_values(raters="people", train_prompts=12, rater_noise=10.0)
    code, out, err = run(*line_of(settings, tmp_path / "run"))
    assert code == 0, err
    assert "votes are still wanted" in out
    store = tmp_path / "run" / "comparisons.db"
    assert f"llm-gym label {store} --votes-per-comparison 2" in out
    assert module._command(settings, tmp_path / "run") in out
    assert "--enough-votes" in out


def test_ctrl_c_says_how_to_go_on(run, tmp_path, monkeypatch):
    import llm_gym.stages.rlhf

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(llm_gym.stages.rlhf, "rlhf", interrupted)
    code, out, err = run("rlhf", "--seed", 4, "--output", tmp_path / "run")
    assert code == 130
    assert out == ""
    assert f"the same command goes on: llm-gym rlhf --seed 4 --output {tmp_path / 'run'}" in err


def test_compare_fills_a_store_that_label_and_reward_model_read(run, tiny_dir, tmp_path):
    store, prompts = tmp_path / "votes.db", tmp_path / "prompts.txt"
    prompts.write_text("\n".join([*PROMPTS, PROMPTS[0]]))
    line = [
        "compare", store, "--model", tiny_dir(), "--prompts", prompts, "--prompt-template",
        "{prompt}", "--max-new-tokens", 5,
    ]  # fmt: skip
    code, out, err = run(*line)
    assert code == 0, err
    assert f"{len(PROMPTS)} comparisons, 0 votes" in out
    assert f"llm-gym label {store} --votes-per-comparison 2" in out
    code, out, err = run(
        *line, "--raters", "simulated", "--true-rater", "length:3", "--rater-noise", 0.1,
        "--pairs-per-prompt", 3, "--seed", 1,
    )  # fmt: skip
    assert code == 0, err
    assert "two raters agree" in out
    code, out, err = run(
        "reward-model", store, "--model", tiny_dir(), "--template", "{prompt} {completion}",
        "--output", tmp_path / "reward",
    )  # fmt: skip
    assert code == 0, err
    assert "held-out accuracy" in out
    code, out, err = run(
        "generate", "w1 w2", "--model", tiny_dir(), "--max-new-tokens", 4,
        "--scorer", f"reward:{tmp_path / 'reward' / 'model'}",
    )  # fmt: skip
    assert code == 0, err
    assert "> w1 w2  (score " in out


def test_a_store_that_is_none_is_refused(run, tmp_path):
    path = tmp_path / "votes.db"
    path.write_text("not a database, and long enough to be read as one " * 20)
    code, _, err = run("compare", path)
    assert code == 2
    assert "votes.db" in err
    assert err.count("\n") == 1
