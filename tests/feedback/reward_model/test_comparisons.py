"""Training on comparisons: it learns, and its own figures are everybody's."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from llm_gym.feedback.preferences import Preference, write_preferences
from llm_gym.feedback.reward_model import (
    RewardModelConfig,
    RewardModelScorer,
    differences_of,
    fit_reward_model,
    train_reward_model,
)
from llm_gym.feedback.reward_model.backbone import final_linear
from llm_gym.feedback.reward_model.comparisons import _encoded, _loss
from llm_gym.feedback.reward_model.rewards import rewards_of
from llm_gym.scorers import SequenceClassifierScorer
from tests.feedback.reward_model.worlds import preferences, save_bert, save_with_pad_as_eos, swapped

TRAIN, HELD_OUT = preferences(160, seed=0), preferences(80, seed=1)
QUICK = RewardModelConfig(head="finetune", learning_rate=2e-3, epochs=2, batch_size=8)
UNTRAINED = replace(QUICK, learning_rate=1e-12, epochs=1, weight_decay=0.0)


@pytest.fixture(scope="module")
def trained(tiny_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("trained") / "reward"
    config = replace(QUICK, model=tiny_dir())
    metrics = train_reward_model(TRAIN, directory, config, held_out=HELD_OUT, quiet=True)
    return directory, metrics


def texts(rows):
    return [row.prompt for row in rows], [row.chosen for row in rows]


# ------------------------------------------------------------------ learning


def test_it_learns_what_is_preferred(trained):
    _, metrics = trained
    assert metrics["held_out"]["accuracy"]["value"] > 0.9
    assert metrics["held_out"]["log_loss"] < 0.4
    assert metrics["comparisons"] == 160
    assert metrics["loss"][-1] < metrics["loss"][0]


def test_swapping_chosen_and_rejected_turns_the_preference_around(trained, tiny_dir):
    """Trained on the swapped rows it prefers what it rejected: nothing else tells them apart."""
    directory, _ = trained
    config = replace(QUICK, model=tiny_dir())
    scorer, metrics = fit_reward_model(swapped(TRAIN), config, held_out=HELD_OUT, quiet=True)
    assert metrics["held_out"]["accuracy"]["value"] < 0.1
    right, wrong = RewardModelScorer(directory)(*texts(HELD_OUT)), scorer(*texts(HELD_OUT))
    assert np.corrcoef(right, wrong)[0, 1] < -0.5


def test_before_training_the_accuracy_is_one_half(tiny_dir):
    """Over 12 heads and 80 comparisons; swapped rows have the complement exactly."""
    measured = []
    for seed in range(12):
        config = replace(UNTRAINED, model=tiny_dir(), seed=seed)
        scorer, metrics = fit_reward_model(TRAIN[:16], config, held_out=HELD_OUT, quiet=True)
        measured.append(metrics["held_out"]["accuracy"]["value"])
        turned = differences_of(scorer, swapped(HELD_OUT))
        np.testing.assert_allclose(turned, -differences_of(scorer, HELD_OUT))
    assert np.mean(measured) == pytest.approx(0.5, abs=0.15)
    assert min(measured) < 0.5 < max(measured)


def test_training_is_reproducible_and_depends_on_the_seed(tiny_dir, tmp_path):
    config = replace(QUICK, model=tiny_dir(), epochs=1)
    torch.manual_seed(1)
    scorer, first = fit_reward_model(TRAIN[:40], config, held_out=HELD_OUT, quiet=True)
    torch.manual_seed(2)
    scorer_again, again = fit_reward_model(TRAIN[:40], config, held_out=HELD_OUT, quiet=True)
    states = scorer.model.state_dict(), scorer_again.model.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert first["held_out"] == again["held_out"]
    third, _ = fit_reward_model(TRAIN[:40], replace(config, seed=1), held_out=HELD_OUT, quiet=True)
    assert not torch.equal(final_linear(third.model).weight, final_linear(scorer.model).weight)


def test_dropout_is_off_unless_asked_for(tiny_dir):
    """GPT-2's own rates, here one half: two passes in training mode would differ."""
    path = tiny_dir(resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    config = replace(QUICK, model=path, epochs=1)
    plain, off = fit_reward_model(TRAIN[:40], config, held_out=HELD_OUT, quiet=True)
    _, same = fit_reward_model(
        TRAIN[:40], replace(config, model=tiny_dir()), held_out=HELD_OUT, quiet=True
    )
    _, on = fit_reward_model(
        TRAIN[:40], replace(config, dropout=True), held_out=HELD_OUT, quiet=True
    )
    assert off["loss"] == same["loss"]
    assert on["loss"] != off["loss"]
    assert not plain.model.training


# ------------------------------------------------------------------ one number, whoever asks


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3", "bert", "pad is eos"])
def test_every_loader_gives_the_trainers_own_number(kind, tiny_dir, tmp_path):
    makers = {"bert": save_bert, "pad is eos": save_with_pad_as_eos}
    source = makers[kind](tmp_path / "source") if kind in makers else tiny_dir(kind)
    config = replace(QUICK, model=str(source), epochs=1)
    directory = tmp_path / "reward"
    metrics = train_reward_model(TRAIN[:40], directory, config, held_out=HELD_OUT, quiet=True)
    scorer = RewardModelScorer(directory)
    plain = SequenceClassifierScorer(directory, template=metrics["template"])
    # alone, without any padding, through nothing but transformers
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    prompts, chosen = texts(HELD_OUT)
    by_hand = []
    for prompt, answer in zip(prompts, chosen, strict=True):
        if metrics["template"] == "chat":
            turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
            text = tokenizer.apply_chat_template(turns, tokenize=False)
            inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        else:
            inputs = tokenizer(prompt, answer, return_tensors="pt")
        with torch.no_grad():
            by_hand.append(model(**inputs).logits.item())
    np.testing.assert_allclose(scorer(prompts, chosen), by_hand, atol=1e-5)
    np.testing.assert_allclose(plain(prompts, chosen), by_hand, atol=1e-5)
    right = differences_of(scorer, HELD_OUT) > 0
    assert metrics["held_out"]["accuracy"]["value"] == pytest.approx(right.mean())


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_score_is_read_at_the_last_real_token(architecture, tiny_dir, tmp_path):
    """Computed from the hidden states with explicit lengths, for any padding and any content.

    The pad token is the EOS of the language model, which also stands in the texts and ends them.
    """
    source = save_with_pad_as_eos(tmp_path / "source", architecture)
    config = replace(QUICK, model=source, epochs=1, template="{prompt} {completion}")
    scorer, _ = fit_reward_model(TRAIN[:40], config, held_out=HELD_OUT, quiet=True)
    model = scorer.model
    answers = ["w3 w4", "w3 w4 <eos>", "w3 <eos> w4", "w3 <eos> <eos>", "w3 " * 30]
    rows = scorer.encode(["w5"] * 5, answers)
    assert [row["input_ids"][-1] for row in rows[:4]] == [7, 1, 7, 1]
    expected = []
    for row in rows:
        with torch.no_grad():
            hidden = model.base_model(torch.tensor([row["input_ids"]])).last_hidden_state
            expected.append(final_linear(model)(hidden[0, len(row["input_ids"]) - 1]).item())
    np.testing.assert_allclose(rewards_of(model, rows), expected, atol=1e-5)
    np.testing.assert_allclose(rewards_of(model, rows, batch_size=1), expected, atol=1e-5)
    np.testing.assert_allclose(scorer(["w5"] * 5, answers), expected, atol=1e-5)
    assert abs(expected[0] - expected[1]) > 1e-3  # the EOS is read


def test_the_loss_does_not_depend_on_padding(tiny_dir):
    """Each comparison alone, or beside a long one."""
    config = replace(UNTRAINED, model=tiny_dir())
    scorer, _ = fit_reward_model(TRAIN, config, held_out=HELD_OUT, quiet=True)
    long = Preference("w2", "w3 " * 50, "w4 " * 40)
    examples = _encoded([*TRAIN[:6], long], scorer, config)
    alone = [_loss(scorer, examples, [row], config).item() for row in range(7)]
    together = _loss(scorer, examples, list(range(7)), config).item()
    assert together == pytest.approx(np.mean(alone), abs=1e-5)


def test_the_pipeline_of_transformers_loads_it(trained):
    directory, _ = trained
    classify = pipeline("text-classification", model=str(directory), function_to_apply="none")
    prompts, chosen = texts(HELD_OUT[:5])
    pairs = [{"text": p, "text_pair": c} for p, c in zip(prompts, chosen, strict=True)]
    expected = [classify(pair)["score"] for pair in pairs]
    np.testing.assert_allclose(RewardModelScorer(directory)(prompts, chosen), expected, atol=1e-5)


def test_trl_loads_it_and_measures_the_same_accuracy(trained, tmp_path):
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    directory, metrics = trained
    rows = [
        {name: f"{row.prompt} {getattr(row, name)}" for name in ("chosen", "rejected")}
        for row in HELD_OUT
    ]
    trainer = trl.RewardTrainer(
        model=str(directory),
        args=trl.RewardConfig(output_dir=str(tmp_path), report_to=[], use_cpu=True, bf16=False),
        train_dataset=Dataset.from_list(rows[:8]),
        eval_dataset=Dataset.from_list(rows),
    )
    measured = trainer.evaluate()["eval_accuracy"]
    # TRL closes every text with EOS, which this model has never read.
    assert measured == pytest.approx(metrics["held_out"]["accuracy"]["value"], abs=0.2)


# ------------------------------------------------------------------ centring, ties, weights


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_the_mean_reward_of_the_training_answers_is_0(kind, tiny_dir, tmp_path):
    source = save_bert(tmp_path / "source") if kind == "bert" else tiny_dir(kind)
    config = replace(QUICK, model=source, center_rewards_coefficient=0.0, epochs=1)
    scorer, metrics = fit_reward_model(TRAIN, config, held_out=HELD_OUT, quiet=True)
    assert metrics["centred"]
    assert metrics["mean_reward"] == pytest.approx(0, abs=1e-4)
    prompts = [row.prompt for row in TRAIN]
    values = [scorer(prompts, [getattr(r, name) for r in TRAIN]) for name in ("chosen", "rejected")]
    assert np.mean(values) == pytest.approx(0, abs=1e-4)


def test_where_no_weight_can_centre_the_penalty_does_it_nearly(tiny_dir):
    config = replace(QUICK, model=tiny_dir("llama"), center_rewards_coefficient=0.0)
    _, free = fit_reward_model(TRAIN, config, held_out=HELD_OUT, quiet=True)
    config = replace(config, center_rewards_coefficient=0.1)
    _, held = fit_reward_model(TRAIN, config, held_out=HELD_OUT, quiet=True)
    assert not free["centred"]
    assert not held["centred"]
    assert abs(held["mean_reward"]) < 0.3
    assert abs(held["mean_reward"]) < abs(free["mean_reward"])
    assert held["held_out"]["accuracy"]["value"] > 0.8


def test_ties_pull_rewards_together(tiny_dir):
    """The same comparisons, tied: there is nothing in them to prefer."""
    ties = [Preference(row.prompt, row.chosen, row.rejected, {"tie": True}) for row in TRAIN[:60]]
    config = replace(QUICK, model=tiny_dir())
    strict = TRAIN[60:]
    both, _ = fit_reward_model(
        [*strict, *ties, *swapped(ties)], config, held_out=HELD_OUT, quiet=True
    )
    without, _ = fit_reward_model(strict, config, held_out=HELD_OUT, quiet=True)
    gaps = [np.abs(differences_of(scorer, TRAIN[:60])).mean() for scorer in (both, without)]
    assert gaps[0] < 0.75 * gaps[1]


def test_the_two_rows_of_a_tie_weigh_as_much_as_one_comparison(tiny_dir):
    config = replace(UNTRAINED, model=tiny_dir())
    scorer, _ = fit_reward_model(TRAIN, config, held_out=HELD_OUT, quiet=True)
    tie = Preference("w2", "w3", "w4", {"tie": True})
    examples = _encoded([*TRAIN[:2], tie, *swapped([tie])], scorer, config)
    ratio = examples.weights / examples.weights[0]
    assert ratio.tolist() == [1.0, 1.0, 0.5, 0.5]


def test_rows_of_weight_0_are_not_learnt_from(tiny_dir):
    def weighted(rows, weight):
        return [
            Preference(row.prompt, row.chosen, row.rejected, {"weight": weight}) for row in rows
        ]

    config = replace(QUICK, model=tiny_dir(), weight_column="weight")
    lies = weighted(swapped(preferences(400, seed=3)), 0.0)
    _, metrics = fit_reward_model(
        [*weighted(TRAIN, 2.0), *lies], config, held_out=HELD_OUT, quiet=True
    )
    assert metrics["held_out"]["accuracy"]["value"] > 0.9


def test_a_margin_spreads_rewards(tiny_dir):
    wide = [Preference(r.prompt, r.chosen, r.rejected, {"gap": 3.0}) for r in TRAIN]
    config = replace(QUICK, model=tiny_dir())
    by_column = replace(config, margin=1.0, margin_column="gap")
    spreads = [
        differences_of(
            fit_reward_model(wide, settings, held_out=HELD_OUT, quiet=True)[0], TRAIN
        ).mean()
        for settings in (config, replace(config, margin=4.0), by_column)
    ]
    assert spreads[1] > spreads[0] + 1
    assert spreads[2] == pytest.approx(spreads[1])


# ------------------------------------------------------------------ files


def test_a_file_is_read_and_prompts_are_held_out(tiny_dir, tmp_path, monkeypatch):
    write_preferences(tmp_path / "rows.jsonl", TRAIN)
    seen = []
    original = RewardModelScorer.encode

    def spy(self, prompts, completions):
        if self.max_length is not None:  # not where lengths are counted
            seen.append(set(prompts))
        return original(self, prompts, completions)

    monkeypatch.setattr(RewardModelScorer, "encode", spy)
    config = replace(QUICK, model=tiny_dir(), epochs=1, held_out_share=0.25)
    metrics = train_reward_model(tmp_path / "rows.jsonl", tmp_path / "out", config, quiet=True)
    trained_on, measured_on = seen[0], seen[-1]
    assert not trained_on & measured_on
    prompts = {row.prompt for row in TRAIN}
    assert len(measured_on) == round(0.25 * len(prompts))
    assert trained_on | measured_on == prompts
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["held_out"] == metrics["held_out"]


@pytest.mark.parametrize("weights", ["float16", "bfloat16"])
def test_the_figures_are_those_of_the_stored_weights(weights, tiny_dir, tmp_path):
    config = replace(QUICK, model=tiny_dir(), weights=weights, epochs=1)
    metrics = train_reward_model(TRAIN, tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    assert f'"dtype": "{weights}"' in (tmp_path / "r" / "config.json").read_text()
    scorer = RewardModelScorer(tmp_path / "r")
    differences = differences_of(scorer, HELD_OUT)
    loss = np.logaddexp(0, -differences).mean()
    assert metrics["held_out"]["log_loss"] == pytest.approx(loss, abs=1e-6)


def test_nothing_is_left_of_a_run_that_fails(tiny_dir, tmp_path, monkeypatch):
    config = replace(QUICK, model=tiny_dir(), epochs=1)
    train_reward_model(TRAIN[:40], tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    before = {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()}

    def full_disk(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llm_gym.feedback.reward_model.fitting.write_json", full_disk)
    with pytest.raises(OSError, match="No space left"):
        train_reward_model(TRAIN[40:80], tmp_path / "r", config, held_out=HELD_OUT, quiet=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "r").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_reward_model_is_trained_further(trained, tmp_path):
    directory, metrics = trained
    config = replace(UNTRAINED, model=str(directory))
    _, again = fit_reward_model(TRAIN, config, held_out=HELD_OUT, quiet=True)
    assert again["held_out"]["log_loss"] == pytest.approx(metrics["held_out"]["log_loss"], abs=1e-5)


# ------------------------------------------------------------------ what cannot be learnt from


def tied(row):
    return [row, *swapped([row])]


ONE = Preference("w1", "w2", "w3")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (TRAIN[:9], "there are 9 comparisons to train on, too few: at least 10"),
        ([], "preferences is empty: there is nothing to read"),
        (
            [row for preference in TRAIN[:10] for row in tied(preference)],
            "contradict each other throughout",
        ),
        ([Preference(f"w{n}", "w2", "w3") for n in range(20)], "all 20 prefer the same answer"),
        (preferences(20, shown_first="chosen"), "the answer that was shown first won"),
        (preferences(20, shown_first="rejected"), "the answer that was shown second won"),
        ([*TRAIN[:20], Preference("w1", "x y", "y z")], "become the same tokens, preferences.20."),
    ],
)
def test_what_cannot_be_learnt_from_is_named(rows, message, tiny_dir, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_reward_model(
            rows, tmp_path / "r", replace(QUICK, model=tiny_dir()), held_out=HELD_OUT, quiet=True
        )
    assert not (tmp_path / "r").exists()


def test_rows_that_are_no_preferences_are_named(tiny_dir):
    rows = [*TRAIN, ("w1", "w2", "w3")]
    with pytest.raises(TypeError, match=r"preferences\[160\]: needs an object with prompt"):
        fit_reward_model(rows, replace(QUICK, model=tiny_dir()), held_out=HELD_OUT, quiet=True)


def test_one_prompt_cannot_be_held_out(tiny_dir):
    rows = [Preference("w1", row.chosen, row.rejected) for row in TRAIN]
    config = replace(QUICK, model=tiny_dir(), epochs=1)
    with pytest.raises(ValueError, match="on 1 prompt, so none can be held out"):
        fit_reward_model(rows, config, quiet=True)
    fit_reward_model(rows, config, held_out=HELD_OUT, quiet=True)


def test_contradictions_in_a_file_follow_the_setting(tiny_dir, tmp_path):
    path = write_preferences(tmp_path / "rows.jsonl", [*TRAIN, *swapped(TRAIN[:1])])
    config = replace(QUICK, model=tiny_dir(), epochs=1)
    with pytest.raises(ValueError, match="says the opposite"):
        fit_reward_model(path, config, held_out=HELD_OUT, quiet=True)
    _, kept = fit_reward_model(
        path, replace(config, contradictions="keep"), held_out=HELD_OUT, quiet=True
    )
    assert kept["comparisons"] == 161


@pytest.mark.parametrize(
    ("change", "value", "message"),
    [
        ({"weight_column": "weight"}, None, r"weight_column='weight': every row needs .* has None"),
        ({"weight_column": "weight"}, -1.0, r"preferences\[0\] has -1.0"),
        ({"weight_column": "weight"}, True, r"preferences\[0\] has True"),
        ({"weight_column": "weight"}, 0, "weight_column='weight' is 0 in every row"),
        ({"margin_column": "weight"}, "wide", "margin_column='weight': every row needs"),
        ({"template": "no slot"}, 1.0, "template must be None, 'chat' or a format string"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_named(change, value, message, tiny_dir):
    columns = {} if value is None else {"weight": value}
    rows = preferences(20, **columns)
    with pytest.raises(ValueError, match=message):
        fit_reward_model(
            rows, replace(QUICK, model=tiny_dir(), **change), held_out=HELD_OUT, quiet=True
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs=0 must be a .*number of at least 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be a finite number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan must be a finite number above 0"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0 must be a .*number of at least 0"),
        ({"warmup_share": 2.0}, "warmup_share=2.0 must be a number from 0 to 1"),
        ({"held_out_share": 1.0}, "held_out_share=1.0 must be a number above 0 and below 1"),
        ({"weights": "int8"}, "weights='int8' must be one of 'float32'"),
        ({"margin": -1.0}, "margin=-1.0 must be a .*number of at least 0"),
        (
            {"center_rewards_coefficient": -0.1},
            "center_rewards_coefficient=.* must be a .*number of at least 0",
        ),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        RewardModelConfig(**change)


def test_an_encoder_with_a_decoder_needs_texts_that_end(tmp_path):
    from tokenizers import processors
    from transformers import T5Config, T5ForConditionalGeneration

    from llm_gym.testing.tiny import tiny_tokenizer

    sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1}
    config = T5Config(num_heads=2, decoder_start_token_id=0, **sizes)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    tokenizer = tiny_tokenizer(29)
    tokenizer.save_pretrained(tmp_path / "t5")
    settings = RewardModelConfig(model=str(tmp_path / "t5"), head="finetune")
    with pytest.raises(ValueError, match=r"encoder with a decoder \(t5\).* have 0 of it: take a"):
        train_reward_model(preferences(20), tmp_path / "output", settings, quiet=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.save_pretrained(tmp_path / "t5")
    train_reward_model(preferences(20), tmp_path / "output", settings, quiet=True)
    scorer = RewardModelScorer(tmp_path / "output")
    assert len(scorer.score(["w1", "w2 w3"], ["w4", "w5"]).values) == 2
    with pytest.raises(ValueError, match="have 2 or 3 of it"):
        scorer.rewards(["w1", "w1"], ["w2", "w2 <eos> w3"])
