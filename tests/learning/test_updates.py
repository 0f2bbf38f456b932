"""What every update does beside its loss: clips, counts, follows schedules, weighs its terms."""

from __future__ import annotations

import json
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

import llm_gym
from llm_gym.learning import losses, policy_gradient, presets
from llm_gym.learning.objective import KLPenalty
from llm_gym.policy.sampling import log_prob_and_entropy
from tests.learning.online_worlds import MODEL, make, rollouts, small_env
from tests.products import sampled

EOS_IDS = (1, 7, 8)
OF_ROLLOUTS = ("REINFORCE", "RLOO", "GRPO", "DrGRPO", "ReinforcePlusPlus", "ReMax", "A2C", "NLPO")
OF_ANSWERS = ("ExpertIteration", "DPO")
SGD = {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}}
every_algorithm = pytest.mark.parametrize(
    "name", sampled([*OF_ROLLOUTS, *OF_ANSWERS], "A2C", "RLOO", "GRPO", "NLPO", *OF_ANSWERS)
)


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


def learner(name, model, **overrides):
    """Any algorithm on answers of one to five tokens, four to a prompt."""
    env = small_env(model, eos_token_id=EOS_IDS, group_size=4)
    kwargs = {"learning_rate": 1e-2, "seed": 0, "device": "cpu"}
    kwargs |= {"online": True} if name == "DPO" else {"kl_coef": 0.0}
    kwargs |= {"policy_kwargs": {"model": model, **SGD}, **overrides}
    return getattr(llm_gym, name)("TransformerPolicy", env, **kwargs)


def norm_of_gradients(algorithm) -> float:
    grads = [p.grad.norm() for p in algorithm.policy.parameters() if p.grad is not None]
    return float(torch.stack(grads).norm())


@every_algorithm
def test_gradients_are_clipped(name, model):
    free = rollouts(learner(name, model, max_grad_norm=1e9, learning_rate=0.0))
    assert norm_of_gradients(free) > 1e-3
    limit = norm_of_gradients(free) / 10
    clipped = rollouts(learner(name, model, max_grad_norm=limit, learning_rate=0.0))
    assert norm_of_gradients(clipped) == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize(("norm", "fraction"), [(0.4, 0.0), (0.5, 0.0), (0.6, 1.0)])
def test_a_gradient_as_long_as_may_be_is_not_clipped(norm, fraction, model, monkeypatch):
    monkeypatch.setattr(policy_gradient, "clip_gradients", lambda *_: norm)
    algorithm = rollouts(make("RLOO", model, small_env(model, group_size=4), max_grad_norm=0.5))
    assert algorithm.logger.name_to_value["train/grad_clip_fraction"] == fraction


@every_algorithm
def test_a_step_is_that_of_its_own_minibatch(name, model):
    """Weights move by the step size times the last gradient, of plain descent without clipping."""
    algorithm = learner(name, model, max_grad_norm=1e9, learning_rate=0.0)
    rollouts(algorithm)
    steps = []

    def note(optimizer, *_):
        grads = [p.grad for p in algorithm.policy.parameters() if p.grad is not None]
        steps.append(torch.cat([grad.flatten().clone() for grad in grads]))

    algorithm.policy.optimizer.register_step_post_hook(note)
    epochs = 1 if algorithm.n_epochs == 1 and name in ("REINFORCE", "RLOO", "ReMax", "A2C") else 2
    algorithm.n_epochs, algorithm.batch_size = epochs, 10**6
    rollouts(algorithm)
    # Nothing moves, so the second pass has the gradient of the first, not the sum of both.
    assert len(steps) == epochs
    torch.testing.assert_close(steps[-1], steps[0], rtol=1e-3, atol=1e-6)
    assert steps[0].norm() > 1e-4


@every_algorithm
def test_the_learning_rate_follows_its_schedule_to_its_end_and_no_further(name, model):
    """The last rollout goes beyond the total: a rate below 0 would climb what is descended."""
    rates, asked = [], []

    class Note(BaseCallback):
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            rates.append(self.model.policy.optimizer.param_groups[0]["lr"])

    def falling(remaining: float) -> float:
        asked.append(remaining)
        return 0.01 * remaining

    algorithm = learner(name, model, learning_rate=falling)
    asked.clear()
    algorithm.learn(250, callback=Note())
    assert algorithm.num_timesteps >= 250
    assert min(asked) == 0.0
    assert algorithm.policy.optimizer.param_groups[0]["lr"] == 0.0
    assert len(rates) >= 3
    assert all(later < earlier for earlier, later in pairwise(rates[1:]))


@pytest.mark.parametrize("name", ["PPO", "GRPO"])
def test_schedules_of_an_update_are_asked_the_same_also_where_training_goes_on(name, model):
    rates, coefficients = [], []

    def rate(remaining: float) -> float:
        rates.append(remaining)
        return 0.01

    def coefficient(remaining: float) -> float:
        coefficients.append(remaining)
        return 0.1

    algorithm = learner(name, model, learning_rate=rate, kl_coef=coefficient)
    for _ in range(2):
        rates.clear()
        coefficients.clear()
        algorithm.learn(100, reset_num_timesteps=False)
        assert set(rates) == set(coefficients)
        assert 0 < max(rates) < 1


@pytest.mark.parametrize("name", ["GRPO", "NLPO", "ExpertIteration", "DPO"])
def test_updates_are_counted_by_pass(name, model):
    """As Stable-Baselines3 counts them, whatever the number of minibatches."""
    algorithm = learner(name, model, n_epochs=3, batch_size=10)
    rollouts(algorithm)
    assert algorithm._n_updates == 3


def test_the_first_ratio_is_that_of_the_first_minibatch(model):
    algorithm = learner("GRPO", model, n_epochs=4, batch_size=10, learning_rate=0.5)
    rollouts(algorithm)
    figures = algorithm.logger.name_to_value
    assert figures["train/first_ratio_deviation"] < 1e-4
    assert figures["train/approx_kl"] > 1e-4


# ------------------------------------------------------------------ terms


def moved(algorithm, scale=0.2):
    """The same algorithm with a policy that has left the one that sampled, and its reference."""
    noise = torch.manual_seed(0)
    with torch.no_grad():
        for parameter in algorithm.policy.model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=noise))
    return algorithm


def loss_of_all(algorithm):
    buffer = algorithm.rollout_buffer
    segments = buffer.segments()
    loss, figures = algorithm._loss(algorithm.policy, buffer, segments)
    return loss.detach(), figures, buffer.episode_batch(segments), buffer.places(segments)


@pytest.mark.parametrize("name", ["A2C", "NLPO"])
def test_the_value_loss_is_the_mean_square_to_the_returns(name, model):
    algorithm = learner(name, model, learning_rate=0.0)
    # A critic that says nothing has advantages that are returns.
    torch.nn.init.constant_(algorithm.policy.value_head.bias, 0.3)
    rollouts(algorithm)
    torch.nn.init.constant_(algorithm.policy.value_head.bias, 0.05)
    algorithm.vf_coef = 0.0
    without, figures, batch, places = loss_of_all(algorithm)
    algorithm.vf_coef = 0.7
    values = algorithm.policy.values_and_logits(batch)[0].detach().flatten().numpy()
    expected = np.mean((algorithm.rollout_buffer.returns[places] - values) ** 2)
    assert figures["value_loss"] == pytest.approx(expected, rel=1e-4)
    assert float(loss_of_all(algorithm)[0] - without) == pytest.approx(0.7 * expected, rel=1e-3)


@pytest.mark.parametrize("aggregation", losses.AGGREGATIONS)
@pytest.mark.parametrize("estimator", ["k2", "k3", "exact"])
def test_divergence_in_the_loss_is_weighed_as_the_rest_and_of_the_policy(
    model, aggregation, estimator
):
    """Of the policy from its reference, not the other way round."""
    settings = {"kl_in": "loss", "kl_coef": 0.4, "kl_estimator": estimator}
    algorithm = moved(
        rollouts(learner("RLOO", model, aggregation=aggregation, learning_rate=0.0, **settings))
    )
    _, figures, batch, _ = loss_of_all(algorithm)
    logits = algorithm.policy.values_and_logits(batch)[1].detach()
    reference = algorithm.reference.logits(batch)
    if estimator == "exact":
        per_token = torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=logits),
            torch.distributions.Categorical(logits=reference),
        )
    else:
        log_ratio = log_prob_and_entropy(logits, batch.actions)[0]
        log_ratio = log_ratio - log_prob_and_entropy(reference, batch.actions)[0]
        k3 = (-log_ratio).exp() - 1 + log_ratio
        per_token = log_ratio**2 / 2 if estimator == "k2" else k3
    per_answer = per_token.split(batch.action_rows.bincount().tolist())
    expected = {
        "token_mean": per_token.mean(),
        "sequence_mean": torch.stack([tokens.mean() for tokens in per_answer]).mean(),
        "constant": torch.stack([tokens.sum() / 5 for tokens in per_answer]).mean(),
    }[aggregation]
    assert figures["kl_loss"] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("whitened", [False, True])
def test_advantages_are_whitened_if_asked_for(model, whitened):
    """With the deviation that Stable-Baselines3 divides by."""
    algorithm = rollouts(
        learner("REINFORCE", model, normalize_advantage=whitened, learning_rate=0.0)
    )
    algorithm.objective.__dict__["aggregation"] = "token_mean"
    loss, _, batch, places = loss_of_all(algorithm)
    advantages = algorithm.rollout_buffer.advantages[places].astype(np.float64)
    if whitened:
        advantages = (advantages - advantages.mean()) / advantages.std(ddof=1)
    logits = algorithm.policy.values_and_logits(batch)[1].detach()
    log_prob = log_prob_and_entropy(logits, batch.actions)[0].double().numpy()
    assert float(loss) == pytest.approx(-(advantages * log_prob).mean(), rel=1e-4)


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_advantages_of_two_tokens_and_more_are_normalised(tokens, model):
    env = small_env(model, num_envs=1, max_new_tokens=tokens, eos_token_id=())
    chosen = {"learning_rate": 0.0, "normalize_advantage": True, "loss": "clipped"}
    algorithm = rollouts(make("REINFORCE", model, env, **chosen))
    buffer = algorithm.rollout_buffer
    buffer.advantages[:, 0] = np.arange(1, tokens + 1)
    _, figures = algorithm._loss(algorithm.policy, buffer, buffer.segments())
    assert figures["policy_loss"] == pytest.approx(-1.0 if tokens == 1 else 0.0, abs=1e-6)


@pytest.mark.parametrize("ratio", ["token", "answer"])
def test_a_clip_has_two_sides_of_its_own(model, ratio):
    """Ratios far above and below one, by hand; old probabilities are those of sampling."""
    settings = {"loss": "clipped", "ratio": ratio, "clip_range": (0.1, 0.5)}
    algorithm = moved(
        rollouts(learner("RLOO", model, aggregation_constant=1.0, learning_rate=0.0, **settings)),
        0.05,
    )
    loss, figures, batch, places = loss_of_all(algorithm)
    logits = algorithm.policy.values_and_logits(batch)[1].detach()
    new = log_prob_and_entropy(logits, batch.actions)[0].numpy()
    log_ratio = new - algorithm.rollout_buffer.log_probs[places]
    advantages = algorithm.rollout_buffer.advantages[places]
    lengths = batch.action_rows.bincount().numpy()
    starts = np.cumsum(lengths) - lengths
    if ratio == "answer":
        log_ratio, advantages = np.add.reduceat(log_ratio, starts), advantages[starts]
    rho = np.exp(log_ratio)
    assert (rho > 1.1).any()
    assert (rho < 0.9).any()
    expected = -np.minimum(rho * advantages, rho.clip(0.9, 1.5) * advantages).sum() / len(lengths)
    assert float(loss) == pytest.approx(expected, rel=1e-3, abs=1e-5)
    beyond = (rho < 0.9) | (rho > 1.5)
    assert figures["clip_fraction"] == pytest.approx(beyond.mean(), abs=1e-6)
    assert figures["ratio_deviation"] == pytest.approx(np.abs(rho - 1).max(), rel=1e-3)


@pytest.mark.parametrize("constant", [None, 2.0])
def test_the_constant_is_the_longest_answer_or_what_was_said(model, constant):
    algorithm = rollouts(learner("RLOO", model, aggregation_constant=constant, learning_rate=0.0))
    loss, _, batch, places = loss_of_all(algorithm)
    logits = algorithm.policy.values_and_logits(batch)[1].detach()
    log_prob = log_prob_and_entropy(logits, batch.actions)[0].numpy()
    total = -(algorithm.rollout_buffer.advantages[places] * log_prob).sum()
    expected = total / (int(batch.action_rows.max()) + 1) / (constant or 5.0)
    assert float(loss) == pytest.approx(expected, rel=1e-4, abs=1e-6)


# ------------------------------------------------------------------ names


CHOICES = {
    "REINFORCE": {"advantage": "batch_mean", "aggregation": "constant"},
    "A2C": {"advantage": "gae", "gae_lambda": 1.0, "critic": "shared"},
    "ReinforcePlusPlus": {"advantage": "reinforce_plus_plus", "loss": "clipped"},
    "ReMax": {"advantage": "remax", "aggregation": "constant"},
    "RLOO": {"advantage": "rloo", "aggregation": "constant"},
    "GRPO": {"advantage": "grpo", "loss": "clipped", "aggregation": "sequence_mean"},
    "DrGRPO": {"advantage": "dr_grpo", "loss": "clipped", "aggregation": "constant"},
    "DAPO": {"advantage": "grpo", "loss": "clipped", "clip_range": (0.2, 0.28)},
    "NLPO": {"advantage": "gae", "loss": "clipped", "normalize_advantage": True},
}
PENALTIES = {"GRPO": ("loss", "k3"), "others": ("reward", "k1")}


@pytest.mark.parametrize("name", CHOICES)
def test_a_name_is_what_its_paper_says(name, model):
    """Whatever is not said here is the default: token ratios, means over tokens, no whitening."""
    env = small_env(model, eos_token_id=EOS_IDS, group_size=4)
    algorithm = getattr(presets, name)(
        "TransformerPolicy", env, policy_kwargs={"model": model}, device="cpu"
    )
    plain = {
        "loss": "policy_gradient", "ratio": "token", "clip_range": 0.2, "gae_lambda": 0.95,
        "aggregation": "token_mean", "aggregation_constant": None, "normalize_advantage": False,
        "critic": "shared" if name in ("A2C", "NLPO") else "none",
    }  # fmt: skip
    for setting, value in (plain | CHOICES[name]).items():
        assert getattr(algorithm.objective, setting) == value, setting
    penalty = algorithm.shaping.penalty
    assert (penalty.kl_in, penalty.kl_estimator) == PENALTIES.get(name, PENALTIES["others"])
    assert (algorithm.reference is None) == (penalty.kl_coef == 0) == (name == "DAPO")
    # A reward at the end is due to the first word as well.
    assert algorithm.gamma == 1.0
    assert algorithm.shaping.scale == (name in ("A2C", "NLPO"))


@pytest.mark.parametrize(("place", "estimator"), [("reward", "k1"), ("loss", "k2")])
def test_by_default_the_penalty_has_the_gradient_of_the_divergence(place, estimator):
    """k3 in the loss has the other divergence's, k1 in the loss none."""
    assert KLPenalty(kl_in=place).kl_estimator == estimator


def test_groups_without_a_difference_teach_nothing_but_the_penalty(model):
    """Advantages of zero are numbers, and what leaving the reference costs is learnt still."""

    def all_alike(prompts, completions, **_):
        return [3.0] * len(prompts)

    env = small_env(model, eos_token_id=EOS_IDS, group_size=4, scorer=all_alike)
    settings = {"policy_kwargs": {"model": model, **SGD}, "seed": 0, "device": "cpu"}
    algorithm = llm_gym.GRPO(
        "TransformerPolicy",
        env,
        kl_coef=0.5,
        learning_rate=0.0,
        normalize_advantage=True,
        **settings,
    )
    moved(algorithm)
    rollouts(algorithm)
    buffer = algorithm.rollout_buffer
    assert (buffer.advantages[buffer.places(buffer.segments())] == 0).all()
    assert norm_of_gradients(algorithm) > 1e-3
    algorithm.reference, kept = None, algorithm.reference
    loss = algorithm._loss(algorithm.policy, buffer, buffer.segments())[0]
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    algorithm.reference = kept


@pytest.mark.parametrize("name", ["PPO", "RLOO", "DPO"])
def test_a_saved_algorithm_names_its_model_and_holds_it_once(name, model, tmp_path):
    """No model in the settings, and no reference: that is made anew from the name."""
    settings = {} if name == "DPO" else {"kl_coef": 0.3}
    algorithm = rollouts(learner(name, model, **settings))
    assert algorithm.reference is not None
    algorithm.save(tmp_path / "saved.zip")
    with zipfile.ZipFile(tmp_path / "saved.zip") as saved:
        data = json.loads(saved.read("data"))
        assert "reference" not in data
        assert len(saved.read("data")) < 200_000
        tensors = [info.file_size for info in saved.infolist() if info.filename == "policy.pth"]
    size = sum(p.numel() * p.element_size() for p in algorithm.policy.parameters())
    assert sum(tensors) < 2 * size + 50_000
    assert f"{model}" in str(data["policy_kwargs"])


@pytest.mark.parametrize("name", ["PPO", "RLOO"])
def test_divergences_per_token_are_of_sampled_tokens_alone(name, model):
    """The plain one and Schulman's k3, which is never negative; rows that wait are in neither."""
    algorithm = moved(learner(name, model, kl_coef=0.3, learning_rate=0.0))
    buffer = rollouts(algorithm).rollout_buffer
    places = buffer.places(buffer.segments())
    assert len(places[0]) < buffer.pos * buffer.n_envs
    log_ratio = (buffer.log_probs - algorithm.shaping.reference_log_probs)[places]
    figures = algorithm.rollout_statistics
    k3 = np.exp(-log_ratio) - 1 + log_ratio
    assert figures["kl_per_token"] == pytest.approx(log_ratio.mean(), rel=1e-4)
    assert figures["kl_k3_per_token"] == pytest.approx(k3.mean(), rel=1e-4)
    assert figures["kl_coef"] == 0.3
    idle = 1 - len(places[0]) / (buffer.pos * buffer.n_envs)
    assert figures["idle_fraction"] == pytest.approx(idle)


def test_means_of_an_update_are_over_items_however_they_were_batched(model):
    """Minibatches have about equally many tokens, so those of short items have more of them."""
    algorithm = rollouts(learner("DPO", model, batch_size=10, n_epochs=2))
    values = np.arange(1.0, 12.0)
    weight = next(algorithm.policy.parameters())
    sizes = set()

    def loss_of(members):
        sizes.add(len(members))
        return 0.0 * weight.sum() + float(values[members].mean()), {"x": values[members].mean()}

    means = algorithm.descend([9, *[1] * 10], loss_of)
    assert len(sizes) > 1
    assert means["x"] == pytest.approx(values.mean())
    assert means["loss"] == pytest.approx(values.mean())


def test_a_rollout_that_is_given_up_leaves_nothing_of_its_episodes(model):
    """Their rest will be in no rollout, so their beginnings must not count for what comes next."""
    env = small_env(model, eos_token_id=(), max_new_tokens=5)
    kwargs = {"policy_kwargs": {"model": model, **SGD}, "device": "cpu", "seed": 0}
    algorithm = llm_gym.PPO("TransformerPolicy", env, n_steps=7, kl_coef=0.3, **kwargs)
    algorithm.learn(7 * 16)
    assert len(algorithm.shaping.unfinished.get_state()) == 16  # two tokens of the next answers

    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            return self.n_calls < 3

    algorithm.learn(7 * 16, callback=Stop(), reset_num_timesteps=False)
    assert algorithm.shaping.unfinished.get_state() == []
