"""The whole road on tiny models: what is written, and that no stop changes or repeats anything."""

from __future__ import annotations

import io
import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from llm_gym.feedback.preferences import PreferenceStore
from llm_gym.feedback.reward_model import RewardModelScorer
from llm_gym.files import atomic
from llm_gym.files.untrusted import as_html
from llm_gym.stages import compare as comparing
from llm_gym.stages.rlhf import STAGES, RLHFConfig, page, rlhf, run_stage, stages
from llm_gym.stages.rlhf import directory as rlhf_directory
from llm_gym.stages.rlhf import run as road
from llm_gym.stages.rlhf.directory import RLHFDirectory, begun
from llm_gym.stages.rlhf.results import read_looks, typical_vote
from tests.tiny_rlhf import TINY


def walk(config: RLHFConfig, output: Path, console: Console | None = None):
    return rlhf(output, config, console=console or Console(file=io.StringIO()), quiet=True)


@pytest.fixture(scope="module")
def devices():
    """Where the reward model of the run `whole` was asked to go, each time it was loaded."""
    return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory, devices):
    """A run that nothing interrupted: its directory, its result, and what it printed."""
    directory = tmp_path_factory.mktemp("rlhf") / "whole"
    stream = io.StringIO()
    load = RewardModelScorer.__init__

    def watched(scorer, model, **options):
        if model in (directory / "reward-model", str(directory / "reward-model")):
            devices.append(options.get("device"))
        load(scorer, model, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RewardModelScorer, "__init__", watched)
        run = walk(TINY, directory, Console(file=stream, width=100))
    return directory, run, stream.getvalue()


def votes_of(path: Path):
    with PreferenceStore(path) as store:
        return [
            (vote.comparison_id, vote.rater, vote.choice, vote.shown_first)
            for vote in store.votes()
        ], [(row.prompt, row.answers) for row in store.comparisons()]


# ------------------------------------------------------------------ a whole run


def test_every_stage_leaves_its_model_its_record_and_its_figures(whole):
    directory, run, printed = whole
    assert run.waits_for_votes == 0
    names = {path.name for path in (directory / "stages").iterdir()}
    assert names == {f"{number}-{stage}.json" for number, stage in enumerate(STAGES, start=1)}
    for model in ("base", "sft", "reward-model", "model"):
        assert (directory / model / "config.json").is_file()
        assert (directory / model / "tokenizer.json").is_file()
    for number in range(1, 6):
        assert f"stage {number} of 5" in printed
    summary = json.loads((directory / "summary.json").read_text())
    assert summary == run.summary
    assert all(isinstance(value, (int, float, type(None))) for value in summary.values())
    assert summary["votes"] == 2 * summary["comparisons"]
    rollout = TINY.num_envs * TINY.max_new_tokens  # at most: its answers are whole
    assert TINY.total_tokens <= summary["tokens"] < TINY.total_tokens + rollout
    assert summary["pretrain_perplexity"] < summary["pretrain_perplexity_before"]


def test_the_reward_model_runs_where_the_run_does(whole, devices):
    """For its own measures, as PPO's scorer, beside the gold score, and for the results."""
    assert devices == [TINY.device] * 4


def test_figures_follow_from_the_answers_that_were_kept(whole):
    from llm_gym.scorers import LengthScorer

    directory, run, _ = whole
    rows = {
        stage: json.loads((directory / "evaluations" / f"{stage}.json").read_text())["rows"]
        for stage in ("sft", "ppo")
    }
    held_out = [
        json.loads(line)["prompt"]
        for line in (directory / "prompts" / "held-out.jsonl").read_text().splitlines()
    ]
    gold, reward = LengthScorer(6), RewardModelScorer(directory / "reward-model")
    for stage, name in (("sft", "sft"), ("ppo", "rlhf")):
        assert [row["prompt"] for row in rows[stage]] == held_out
        answers = [row["completion"] for row in rows[stage]]
        assert run.summary[f"gold_{name}"] == pytest.approx(sum(gold(held_out, answers)) / 8)
        assert run.summary[f"reward_{name}"] == pytest.approx(sum(reward(held_out, answers)) / 8)
    assert len({row["score"] for row in rows["sft"]}) > 1
    gain = run.summary["gold_rlhf"] - run.summary["gold_sft"]
    assert run.summary["gold_gain"] == pytest.approx(gain)
    assert run.summary["gold_gain_low"] <= gain <= run.summary["gold_gain_high"]


def test_no_prompt_that_is_trained_on_is_measured_on(whole):
    directory, _, _ = whole
    train, held_out = (
        {json.loads(line)["prompt"] for line in path.read_text().splitlines()}
        for path in (
            directory / "prompts" / "train.jsonl",
            directory / "prompts" / "held-out.jsonl",
        )
    )
    assert len(train) == TINY.train_prompts
    assert len(held_out) == TINY.held_out_prompts
    assert not train & held_out
    _, comparisons = votes_of(directory / "comparisons.db")
    assert {prompt for prompt, _ in comparisons} <= train


def test_gold_is_measured_in_the_course_of_training(whole):
    directory, run, _ = whole
    looks = read_looks(RLHFDirectory(TINY, directory))
    steps = [look["step"] for look in looks]
    assert (steps[0], steps[-1]) == (0, run.summary["tokens"])
    assert len(steps) >= 4
    assert 0 < min(np.diff(steps)) <= max(np.diff(steps)) <= TINY.num_envs * TINY.max_new_tokens
    assert all(len(look["gold"]) == len(look["proxy"]) == 8 for look in looks)
    assert looks[0]["kl"] is None
    assert sum(looks[-1]["gold"]) / 8 == pytest.approx(run.summary["gold_rlhf"])


def test_report_needs_no_other_file(whole):
    directory, run, _ = whole
    page = (directory / "report.html").read_text()
    assert not re.search(r"<script|<link|<iframe|@import|url\(|\bsrc=|\bhref=", page)
    assert not re.search(r"https?://", page)
    for heading in ("1. Pre-training", "3. Comparisons", "5. PPO", "Reward model against true"):
        assert heading in page
    assert page.count('class="chart"') == 9
    assert f"{run.summary['gold_gain']:+.1f}" in page


def test_the_page_shows_what_each_stage_is_about(whole):
    directory = whole[0]
    whole_page = (directory / "report.html").read_text()
    chapters = {part[:20]: part for part in whole_page.split("<h2>")[1:]}

    def chapter(start):
        return next(part for name, part in chapters.items() if name.startswith(start))

    first = json.loads((directory / "evaluations" / "pretrain.json").read_text())["rows"][0]
    assert f"<h3>{as_html(first['prompt'])}</h3>" in chapter("1. Pre-training")
    assert as_html(first["completion"].strip()) in chapter("1. Pre-training")
    with PreferenceStore(directory / "comparisons.db") as store:
        votes = store.preferences(ties="both", conflicts="all")
    shown = re.findall(r"<b>([a-z ]+)</b>.*?<pre>(.*?)</pre>", chapter("3. Comparisons"), re.S)
    assert [name for name, _ in shown] == ["preferred", "not preferred"]
    assert tuple(text for _, text in shown) in {
        (as_html(vote.chosen.strip()), as_html(vote.rejected.strip())) for vote in votes
    }
    scored = re.findall(r"reward ([+-][\d.]+), gold", chapter("4. The reward"))
    assert len(scored) == 3
    assert [float(number) for number in scored] == sorted(map(float, scored))
    [both] = re.findall(r"Both judges.*?</figure>", chapter("5. PPO"), re.S)
    assert both.count("<polyline") + both.count(" dot") >= 2


def test_both_judges_gain_in_the_spread_of_the_first_answers():
    looks = [{"gold": [10.0, 30.0], "proxy": [0.0, 2.0]}, {"gold": [40.0, 40.0], "proxy": [1, 1]}]
    results = SimpleNamespace(looks=looks)
    assert page._gained(results, "gold") == [0.0, 2.0]  # 20 points; they were 10 apart
    assert page._gained(results, "proxy") == [0.0, 0.0]
    alike = SimpleNamespace(looks=[{"gold": [5.0, 5.0]}, {"gold": [6.0, 6.0]}])
    assert page._gained(alike, "gold") == [0.0, 1.0]


def test_the_vote_that_is_shown_is_between_whole_answers():
    def vote(chosen, rejected):
        return SimpleNamespace(chosen="a" * chosen, rejected="b" * rejected)

    votes = [vote(5, 400), vote(50, 60), vote(80, 90), vote(300, 300)]
    assert typical_vote(votes) is votes[2]
    assert typical_vote(votes[:1]) is votes[0]
    assert typical_vote([]) is None


def test_a_finished_run_is_not_done_again(whole, monkeypatch):
    directory, run, _ = whole
    before = {path: path.stat().st_mtime_ns for path in (directory / "stages").iterdir()}
    for name in ("pretrain", "fine_tune", "compare"):
        monkeypatch.setattr(stages, name, lambda *_, **__: pytest.fail("done again"))
    assert walk(TINY, directory).summary == run.summary
    assert before == {path: path.stat().st_mtime_ns for path in (directory / "stages").iterdir()}


def test_settings_files_and_records_are_read_once_a_call(whole, tmp_path, monkeypatch):
    from llm_gym.runs import directory as module

    text = tmp_path / "prompts.txt"
    text.write_text("\n".join(f"prompt {n}" for n in range(20)))
    config = TINY.with_values(prompts=str(text))
    with begun(tmp_path / "run", config) as begun_run:
        for stage in STAGES:
            begun_run.finish(stage, {}, 0.0)
    read, hashed = [], []
    real, digests = module.read_object, rlhf_directory.digests_of
    monkeypatch.setattr(module, "read_object", lambda path: read.append(path) or real(path))
    monkeypatch.setattr(
        rlhf_directory, "digests_of", lambda paths: hashed.append(1) or digests(paths)
    )
    monkeypatch.setattr(road, "_finish", lambda run: [run.record(stage) for stage in STAGES])
    monkeypatch.setattr(road, "_print_results", lambda *_: None)
    walk(config, tmp_path / "run")
    assert len(read) == len(set(read)) == 1 + len(STAGES)
    assert len(hashed) == 1


# ------------------------------------------------------------------ interrupted runs


class Crash(BaseException):
    """Ends a run as a kill would: nothing catches it."""


def crash_after(monkeypatch, owner, name, calls):
    """Lets a function work so many times, and end the run in the next call."""
    real, left = getattr(owner, name), [calls]

    def counted(*args, **kwargs):
        if not left[0]:
            raise Crash
        left[0] -= 1
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


def test_a_run_that_dies_everywhere_ends_like_one_that_does_not(whole, tmp_path, monkeypatch):
    """In the middle of each stage, and between the work of a stage and its record."""
    from llm_gym.runs.callbacks import CheckpointCallback

    directory, run, _ = whole
    places_to_die = [
        (stages, "pretrain", 0),
        (stages, "answer_held_out", 0),  # a model is there, its record is not
        (stages, "fine_tune", 0),
        (PreferenceStore, "add", 1),  # one chunk of comparisons is there
        (PreferenceStore, "add_votes", 0),  # comparisons, but no vote
        (comparing, "vote_figures", 0),  # votes, but no record
        (stages, "_against_gold", 0),  # a reward model, but no record
        (CheckpointCallback, "_save", 0),  # before the first checkpoint
        (CheckpointCallback, "_save", 1),  # after it
        (stages, "answer_held_out", 0),  # all trained, nothing measured
        (atomic, "write_json", 1),  # measured, but no record
        (road, "_print_results", 0),
    ]
    for owner, name, calls in places_to_die:
        with monkeypatch.context() as patch:
            crash_after(patch, owner, name, calls)
            with pytest.raises(Crash):
                walk(TINY, tmp_path / "parts")
    resumed = walk(TINY, tmp_path / "parts")
    assert resumed.summary == run.summary
    assert votes_of(tmp_path / "parts" / "comparisons.db") == votes_of(directory / "comparisons.db")


def walk_until_killed(output, owner, name, calls):
    """Walks in a child that kills itself, as `kill -9` would, in a call of a function."""
    child = os.fork()
    if not child:
        real, left = getattr(owner, name), [calls]

        def kill(*args, **kwargs):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*args, **kwargs)

        try:
            setattr(owner, name, kill)
            walk(TINY, output)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the process that is killed is forked")
def test_kill_9_costs_nothing_but_time(whole, tmp_path):
    from llm_gym.runs.callbacks import CheckpointCallback

    _, run, _ = whole
    output = tmp_path / "killed"
    for where in ((PreferenceStore, "add", 1), (CheckpointCallback, "_save", 1)):
        assert walk_until_killed(output, *where) == -signal.SIGKILL
    assert not (output / "summary.json").exists()
    assert (output / "stages" / "4-reward-model.json").exists()
    assert walk(TINY, output).summary == run.summary


def test_ctrl_c_in_ppo_ends_with_a_checkpoint(whole, tmp_path, monkeypatch):
    import shutil
    from dataclasses import replace

    directory, run, _ = whole
    output = tmp_path / "stopped"
    shutil.copytree(directory, output)
    for path in (output / "summary.json", output / "stages" / "5-ppo.json"):
        path.unlink()
    shutil.rmtree(output / "ppo")
    real = stages.run_algorithm

    def stop_early(algorithm, total, *args, **kwargs):
        return replace(real(algorithm, total // 3, *args, **kwargs), stopped=True)

    with monkeypatch.context() as patch:
        patch.setattr(stages, "run_algorithm", stop_early)
        stopped = walk(TINY, output)
    assert stopped.stopped
    assert stopped.summary is None
    assert not stopped.label_command
    assert walk(TINY, output).summary["gold_rlhf"] == run.summary["gold_rlhf"]


# ------------------------------------------------------------------ stage by stage


def test_each_stage_alone_gives_what_the_road_gives(whole, tmp_path):
    directory, run, _ = whole
    with pytest.raises(ValueError, match=r"stage sft in .* needs stage pretrain to be finished"):
        run_stage("sft", tmp_path / "alone", TINY, quiet=True)
    with pytest.raises(ValueError, match=r"stage must be one of pretrain, .*, got 'dpo'"):
        run_stage("dpo", tmp_path / "alone", TINY)
    for stage in STAGES:
        record = run_stage(stage, tmp_path / "alone", TINY, quiet=True)
        place = f"stages/{STAGES.index(stage) + 1}-{stage}.json"
        expected = json.loads((directory / place).read_text())
        assert record.figures == expected["figures"]
        assert record.fingerprint == expected["fingerprint"]
    assert not (tmp_path / "alone" / "summary.json").exists()
    assert walk(TINY, tmp_path / "alone").summary == run.summary
