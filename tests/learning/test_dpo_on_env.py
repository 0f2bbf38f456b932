from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from llm_gym.learning import dpo
from llm_gym.learning.dpo import DPO, label_pairs
from llm_gym.runs.evaluation import evaluate
from llm_gym.text.answer import Answer
from tests.learning.worlds import PROMPTS, count_w20, grouped_env, settings

PLAIN_SGD = {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}}


def make(model, env=None, **overrides):
    env = grouped_env(model, 2) if env is None else env
    return DPO("TransformerPolicy", env, **settings(model, **overrides))


def answer(token, score):
    return Answer(prompt_ids=(0,), completion_ids=(token,), score=score)


# ------------------------------------------------------------------ labels


def test_members_are_paired_two_by_two_and_the_better_is_chosen():
    group = [answer(0, 1.0), answer(1, 2.0), answer(2, 5.0), answer(3, 4.0), answer(4, 9.0)]
    pairs = label_pairs([group], "deterministic", 1.0, np.random.default_rng(0))
    assert [(p.chosen, p.rejected, p.doubt) for p in pairs] == [
        (group[1], group[0], 0.0),
        (group[2], group[3], 0.0),
    ]


def test_ties_are_left_out_however_the_setting_was_written():
    """A text that was read from a file is not the same object as one that stands in the code."""
    group = [answer(0, 1.0), answer(1, 1.0)]
    rng = np.random.default_rng(0)
    assert label_pairs([group], "-".join(["deterministic"]), 1.0, rng) == []
    assert label_pairs([group], "deterministics"[:-1], 1.0, rng) == []
    assert len(label_pairs([group], "soft", 1.0, rng)) == 1


def test_soft_labels_are_bradley_terrys_probabilities():
    group = [answer(0, 3.0), answer(1, 1.0)]
    [pair] = label_pairs([group], "soft", 4.0, np.random.default_rng(0))
    assert pair.chosen == group[0]
    assert pair.doubt == pytest.approx(1 - 1 / (1 + math.exp(-(3 - 1) / 4)))
    [extreme] = label_pairs([[answer(0, 1e9), answer(1, -1e9)]], "soft", 1.0, None)
    assert extreme.doubt == 0.0


def test_drawn_labels_have_these_probabilities():
    groups = [[answer(0, 3.0), answer(1, 1.0)]] * 4000
    pairs = label_pairs(groups, "bradley_terry", 4.0, np.random.default_rng(0))
    share = np.mean([pair.chosen.score == 3.0 for pair in pairs])
    assert share == pytest.approx(1 / (1 + math.exp(-0.5)), abs=4 * 0.5 / math.sqrt(4000))
    assert {pair.doubt for pair in pairs} == {0.0}


@pytest.mark.parametrize(
    ("labels", "scores", "drawn", "turned"),
    [
        ("bradley_terry", (2.0, 2.0), 0.49, True),
        ("bradley_terry", (2.0, 2.0), 0.5, False),  # drawn from [0, 1): half of it is below
        ("bradley_terry", (1e9, -1e9), 0.0, False),  # no doubt at all
        ("deterministic", (3.0, 1.0), 0.0, False),
    ],
)
def test_a_label_is_wrong_as_often_as_it_is_doubted(labels, scores, drawn, turned):
    first, second = (answer(token, score) for token, score in enumerate(scores))
    rng = SimpleNamespace(random=lambda: drawn)
    [pair] = label_pairs([[first, second]], "".join(list(labels)), 1.0, rng)
    expected = (second, first) if turned else (first, second)
    assert (pair.chosen, pair.rejected, pair.doubt) == (*expected, 0.0)


def test_identical_answers_and_undecided_ties_are_left_out():
    same, tie = [answer(0, 1.0), answer(0, 1.0)], [answer(0, 1.0), answer(1, 1.0)]
    rng = np.random.default_rng(0)
    assert label_pairs([same, tie], "deterministic", 1.0, rng) == []
    [pair] = label_pairs([same, tie], "soft", 1.0, rng)
    assert pair.doubt == 0.5  # a tie says that both are worth the same


# ------------------------------------------------------------------ learning


@pytest.mark.parametrize("labels", ["soft", "deterministic"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_a_share_of_the_labels_is_wrong_beside_what_is_in_doubt(
    labels, smoothing, tiny_dir, monkeypatch
):
    """Of a pair whose label is doubted by d, s + (1 - 2 s) d say that the other is better."""
    used, pairs, loss, label = [], [], dpo.dpo_loss, dpo.label_pairs

    def recorded(*args, label_smoothing, **kwargs):
        used.extend(label_smoothing.tolist())
        return loss(*args, label_smoothing=label_smoothing, **kwargs)

    monkeypatch.setattr(dpo, "dpo_loss", recorded)
    monkeypatch.setattr(dpo, "label_pairs", lambda *args: pairs.extend(label(*args)) or pairs)
    make(tiny_dir(), labels=labels, label_smoothing=smoothing).learn(48 * 4)
    expected = [smoothing + (1 - 2 * smoothing) * pair.doubt for pair in pairs]
    assert sorted(used) == pytest.approx(sorted(expected))
    assert len({round(share, 6) for share in used}) > (1 if labels == "soft" else 0)


def test_first_step_is_half_beta_times_the_difference_of_gradients(tiny_dir):
    """grad L = -beta / 2 * (grad log pi(chosen) - grad log pi(rejected)) where pi = pi_ref."""
    model = tiny_dir()
    kwargs = {"policy_kwargs": {"model": model} | PLAIN_SGD, "learning_rate": 0.1}
    algorithm = make(
        model, labels="deterministic", beta=0.3, batch_size=10**6, max_grad_norm=1e9, **kwargs
    )
    start = {name: p.detach().clone() for name, p in algorithm.policy.model.named_parameters()}
    seen, fit = [], algorithm.fit
    algorithm.fit = lambda groups: (seen.extend(groups), fit(groups))
    algorithm.learn(48 * 4)
    pairs = label_pairs(seen, "deterministic", 1.0, np.random.default_rng(0))
    assert pairs

    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(model)
    for pair in pairs:
        for answer, sign in ((pair.chosen, 1), (pair.rejected, -1)):
            ids = torch.tensor([[*answer.prompt_ids, *answer.completion_ids]])
            labels = ids.clone()
            labels[:, : len(answer.prompt_ids)] = -100
            log_prob = -plain(ids, labels=labels).loss * len(answer.completion_ids)
            (sign * log_prob / len(pairs)).backward()
    for name, parameter in plain.named_parameters():
        moved = algorithm.policy.model.get_parameter(name).detach() - start[name]
        torch.testing.assert_close(moved, 0.1 * 0.3 / 2 * parameter.grad, atol=1e-5, rtol=1e-4)


def score_of(algorithm):
    task = {
        "tokenizer": algorithm.env.get_attr("tokenizer")[0],
        "prompts": PROMPTS * 20,
        "scorer": count_w20,
        "max_new_tokens": 6,
        "eos_token_id": (),
    }
    return evaluate(algorithm, task).mean_score


@pytest.mark.parametrize(
    ("options", "least"),
    [
        pytest.param({"n_epochs": 8, "beta": 0.5}, 1.2, marks=pytest.mark.rest),
        ({"n_epochs": 8, "beta": 0.5, "labels": "bradley_terry", "label_scale": 0.3}, 1.2),
        pytest.param(
            {"n_epochs": 8, "beta": 0.1, "labels": "deterministic", "loss": "ipo"},
            1.2,
            marks=pytest.mark.rest,
        ),
        ({"online": True}, 4.0),
    ],
    ids=["offline", "drawn", "ipo", "online"],
)
def test_it_learns_the_smallest_task(tiny_dir, options, least):
    env = grouped_env(tiny_dir(), 2, 16, eos_token_id=())
    algorithm = make(tiny_dir(), env, batch_size=96, **options)
    algorithm.learn(6 * 16 * 30)
    assert score_of(algorithm) > least  # 0.34 at the start


def test_offline_everything_is_sampled_from_the_start_and_online_it_is_not(tiny_dir):
    def when_learnt(**options):
        algorithm = make(tiny_dir(), **options)
        steps, fit = [], algorithm.fit
        algorithm.fit = lambda groups: (steps.append(algorithm.num_timesteps), fit(groups))
        algorithm.learn(48 * 4)
        return steps

    assert when_learnt() == [48 * 4]
    assert when_learnt(online=True) == [48, 96, 144, 192]


def test_schedule_runs_over_the_gradient_steps_when_sampling_is_over(tiny_dir):
    algorithm = make(tiny_dir(), learning_rate=lambda left: 1e-3 * left, n_epochs=4)
    rates, step = [], algorithm.policy.optimizer.step
    optimizer = algorithm.policy.optimizer
    optimizer.step = lambda: (rates.append(optimizer.param_groups[0]["lr"]), step())
    algorithm.learn(48 * 4)
    np.testing.assert_allclose(rates, 1e-3 * (1 - np.arange(len(rates)) / len(rates)))
    assert len(rates) > 4


def test_answers_that_are_all_worth_the_same_are_said_to_teach_nothing(tiny_dir):
    env = grouped_env(tiny_dir(), 2, scorer=lambda prompts, completions: [1.0] * len(prompts))
    algorithm = make(tiny_dir(), env, labels="deterministic")
    with pytest.warns(UserWarning, match="DPO has learnt nothing: no pair of answers"):
        algorithm.learn(48 * 4)


def test_what_is_logged(tiny_dir):
    algorithm = make(tiny_dir(), online=True)
    algorithm.learn(48 * 4)
    logged = algorithm.logger.name_to_value
    for name in ("loss", "accuracy", "margin", "chosen_log_prob", "rejected_log_prob", "pairs"):
        assert math.isfinite(logged[f"train/{name}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"labels": "hard"},
            "labels='hard' must be one of 'soft', 'bradley_terry', 'deterministic'",
        ),
        ({"label_scale": 0.0}, "label_scale=0.0"),
        ({"beta": -1.0}, "beta=-1.0"),
        ({"loss": "hinge"}, "loss='hinge'"),
    ],
)
def test_wrong_settings_are_named(tiny_dir, overrides, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_dir(), **overrides)


@pytest.mark.parametrize("group_size", [1, 3])
def test_groups_that_cannot_be_paired_are_named(tiny_dir, group_size):
    env = grouped_env(tiny_dir(), group_size, 2 * group_size)
    with pytest.raises(ValueError, match=f"group_size={group_size}; make it with group_size=2"):
        make(tiny_dir(), env)
