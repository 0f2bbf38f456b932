from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.callbacks import BaseCallback

import llm_gym
from llm_gym.language_models import precision
from llm_gym.language_models.precision import SlowPrecisionWarning
from llm_gym.learning.kl import AdaptiveKLController, FixedKLController
from llm_gym.learning.shaping import RunningMoments
from llm_gym.testing.tiny import tiny_tokenizer

EOS_IDS = (1, 4, 5, 6, 7)


def count_w20(prompts, completions, **_):
    return [0.1 + completion.split().count("w20") for completion in completions]


def make_vec(n_envs: int = 4, **kwargs) -> gym.vector.VectorEnv:
    settings = {
        "tokenizer": tiny_tokenizer(),
        "prompts": ["w1", "w5 w6 w7", "w9 w9"],
        "scorer": count_w20,
        "max_new_tokens": 6,
        "eos_token_id": EOS_IDS,
        "autoreset_mode": "SameStep",
    }
    return gym.make_vec("llm_gym/TextGeneration-v0", num_envs=n_envs, **(settings | kwargs))


def make_ppo(tiny_dir, env=None, policy_kwargs=None, **kwargs) -> llm_gym.PPO:
    defaults = {"n_steps": 16, "batch_size": 32, "seed": 3, "learning_rate": 1e-3}
    return llm_gym.PPO(
        "TransformerPolicy",
        make_vec() if env is None else env,
        policy_kwargs={"model": tiny_dir("gpt2")} | (policy_kwargs or {}),
        **(defaults | kwargs),
    )


def rollouts(model: llm_gym.PPO, n: int = 1) -> llm_gym.PPO:
    return model.learn(n * model.n_steps * model.n_envs, reset_num_timesteps=False)


class RawRewards(BaseCallback):
    """Keeps what the environment paid, before anything was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[np.ndarray] = []

    def _on_step(self) -> bool:
        self.rewards.append(np.array(self.locals["rewards"]))
        return True


def test_it_is_sb3s_ppo_with_language_defaults(tiny_dir):
    model = make_ppo(tiny_dir, n_steps=None)
    assert isinstance(model, sb3.PPO)
    assert model.gamma == 1.0
    assert model.gae_lambda == 0.95
    assert model.n_steps == 6  # max_new_tokens: one rollout holds an episode of every row
    assert isinstance(model.rollout_buffer, llm_gym.EpisodeBuffer)


def test_single_environments_and_ids_work_too(tiny_dir):
    env = gym.make(
        "llm_gym/TextGeneration-v0",
        tokenizer=tiny_tokenizer(),
        prompts=["w1"],
        scorer=count_w20,
        max_new_tokens=6,
    )
    model = make_ppo(tiny_dir, env, n_steps=None)
    assert model.n_steps == 6
    rollouts(model)


@pytest.mark.parametrize("recompute", [False, True])
def test_divergence_from_oneself_is_zero(tiny_dir, recompute):
    """KL(pi || pi) = 0 before the first update, at any temperature and truncation."""
    for options in ({}, {"temperature": 0.7}, {"top_p": 0.8}, {"top_k": 4, "temperature": 1.3}):
        model = rollouts(make_ppo(tiny_dir, policy_kwargs=options, recompute_log_probs=recompute))
        assert abs(model.rollout_statistics["kl_per_sequence"]) < 1e-4
        assert model.logger.name_to_value["train/first_ratio_deviation"] < 1e-4


@pytest.mark.parametrize(
    ("kl_estimator", "estimate"),
    [
        ("k1", lambda log_ratio: log_ratio),
        ("k2", lambda log_ratio: log_ratio**2 / 2),
        ("k3", lambda log_ratio: np.exp(-log_ratio) - 1 + log_ratio),
    ],
)
def test_penalty_is_subtracted_per_token_with_the_right_sign(tiny_dir, kl_estimator, estimate):
    """A token more probable than the reference finds it loses reward."""
    model = make_ppo(tiny_dir, kl_coef=0.3, reward_scaling=False)
    model.shaping.penalty = replace(model.shaping.penalty, kl_estimator=kl_estimator)
    with torch.no_grad():
        for parameter in model.policy.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    raw = RawRewards()
    model.learn(64, callback=raw)
    buffer = model.rollout_buffer
    penalty = np.stack(raw.rewards) - buffer.rewards  # (T, N)
    segments, sums = buffer.segments(), []
    for segment in segments:
        reference = model.reference.log_probs(buffer.episode_batch([segment])).numpy()
        places = buffer.places([segment])
        log_ratio = buffer.log_probs[places] - reference
        np.testing.assert_allclose(penalty[places], 0.3 * estimate(log_ratio), atol=1e-5)
        if buffer.complete(segment):
            sums.append(log_ratio.sum())
    assert penalty.max() > 0.01
    np.testing.assert_allclose(
        model.rollout_statistics["kl_per_sequence"], np.mean(sums), atol=1e-4
    )
    figures = model.logger.name_to_value
    assert 0 < figures["train/entropy"] == -figures["train/entropy_loss"]


def test_penalty_holds_the_policy_near_the_reference(tiny_dir):
    """The optimisation test in which a flipped sign would diverge."""

    def final_kl(coef: float) -> float:
        env = make_vec(16, scorer=lambda prompts, completions: [0.0] * len(prompts))
        model = make_ppo(tiny_dir, env, kl_coef=coef, n_steps=12, reward_scaling=False)
        with torch.no_grad():
            for parameter in model.policy.model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
        kls = []
        for _ in range(8):
            rollouts(model)
            kls.append(model.rollout_statistics["kl_k3_per_token"])
        return kls[-1] / kls[0]

    assert final_kl(1.0) < 0.7


def test_reference_is_frozen(tiny_dir):
    model = make_ppo(tiny_dir)
    before = [p.clone() for p in model.reference.model.parameters()]
    rollouts(model, 2)
    assert all(map(torch.equal, before, model.reference.model.parameters()))
    moved = zip(before, model.policy.model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in moved)
    assert not any(p.requires_grad for p in model.reference.model.parameters())


def test_no_penalty_needs_no_reference(tiny_dir):
    assert make_ppo(tiny_dir, kl_coef=0.0).reference is None


def test_reference_by_name(tiny_dir):
    model = rollouts(make_ppo(tiny_dir, reference=tiny_dir("gpt2", seed=5)))
    assert model.rollout_statistics["kl_per_sequence"] > 0.1
    with pytest.raises(ValueError, match=r"reference=.*40 tokens"):
        make_ppo(tiny_dir, reference=tiny_dir("gpt2", vocab_size=40))


def test_adaptive_coefficient_moves_towards_the_target(tiny_dir):
    model = make_ppo(tiny_dir, kl_coef=0.1, kl_target=50.0, kl_horizon=100)
    assert isinstance(model.shaping.controller, AdaptiveKLController)
    rollouts(model, 2)
    assert model.shaping.controller.coef < 0.1  # far below the target: the penalty relents
    assert isinstance(make_ppo(tiny_dir).shaping.controller, FixedKLController)


def test_a_scheduled_penalty_falls_with_what_remains_of_training(tiny_dir):
    model = make_ppo(tiny_dir, kl_coef=lambda remaining: 0.1 + 0.4 * remaining, n_steps=8)
    seen = []

    class Note(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_end(self) -> None:
            seen.append(model.rollout_statistics["kl_coef"])

    model.learn(4 * 8 * model.n_envs, callback=Note())
    # The progress of the update that follows, as for the learning rate.
    np.testing.assert_allclose(seen, [0.4, 0.3, 0.2, 0.1])


def test_a_constant_schedule_is_a_number(tiny_dir):
    constant = {"kl_coef": lambda remaining: 0.3, "ent_coef": lambda remaining: 0.2}
    scheduled = rollouts(make_ppo(tiny_dir, **constant), 2)
    plain = rollouts(make_ppo(tiny_dir, kl_coef=0.3, ent_coef=0.2), 2)
    for ours, theirs in zip(scheduled.policy.parameters(), plain.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("algorithm", [llm_gym.PPO, llm_gym.A2C])
def test_a_scheduled_entropy_bonus_falls_with_what_remains_of_training(tiny_dir, algorithm):
    model = algorithm(
        "TransformerPolicy",
        make_vec(),
        n_steps=8,
        kl_coef=0.0,
        ent_coef=lambda remaining: 0.1 + 0.4 * remaining,
        policy_kwargs={"model": tiny_dir("gpt2")},
    )
    assert model.ent_coef == 0.5
    seen = []

    class Note(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            seen.append(model.ent_coef)

    model.learn(4 * 8 * model.n_envs, callback=Note())
    # Each update has that of what remains after its rollout, as of the learning rate.
    np.testing.assert_allclose([*seen, model.ent_coef], [0.5, 0.4, 0.3, 0.2, 0.1], atol=1e-12)
    assert model.logger.name_to_value["train/ent_coef"] == model.ent_coef


def test_the_bonus_of_a_schedule_is_what_is_learnt_from(tiny_dir):
    """One that ends at 0 but has weighed 10 leaves more entropy than none."""
    none, scheduled = (
        rollouts(make_ppo(tiny_dir, kl_coef=0.0, ent_coef=coef), 3)
        for coef in (0.0, lambda remaining: 10.0 if remaining < 1 else 0.0)
    )
    entropies = [one.logger.name_to_value["train/entropy"] for one in (none, scheduled)]
    assert entropies[0] < entropies[1]
    with pytest.raises(ValueError, match=r"ent_coef\(0\)=-1.0 must be a finite number"):
        make_ppo(tiny_dir, ent_coef=lambda remaining: 2 * remaining - 1)
    dips = make_ppo(tiny_dir, ent_coef=lambda remaining: abs(remaining - 0.5) - 0.25)
    with pytest.raises(ValueError, match=r"ent_coef\(0.5\)=-0.2.* must be a finite number"):
        dips.learn(2 * dips.n_steps * dips.n_envs)


def test_a_schedule_may_begin_without_a_penalty(tiny_dir):
    model = make_ppo(tiny_dir, kl_coef=lambda remaining: 0.3 * (1 - remaining))
    assert model.reference is not None
    with pytest.raises(ValueError, match=r"kl_target=6.0 .* schedule"):
        make_ppo(tiny_dir, kl_coef=lambda remaining: 0.1, kl_target=6.0)


def test_reward_scaling_divides_by_the_returns_deviation(tiny_dir):
    raw, scaled = RawRewards(), RawRewards()
    plain = make_ppo(tiny_dir, reward_scaling=False, kl_coef=0.0, learning_rate=0.0)
    plain.learn(64, callback=raw)
    model = make_ppo(tiny_dir, reward_scaling=True, kl_coef=0.0, learning_rate=0.0)
    model.learn(64, callback=scaled)
    np.testing.assert_array_equal(np.stack(raw.rewards), np.stack(scaled.rewards))
    buffer = plain.rollout_buffer
    returns = [
        buffer.rewards[s.start : s.stop, s.env].sum()
        for s in buffer.segments()
        if buffer.complete(s)
    ]
    np.testing.assert_allclose(
        model.rollout_buffer.rewards * np.std(returns), buffer.rewards, atol=1e-6
    )


def test_running_moments_equal_those_of_everything_seen():
    rng = np.random.default_rng(0)
    moments, everything = RunningMoments(), []
    assert moments.std == 1.0
    for n in (1, 5, 17):
        values = rng.normal(3, 2, size=n)
        everything.extend(values)
        moments.update(values)
        np.testing.assert_allclose(moments.mean, np.mean(everything))
        np.testing.assert_allclose(moments.var, np.var(everything))


def test_mixed_precision_starts_at_ratio_one(tiny_dir):
    model = rollouts(make_ppo(tiny_dir, policy_kwargs={"mixed_precision": "bf16"}))
    assert model.shaping.recompute_log_probs
    assert model.logger.name_to_value["train/first_ratio_deviation"] < 1e-2
    assert abs(model.rollout_statistics["kl_per_sequence"]) < 1e-2


@pytest.mark.parametrize(("speed", "settled"), [(0.1, "no"), (1.1, "no"), (1.3, "bf16")])
def test_auto_takes_bfloat16_where_it_is_faster(speed, settled, tiny_dir, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_speed", lambda width, device: speed)
    model = make_ppo(tiny_dir, policy_kwargs={"mixed_precision": "auto"})
    assert model.policy.mixed_precision == settled
    assert model.shaping.recompute_log_probs == (settled == "bf16")


@pytest.mark.parametrize("speed", [0.07, 1.05])
def test_bfloat16_that_is_slower_is_used_and_warned_of(speed, tiny_dir, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_speed", lambda width, device: speed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = make_ppo(tiny_dir, policy_kwargs={"mixed_precision": "bf16"})
        assert model.policy.mixed_precision == "bf16"
    said = [str(each.message) for each in caught if each.category is SlowPrecisionWarning]
    assert len(said) == (speed < 1)
    assert all("has 0.07 times the speed of float32 on cpu" in each for each in said)


def test_the_speed_of_bfloat16_is_measured(monkeypatch):
    noise = itertools.cycle([0.0, 0.0, 5.0])  # of other programs; the quickest is free of it
    seconds = {True: 3.0, False: 1.0}
    monkeypatch.setattr(precision, "_timed", lambda *given: seconds[given[-1]] + next(noise))
    precision.bfloat16_speed.cache_clear()
    assert precision.bfloat16_speed(8, torch.device("cpu")) == pytest.approx(1 / 3)
    monkeypatch.undo()
    precision.bfloat16_speed.cache_clear()
    assert precision.bfloat16_speed(8, torch.device("cpu")) > 0


def test_a_gradient_as_long_as_it_may_be_is_not_counted_as_clipped(tiny_dir, monkeypatch):
    model = make_ppo(tiny_dir, kl_coef=0.0, max_grad_norm=0.5, n_epochs=1)
    norms = itertools.cycle([0.5, 0.75])
    monkeypatch.setattr("llm_gym.learning.ppo.clip_gradients", lambda *_: next(norms))
    rollouts(model)
    assert model.logger.name_to_value["train/grad_clip_fraction"] == 0.5
    assert model.logger.name_to_value["train/grad_norm"] == 0.625


def test_same_seed_same_run(tiny_dir):
    def weights(seed):
        model = make_ppo(tiny_dir, seed=seed)
        rollouts(model, 2)
        return torch.cat([p.detach().flatten() for p in model.policy.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_it_learns_the_smallest_task(tiny_dir):
    """One token pays: its share rises from 1 in 32 to most of the text, in seconds."""
    env = make_vec(16, eos_token_id=())
    model = make_ppo(tiny_dir, env, n_steps=6, batch_size=48, learning_rate=3e-3, kl_coef=0.0)
    model.learn(6 * 16 * 30)
    final = np.mean([episode["r"] for episode in list(model.ep_info_buffer)[-32:]])
    assert final > 3.0  # of at most 6.1; 0.3 is chance


def test_save_and_load(tiny_dir, tmp_path):
    model = rollouts(make_ppo(tiny_dir))
    model.save(tmp_path / "ppo.zip")
    loaded = llm_gym.PPO.load(tmp_path / "ppo.zip", env=llm_gym.GymVecEnv(make_vec()))
    for weight, expected in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert torch.equal(weight, expected)
    assert loaded.shaping.controller.coef == model.shaping.controller.coef
    start, again = model.reference.model.parameters(), loaded.reference.model.parameters()
    assert all(map(torch.equal, start, again))  # the reference is the start, not the end
    rollouts(loaded)


def test_wrong_companions_are_refused(tiny_dir):
    from stable_baselines3.common.buffers import DictRolloutBuffer

    with pytest.raises(ValueError, match="rollout_buffer_class=DictRolloutBuffer"):
        make_ppo(tiny_dir, rollout_buffer_class=DictRolloutBuffer)
    with pytest.raises(ValueError, match="kl_coef"):
        make_ppo(tiny_dir, kl_coef=-0.1)
    with pytest.raises(ValueError, match="n_steps"):
        llm_gym.PPO("TransformerPolicy", gym.make("CartPole-v1"))
