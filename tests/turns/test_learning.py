"""What learns from conversations learns from the agent's tokens, and reads the world's."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer

import llm_gym
from llm_gym import EpisodeBuffer, GymVecEnv, ReferenceModel, TransformerActorCriticPolicy
from llm_gym.learning.advantages import gae, monte_carlo_returns
from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint
from llm_gym.testing.tiny import tiny_tokenizer
from tests.products import sampled
from tests.turns.worlds import Words, arguments


def turn_env(num_envs=4, **overrides):
    # Several ends, so that turns of chance differ in length.
    options = {"eos_token_id": (1, 4, 5, 6, 7), "context_length": 36, **overrides}
    kwargs = {"num_envs": num_envs, "autoreset_mode": "SameStep"} | arguments(**options)
    return gym.make_vec("llm_gym/Turns-v0", **kwargs)


def settings(tiny_dir, architecture="llama", **overrides):
    defaults = {"policy_kwargs": {"model": tiny_dir(architecture), "seed": 1}, "seed": 3}
    return defaults | {"device": "cpu"} | overrides


def stock(tiny_dir, algorithm, architecture="llama", **overrides):
    kwargs = {"n_steps": 24, "gamma": 1.0, "gae_lambda": 0.9, "rollout_buffer_class": EpisodeBuffer}
    kwargs |= {"env": GymVecEnv(turn_env()), **overrides}
    return algorithm(TransformerActorCriticPolicy, **settings(tiny_dir, architecture, **kwargs))


FRESH = {"max_turns": 8, "turns_in_context": 2, "context_length": 24}


@pytest.mark.parametrize(
    ("algorithm", "architecture", "tolerance", "of_env"),
    [
        pytest.param(sb3.PPO, "gpt2", 1e-8, {}, marks=pytest.mark.rest),
        (sb3.A2C, "gpt2", 1e-8, {}),
        (sb3.PPO, "llama", 1e-5, {}),
        pytest.param(sb3.A2C, "llama", 1e-5, {}, marks=pytest.mark.rest),
        (sb3.PPO, "gpt2", 1e-8, FRESH),
    ],
)
def test_update_equals_that_on_the_per_transition_buffer(
    tiny_dir, algorithm, architecture, tolerance, of_env
):
    """Stable-Baselines3's own train(), one SGD step in float64, over conversations: same weights.

    Whether contexts begin anew or not. To 1e-8 for GPT-2; LLaMA's normalisation rounds to float32
    inside, whatever the weights are.
    """
    updated = []
    for buffer_class in (EpisodeBuffer, DictRolloutBuffer):
        options = {
            "rollout_buffer_class": buffer_class,
            "learning_rate": 1e-3,
            "max_grad_norm": 1e9,
        }
        sgd = {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}}
        options["policy_kwargs"] = {"model": tiny_dir(architecture), "seed": 1} | sgd
        if algorithm is sb3.PPO:
            # Normalising sums float32 advantages, so its rounding depends on their order.
            options |= {"batch_size": 96, "n_epochs": 1, "normalize_advantage": False}
        else:
            options["use_rms_prop"] = False
        options["env"] = GymVecEnv(turn_env(**of_env))
        model = stock(tiny_dir, algorithm, architecture, **options, ent_coef=0.01)
        start = {n: p.detach().double().clone() for n, p in model.policy.named_parameters()}
        model.policy.double()
        model.learn(96)
        assert model.rollout_buffer.rewards.any()
        updated.append({n: p.detach().clone() for n, p in model.policy.named_parameters()})
    assert max((updated[0][name] - start[name]).abs().max() for name in start) > 1e-4
    for name, parameter in updated[0].items():
        torch.testing.assert_close(parameter, updated[1][name], atol=tolerance, rtol=0, msg=name)


def recorded(model):
    """Observations of all steps of a rollout: ids, attention mask and completion mask."""
    seen = []
    add = model.rollout_buffer.add

    def spy(obs, *rest):
        seen.append({key: value.copy() for key, value in obs.items()})
        return add(obs, *rest)

    model.rollout_buffer.add = spy
    return seen


@pytest.mark.parametrize("rollouts", [1, 3])
def test_segments_are_what_the_agent_saw_and_did(tiny_dir, rollouts):
    """Also of conversations that began in the rollout before."""
    model = stock(tiny_dir, sb3.A2C, n_steps=11)
    seen = recorded(model)
    model.learn(44 * rollouts)
    buffer, seen = model.rollout_buffer, seen[-11:]
    assert any(segment.answers for segment in buffer.segments())
    assert rollouts == 1 or not all(segment.is_start for segment in buffer.segments())
    for segment in buffer.segments():
        batch = buffer.episode_batch([segment])
        assert (
            batch.actions.tolist()
            == buffer.actions[segment.start : segment.stop, segment.env].tolist()
        )
        for step, slot in zip(range(segment.start, segment.stop), batch.action_slots, strict=True):
            known = seen[step]["attention_mask"][segment.env].astype(bool)
            assert (
                batch.input_ids[0, :slot].tolist()
                == seen[step]["input_ids"][segment.env][known].tolist()
            )
        assert segment.num_tokens == batch.input_ids.shape[1]


def test_old_log_probs_and_values_are_those_of_the_update(tiny_dir):
    """The first ratio is 1: decoding past a world's answers says what one pass says."""
    model = llm_gym.PPO("TransformerPolicy", turn_env(), **settings(tiny_dir, n_steps=24))
    model.learn(96)
    assert model.logger.name_to_value["train/first_ratio_deviation"] < 1e-4


def test_reference_and_penalty_are_of_the_agents_tokens(tiny_dir):
    model = llm_gym.PPO(
        "TransformerPolicy",
        turn_env(),
        **settings(tiny_dir, n_steps=24, kl_coef=0.5, reward_scaling=False, learning_rate=0.0),
    )
    rewards = []
    shape = model.shaping.shape
    model.shaping.shape = lambda buffer, *rest: (
        rewards.append(buffer.rewards.copy()) or shape(buffer, *rest)
    )
    model.learn(96)
    # The policy is its own reference: nobody pays, whatever the world has said.
    np.testing.assert_allclose(model.episodes.rewards, rewards[0], atol=1e-5)
    reference = ReferenceModel.of(model.transformer)
    for segment in model.episodes.segments():
        batch = model.episodes.episode_batch([segment])
        found = reference.log_probs(batch)
        with torch.no_grad():
            logits = model.transformer.model(input_ids=batch.input_ids).logits[0].log_softmax(-1)
        expected = [logits[slot - 1, batch.input_ids[0, slot]] for slot in batch.action_slots]
        torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)


class Counted(Words):
    heard_in_all = 0

    def step(self, text):
        type(self).heard_in_all += 1
        return super().step(text)


ALGORITHMS = [
    "A2C",
    "DAPO",
    "GRPO",
    "NLPO",
    "REINFORCE",
    "RLOO",
    "DrGRPO",
    "ReMax",
    "ReinforcePlusPlus",
]


@pytest.mark.parametrize("name", sampled(ALGORITHMS, "A2C", "NLPO", "REINFORCE", "ReMax"))
def test_every_algorithm_learns_from_conversations(tiny_dir, name):
    """Rounds of whole conversations: rows that wait say nothing to their worlds."""
    env = turn_env(world=Counted, group_size=2, on_max_length="terminate", context_length=24)
    kwargs = settings(tiny_dir, n_steps=None)
    if name == "NLPO":
        kwargs["policy_kwargs"] = {"model": tiny_dir("llama")}
    model = getattr(llm_gym, name)("TransformerPolicy", env, **kwargs)
    Counted.heard_in_all = 0
    before = {n: p.detach().clone() for n, p in model.policy.named_parameters()}
    turns = []

    def count(local, _):
        running = local.get("running", np.ones(4, dtype=bool))
        turns.extend("turn" in local["infos"][row] for row in np.flatnonzero(running))
        return True

    model.learn(100, callback=count)
    assert any(not torch.equal(before[n], p) for n, p in model.policy.named_parameters())
    assert Counted.heard_in_all == sum(turns) > 0


@pytest.mark.parametrize("turn_gamma", [0.5, 1.0])
def test_a_discount_per_turn(turn_gamma):
    """By hand: rewards to come are discounted once for each turn's end before them."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 12, 3))
    starts = rng.random((12, 3)) < 0.2
    ends = rng.random((12, 3)) < 0.4
    discounts = np.where(ends, turn_gamma, 1.0)
    last_values, last_dones = rng.normal(size=3), np.array([True, False, False])
    lam = 0.9
    found = gae(rewards, values, starts, last_values, last_dones, gamma=discounts, gae_lambda=lam)
    returns = monte_carlo_returns(rewards, starts, gamma=discounts)
    for env in range(3):
        for t in range(12):
            advantage, weight, total, factor = 0.0, 1.0, 0.0, 1.0
            for k in range(t, 12):
                done = last_dones[env] if k == 11 else starts[k + 1, env]
                after = 0.0 if done else last_values[env] if k == 11 else values[k + 1, env]
                advantage += weight * (rewards[k, env] + discounts[k, env] * after - values[k, env])
                total += factor * rewards[k, env]
                weight, factor = weight * lam * discounts[k, env], factor * discounts[k, env]
                if done:
                    break
            assert found[t, env] == pytest.approx(advantage)
            assert returns[t, env] == pytest.approx(total)


def test_turns_end_where_the_environment_says(tiny_dir):
    """The buffer's discounts: `turn_gamma` where a turn ended, its last step included."""
    model = llm_gym.PPO(
        "TransformerPolicy",
        turn_env(max_turns=3),
        **settings(tiny_dir, n_steps=24, turn_gamma=0.5, gamma=1.0, learning_rate=0.0),
    )
    torch.nn.init.normal_(model.policy.value_head.weight, generator=torch.manual_seed(1), std=0.1)
    ended = []
    update = model._update_info_buffer
    model._update_info_buffer = lambda infos, dones=None: (
        ended.append(["turn" in info for info in infos]),
        update(infos, dones),
    )
    model.learn(96)
    assert model.episodes.discounts().tolist() == np.where(ended, 0.5, 1.0).tolist()
    assert np.any(ended)
    boots = model.episodes.bootstraps
    assert boots.any()  # of conversations that three turns cut off


def test_a_discount_of_one_per_turn_is_stable_baselines3s(tiny_dir):
    weights = []
    for kwargs in ({}, {"turn_gamma": 1.0}):
        model = llm_gym.PPO(
            "TransformerPolicy", turn_env(), **settings(tiny_dir, n_steps=24, **kwargs)
        )
        model.learn(96)
        weights.append(model.policy.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_discount_per_turn_needs_turns(tiny_dir):
    env = gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=2,
        autoreset_mode="SameStep",
        tokenizer=arguments()["tokenizer"],
        prompts=["w1"],
        scorer="length:3",
    )
    with pytest.raises(ValueError, match=r"turn_gamma=0\.9 discounts turns"):
        llm_gym.PPO("TransformerPolicy", env, **settings(tiny_dir, turn_gamma=0.9))
    with pytest.raises(ValueError, match=r"turn_gamma=1\.5"):
        llm_gym.PPO("TransformerPolicy", turn_env(), **settings(tiny_dir, turn_gamma=1.5))


def test_contexts_begun_anew_are_one_episode_in_several_segments(tiny_dir):
    """Advantages go on across them, and an episode ends where the environment says."""
    env = GymVecEnv(turn_env(2, world_kwargs={"turns": 8}, **FRESH))
    model = llm_gym.PPO("TransformerPolicy", env, **settings(tiny_dir, n_steps=48, batch_size=48))
    model.learn(96)
    buffer = model.episodes
    segments = buffer.segments()
    begun = [s for s in segments if s.start and not s.is_start]
    assert begun
    # The world's last words and nothing else: no end of a turn.
    assert not any(np.isin(s.prefix, env.get_attr("eos_token_ids")[0]).any() for s in begun)
    before = [s for s in segments if any(s.stop == b.start and s.env == b.env for b in begun)]
    assert not any(buffer.ends(segment) or buffer.complete(segment) for segment in before)
    for segment in before:
        last, following = (segment.stop - 1, segment.env), (segment.stop, segment.env)
        delta = buffer.rewards[last] + buffer.values[following] - buffer.values[last]
        assert buffer.advantages[last] == pytest.approx(
            delta + 0.95 * buffer.advantages[following], abs=1e-5
        )


@pytest.mark.parametrize("name", ["PPO", "RLOO", "DPO"])
def test_what_reads_whole_conversations_refuses_contexts_begun_anew(tiny_dir, name):
    kwargs = {"n_steps": 8} if name == "DPO" else {}
    env = turn_env(**FRESH, on_max_length="terminate", group_size=2)
    with pytest.raises(ValueError, match=r"turns_in_context=2 .* n_steps"):
        getattr(llm_gym, name)("TransformerPolicy", env, **settings(tiny_dir, **kwargs))


def test_waiting_rows_stay_as_they_are():
    env = turn_env(3)
    env.reset(seed=0)
    env.wait(np.array([True, False, True]))
    before = env.step(np.full(3, 10))[0]
    after = env.step(np.full(3, 1))[0]
    for key in before:
        np.testing.assert_array_equal(before[key][[0, 2]], after[key][[0, 2]])
    assert not after["completion_mask"][[0, 2]].any()
    env.wait(np.zeros(3, dtype=bool))
    assert env.step(np.full(3, 10))[0]["completion_mask"].any(1).all()
    for bad in ([True] * 3, np.ones(2, dtype=bool)):
        with pytest.raises(ValueError, match="rows must"):
            env.wait(bad)


@pytest.mark.parametrize("name", ["DPO", "ExpertIteration", "SFTOnBest"])
def test_algorithms_on_whole_answers_learn_from_conversations(tiny_dir, name):
    """What they learn from is the agent's side; the world's words are read before it."""
    env = turn_env(group_size=2, on_max_length="terminate", context_length=24)
    model = getattr(llm_gym, name)("TransformerPolicy", env, **settings(tiny_dir))
    kept = []
    fit = model.fit
    model.fit = lambda groups: kept.extend(groups) or fit(groups)
    before = {n: p.detach().clone() for n, p in model.policy.named_parameters()}
    model.learn(200)
    assert any(not torch.equal(before[n], p) for n, p in model.policy.named_parameters())
    answers = [answer for group in kept for answer in group]
    assert any(answer.others for answer in answers)
    batch = model._batch(answers)
    for number, answer in enumerate(answers):
        chosen = [t for k, t in enumerate(answer.completion_ids) if k not in answer.others]
        assert batch.actions[batch.action_rows == number].tolist() == chosen
        assert answer.num_tokens == len(chosen)
    with torch.no_grad():
        found = model.log_probs(answers)[0]
        ids = batch.input_ids
        logits = model.transformer.model(input_ids=ids).logits.log_softmax(-1)
    for number, answer in enumerate(answers):
        slots = [len(answer.prompt_ids) + k for k in range(len(answer.completion_ids))]
        slots = [slot for k, slot in enumerate(slots) if k not in answer.others]
        expected = sum(logits[number, slot - 1, ids[number, slot]] for slot in slots)
        assert found[number].item() == pytest.approx(expected.item(), abs=1e-4)


def test_answers_of_conversations_are_saved_and_those_of_before_still_load(tiny_dir):
    model = llm_gym.DPO(
        "TransformerPolicy", turn_env(group_size=2, on_max_length="terminate"), **settings(tiny_dir)
    )
    keeper = model.answers
    keeper.reset()
    rng = np.random.default_rng(0)
    for _ in range(60):
        keeper.step(rng.integers(1, 32, 4))
    assert any(answer.others for group in keeper.finished for answer in group)
    state = keeper.get_state()
    finished = list(keeper.finished)
    keeper.set_state(state)
    assert keeper.finished == finished
    plain = {**state, "finished": [[answer[:3] for answer in group] for group in state["finished"]]}
    keeper.set_state(plain)
    assert not any(answer.others for group in keeper.finished for answer in group)
    damaged = {**state, "finished": [[[[1], [2], 0.0, ["x"]]] * 2]}
    with pytest.raises(ValueError, match="finished"):
        keeper.set_state(damaged)


class Echo:
    """Says one of four words, four times, and pays for hearing it again."""

    def reset(self, *, seed):
        self.random, self.turns = np.random.default_rng(seed), 0
        return self.say()

    def say(self):
        self.word = f"w{self.random.integers(4)}"
        return self.word

    def step(self, text):
        self.turns += 1
        reward = float(text == self.word)
        return self.say(), reward, self.turns == 4, False, {}


@pytest.mark.slow
def test_ppo_learns_to_read_what_the_world_says(tiny_dir):
    """By chance half of a reward of four is paid; after some thousand tokens nearly all of it."""
    small = {"tokenizer": tiny_tokenizer(5), "max_turn_tokens": 1, "context_length": 16}
    env = turn_env(16, world=Echo, eos_token_id=1, **small)
    policy = {"model": tiny_dir("llama", vocab_size=8, initializer_range=0.02), "seed": 1}
    model = llm_gym.PPO(
        "TransformerPolicy",
        env,
        **settings(tiny_dir, n_steps=32, batch_size=128, policy_kwargs=policy),
        learning_rate=3e-3,
        kl_coef=0.0,
    )
    model.learn(4_096)
    assert np.mean([episode["r"] for episode in model.ep_info_buffer]) > 2.5


@pytest.mark.parametrize("name", ["PPO", "RLOO"])
def test_training_on_from_a_checkpoint_is_training_on_bit_for_bit(tiny_dir, tmp_path, name):
    """Conversations that a rollout's end cuts in two go on with worlds that were told again."""

    def new():
        env = turn_env(group_size=2, on_max_length="terminate")
        options = {"n_steps": 13} if name == "PPO" else {}
        return getattr(llm_gym, name)("TransformerPolicy", env, **settings(tiny_dir, **options))

    straight = new().learn(52)
    save_checkpoint(straight, tmp_path / "c")
    straight.learn(52, reset_num_timesteps=False)
    resumed = new()
    load_checkpoint(resumed, tmp_path / "c")
    resumed.learn(52, reset_num_timesteps=False)
    assert resumed.num_timesteps == straight.num_timesteps
    for key, value in straight.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[key]), key
