"""Directories of all kinds, and what is said of those that cannot be read."""

from __future__ import annotations

import json

import pytest

import llm_gym
from llm_gym.cli import main
from llm_gym.runs.doctor import Figure, read_run
from tests.runs.doctor.hand_made import ITERATIONS, SETTINGS, noisy, record, samples


def write(directory, run, name="metrics.jsonl"):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text("".join(json.dumps(row) + "\n" for row in run.rows))
    (directory / "settings.json").write_text(json.dumps(SETTINGS))
    rows = "".join(json.dumps(row) + "\n" for row in samples())
    (directory / "samples.jsonl").write_text(rows)
    return directory


def doctor(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *map(str, arguments)])
    told = capsys.readouterr()
    return ended.value.code or 0, told.out, told.err


def test_a_healthy_run_has_exit_code_0(tmp_path, capsys):
    code, out, _ = doctor(capsys, write(tmp_path, record()))
    assert code == 0
    assert "Nothing wrong was found in 16 iterations." in out
    assert "proxy-beats-gold: the run has no gold_proxy/gold or alarm/gold" in out


def test_a_finding_has_exit_code_1_its_figures_and_its_mend(tmp_path, capsys):
    write(tmp_path, record(first_ratio_deviation=lambda i: 0.25))
    assert [finding.id for finding in llm_gym.diagnose(tmp_path)] == ["ratio-not-one"]
    code, out, _ = doctor(capsys, tmp_path)
    assert code == 1
    for told in ("error: ratio-not-one", "0.25 (steps 1,200 to 9,600)", "Mend:", "1 thing is"):
        assert told in out


def test_findings_as_json(tmp_path, capsys):
    write(tmp_path, record(cut_share=lambda i: 1.0))
    code, out, _ = doctor(capsys, tmp_path, "--json")
    told = json.loads(out)
    assert code == 1
    assert told["iterations"] == ITERATIONS
    assert told["findings"][0]["id"] == "no-eos"
    assert told["findings"][0]["evidence"][0]["steps"] == [600, 9600]


def test_what_settings_say_is_spelled_out(tmp_path, capsys):
    write(tmp_path, record())
    settings = {**SETTINGS, "prompt_format": "\x1b[31m{prompt}"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    _, out, _ = doctor(capsys, tmp_path)
    assert "\x1b[31m{prompt}" not in out
    assert "template-mismatch" in out


def test_the_stage_of_rlhf_in_which_it_learns(tmp_path):
    write(tmp_path / "ppo", record())
    (tmp_path / "ppo" / "settings.json").unlink()
    content = {"settings": {"gamma": 0.5}, "files": {}}
    (tmp_path / "settings.json").write_text(json.dumps(content))
    assert [finding.id for finding in llm_gym.diagnose(tmp_path)] == ["reward-discounted"]


def test_conversations_are_no_answers_and_infinity_is_no_figure(tmp_path):
    row = {"step": 1, "rollout/ep_rew_mean": float("inf"), "train/loss": float("nan")}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n" + '{"step": 2}\n')
    said = [{"step": 1, "messages": []}, {"step": 1, "prompt": "a", "completion": "b"}]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(each) + "\n" for each in said))
    run = read_run(tmp_path)
    assert [dict(each) for each in run.samples] == said[1:]
    assert not run.has("rollout/ep_rew_mean")
    assert run.gaps("train/loss") == [1]


@pytest.mark.parametrize(("number", "kept"), [(64, 64), (65, 33), (128, 64), (200, 50)])
def test_of_many_looks_some_of_all_times_are_read(number, kept, tmp_path, monkeypatch):
    write(tmp_path, record())
    monkeypatch.setattr("llm_gym.runs.doctor.record.trace_files", lambda folder: range(number))
    monkeypatch.setattr("llm_gym.runs.doctor.record.read_look", lambda path: path)
    looks = read_run(tmp_path).looks
    assert len(looks) == kept
    assert looks[-1] >= number - -(-number // 64)


CSV = "time/total_timesteps,rollout/ep_rew_mean,train/entropy_loss,train/n_updates\n"


def test_stable_baselines3s_table(tmp_path):
    score = noisy(50, 10, 1)
    rows = [f"{64 * (i + 1)},{score(i)},{'' if not i else -0.5},{i or ''}\n" for i in range(16)]
    (tmp_path / "progress.csv").write_text(CSV + "".join(rows))
    run = read_run(tmp_path)
    assert run.curve("train/entropy").values.tolist() == [0.5] * 15
    assert run.step == 1024
    assert [finding.id for finding in llm_gym.diagnose(tmp_path)] == ["reward-falls"]


def test_a_line_of_the_table_that_is_being_written_is_left_out(tmp_path):
    (tmp_path / "progress.csv").write_text(CSV + "64,1.5,,\n128,-")
    assert read_run(tmp_path).step == 64


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    write(tmp_path, record())
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 9999, "rollout/ep_rew')
    assert read_run(tmp_path).step == 9600


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("metrics.jsonl", '{"step": 1}\n{"step\n{"step": 2}\n', "metrics.jsonl: line 2 is damaged"),
        ("metrics.jsonl", "[1]\n", "line 1 is damaged: it is no JSON object"),
        ("metrics.jsonl", '{"train/loss": 1}\n', "row 1 does not say at which step"),
        ("metrics.jsonl", '{"step": "x"}\n', "row 1 does not say at which step"),
        ("metrics.jsonl", '{"step": 1', "has no whole row yet"),
        ("metrics.jsonl", "", "has no whole row yet"),
        ("progress.csv", CSV + "1,abc,,\n", "line 2 is damaged: rollout/ep_rew_mean is 'abc'"),
        ("progress.csv", CSV + "1,2,3,4,5\n", "line 2 is damaged: it has 5 fields under 4 names"),
        ("other.txt", "", "holds no run to examine: it has none of metrics.jsonl"),
    ],
)
def test_a_damaged_log_is_one_clear_error(tmp_path, capsys, name, content, told):
    (tmp_path / name).write_text(content)
    code, _, err = doctor(capsys, tmp_path)
    assert code == 2
    assert told in " ".join(err.split())


def test_a_log_that_is_no_text(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged"):
        read_run(tmp_path)


def test_damaged_settings_and_looks_are_named(tmp_path):
    write(tmp_path, record())
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(ValueError, match=r"settings\.json"):
        read_run(tmp_path)
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        read_run(tmp_path)
    write(tmp_path, record())
    (tmp_path / "trace").mkdir()
    (tmp_path / "trace" / "look-000000000000.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="look-000000000000"):
        read_run(tmp_path)


def test_of_what_step_or_steps_a_figure_is():
    assert str(Figure("a", 0.5, (600, 600))) == "a 0.5 (at step 600)"
    assert str(Figure("a", 0.5, (600, 1200))) == "a 0.5 (steps 600 to 1,200)"
    assert str(Figure("a", "none")) == "a none"


def test_no_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        llm_gym.diagnose(tmp_path / "nowhere")
