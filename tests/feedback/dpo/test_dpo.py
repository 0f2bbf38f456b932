from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch

from llm_gym.feedback.dpo import progress
from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.dpo.preference_pairs import (
    answer_log_probs,
    encode_preferences,
    reference_log_probs,
)
from llm_gym.feedback.preferences import (
    Comparison,
    Preference,
    PreferenceStore,
    Vote,
    preferences_from,
    write_preferences,
)
from llm_gym.language_models import load_causal_lm, load_tokenizer

TEMPLATE = "{prompt} w0"


def rows(count=60, seed=0):
    """Whoever writes more of w20 is preferred."""
    rng = random.Random(seed)
    found = []
    while len(found) < count:
        prompt = f"w{rng.randrange(1, 10)} w{rng.randrange(1, 10)}"
        answers = [" ".join(rng.choices(["w20", "w21", "w22"], k=4)) for _ in range(2)]
        answers.sort(key=lambda answer: answer.split().count("w20"))
        if answers[0].split().count("w20") < answers[1].split().count("w20"):
            found.append(Preference(prompt, answers[1], answers[0]))
    return found


def config(start, **overrides):
    values = {"model": start, "prompt_template": TEMPLATE, "batch_size": 8, "learning_rate": 3e-3}
    return DPOConfig(**values | overrides)


@pytest.fixture(scope="module")
def trained(tiny_dir, tmp_path_factory):
    output = tmp_path_factory.mktemp("dpo") / "model"
    return output, train_dpo(
        rows(120), output, config(tiny_dir(), epochs=3), held_out=rows(40, seed=1), quiet=True
    )


def test_it_learns_what_is_preferred(trained):
    _, metrics = trained
    before, after = metrics["held_out_before"], metrics["held_out"]
    assert before["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert before["accuracy"] == 0.5  # no implicit reward yet: every row is a tie
    assert before["margin"] == pytest.approx(0.0, abs=1e-5)
    assert after["accuracy"] > 0.9
    assert after["loss"] < 0.5
    assert after["margin"] > 0.5
    assert after["pairs"] == 40
    assert metrics["curves"]["accuracy"][-1] > metrics["curves"]["accuracy"][0]


def test_result_is_an_ordinary_directory(trained, tiny_dir):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    output, metrics = trained
    model = AutoModelForCausalLM.from_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert json.loads((output / "metrics.json").read_text()) == metrics
    encoded = encode_preferences(tokenizer, rows(40, seed=1), TEMPLATE, 64)
    ours = reference_log_probs(model, encoded, 8)
    np.testing.assert_allclose(
        ours.mean(0),
        [metrics["held_out"]["chosen_log_prob"], metrics["held_out"]["rejected_log_prob"]],
        rtol=1e-4,
    )
    start = reference_log_probs(load_causal_lm(tiny_dir()), encoded, 8)
    margin = 0.1 * ((ours - start)[:, 0] - (ours - start)[:, 1])
    assert float(margin.mean()) == pytest.approx(metrics["held_out"]["margin"], rel=1e-3)
    assert [path.name for path in output.parent.iterdir()] == ["model"]


def test_log_probabilities_equal_those_of_transformers_own_loss(tiny_dir):
    """One answer at a time without padding; EOS belongs to the answer, the prompt does not."""
    for architecture in ("gpt2", "llama"):
        model = load_causal_lm(tiny_dir(architecture))
        tokenizer = load_tokenizer(tiny_dir(architecture))
        preferences = [Preference("w1 w2", "w3", "w4 w5 w6"), Preference("w9", "w3 w3", "w4")]
        encoded = encode_preferences(tokenizer, preferences, TEMPLATE, 64)
        assert encoded[0].chosen.completion_ids == (6, tokenizer.eos_token_id)
        assert len(encoded[0].chosen.prompt_ids) == 3
        answers = [answer for row in encoded for answer in row[:2]]
        log_probs = answer_log_probs(model, answers)
        with torch.no_grad():
            for value, answer in zip(log_probs, answers, strict=True):
                ids = torch.tensor([answer.ids])
                labels = ids.clone()
                labels[:, : len(answer.prompt_ids)] = -100
                expected = -float(model(ids, labels=labels).loss) * len(answer.completion_ids)
                assert float(value) == pytest.approx(expected, rel=1e-4)


# ------------------------------------------------------------------ going on


class Stop(Exception):
    pass


def stop_after(monkeypatch, steps):
    """Dies at the given step, after what is saved there has been saved."""
    note = progress.Progress.note

    def noting(self, **values):
        if self.step == steps:
            raise Stop
        note(self, **values)

    monkeypatch.setattr(progress.Progress, "note", noting)


@pytest.mark.parametrize("died_at", [0, 3, 7])
def test_a_stopped_run_goes_on_bit_for_bit(tiny_dir, tmp_path, monkeypatch, died_at):
    settings = config(tiny_dir(), checkpoint_every=2, epochs=2)
    train_dpo(rows(), tmp_path / "straight", settings, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, died_at)
        with pytest.raises(Stop):
            train_dpo(rows(), tmp_path / "parts", settings, quiet=True)
    assert not (tmp_path / "parts").exists()
    assert (tmp_path / "parts-unfinished").is_dir()

    def never(*_):
        raise AssertionError("the reference was asked again")

    monkeypatch.setattr("llm_gym.feedback.dpo.dpo.reference_log_probs", never)
    metrics = train_dpo(rows(), tmp_path / "parts", settings, quiet=True)
    assert not (tmp_path / "parts-unfinished").exists()
    one, other = (load_causal_lm(tmp_path / name).state_dict() for name in ("straight", "parts"))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    straight = json.loads((tmp_path / "straight" / "metrics.json").read_text())
    assert metrics["curves"] == straight["curves"]
    assert metrics["held_out"] == straight["held_out"]


def test_an_unfinished_run_is_not_continued_with_other_settings_or_data(
    tiny_dir, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stop):
            train_dpo(rows(), tmp_path / "m", config(tiny_dir(), checkpoint_every=2), quiet=True)
    for change, name in (({"beta": 0.3}, "beta"), ({"model": tiny_dir(seed=5)}, "model")):
        with pytest.raises(ValueError, match=f"with other settings: .*{name}=.*or delete"):
            train_dpo(rows(), tmp_path / "m", config(tiny_dir(), **change), quiet=True)
    with pytest.raises(ValueError, match="with other settings: preferences="):
        train_dpo(rows(seed=2), tmp_path / "m", config(tiny_dir()), quiet=True)
    (tmp_path / "m-unfinished" / "progress.safetensors").write_bytes(b"x")
    with pytest.raises(ValueError, match="m-unfinished is corrupt"):
        train_dpo(rows(), tmp_path / "m", config(tiny_dir()), quiet=True)


# ------------------------------------------------------------------ settings


def test_another_reference(tiny_dir, tmp_path):
    settings = config(tiny_dir(), reference=tiny_dir(seed=5))
    metrics = train_dpo(rows(), tmp_path / "m", settings, quiet=True)
    before = metrics["held_out_before"]
    assert before["chosen_log_prob"] != pytest.approx(before["reference_chosen_log_prob"], rel=1e-3)
    other = config(tiny_dir(), reference=tiny_dir(vocab_size=40))
    with pytest.raises(ValueError, match=r"reference=.* has 40 tokens but model=.* has 32"):
        train_dpo(rows(), tmp_path / "n", other, quiet=True)


@pytest.mark.parametrize("overrides", [{"loss": "ipo"}, {"label_smoothing": 0.2}])
def test_other_losses_learn_too(tiny_dir, tmp_path, overrides):
    settings = config(tiny_dir(), epochs=2, **overrides)
    metrics = train_dpo(rows(120), tmp_path / "m", settings, quiet=True)
    assert metrics["held_out"]["accuracy"] > 0.8
    assert metrics["held_out"]["loss"] < metrics["held_out_before"]["loss"]


def test_preferences_come_from_files_stores_and_lists(tmp_path):
    given = rows(10)
    assert preferences_from(write_preferences(tmp_path / "p.jsonl", given)) == given
    assert preferences_from(given) == given
    with PreferenceStore(tmp_path / "votes.db") as store:
        first, second = store.add([Comparison("w1", ("w2", "w3")), Comparison("w4", ("w5", "w6"))])
        votes = [Vote(first, "me", "second", 1.0, 0), Vote(second, "me", "tie", 1.0, 0)]
        store.add_votes(votes)
        found = preferences_from(store)
    assert preferences_from(tmp_path / "votes.db") == found
    assert [(row.prompt, row.chosen) for row in found] == [("w1", "w3"), ("w4", "w5"), ("w4", "w6")]


def test_the_two_rows_of_a_tie_count_as_one(tiny_dir):
    tie = {"tie": True}
    given = [Preference("w1", "w2", "w3", tie), Preference("w1", "w3", "w2", tie), *rows(2)]
    encoded = encode_preferences(load_tokenizer(tiny_dir()), given, TEMPLATE, None)
    assert [row.weight for row in encoded] == [0.5, 0.5, 1.0, 1.0]


# ------------------------------------------------------------------ bad input


def test_wrong_rows_are_named(tiny_dir, tmp_path):
    tokenizer = load_tokenizer(tiny_dir())
    with pytest.raises(ValueError, match="chosen is empty"):
        Preference("w1", " ", "w2")
    (tmp_path / "p.jsonl").write_text('{"prompt": "w1", "chosen": "w2", "rejected": "w2"}\n')
    with pytest.raises(ValueError, match="line 1: chosen and rejected are identical"):
        train_dpo(tmp_path / "p.jsonl", tmp_path / "m", config(tiny_dir()))
    with pytest.raises(ValueError, match="preferences is empty"):
        train_dpo([], tmp_path / "m", config(tiny_dir()))
    with pytest.raises(TypeError, match=r"preferences\[1\]: needs an object with prompt, chosen"):
        preferences_from([*rows(1), ("w1", "w2", "w3")])
    with pytest.raises(FileNotFoundError, match="no preference store"):
        preferences_from(tmp_path / "none.db")
    with pytest.raises(FileNotFoundError, match="no such file"):
        preferences_from(tmp_path / "none.jsonl")
    unreadable = [*rows(1), Preference("w1", "hello", "goodbye")]
    with pytest.raises(ValueError, match=r"preferences\[1\]: the two answers become the same"):
        encode_preferences(tokenizer, unreadable, TEMPLATE, 64)
    with pytest.raises(ValueError, match=r"preferences\[0\]: .* become no token"):
        encode_preferences(tokenizer, [Preference("w3", "w1", "w2")], "{prompt:.0}", 64)


def test_answers_longer_than_the_context_are_an_error_or_left_out(tiny_dir, tmp_path):
    long = [*rows(20), Preference("w1", "w2 " * 63, "w3")]
    with pytest.raises(
        ValueError, match=r"preferences\[\d+\] has 66 tokens.*context of 64.*'drop'"
    ):
        train_dpo(long, tmp_path / "m", config(tiny_dir()), held_out=rows(4), quiet=True)
    settings = config(tiny_dir(), too_long="drop")
    metrics = train_dpo(long, tmp_path / "m", settings, held_out=rows(4), quiet=True)
    assert (metrics["preferences"], metrics["too_long"]) == (20, 1)
    cut = config(tiny_dir(), too_long="truncate")
    with pytest.warns(UserWarning, match="1 of 21 preferences are too long and are cut"):
        metrics = train_dpo(long, tmp_path / "c", cut, held_out=rows(4), quiet=True)
    assert (metrics["preferences"], metrics["too_long"]) == (21, 0)
    with pytest.raises(ValueError, match="all 1 preferences are too long"):
        train_dpo(long[-1:], tmp_path / "n", settings, held_out=rows(4), quiet=True)


def test_a_cut_prompt_is_the_same_before_both_answers():
    from llm_gym.testing.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    prompt = " ".join(f"w{n}" for n in range(10))
    row = Preference(prompt, "w1 w2", "w3")
    whole, cut = (
        encode_preferences(tokenizer, [row], "{prompt}", limit, too_long="truncate")[0]
        for limit in (None, 8)
    )
    assert cut.chosen.prompt_ids == cut.rejected.prompt_ids == whole.chosen.prompt_ids[-5:]
    assert cut.chosen.completion_ids == whole.chosen.completion_ids
    assert cut.rejected.completion_ids == whole.rejected.completion_ids
    (shortest,) = encode_preferences(tokenizer, [row], "{prompt}", 3, too_long="truncate")
    assert len(shortest.chosen.prompt_ids) == 1
    assert shortest.chosen.completion_ids == whole.chosen.completion_ids[:2]
    alike = Preference(prompt, "w1 w2 w3", "w1 w2 w4")
    with pytest.raises(ValueError, match=r"preferences\[0\]: .*beyond where they are cut"):
        encode_preferences(tokenizer, [alike], "{prompt}", 3, too_long="truncate")
    with pytest.warns(UserWarning, match="1 of 2 rows cannot be read"):
        left = encode_preferences(
            tokenizer, [alike, row], "{prompt}", 3, too_long="truncate", bad_rows="skip"
        )
    assert left == [shortest]


def test_tokenizer_without_padding_works_and_without_an_end_is_refused(tiny_dir):
    from llm_gym.testing.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    assert len(encode_preferences(tokenizer, rows(3), TEMPLATE, 64)) == 3
    with pytest.raises(ValueError, match="no EOS token"):
        encode_preferences(tiny_tokenizer(with_eos=False), rows(3), TEMPLATE, 64)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"beta": 0.0}, "beta=0.0"),
        ({"label_smoothing": 0.5}, "label_smoothing=0.5"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"prompt_template": "no place"}, "prompt_template must contain"),
        ({"too_long": "cut"}, "too_long='cut' must be one of 'error', 'drop', 'truncate'"),
        ({"checkpoint_every": 0}, "checkpoint_every=.* must be a .*number of at least 1"),
        ({"epochs": 0}, "epochs=.* must be a .*number of at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate=.* must be a finite number above 0"),
    ],
)
def test_wrong_settings_are_named(overrides, message):
    with pytest.raises(ValueError, match=message):
        DPOConfig(**overrides)


# ------------------------------------------------------------------ the command


@pytest.fixture
def command():
    import typer

    from llm_gym.cli import runs

    app = typer.Typer()
    app.command(epilog=runs.DPO_EXAMPLES)(runs.dpo)
    return app


def test_command_trains_and_says_how_well(command, tiny_dir, tmp_path):
    from typer.testing import CliRunner

    path = write_preferences(tmp_path / "p.jsonl", rows(60))
    arguments = [str(path), "--model", tiny_dir(), "--output", str(tmp_path / "m")]
    found = CliRunner().invoke(command, [*arguments, "--prompt-template", TEMPLATE])
    assert found.exit_code == 0, found.output
    assert "held-out accuracy" in found.output
    assert (tmp_path / "m" / "model" / "config.json").is_file()


def test_command_can_be_stopped_and_helps(command, tiny_dir, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    shown = CliRunner().invoke(command, ["--help"], env={"COLUMNS": "200"}).output
    for option in ("--beta", "--label-smoothing", "--checkpoint-every", "llm-gym dpo votes.db"):
        assert option in shown

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("llm_gym.feedback.dpo.dpo.train_dpo", interrupt)
    found = CliRunner().invoke(command, [str(tmp_path / "p.jsonl")])
    assert found.exit_code == 130


def test_tokens_that_the_model_has_no_embedding_for_are_named(tiny_dir, tmp_path):
    model, tokenizer = tmp_path / "model", load_tokenizer(tiny_dir())
    load_causal_lm(tiny_dir()).save_pretrained(model)
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(model)
    pairs = [*rows(4), Preference("w1", "w20", "w21 <think>")]
    message = r"row 4 has the token '<think>' \(id 32\).*resize_token_embeddings\(33\)"
    with pytest.raises(ValueError, match=message):
        train_dpo(pairs, tmp_path / "out", config(str(model)), held_out=rows(2), quiet=True)
