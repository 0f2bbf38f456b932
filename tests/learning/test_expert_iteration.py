from __future__ import annotations

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from llm_gym.learning import expert_iteration
from llm_gym.learning.expert_iteration import (
    ExpertIteration,
    SFTOnBest,
    above_threshold,
    best_of_each,
    best_share,
)
from llm_gym.runs.evaluation import evaluate
from llm_gym.text.answer import Answer
from tests.learning.worlds import PROMPTS, count_w20, grouped_env, settings

PLAIN_SGD = {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}}


def make(model, env=None, cls=ExpertIteration, **overrides):
    env = grouped_env(model) if env is None else env
    return cls("TransformerPolicy", env, **settings(model, **overrides))


def note_groups(algorithm):
    """Keeps what the algorithm learns from."""
    seen, fit = [], algorithm.fit

    def noting(groups):
        seen.extend(groups)
        fit(groups)

    algorithm.fit = noting
    return seen


def answers(*scores):
    return [
        Answer(prompt_ids=(0,), completion_ids=(index,), score=score)
        for index, score in enumerate(scores)
    ]


def test_ways_to_choose():
    groups = [answers(1.0, 3.0, 3.0), answers(0.0, -1.0)]
    assert best_of_each(groups) == [groups[0][1], groups[1][0]]
    assert best_share(groups, 0.5) == [groups[0][1], groups[0][2], groups[0][0]]
    assert best_share(groups, 0.01) == [groups[0][1]]
    assert above_threshold(groups, 1.0) == groups[0]
    assert above_threshold(groups, 9.0) == []


@pytest.mark.parametrize("sizes", [(3, 4), (2, 0, 5), (1, 3, 4), (0, 2, 2, 3)])
@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_each_process_keeps_its_own_of_the_best_of_all(sizes, share, monkeypatch):
    scores = np.random.default_rng(0).permutation(sum(sizes)).astype(float)
    ranks = np.repeat(np.arange(len(sizes)), sizes)
    best = set(np.sort(scores)[::-1][: int(np.ceil(share * len(scores)))])
    for rank in range(len(sizes)):
        asked = iter([ranks, scores])  # in this order
        several = SimpleNamespace(rank=rank, union=lambda _, asked=asked: next(asked))
        monkeypatch.setattr(expert_iteration, "world", lambda several=several: several)
        own = [Answer(prompt_ids=(1,), completion_ids=(2,), score=s) for s in scores[ranks == rank]]
        kept = [answer.score for answer in best_share([own], share)]
        assert sorted(kept) == sorted(best & {answer.score for answer in own})


def test_it_is_an_algorithm_of_stable_baselines3(tiny_dir):
    algorithm = make(tiny_dir())
    assert isinstance(algorithm, OnPolicyAlgorithm)
    assert algorithm.n_steps == 6  # max_new_tokens


def test_step_is_the_gradient_of_cross_entropy_on_the_best(tiny_dir):
    """Against transformers' own loss on the best answer of each group, prompts masked out."""
    model = tiny_dir()
    kwargs = {"policy_kwargs": {"model": model} | PLAIN_SGD, "learning_rate": 0.1}
    algorithm = make(model, batch_size=10**6, max_grad_norm=1e9, **kwargs)
    start = {name: p.detach().clone() for name, p in algorithm.policy.model.named_parameters()}
    groups = note_groups(algorithm)
    algorithm.learn(1)
    assert len(groups) >= 2

    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(model)
    total = sum(len(answer.completion_ids) for answer in best_of_each(groups))
    for answer in best_of_each(groups):
        ids = torch.tensor([[*answer.prompt_ids, *answer.completion_ids]])
        labels = ids.clone()
        labels[:, : len(answer.prompt_ids)] = -100
        (plain(ids, labels=labels).loss * len(answer.completion_ids) / total).backward()
    for name, parameter in plain.named_parameters():
        moved = algorithm.policy.model.get_parameter(name).detach() - start[name]
        torch.testing.assert_close(moved, -0.1 * parameter.grad, atol=1e-5, rtol=1e-4)


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
    ("group_size", "choice"),
    [
        pytest.param(4, {}, marks=pytest.mark.rest),
        (1, {"top_share": 0.25}),
        (4, {"kl_coef": 0.05}),
    ],
)
def test_it_learns_the_smallest_task(tiny_dir, group_size, choice):
    env = grouped_env(tiny_dir(), group_size, 16, eos_token_id=())
    algorithm = make(tiny_dir(), env, batch_size=96, **choice)
    algorithm.learn(6 * 16 * 30)
    assert score_of(algorithm) > 4.0  # of at most 6; 0.34 at the start


def test_one_round_gets_no_further_than_the_best_of_its_samples(tiny_dir):
    env = grouped_env(tiny_dir(), 4, 16, eos_token_id=())
    algorithm = make(tiny_dir(), env, cls=SFTOnBest, batch_size=96, n_epochs=8)
    groups = note_groups(algorithm)
    updates, train = [], algorithm.train
    algorithm.train = lambda: (train(), updates.append(algorithm._n_updates))
    algorithm.learn(6 * 16 * 30)
    assert updates == [0] * 29 + [8]  # nothing is learnt before everything is sampled
    assert len(groups) == 30 * 16 / 4
    best = np.mean([answer.score for answer in best_of_each(groups)])
    everything = np.mean([answer.score for group in groups for answer in group])
    assert everything + 0.2 < score_of(algorithm) < best + 0.3


def test_threshold_that_nothing_reaches_changes_nothing(tiny_dir):
    algorithm = make(tiny_dir(), threshold=100.0)
    start = {name: value.clone() for name, value in algorithm.policy.state_dict().items()}
    algorithm.learn(48 * 3)
    assert algorithm.logger.name_to_value["train/kept_answers"] == 0
    assert all(torch.equal(value, start[n]) for n, value in algorithm.policy.state_dict().items())


def test_penalty_is_the_log_ratio_to_the_reference(tiny_dir):
    algorithm = make(tiny_dir(), kl_coef=0.5, reference=tiny_dir(seed=5))
    group = [
        Answer(prompt_ids=(4, 5), completion_ids=completion, score=1.0)
        for completion in ((6, 7), (8,))
    ]
    ours = algorithm.policy_log_probs(group)
    theirs = algorithm.reference_log_probs(group)
    assert float((ours - theirs).abs().min()) > 0.01
    algorithm.set_logger(Logger(None, []))
    [penalised] = algorithm._penalised([group])
    expected = 1.0 - 0.5 * (ours - theirs)
    np.testing.assert_allclose([answer.score for answer in penalised], expected, rtol=1e-5)
    unmoved = make(tiny_dir(), kl_coef=0.5)
    unmoved.set_logger(Logger(None, []))
    [same] = unmoved._penalised([group])
    np.testing.assert_allclose([answer.score for answer in same], [1.0, 1.0], atol=1e-5)


def test_without_a_seed_groups_share_their_prompts_all_the_same(tiny_dir):
    algorithm = make(tiny_dir(), seed=None)
    groups = note_groups(algorithm)
    algorithm.learn(48 * 3)
    algorithm.learn(48 * 3)
    assert len(groups) > 4


def test_save_and_load(tiny_dir, tmp_path):
    algorithm = make(tiny_dir(), kl_coef=0.1).learn(48)
    algorithm.save(tmp_path / "raft.zip")
    loaded = ExpertIteration.load(tmp_path / "raft.zip", env=grouped_env(tiny_dir()))
    pairs = zip(algorithm.policy.parameters(), loaded.policy.parameters(), strict=True)
    assert all(torch.equal(weight, expected) for weight, expected in pairs)
    loaded.learn(48)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"top_share": 0.5, "threshold": 1.0}, "top_share=0.5 and threshold=1.0"),
        ({"top_share": 0.0}, "top_share=0.0"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"kl_coef": -1.0}, "kl_coef=-1.0"),
        ({"n_epochs": 0}, "n_epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_wrong_settings_are_named(tiny_dir, overrides, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_dir(), **overrides)


def test_environments_that_do_not_fit_are_named_before_anything_runs(tiny_dir):
    with pytest.raises(ValueError, match=r"group_size=1; make it with group_size=4, or pass"):
        make(tiny_dir(), grouped_env(tiny_dir(), 1))
    with pytest.raises(ValueError, match="ExpertIteration needs a text environment"):
        make(tiny_dir(), gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match="ExpertIteration needs a text environment"):
        make(tiny_dir(), gym.make("Pendulum-v1"))
    with pytest.raises(ValueError, match="sample_once=False is expert iteration"):
        make(tiny_dir(), cls=SFTOnBest, sample_once=False)


def test_too_few_samples_for_a_single_group_are_said(tiny_dir):
    env = grouped_env(tiny_dir(), 8, eos_token_id=())
    algorithm = make(tiny_dir(), env, cls=SFTOnBest, n_steps=2)
    with pytest.raises(ValueError, match="total_timesteps=16 is too few"):
        algorithm.learn(16)
