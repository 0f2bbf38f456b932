"""What a person brings to the road: other settings, own files, own votes, hostile text."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
from dataclasses import fields

import pytest
from rich.console import Console

from llm_gym.feedback.preferences import Choice, Preference, PreferenceStore
from llm_gym.feedback.preferences.files import split_preferences
from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.files import render
from llm_gym.files.rows import DataWarning
from llm_gym.language_models.chat import plain_text
from llm_gym.scorers.texts import messages_of
from llm_gym.stages.compare import CompareConfig
from llm_gym.stages.rlhf import RLHFConfig, rlhf, run_stage
from llm_gym.stages.rlhf.data import pairs_of, prompts_of, write_prompts
from llm_gym.stages.rlhf.directory import RLHFDirectory, begun
from llm_gym.stages.rlhf.page import report_of
from llm_gym.stages.rlhf.results import gather, summarise
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.pretrain import PretrainConfig
from llm_gym.supervised.sft import SFTConfig
from llm_gym.text.prompts import read_prompts
from tests.tiny_rlhf import TINY

PEOPLE = TINY.with_values(raters="people", votes_per_comparison=1, train_prompts=15)


def walk(config, output):
    return rlhf(output, config, console=Console(file=io.StringIO()), quiet=True)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    """A run in which people are to vote; copied before anything is done with it."""
    directory = tmp_path_factory.mktemp("people") / "run"
    return directory, walk(PEOPLE, directory)


@pytest.fixture
def people(waiting, tmp_path):
    shutil.copytree(waiting[0], tmp_path / "run")
    return tmp_path / "run"


def vote(store, comparisons, choose):
    with PreferenceStore(store) as opened:
        for number, comparison in enumerate(list(opened.comparisons())[:comparisons]):
            opened.vote(comparison.id, "ann", choose(number), seconds=6.0, shown_first=number % 2)


def alternately(number):
    return Choice.FIRST if number % 3 else Choice.SECOND


# ------------------------------------------------------------------ people vote


def test_people_are_waited_for(waiting, people):
    _, run = waiting
    assert run.summary is None
    assert run.label_command.startswith("llm-gym label ")
    assert str(waiting[0] / "comparisons.db") in run.label_command
    with PreferenceStore(people / "comparisons.db") as store:
        assert run.waits_for_votes == store.progress().comparisons
        assert store.progress().votes == 0
    assert not (people / "stages" / "3-compare.json").exists()


def test_too_few_votes_are_not_gone_on_with(people):
    vote(people / "comparisons.db", 4, alternately)
    again = walk(PEOPLE, people)
    assert again.summary is None
    with PreferenceStore(people / "comparisons.db") as store:
        assert again.waits_for_votes == store.progress().comparisons - 4
        assert store.progress().votes == 4


def test_enough_votes_are_gone_on_with_and_their_time_is_measured(people):
    vote(people / "comparisons.db", 1000, alternately)
    summary = walk(PEOPLE, people).summary
    assert summary["raters"] == 1
    assert summary["votes"] == summary["comparisons"]
    assert summary["rater_agreement"] is None
    assert summary["labelling_hours"] == pytest.approx(summary["votes"] * 6 / 3600)
    assert f"measured on {summary['votes']} votes" in (people / "report.html").read_text()


def test_a_person_may_say_that_it_is_enough(people):
    vote(people / "comparisons.db", 14, alternately)
    fewer = PEOPLE.with_values(enough_votes=14)
    assert walk(PEOPLE.with_values(enough_votes=15), people).waits_for_votes == 1
    assert walk(fewer, people).summary["votes"] == 14


def test_votes_that_say_nothing_are_refused_and_kept(people):
    vote(people / "comparisons.db", 14, lambda number: Choice.TIE)
    with pytest.raises(ValueError, match="contradict each other throughout"):
        walk(PEOPLE.with_values(enough_votes=14), people)
    with PreferenceStore(people / "comparisons.db") as store:
        assert store.progress().votes == 14


def test_votes_cast_after_the_comparisons_are_counted_are_not_learnt_from(people):
    """A class goes on voting while the teacher goes on."""
    config = PEOPLE.with_values(enough_votes=13)
    vote(people / "comparisons.db", 13, lambda n: Choice.TIE if n == 4 else alternately(n))
    assert run_stage("compare", people, config, quiet=True).figures["votes"] == 13
    with PreferenceStore(people / "comparisons.db") as store:
        for comparison in store.comparisons():
            store.vote(comparison.id, "bob", Choice.FIRST, seconds=1.0, shown_first=0)
    figures = run_stage("reward-model", people, config, quiet=True).figures
    assert figures["votes"] + figures["held_out"] == 13
    assert walk(config, people).summary["votes"] == 13
    page = (people / "report.html").read_text()
    assert re.search(rf"votes to learn from</th><td>{figures['votes']}</td>", page)
    assert f"of {figures['held_out']} held-out votes" in page


def test_counted_votes_that_were_taken_back_are_missed(people):
    config = PEOPLE.with_values(enough_votes=14)
    vote(people / "comparisons.db", 14, alternately)
    run_stage("compare", people, config, quiet=True)
    with PreferenceStore(people / "comparisons.db") as store:
        store.undo("ann")
    with pytest.raises(ValueError, match=r"1 of the 14 votes .* taken back since; delete .*3-comp"):
        walk(config, people)
    (people / "stages" / "3-compare.json").unlink()
    assert walk(config, people).waits_for_votes == 1


@pytest.mark.parametrize(
    ("values", "least"),
    [
        ({"votes_per_comparison": 1}, 12),
        ({"votes_per_comparison": 2}, None),
        ({"votes_per_comparison": 3, "pairs_per_prompt": 4}, None),
    ],
)
def test_fewer_votes_than_a_reward_model_needs_are_refused_when_the_run_begins(values, least):
    people = TINY.with_values(raters="people", **values)
    enough = [count for count in range(1, 60) if _is_taken(people, enough_votes=count)]
    assert enough == list(range(enough[0], 60))
    assert least is None or enough[0] == least
    most = people.pairs_per_prompt * people.votes_per_comparison
    draw = random.Random(0)
    for total in (enough[0], enough[0] + 7, 59):
        for seed in range(60):  # however the votes lie, and whatever is held out
            rows, prompts = (
                [],
                draw.sample(range(total), draw.randint(max(2, -(-total // most)), total)),
            )
            for prompt in prompts:
                rows.append(Preference(f"{prompt}", "a", "b"))
            while len(rows) < total:
                prompt = f"{draw.choice(prompts)}"
                if sum(row.prompt == prompt for row in rows) < most:
                    rows.append(Preference(prompt, "a", "b"))
            assert len(split_preferences(rows, 0.2, seed)[0]) >= 10
    with pytest.raises(ValueError, match=rf"at least, .* takes {enough[0]} votes; take at least"):
        people.with_values(enough_votes=enough[0] - 1)
    with pytest.raises(ValueError, match=r"2 prompts with \d+ votes each give .* raise train_prom"):
        people.with_values(train_prompts=2, votes_per_comparison=1, pairs_per_prompt=1)


def _is_taken(config, **values):
    try:
        return bool(config.with_values(**values))
    except ValueError:
        return False


# ------------------------------------------------------------------ other settings, other files


def test_other_settings_in_the_same_directory_are_named(waiting):
    directory, _ = waiting
    with pytest.raises(ValueError, match=r"other settings: seed=7 \(there: 0\); take those of"):
        walk(PEOPLE.with_values(seed=7), directory)
    with pytest.raises(ValueError) as raised:
        walk(PEOPLE.with_values(width=8, sft_epochs=3), directory)
    assert "sft_epochs=3 (there: 1)" in str(raised.value)
    assert f"width=8 (there: {PEOPLE.width})" in str(raised.value)


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        walk(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_that_changes_under_the_run_is_noticed(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("once upon a time\n" * 50)
    config = TINY.with_values(text=str(text))
    for _ in range(2):
        with begun(tmp_path / "run", config) as run:
            pass
    run.finish("pretrain", {}, 0.0)
    text.write_text("another text\n" * 50)
    with (
        pytest.raises(ValueError, match=r"the file of text=.* has changed since"),
        begun(tmp_path / "run", config),
    ):
        pass


def test_a_record_of_other_settings_is_refused(people):
    path = people / "stages" / "2-sft.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "fingerprint": "0" * 64}))
    with pytest.raises(ValueError, match=r"2-sft.json was written by a run with other settings"):
        walk(PEOPLE, people)
    path.write_text('{"stage": "sft"')
    with pytest.raises(ValueError, match=r"2-sft.json cannot be read"):
        walk(PEOPLE, people)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"total_tokens": 0}, "total_tokens=0 must be a whole number of at least 1"),
        ({"held_out_prompts": 7}, "held_out_prompts=7 must be a whole number of at least 8"),
        ({"raters": "cats"}, "raters='cats' must be one of 'people', 'simulated'"),
        ({"simulated_raters": 1}, "votes_per_comparison=2 is more than there are raters"),
        ({"enough_votes": 0}, "enough_votes=0 must be a whole number of at least 1"),
        ({"text": "a.txt", "start_from": "m"}, "start_from='m' skips it; give one of them"),
        ({"heads": 5}, "heads=5 must divide width=96"),
        ({"reward_epochs": 0}, "epochs=0 must be a whole number of at least 1"),
        ({"prompt_template": "no place"}, "prompt_template must contain {prompt}"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_the_first_stage(values, message):
    with pytest.raises(ValueError) as raised:
        RLHFConfig(**values)
    assert message in str(raised.value)


def test_every_setting_reaches_its_stage_under_the_name_it_has_there():
    config = TINY.with_values(
        seed=3,
        sft_epochs=5,
        reward_learning_rate=0.25,
        learning_rate=0.5,
        kl_target=4.0,
        n_epochs=7,
    )
    assert config.config_of(PretrainConfig) == PretrainConfig(
        vocab_size=300, context=256, width=16, layers=1, heads=2, steps=8, batch_size=2,
        learning_rate=3e-3, seed=3,
    )  # fmt: skip
    assert config.config_of(SFTConfig) == SFTConfig(
        epochs=5, batch_size=8, learning_rate=2e-3, seed=3
    )
    reward_model = RewardModelConfig(
        head="finetune", model="m", epochs=1, learning_rate=0.25, seed=3
    )
    assert config.config_of(RewardModelConfig, model="m") == reward_model
    training = config.config_of(TrainConfig)
    assert (training.learning_rate, training.batch_size, training.n_epochs) == (0.5, 64, 7)
    assert (training.kl_target, training.max_new_tokens, training.seed) == (4.0, 8, 3)


def test_no_setting_is_lost_between_the_run_and_its_stages():
    stages = (PretrainConfig, SFTConfig, CompareConfig, RewardModelConfig, TrainConfig)
    taken = {
        prefix + field.name
        for stage, prefix in zip(stages, ("pretrain_", "sft_", "", "reward_", ""), strict=True)
        for field in fields(stage)
    } | {field.name for stage in stages for field in fields(stage)}
    assert {field.name for field in fields(RLHFConfig)} - taken == {
        "start_from", "text", "pairs", "documents", "generated_pairs", "train_prompts",
        "held_out_prompts", "enough_votes", "look_every", "shown_prompts", "praise_share",
    }  # fmt: skip


def test_a_missing_file_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"pairs='no.jsonl': there is no such file"):
        walk(TINY.with_values(pairs="no.jsonl"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------ own data


@pytest.fixture
def own_data(tmp_path):
    """Text, pairs and prompts of a world of questions about numbers."""
    text, pairs, prompts = (tmp_path / name for name in ("t.txt", "p.jsonl", "q.txt"))
    text.write_text("".join(f"{n} and {n} make {2 * n}.\n" for n in range(400)))
    rows = [{"prompt": f"{n} and {n}?", "completion": f"{2 * n}"} for n in range(30)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts.write_text("".join(f"{n} and {n}?\n" for n in range(20, 50)))
    return TINY.with_values(text=str(text), pairs=str(pairs)), str(prompts)


def test_prompts_are_those_of_the_pairs_and_none_is_on_both_sides(own_data):
    config, _ = own_data
    prompts = prompts_of(config)
    texts = [{row.text for row in rows} for rows in prompts]
    assert len(prompts.held_out) == 8  # more than a fifth of 30, but the fewest there are
    assert texts[0] | texts[1] <= {f"{n} and {n}?" for n in range(30)}
    assert not texts[0] & texts[1]
    pairs = pairs_of(config, prompts.held_out)
    assert {pair.prompt for pair in pairs.held_out} == texts[1]
    assert len(pairs.train) == 22


def test_own_prompts_keep_pairs_on_them_out_of_fine_tuning(own_data):
    config, path = own_data
    config = config.with_values(prompts=path)
    prompts = prompts_of(config)
    assert len(prompts.train) + len(prompts.held_out) == 22 + 8
    pairs = pairs_of(config, prompts.held_out)
    assert not {pair.prompt for pair in pairs.train} & {row.text for row in prompts.held_out}


def conversation(n):
    turns = [{"role": "system", "content": "Count."}, {"role": "user", "content": f"{n} and {n}?"}]
    return [
        *turns,
        {"role": "assistant", "content": str(2 * n)},
        {"role": "user", "content": "Ok?"},
    ]


def test_conversations_and_named_columns_are_prompts_of_the_whole_road(own_data, tmp_path):
    config, _ = own_data
    answer = {"role": "assistant", "content": "Yes."}
    rows = [{"messages": [*conversation(n), answer]} for n in range(30)]
    pairs = tmp_path / "talks.json"
    pairs.write_text(json.dumps([*rows, {"messages": []}]))
    config = config.with_values(pairs=str(pairs), bad_rows="skip")
    with pytest.warns(UserWarning, match="1 of 31 rows cannot be read"):
        prompts = prompts_of(config)  # which all end in the same words of the user
    assert len(prompts.train) + len(prompts.held_out) == 30
    with pytest.warns(UserWarning, match="1 of 31 rows cannot be read"):
        assert len(pairs_of(config, prompts.held_out).held_out) == len(prompts.held_out)
    table = tmp_path / "talks.jsonl"
    rows = [{"talk": conversation(n), "prompt": f"id-{n}", "n": n} for n in range(30)]
    table.write_text("\n".join(map(json.dumps, rows)))
    config = config.with_values(prompts=str(table), prompt_column="talk")
    with pytest.warns(DataWarning, match=r"the column 'prompt' is left out: .* \(30 of 30 rows\)"):
        own = prompts_of(config)
    assert {row.text for row in own.held_out} <= {plain_text(conversation(n)) for n in range(30)}
    run = RLHFDirectory(config, tmp_path / "run")
    write_prompts(own, run)
    again = read_prompts(run.prompts("train"))
    assert [messages_of(row.text) for row in again] == [messages_of(row.text) for row in own.train]
    assert [row.columns for row in again] == [{"n": row.columns["n"]} for row in own.train]


def test_too_few_prompts_are_refused(own_data, tmp_path):
    config, _ = own_data
    path = tmp_path / "few.txt"
    path.write_text("a\nb\nc\na\nb\n")
    with pytest.raises(ValueError, match="has 3 different prompts; at least 16 are needed"):
        prompts_of(config.with_values(prompts=str(path)))


def test_own_text_pairs_and_judge_walk_the_whole_road(own_data, tmp_path):
    config, _ = own_data
    config = config.with_values(true_rater="length:3", max_new_tokens=6, rater_noise=0.2)
    summary = walk(config, tmp_path / "own").summary
    assert summary["held_out_prompts"] == 8
    assert 0 <= summary["gold_sft"] <= 1
    assert "0 and 0 make" not in (tmp_path / "own" / "report.html").read_text()


def test_a_named_model_takes_the_place_of_pre_training(waiting, tmp_path):
    base = str(waiting[0] / "base")
    summary = walk(TINY.with_values(start_from=base), tmp_path / "named").summary
    assert summary["pretrain_perplexity"] is None
    assert not (tmp_path / "named" / "base").exists()
    assert (
        "Left out: the run starts from another model"
        in (tmp_path / "named" / "report.html").read_text()
    )


# ------------------------------------------------------------------ text that is no friend


def test_the_page_shows_hostile_text_and_does_not_run_it(people):
    vote(people / "comparisons.db", 1000, alternately)
    walk(PEOPLE, people)
    path = people / "evaluations" / "ppo.json"
    answers = json.loads(path.read_text())
    evil = '<script>alert(1)</script><img src=x onerror="alert(2)">\u202e'
    for row in answers["rows"]:
        row["completion"] = evil
    path.write_text(json.dumps(answers))
    results = gather(RLHFDirectory(PEOPLE, people))
    page = render(report_of(PEOPLE, results, summarise(results)))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "<img" not in page
    assert "\u202e" not in page
