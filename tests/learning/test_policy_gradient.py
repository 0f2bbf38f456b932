from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch

import llm_gym
from llm_gym.learning.losses import exact_kl
from llm_gym.learning.objective import KLPenalty, Objective
from tests.learning.online_worlds import MODEL, make, rollouts, small_env

EOS_IDS = (1, 7, 8)


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def grouped(model, **overrides):
    return small_env(model, eos_token_id=EOS_IDS, group_size=4, **overrides)


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.policy.parameters()])


# ------------------------------------------------------------------ equal to what it generalises


def test_generalised_advantages_and_clipping_are_ppo(model):
    settings = {"n_epochs": 2, "batch_size": 20, "kl_coef": 0.1, "n_steps": 8, "vf_coef": 0.3}
    ppo = make("PPO", model, **settings)
    same = make(
        "PolicyGradient", model, advantage="gae", loss="clipped", normalize_advantage=True,
        **settings,
    )  # fmt: skip
    torch.testing.assert_close(
        weights(rollouts(ppo, 3)), weights(rollouts(same, 3)), rtol=0, atol=1e-6
    )


def test_a2c_is_stable_baselines3s(model):
    stock = stable_baselines3.A2C(
        llm_gym.TransformerActorCriticPolicy, llm_gym.GymVecEnv(small_env(model)), n_steps=5,
        learning_rate=1e-2, gamma=1.0, use_rms_prop=False, max_grad_norm=1.0, seed=0, device="cpu",
        rollout_buffer_class=llm_gym.EpisodeBuffer, policy_kwargs={"model": model},
    )  # fmt: skip
    ours = make("A2C", model, reward_scaling=False, n_steps=5, critic_start=False)
    torch.testing.assert_close(
        weights(rollouts(stock, 3)), weights(rollouts(ours, 3)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    "choices",
    [
        {"advantage": "gae", "critic": "shared"},
        {"advantage": "batch_mean"},
        {"advantage": "rloo", "aggregation": "constant"},
    ],
    ids=lambda choices: choices["advantage"],
)
def test_one_epoch_of_clipping_is_the_plain_policy_gradient(model, choices):
    """PPO(1 epoch, 1 minibatch) = A2C or REINFORCE with the same baseline (arXiv 2205.09123)."""

    def gradient(loss):
        algorithm = make("PolicyGradient", model, grouped(model), loss=loss, **choices)
        rollouts(algorithm)
        return torch.cat(
            [p.grad.flatten() for p in algorithm.policy.parameters() if p.grad is not None]
        )

    torch.testing.assert_close(gradient("clipped"), gradient("policy_gradient"))


@pytest.mark.parametrize(
    ("name", "kl"),
    [("RLOO", {}), ("GRPO", {}), ("DrGRPO", {"kl_in": "loss", "kl_estimator": "exact"})],
)
def test_gradient_equals_one_prefix_at_a_time(model, name, kl):
    """The obvious way: the model reads each prefix anew, each token's loss is written out."""
    algorithm = make(name, model, grouped(model), kl_coef=0.3, max_grad_norm=1e9, **kl)
    with torch.no_grad():
        for parameter in algorithm.policy.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    rollouts(algorithm, 1)
    before = make(name, model, grouped(model), kl_coef=0.3, **kl)
    with torch.no_grad():
        for parameter in before.policy.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    actor, reference = before.policy.model, algorithm.reference.model
    buffer = algorithm.rollout_buffer
    answers = []
    for s in buffer.segments():
        tokens, losses = s.prefix.tolist(), []
        for t in range(s.start, s.stop):
            logits = actor(torch.tensor([tokens])).logits[0, -1]
            with torch.no_grad():
                reference_logits = reference(torch.tensor([tokens])).logits[0, -1]
            action = int(buffer.actions[t, s.env])
            log_prob = logits.log_softmax(-1)[action]
            loss = -float(buffer.advantages[t, s.env]) * log_prob
            if name == "GRPO":
                log_ratio = log_prob - reference_logits.log_softmax(-1)[action]
                loss = loss + 0.3 * ((-log_ratio).exp() - 1 + log_ratio)
            elif kl:
                loss = loss + 0.3 * exact_kl(logits[None], reference_logits[None])[0]
            losses.append(loss)
            tokens.append(action)
        per_answer = torch.stack(losses)
        answers.append(per_answer.mean() if name == "GRPO" else per_answer.sum() / 5)
    torch.stack(answers).mean().backward()
    for weight, expected in zip(
        algorithm.policy.model.parameters(), actor.parameters(), strict=True
    ):
        torch.testing.assert_close(weight.grad, expected.grad, atol=1e-5, rtol=1e-3)


def test_penalty_in_the_reward_reaches_the_score(model):
    """RLOO's scores are r - beta sum(log pi - log pi_ref), checked against the reference itself."""
    algorithm = make("RLOO", model, grouped(model), kl_coef=0.5, learning_rate=3e-2)
    rollouts(algorithm, 3)
    buffer = algorithm.rollout_buffer
    scores = []
    for s in buffer.segments():
        batch = buffer.episode_batch([s])
        places = buffer.places([s])
        log_ratio = buffer.log_probs[places] - algorithm.reference.log_probs(batch).numpy()
        paid = algorithm.env.get_attr("tokenizer")[0].convert_tokens_to_ids("w1")
        scores.append((buffer.actions[places] == paid).sum() - 0.5 * log_ratio.sum())
    scores = np.array(scores).reshape(4, 4)
    result = [buffer.advantages[s.start, s.env] for s in buffer.segments()]
    np.testing.assert_allclose(
        np.reshape(result, (4, 4)), (scores - scores.mean(1, keepdims=True)) * 4 / 3, atol=1e-4
    )


# ------------------------------------------------------------------ critics


def test_critics(model):
    shared, separate, detached = (
        rollouts(make("A2C", model, critic=critic)) for critic in ("shared", "separate", "detached")
    )
    assert shared.policy.critic is None
    assert separate.policy.critic is not None
    assert detached.policy.detach_value
    for algorithm in (shared, separate, detached):
        assert algorithm.policy.value_head.weight.grad.abs().sum() > 0
        assert algorithm.shaping.scale
    assert not make("RLOO", model, grouped(model)).shaping.scale


def test_moving_average_is_corrected_for_its_start(model):
    algorithm = make("REINFORCE", model, advantage="moving_average", baseline_decay=0.5)
    means = []
    for _ in range(3):
        before = algorithm.baseline["mean"]
        buffer = rollouts(algorithm).rollout_buffer
        scores = [buffer.rewards[s.start : s.stop, s.env].sum() for s in buffer.segments()]
        first = [buffer.advantages[s.start, s.env] for s in buffer.segments()]
        np.testing.assert_allclose(first, np.array(scores) - before, atol=1e-5)
        means.append(np.mean(scores))
    expected = np.average(means, weights=[0.25, 0.5, 1.0])
    np.testing.assert_allclose(algorithm.baseline["mean"], expected, atol=1e-5)


def test_minibatches_and_epochs(model):
    algorithm = make("DrGRPO", model, grouped(model), n_epochs=3, batch_size=20)
    rollouts(algorithm, 2)
    assert algorithm._n_updates == 6
    assert algorithm.logger.name_to_value["train/first_ratio_deviation"] < 1e-4
    assert algorithm.logger.name_to_value["train/approx_kl"] > 0


def test_whole_groups_in_every_minibatch(model, monkeypatch):
    algorithm = make("RLOO", model, grouped(model), batch_size=10, keep_groups=True)
    met = []
    own = type(algorithm)._part_of_loss

    def part_of_loss(self, policy, buffer, micro_batch, minibatch):
        met.append(sorted(segment.env for segment in micro_batch))
        return own(self, policy, buffer, micro_batch, minibatch)

    monkeypatch.setattr(type(algorithm), "_part_of_loss", part_of_loss)
    rollouts(algorithm)
    assert len(met) > 1
    groups = [[env // 4 for env in envs] for envs in met]
    assert all(numbers.count(group) == 4 for numbers in groups for group in numbers)
    with pytest.raises(ValueError, match=r"keep_groups=True keeps answers.*group_size=1"):
        make("REINFORCE", model, small_env(model, eos_token_id=EOS_IDS), keep_groups=True)


def test_two_answers_are_a_group_to_keep_together(model):
    make("REINFORCE", model, small_env(model, group_size=2), keep_groups=True)
    with pytest.raises(ValueError, match=r"keep_groups=True keeps answers .* has group_size=1"):
        make("REINFORCE", model, small_env(model), keep_groups=True)


def test_save_and_load(model, tmp_path):
    algorithm = rollouts(make("GRPO", model, grouped(model), kl_coef=0.1))
    algorithm.save(tmp_path / "grpo.zip")
    loaded = llm_gym.GRPO.load(tmp_path / "grpo.zip", env=llm_gym.GymVecEnv(grouped(model)))
    assert torch.equal(weights(algorithm), weights(loaded))
    assert loaded.objective == algorithm.objective
    assert (loaded.objective.advantage, loaded.clip_low, loaded.group_size) == ("grpo", 0.2, 4)
    rollouts(loaded)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"advantage": "ppo"}, "advantage='ppo' must be one of 'gae', 'reinforce'"),
        ({"loss": "hinge"}, "loss='hinge' must be one of"),
        ({"aggregation": "sum"}, "aggregation='sum' must be one of"),
        ({"critic": "big"}, "critic='big' must be one of"),
        ({"kl_in": "both"}, "kl_in='both' must be one of"),
        ({"kl_estimator": "k4"}, "kl_estimator='k4' must be one of"),
        ({"kl_coef": -1.0}, "kl_coef=-1.0 must be"),
        ({"advantage": "gae", "critic": "none"}, "critic='none' but advantage='gae' needs values"),
        ({"critic": "shared"}, "critic='shared' but advantage='rloo' uses no values"),
        ({"kl_estimator": "exact"}, "kl_estimator='exact' with kl_in='reward'"),
        ({"n_epochs": 2}, "n_epochs=2 with loss='policy_gradient'"),
        ({"clip_range": (0.2, 0.3, 0.4)}, "clip_range=.* must be one number"),
        ({"clip_range": 0.0}, "clip_range=0.0 must be"),
        ({"keep_groups": "yes"}, "keep_groups='yes' must be one of True, False"),
        ({"n_steps": 7}, "n_steps=7 must be a multiple of max_new_tokens=5"),
        ({"n_steps": 3}, "n_steps=3 must be a multiple of max_new_tokens=5"),
        ({"policy_kwargs": {"separate_critic": True}}, "separate_critic=True contradicts"),
    ],
)
def test_choices_that_do_not_fit_are_named(model, settings, message):
    with pytest.raises(ValueError, match=message):
        make("PolicyGradient", model, grouped(model), **settings)


def test_choices_may_come_as_objects_and_are_the_same(model):
    flat = make("RLOO", model, grouped(model), kl_coef=0.3, loss="clipped")
    objects = llm_gym.PolicyGradient(
        "TransformerPolicy",
        grouped(model),
        Objective(advantage="rloo", aggregation="constant", loss="clipped"),
        KLPenalty(kl_coef=0.3),
        learning_rate=1e-2,
        seed=0,
        device="cpu",
        policy_kwargs={"model": model},
    )
    assert flat.objective == objects.objective
    assert torch.equal(weights(rollouts(flat)), weights(rollouts(objects)))


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl_coeff": 1.0}, "RLOO has no argument 'kl_coeff'; did you mean 'kl_coef'?"),
        ({"learning_rat": 1.0}, "did you mean 'learning_rate'?"),
        ({"use_sde": True}, "RLOO has no argument 'use_sde'"),
        ({"setting": 1.0}, "RLOO has no argument 'setting'$"),
        ({"selv": 1.0}, "RLOO has no argument 'selv'$"),
        ({"objective": Objective(), "loss": "clipped"}, "loss and objective are both given"),
        ({"penalty": KLPenalty(), "kl_in": "loss"}, "kl_coef, kl_in and penalty are both given"),
    ],
)
def test_a_setting_that_is_unknown_or_given_twice_is_named(model, settings, message):
    with pytest.raises(TypeError, match=re.escape(message).replace(r"\$", "$")):
        make("RLOO", model, grouped(model), **settings)


def test_a_penalty_that_is_none_is_warned_of(model):
    with pytest.warns(UserWarning, match="kl_estimator='k1' with kl_in='loss'"):
        make("RLOO", model, grouped(model), kl_in="loss", kl_estimator="k1")


@pytest.mark.parametrize("name", ["RLOO", "GRPO", "DrGRPO", "DAPO", "ReMax"])
def test_groups_are_asked_for_by_name(model, name):
    with pytest.raises(ValueError, match=rf"{name} \(advantage=.*env has group_size=1"):
        make(name, model)


def test_continuous_actions_and_other_policies_are_refused(model):
    with pytest.raises(ValueError, match=r"REINFORCE chooses tokens.*Discrete action space"):
        make("REINFORCE", model, gym.make("Pendulum-v1"))
    with pytest.raises(ValueError, match="policy=ActorCriticPolicy must be a TopPMaskedPolicy"):
        llm_gym.NLPO(
            stable_baselines3.common.policies.ActorCriticPolicy, small_env(model),
            policy_kwargs={"model": model},
        )  # fmt: skip
    with pytest.raises(ValueError, match="mask_interval=0 must be"):
        make("NLPO", model, mask_interval=0)
    with pytest.raises(ValueError, match=r"mask_top_p=1\.5 must be"):
        make("NLPO", model, mask_top_p=1.5)
