"""Settings at their bounds, empty minibatches, texts that are equal and not one object."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger

import llm_gym
from llm_gym.learning import answer_algorithm, expert_iteration, policy_gradient
from llm_gym.learning.answer_algorithm import _LearnFirst, answer_batch
from llm_gym.learning.expert_iteration import ExpertIteration, best_share
from llm_gym.text.answer import Answer
from tests.learning.online_worlds import MODEL, make, rollouts, small_env
from tests.learning.worlds import grouped_env, settings
from tests.turns.test_learning import turn_env


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


# ------------------------------------------------------------------ lengths and groups


@pytest.mark.parametrize(("given", "right"), [(1, 16), (15, 16), (17, 16), (40, 32)])
def test_the_nearest_right_number_of_answers_is_told(given, right, model):
    with pytest.raises(ValueError, match=f"={given} must be a multiple .*: pass {right}$"):
        make("PPO", model, answers_per_rollout=given)


@pytest.mark.parametrize("longest", [3, 5, 7])
def test_rollouts_are_as_long_as_the_answers_of_the_environment_that_is_set(longest, model):
    """Shorter, as long and longer; what both show is as wide."""
    algorithm = make("PPO", model, small_env(model, max_new_tokens=5, max_prompt_tokens=6))
    algorithm.set_env(small_env(model, max_new_tokens=longest, max_prompt_tokens=11 - longest))
    buffer = algorithm.rollout_buffer
    assert (algorithm.n_steps, buffer.buffer_size, len(buffer.actions)) == (longest,) * 3
    rollouts(algorithm)
    assert len(buffer.segments()) == 16


def test_two_answers_are_a_group_to_keep_together(model):
    make("REINFORCE", model, small_env(model, group_size=2), keep_groups=True)
    with pytest.raises(ValueError, match=r"keep_groups=True keeps answers .* has group_size=1"):
        make("REINFORCE", model, small_env(model), keep_groups=True)


def test_a_critic_that_has_warmed_up_longer_than_asked_is_warm(model):
    algorithm = make("PPO", model, critic_warmup=2)
    warming = []
    for algorithm.critic_warmups in range(5):
        warming.append(algorithm.is_warming_up)
    assert warming == [True, True, False, False, False]


@pytest.mark.parametrize("num_envs", [1, 2])
def test_worlds_that_wait_are_told_so_and_one_alone_never_waits(num_envs, tiny_dir, monkeypatch):
    algorithm = llm_gym.PPO(
        "TransformerPolicy", turn_env(num_envs), kl_coef=0.0, seed=3, device="cpu",
        policy_kwargs={"model": tiny_dir()},
    )  # fmt: skip
    told, call = [], algorithm.env.env_method
    monkeypatch.setattr(
        algorithm.env, "env_method", lambda name, *args: told.append(name) or call(name, *args)
    )
    rollouts(algorithm)
    assert ("wait" in told) == (num_envs > 1)


# ------------------------------------------------------------------ the update


@pytest.mark.parametrize(("norm", "fraction"), [(0.4, 0.0), (0.5, 0.0), (0.6, 1.0)])
def test_a_gradient_as_long_as_may_be_is_not_clipped(norm, fraction, model, monkeypatch):
    monkeypatch.setattr(policy_gradient, "clip_gradients", lambda *_: norm)
    algorithm = rollouts(make("RLOO", model, small_env(model, group_size=4), max_grad_norm=0.5))
    assert algorithm.logger.name_to_value["train/grad_clip_fraction"] == fraction


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_advantages_of_two_tokens_and_more_are_normalised(tokens, model):
    env = small_env(model, num_envs=1, max_new_tokens=tokens, eos_token_id=())
    chosen = {"learning_rate": 0.0, "normalize_advantage": True, "loss": "clipped"}
    algorithm = rollouts(make("REINFORCE", model, env, **chosen))
    buffer = algorithm.rollout_buffer
    buffer.advantages[:, 0] = np.arange(1, tokens + 1)
    _, figures = algorithm._loss(algorithm.policy, buffer, buffer.segments())
    assert figures["policy_loss"] == pytest.approx(-1.0 if tokens == 1 else 0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "setting", "others"),
    [
        ("REINFORCE", {"advantage": "remax"}, {}),
        ("GRPO", {"kl_estimator": "exact"}, {"kl_in": "loss", "kl_coef": 1.0, "n_epochs": 2}),
        ("RLOO", {"aggregation": "token_mean"}, {"policy_kwargs": {"micro_batch_size": 3}}),
        ("RLOO", {"loss": "policy_gradient"}, {"batch_size": 16}),
    ],
)
def test_a_setting_is_what_it_says_wherever_the_text_came_from(name, setting, others, model):
    """Of a file or a command line a text is equal to the one in the code, and another object."""
    [(key, value)] = setting.items()
    weights = []
    for text in (value, "".join(list(value))):
        env = small_env(model, group_size=4, eos_token_id=(1, 7, 8))
        algorithm = rollouts(make(name, model, env, **{key: text}, **others), 2)
        weights.append(torch.cat([p.detach().flatten() for p in algorithm.policy.parameters()]))
    assert torch.equal(*weights)


# ------------------------------------------------------------------ algorithms of whole answers

ANSWERS = [
    Answer(prompt_ids=(4, 5), completion_ids=(6, 7, 1)),
    Answer(prompt_ids=(8,), completion_ids=(9,)),
    Answer(prompt_ids=(3, 3, 3), completion_ids=(4, 1)),
    Answer(prompt_ids=(3,), completion_ids=(2, 2, 2, 1)),
    Answer(prompt_ids=(9, 4), completion_ids=(1,)),
]


@pytest.fixture
def expert(tiny_dir):
    chosen = settings(tiny_dir(), kl_coef=0.1)
    return ExpertIteration("TransformerPolicy", grouped_env(tiny_dir()), **chosen)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5])
def test_answers_are_read_a_few_at_a_time(number, expert, monkeypatch):
    monkeypatch.setattr(answer_algorithm, "_ANSWERS_PER_PASS", 2)
    answers = ANSWERS[:number]
    with torch.no_grad():
        alone = [float(expert.log_probs([answer])[0]) for answer in answers]
    for found in (expert.policy_log_probs(answers), expert.reference_log_probs(answers)):
        assert found.shape == (number,)
        np.testing.assert_allclose(found.numpy(), alone, atol=1e-5)


def test_a_process_without_answers_has_the_figures_of_the_others(expert, monkeypatch):
    """One has learnt from nothing in three minibatches, and another from something in each."""
    losses = iter([3.0, 6.0, 12.0])
    others = SimpleNamespace(
        sums=lambda *values: list(values),
        reduce_gradients=lambda parameters, figures: [next(losses)],
        means=lambda figures, weight: figures | {"share": 0.5},
    )
    monkeypatch.setattr(answer_algorithm, "world", lambda: others)
    expert.set_logger(Logger(None, []))
    nothing = np.zeros(0, dtype=np.int64)
    monkeypatch.setattr(answer_algorithm, "token_batches", lambda *_: [nothing] * 3)
    means = expert.descend([], lambda _: pytest.fail("there is nothing to learn from"))
    assert means == pytest.approx({"loss": 7.0, "share": 0.5})


def test_what_may_be_left_out_is_given_by_name(expert):
    with pytest.raises(TypeError):
        expert.descend([3], lambda _: None, [1.0])
    with pytest.raises(TypeError):
        answer_batch(ANSWERS, "cpu", 32)


@pytest.mark.parametrize("turning", [False, True])
@pytest.mark.parametrize("finished", [[], [ANSWERS]])
def test_what_a_checkpoint_brought_along_is_learnt_from_at_the_turning_point(turning, finished):
    done: list[str] = []
    model: Any = SimpleNamespace(
        answers=SimpleNamespace(finished=finished),
        is_turning_point=lambda: turning,
        dump_logs=lambda: done.append("logs"),
        train=lambda: done.append("train"),
    )
    callback = _LearnFirst()
    callback.model = model
    callback._on_training_start()
    assert done == (["logs", "train"] if turning and finished else [])


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
