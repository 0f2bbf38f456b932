"""A setting that turns out wrong on the road is put right, and costs the stages that use it."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict, fields

import pytest
from rich.console import Console

from llm_gym.feedback.preferences import Choice, PreferenceStore
from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.runs.directory import CorrectionWarning, RunDirectory
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.rlhf import RLHFConfig, rlhf
from llm_gym.stages.rlhf.directory import RLHFDirectory, first_use
from llm_gym.stages.rlhf.settings import _PREFIXES, STAGES
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig
from tests.tiny_rlhf import TINY

SMALL = TINY.with_values(pretrain_steps=2, train_prompts=16, total_tokens=2 * 8 * 8)


def walk(config, output):
    return rlhf(output, config, console=Console(file=io.StringIO()), quiet=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("corrected") / "run"
    return directory, walk(SMALL, directory)


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def traces(directory, stages):
    """Figures and time stamps of what stages have left."""
    made = {"pretrain": "base", "sft": "sft", "compare": "comparisons.db", "reward-model": None}
    found = {}
    for stage in stages:
        record = next((directory / "stages").glob(f"*-{stage}.json"))
        found[stage] = json.loads(record.read_text()), record.stat().st_mtime_ns
        if made[stage] is not None:
            found[made[stage]] = (directory / made[stage]).stat().st_mtime_ns
    return found


def votes_of(directory):
    with PreferenceStore(directory / "comparisons.db") as store:
        return [tuple(vote) if isinstance(vote, tuple) else vote for vote in store.votes()]


def test_a_corrected_price_costs_ppo_alone(finished, run):
    kept = traces(run, STAGES[:4])
    votes = votes_of(run)
    with pytest.warns(CorrectionWarning, match=r"kl_coef=0.4 \(there: 0.15\): done again.*: ppo;"):
        summary = walk(SMALL.with_values(kl_coef=0.4), run).summary
    assert traces(run, STAGES[:4]) == kept
    assert votes_of(run) == votes
    assert summary["gold_sft"] == finished[1].summary["gold_sft"]
    saved = json.loads((run / "settings.json").read_text())["settings"]
    assert saved["kl_coef"] == 0.4
    settings = [json.loads(line) for line in (run / "ppo/metrics.jsonl").read_text().splitlines()]
    assert {row.get("rollout/kl_coef", 0.4) for row in settings} == {0.4}


def test_corrected_twice_and_back_is_the_run_that_never_was_wrong(finished, run):
    with pytest.warns(CorrectionWarning):
        walk(SMALL.with_values(kl_coef=0.4), run)
    with pytest.warns(CorrectionWarning):
        assert walk(SMALL, run).summary == finished[1].summary


def test_a_corrected_reward_model_costs_itself_and_ppo(run):
    kept = traces(run, STAGES[:3])
    with pytest.warns(CorrectionWarning, match="done again with it: reward-model, ppo;"):
        walk(SMALL.with_values(reward_epochs=2), run)
    assert traces(run, STAGES[:3]) == kept


def test_finished_comparisons_and_what_led_to_them_keep_their_settings(run):
    for name, value in (("seed", 5), ("sft_epochs", 2), ("rater_noise", 3.0)):
        with pytest.raises(ValueError, match=f"with other settings: {name}={value}"):
            walk(SMALL.with_values(**{name: value, "kl_coef": 0.4}), run)
    assert len(list((run / "stages").iterdir())) == 5


def test_a_stage_that_failed_takes_a_corrected_setting(run, monkeypatch):
    for path in [*sorted((run / "stages").iterdir())[2:], run / "summary.json"]:
        path.unlink()
    kept = traces(run, STAGES[:2])
    before = votes_of(run)
    with pytest.warns(CorrectionWarning, match="rater_noise=3.0"):
        walk(SMALL.with_values(rater_noise=3.0), run)
    assert traces(run, STAGES[:2]) == kept
    assert len(votes_of(run)) == len(before)


def test_what_people_have_voted_on_is_never_sampled_again(tmp_path, run):
    for path in [*sorted((run / "stages").iterdir())[2:], run / "summary.json"]:
        path.unlink()
    people = SMALL.with_values(raters="people", votes_per_comparison=1)
    with pytest.warns(CorrectionWarning, match="raters='people'"):
        assert walk(people, run).waits_for_votes
    with PreferenceStore(run / "comparisons.db") as store:
        assert not list(store.votes())
        first = next(iter(store.comparisons()))
        store.vote(first.id, "ann", Choice.FIRST, seconds=1.0, shown_first=0)
    with pytest.raises(ValueError, match="with other settings: pairs_per_prompt=2"):
        walk(people.with_values(pairs_per_prompt=2), run)
    with pytest.warns(CorrectionWarning, match="kl_coef=0.4"):
        assert walk(people.with_values(kl_coef=0.4), run).waits_for_votes
    assert len(votes_of(run)) == 1


def test_no_stage_uses_a_setting_before_it_is_said_to():
    configs = (PretrainConfig, SFTConfig, CompareConfig, RewardModelConfig, TrainConfig)
    names = {field.name for field in fields(RLHFConfig)}
    for stage, config in zip(STAGES, configs, strict=True):
        prefix = _PREFIXES.get(config, "")
        for field in fields(config):
            used = next((n for n in (prefix + field.name, field.name) if n in names), None)
            if used is not None:
                assert STAGES.index(first_use(used, SMALL)) <= STAGES.index(stage), (stage, used)


def test_pairs_are_of_the_first_stage_where_prompts_come_from_them(tmp_path):
    assert first_use("pairs", SMALL) == "pretrain"
    assert first_use("pairs", SMALL.with_values(prompts="p.txt")) == "sft"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kl_coef": -1}, "kl_coef=-1 must be a finite number of at least 0"),
        ({"kl_target": -1}, "kl_target=-1 must be a finite number above 0"),
        ({"kl_coef": 0.0, "kl_target": 6.0}, "kl_target=6.0 does nothing"),
        ({"batch_size": 1}, "batch_size=1 must be a whole number of at least 2"),
        ({"n_epochs": 0}, "n_epochs=0 must be"),
        ({"seed": -1}, "seed=-1 must be"),
        ({"rater_lapse": 5}, "rater_lapse=5 must be a number from 0 to 1"),
        ({"max_new_tokens": 256}, "max_new_tokens=256 leaves no room for a prompt in context=256"),
        ({"true_rater": "nope"}, "nope"),
        ({"device": "cuda:99"}, "device='cuda:99'"),
    ],
)
def test_nothing_is_trained_before_the_settings_of_all_stages_fit(
    values, message, tmp_path, monkeypatch
):
    from llm_gym.stages.rlhf import stages

    monkeypatch.setattr(stages, "pretrain", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises((ValueError, TypeError), match=message):
        walk(SMALL.with_values(**values), tmp_path / "run")


def test_a_damaged_file_of_pairs_is_told_before_the_first_stage(tmp_path, monkeypatch):
    from llm_gym.stages.rlhf import stages

    monkeypatch.setattr(stages, "pretrain", lambda *_, **__: pytest.fail("trained"))
    prompts, pairs = tmp_path / "prompts.txt", tmp_path / "pairs.jsonl"
    prompts.write_text("\n".join(f"write {n}" for n in range(40)))
    pairs.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 3}\n')
    config = SMALL.with_values(prompts=str(prompts), pairs=str(pairs))
    with pytest.raises(ValueError, match="line 2"):
        walk(config, tmp_path / "run")
    pairs.write_text('{"prompt": "a", "completion": "b"}\n')
    assert RLHFDirectory(config, tmp_path / "run").uses["pairs"] == "sft"


@pytest.mark.filterwarnings("error")
def test_a_run_from_before_a_setting_goes_on(tmp_path):
    """As it was written by a release without `dtype`, the oldest stages among them finished."""
    younger = ("dtype", "micro_batch_size", "gradient_checkpointing")
    settings = {name: value for name, value in asdict(TINY).items() if name not in younger}
    old = RunDirectory(
        tmp_path,
        settings,
        files={},
        free=("enough_votes", "shown_prompts"),
        steps=STAGES,
        uses={name: first_use(name, TINY) for name in settings},
        command="rlhf",
    )
    with old.opened():
        old.begin("go away")
        for stage in STAGES:
            old.finish(stage, {"perplexity": 2.0}, 1.0)
    run = RLHFDirectory(TINY, tmp_path)
    with run.opened():
        run.begin("go away")
        for stage in STAGES:
            assert run.record(stage).figures == {"perplexity": 2.0}
    assert "dtype" not in json.loads(run.settings_path.read_text())["settings"]
