"""`llm_gym/KnownOptimum-v0` as an environment, and sampling in it against the exact figures."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from llm_gym_known_optimum import AnswerTree, KnownOptimum, make_reference

import llm_gym
from llm_gym.testing.conformance import EnvironmentConformance, VectorEnvironmentConformance

ID = "llm_gym/KnownOptimum-v0"


class TestKnownOptimum(EnvironmentConformance):
    max_steps = 3

    def make_env(self):
        return gym.make(ID, family="length", vocab_size=3, length=3, num_prompts=4)


class TestKnownOptimumFixedLength(EnvironmentConformance):
    max_steps = 2

    def make_env(self):
        return gym.make(ID, vocab_size=2, length=2, reference="transformer")


class TestKnownOptimumVector(VectorEnvironmentConformance):
    def make_env(self, row, num_rows):
        return gym.make(ID, family="length", vocab_size=3, length=3, num_prompts=4)

    def make_vector_env(self, num_envs, autoreset_mode):
        return gym.make_vec(
            ID,
            num_envs=num_envs,
            autoreset_mode=autoreset_mode,
            family="length",
            vocab_size=3,
            length=3,
            num_prompts=4,
        )


def test_the_environment_pays_what_the_table_says():
    env = gym.make(ID, family="length", vocab_size=3, length=3, num_prompts=5)
    problem = env.unwrapped.problem
    assert env.action_space == gym.spaces.Discrete(4)
    rng = np.random.default_rng(0)
    for _ in range(50):
        _, info = env.reset(seed=int(rng.integers(1000)))
        words, ended = [], False
        while not ended:
            action = int(rng.integers(4))
            words.append(action)
            _, reward, ended, truncated, info_ = env.step(action)
            assert not truncated
        words = [word for word in words if word != 3]
        expected = problem.rewards[info["prompt_index"], problem.tree.index(words)]
        assert reward == expected == info_["score"]
        assert info_["completion"] == " ".join(f"w{word}" for word in words)


def test_single_and_vector_form_have_the_same_problem():
    arguments = {"family": "sparse", "vocab_size": 3, "length": 3, "problem_seed": 4}
    single = gym.make(ID, **arguments).unwrapped.problem
    vector = gym.make_vec(ID, num_envs=2, group_size=2, **arguments).unwrapped.problem
    assert np.array_equal(single.rewards, vector.rewards)
    assert single.optimal_objective == vector.optimal_objective
    reseeded = gym.make(ID, **{**arguments, "problem_seed": 5}).unwrapped.problem
    assert reseeded.optimal_objective != single.optimal_objective


def test_a_problem_of_ones_own():
    tree = AnswerTree(2, 1)
    model = make_reference("tabular", tree, 1, spread=0.0, seed=0)
    problem = KnownOptimum(tree, [0.0, 1.0], model, beta=0.5)
    env = gym.make(ID, problem=problem)
    assert env.unwrapped.problem is problem
    env.reset(seed=0)
    assert env.step(1)[1] == 1.0
    with pytest.raises(ValueError, match=r"problem= is given, so \['beta'\]"):
        gym.make(ID, problem=problem, beta=0.1)
    with pytest.raises(TypeError, match=r"must be a llm_gym_known_optimum.KnownOptimum"):
        gym.make(ID, problem="own")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "nice"}, "family='nice' is not one of"),
        ({"reference": "markov"}, "reference='markov' is not one of"),
        ({"beta": 0.0}, "beta=0.0 must be a positive number"),
        ({"num_prompts": 0}, "num_prompts=0"),
        ({"problem_seed": -1}, "problem_seed=-1"),
        ({"reference_spread": -1.0}, "reference_spread=-1.0"),
        ({"vocab_size": 1}, "n_words=1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        gym.make(ID, **arguments)


def test_a_problem_checks_what_it_is_made_of():
    tree = AnswerTree(2, 1)
    model = make_reference("tabular", tree, 1, spread=0.0, seed=0)
    with pytest.raises(ValueError, match=r"rewards has shape \(3,\), but there are 2 answers"):
        KnownOptimum(tree, [0.0, 1.0, 2.0], model, beta=1.0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        KnownOptimum(tree, [0.0, np.nan], model, beta=1.0)
    larger = make_reference("tabular", AnswerTree(3, 1), 1, spread=0.0, seed=0)
    with pytest.raises(ValueError, match="vocabulary has 3 tokens, but the problem has 2 actions"):
        KnownOptimum(tree, [0.0, 1.0], larger, beta=1.0)
    problem = KnownOptimum(tree, [0.0, 1.0], model, beta=1.0)
    with pytest.raises(ValueError, match="'w7', but words are w0 to w1"):
        problem.reward_of("w0", "w7")
    with pytest.raises(ValueError, match="'w1' is not one of the 1 prompts"):
        problem.reward_of("w1", "w0")


@pytest.fixture(params=["tabular", "transformer"])
def learner(request, tmp_path):
    env = gym.make_vec(
        ID,
        num_envs=64,
        autoreset_mode="SameStep",
        family="length",
        vocab_size=3,
        length=3,
        num_prompts=2,
        reference=request.param,
    )
    problem = env.unwrapped.problem
    model = llm_gym.PPO(
        "TransformerPolicy",
        env,
        kl_coef=problem.beta,
        learning_rate=0.05 if request.param == "tabular" else 3e-3,
        policy_kwargs={"model": problem.save_reference(tmp_path)},
        seed=0,
    )
    return model, problem


def test_a_policy_starts_as_the_reference_and_learns(learner):
    model, problem = learner
    start = problem.evaluate(model.policy)
    assert start.kl_to_reference == pytest.approx(0, abs=1e-9)
    assert start.objective == pytest.approx(problem.reference_objective, abs=1e-9)
    model.learn(4000)
    after = problem.evaluate(model.policy)
    assert after.gain > 0.5
    missing = problem.optimal_objective - after.objective
    assert missing == pytest.approx(problem.beta * after.kl_to_optimum, abs=1e-9)


def test_sampled_figures_are_the_exact_ones_within_their_error(learner):
    """Rewards and log-ratios of episodes in the environment, against sums over all answers."""
    model, problem = learner
    model.learn(1000)  # so that the policy differs from the reference
    exact = problem.evaluate(model.policy)
    env = gym.make_vec(
        ID, num_envs=500, problem=problem, autoreset_mode="SameStep", prompt_order="sequential"
    )
    observation, _ = env.reset(seed=3)
    rewards, ratios = [], []
    ratio, played = np.zeros(500), np.zeros(500)
    reference = llm_gym.learning.kl.ReferenceModel(problem.reference_model)
    for _ in range(30):
        obs = {name: torch.as_tensor(array) for name, array in observation.items()}
        with torch.no_grad():
            actions, _, log_prob = model.policy(obs)
            lengths = obs["attention_mask"].sum(1, dtype=torch.int64)
            hidden = reference._trunk.last_hidden(
                obs["input_ids"].where(obs["attention_mask"].bool(), 0), lengths
            )
            theirs = reference._head(hidden).log_softmax(-1)
        ratio += (log_prob - theirs.gather(1, actions[:, None])[:, 0]).numpy()
        observation, reward, ended, _, _ = env.step(actions.numpy())
        counted = ended & (played < 10)  # all rows get as far, so short answers weigh no more
        rewards.extend(reward[counted])
        ratios.extend(ratio[counted])
        ratio[ended] = 0.0
        played += ended
    assert problem.tree.ends_early
    assert len(rewards) == 5000
    for sample, expected in ((rewards, exact.reward), (ratios, exact.kl_to_reference)):
        error = np.std(sample) / np.sqrt(len(sample))
        assert np.mean(sample) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("cut", [{}, {"top_k": 2}, {"top_p": 0.6}])
def test_temperature_and_truncation_count(cut, tmp_path):
    problem = KnownOptimum.make("additive", vocab_size=4, length=3, num_prompts=2)
    env = gym.make(ID, problem=problem)
    policy = llm_gym.TransformerActorCriticPolicy(
        env.observation_space,
        env.action_space,
        lambda _: 1e-3,
        model=problem.save_reference(tmp_path),
        temperature=0.5,
        **cut,
    )
    with torch.no_grad():
        layers = problem.policy(policy)
    for layer, plain in zip(layers, problem.reference, strict=True):
        sharp = (2 * plain).softmax(-1)
        order = sharp.sort(-1, descending=True).values
        before = order.cumsum(-1) - order
        kept = order[..., 1:2] if "top_k" in cut else torch.zeros(1)
        if "top_p" in cut:
            kept = order.where(before < 0.6, 1.0).amin(-1, keepdim=True)
        expected = sharp.where(sharp >= kept, 0.0)
        expected /= expected.sum(-1, keepdim=True)
        assert layer.exp().numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_a_masked_policy_is_asked_itself(tmp_path):
    """NLPO chooses from the nucleus of another model."""
    from llm_gym.policy import TopPMaskedPolicy

    problem = KnownOptimum.make("additive", vocab_size=4, length=3)
    env = gym.make(ID, problem=problem)
    policy = TopPMaskedPolicy(
        env.observation_space,
        env.action_space,
        lambda _: 1e-3,
        model=problem.save_reference(tmp_path),
        mask_top_p=0.5,
    )
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
        layers = problem.policy(policy)
    for layer, mask in zip(layers, problem.reference, strict=True):
        order = mask.exp().sort(-1, descending=True).values
        least = order.where(order.cumsum(-1) - order < 0.5, 1.0).amin(-1, keepdim=True)
        kept = (mask.exp() >= least).double()
        assert layer.exp().numpy() == pytest.approx((kept / kept.sum(-1, keepdim=True)).numpy())
