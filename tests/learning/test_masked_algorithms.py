"""NLPO's mask policy, and sb3-contrib's MaskablePPO and TRPO as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3.common.utils import obs_as_tensor

import llm_gym
from llm_gym.learning.buffer import MaskableEpisodeBuffer
from llm_gym.policy import MaskableTransformerPolicy, TwiceDifferentiablePolicy
from llm_gym.policy.sampling import truncated_support, unpack_support
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

sb3_contrib = pytest.importorskip("sb3_contrib")
FORBIDDEN = [5, 6, 7]
# Adam divides by the gradient's size, and so would show what is rounding as what is learnt.
SGD = {"optimizer_class": torch.optim.SGD}


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def contrib(name, model, policy, env=None, **overrides):
    kwargs = {
        "n_steps": 5, "batch_size": 40, "learning_rate": 1e-2, "gamma": 1.0, "seed": 0,
        "device": "cpu", "policy_kwargs": {"model": model}, "rollout_buffer_class": None,
    }  # fmt: skip
    env = llm_gym.GymVecEnv(small_env(model) if env is None else env)
    return getattr(sb3_contrib, name)(policy, env, **(kwargs | overrides))


def last_mean(algorithm) -> float:
    return float(np.mean([e["r"] for e in list(algorithm.ep_info_buffer)[-24:]]))


# ------------------------------------------------------------------ NLPO


def test_nlpo_chooses_from_the_nucleus_of_the_earlier_policy(model):
    """The stored tokens to choose from are those of a plain top-p of the mask policy's logits."""
    algorithm = rollouts(make("NLPO", model, mask_top_p=0.6, mask_interval=100), 3)
    policy, buffer = algorithm.policy, algorithm.rollout_buffer
    moved = zip(policy.model.parameters(), policy.mask_model.parameters(), strict=True)
    assert not all(torch.equal(before, after) for before, after in moved)
    for segment in buffer.segments():
        batch = buffer.episode_batch([segment])
        with torch.no_grad():
            logits = policy.mask_model(batch.context).logits[0, batch.action_slots - 1]
        result = unpack_support(batch.support, 12)
        assert torch.equal(result, truncated_support(logits, 0, 0.6))
        assert result[torch.arange(len(result)), batch.actions].all()


def test_nlpo_refreshes_its_mask_when_it_is_due(model):
    algorithm = make("NLPO", model, mask_interval=3, n_epochs=2, batch_size=40)

    def same():
        pairs = zip(
            algorithm.policy.model.parameters(), algorithm.policy.mask_model.parameters(),
            strict=True,
        )  # fmt: skip
        return all(torch.equal(weight, expected) for weight, expected in pairs)

    assert same()
    result = [same() for _ in range(6) if rollouts(algorithm)]
    assert result == [False, False, True] * 2
    trained = {id(p) for group in algorithm.policy.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in algorithm.policy.mask_model.parameters()}


def test_nlpo_refreshes_its_mask_though_an_epoch_was_interrupted(model, monkeypatch):
    algorithm = make("NLPO", model, mask_interval=1, n_epochs=2, batch_size=40)
    algorithm._n_updates = 1
    refreshed = []
    monkeypatch.setattr(algorithm.policy, "refresh_mask", lambda: refreshed.append(1))
    rollouts(algorithm, 2)
    assert len(refreshed) == 2


def test_nlpo_starts_at_ratio_one_and_without_divergence(model):
    algorithm = rollouts(make("NLPO", model, kl_coef=0.1))
    assert algorithm.logger.name_to_value["train/first_ratio_deviation"] < 1e-4
    assert abs(algorithm.rollout_statistics["kl_per_sequence"]) < 1e-4


def test_a_mask_of_everything_is_no_mask(model):
    masked = rollouts(make("NLPO", model, mask_top_p=1.0), 2)
    plain = rollouts(make("PolicyGradient", model, n_epochs=4, batch_size=512, **masked.choices), 2)
    for weight, expected in zip(
        masked.policy.model.parameters(), plain.policy.model.parameters(), strict=True
    ):
        torch.testing.assert_close(weight, expected)


# ------------------------------------------------------------------ MaskablePPO


def test_maskable_ppo_never_writes_what_is_forbidden_and_learns(model):
    env = small_env(model, forbidden_token_ids=FORBIDDEN, eos_token_id=())
    algorithm = contrib(
        "MaskablePPO", model, MaskableTransformerPolicy, env, n_epochs=2,
        rollout_buffer_class=MaskableEpisodeBuffer,
    )  # fmt: skip
    for _ in range(24):
        rollouts(algorithm)  # the environment raises if a forbidden token is chosen
        assert not np.isin(algorithm.rollout_buffer.actions, FORBIDDEN).any()
    assert last_mean(algorithm) > 3.5


def test_maskable_episodes_equal_sb3_contribs_own_buffer(model):
    """One pass an episode, against sb3-contrib's buffer with a prefix and a mask a transition."""

    def trained(buffer_class):
        env = small_env(model, forbidden_token_ids=FORBIDDEN)
        algorithm = contrib(
            "MaskablePPO", model, MaskableTransformerPolicy, env, n_epochs=1, batch_size=80,
            rollout_buffer_class=buffer_class, policy_kwargs={"model": model, **SGD},
        )  # fmt: skip
        return rollouts(algorithm, 2).policy

    ours, theirs = trained(MaskableEpisodeBuffer), trained(None)
    for weight, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, atol=1e-5, rtol=1e-4)


def test_masks_and_top_k_work_together(model):
    env = llm_gym.GymVecEnv(small_env(model, forbidden_token_ids=FORBIDDEN))
    algorithm = contrib(
        "MaskablePPO", model, MaskableTransformerPolicy, env.env,
        policy_kwargs={"model": model, "top_k": 2},
    )  # fmt: skip
    obs, masks = env.reset(), np.stack(env.env_method("action_masks"))
    assert not masks[:, FORBIDDEN].any()
    distribution = algorithm.policy.get_distribution(obs_as_tensor(obs, "cpu"), action_masks=masks)
    probs = distribution.distribution.probs
    assert ((probs > 0).sum(-1) == 2).all()
    assert (probs[:, FORBIDDEN] == 0).all()
    for _ in range(5):
        actions, _ = algorithm.predict(obs, action_masks=masks)
        assert not np.isin(actions, FORBIDDEN).any()


# ------------------------------------------------------------------ TRPO


def test_trpo_learns_and_keeps_its_trust_region(model):
    algorithm = contrib(
        "TRPO", model, TwiceDifferentiablePolicy, small_env(model, eos_token_id=()),
        rollout_buffer_class=llm_gym.EpisodeBuffer, batch_size=80, cg_max_steps=3,
        n_critic_updates=1, target_kl=0.3,
    )  # fmt: skip
    for _ in range(12):
        rollouts(algorithm)
        assert algorithm.logger.name_to_value["train/kl_divergence_loss"] <= 0.3
    assert last_mean(algorithm) > 2.5


def test_trpo_on_episodes_equals_trpo_on_transitions(model):
    def trained(buffer_class):
        algorithm = contrib(
            "TRPO", model, TwiceDifferentiablePolicy, rollout_buffer_class=buffer_class,
            batch_size=80, cg_max_steps=2, n_critic_updates=1, cg_damping=1.0,
        )  # fmt: skip
        return rollouts(algorithm).policy

    ours, theirs = trained(llm_gym.EpisodeBuffer), trained(None)
    for weight, expected in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, atol=1e-4, rtol=1e-3)


def test_plain_attention_is_the_same_policy(model):
    plain = contrib("TRPO", model, TwiceDifferentiablePolicy).policy
    fused = contrib("TRPO", model, llm_gym.TransformerActorCriticPolicy).policy
    obs = obs_as_tensor(llm_gym.GymVecEnv(small_env(model)).reset(), "cpu")
    with torch.no_grad():
        logits, expected = (p.get_distribution(obs).distribution.logits for p in (plain, fused))
    torch.testing.assert_close(logits, expected)
