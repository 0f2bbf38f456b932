from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import llm_gym
from llm_gym.learning.rounds import Rounds, _begins_again, _idle_token, check_contexts
from llm_gym.policy import packed_weights
from tests.learning.bare_rows import Rows, rows
from tests.learning.online_worlds import MODEL, PROMPTS, count_w1, make, rollouts, small_env
from tests.turns.test_learning import turn_env

EOS_IDS = (1, 7, 8)  # a quarter of the vocabulary: answers differ in length


@pytest.fixture
def model(tiny_dir):
    return tiny_dir("gpt2", **MODEL)


class Asked:
    """A scorer that remembers what it was asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(self, prompts, completions, **_):
        self.prompts.extend(prompts)
        return count_w1(prompts, completions)


def played(algorithm):
    """Tokens of prompt and answer of each episode that is learnt from."""
    buffer = algorithm.rollout_buffer
    return [
        (s.env, s.prefix.tolist(), buffer.actions[s.start : s.stop, s.env].tolist())
        for s in buffer.segments()
    ]


def test_every_row_plays_one_episode_to_its_end(model):
    algorithm = make("REINFORCE", model, small_env(model, eos_token_id=EOS_IDS))
    lengths = set()
    for _ in range(4):
        rollouts(algorithm)
        episodes = played(algorithm)
        assert [env for env, _, _ in episodes] == list(range(16))
        for _, _, answer in episodes:
            assert not set(answer[:-1]) & set(EOS_IDS)
            assert answer[-1] in EOS_IDS or len(answer) == 5
        assert all(map(algorithm.rollout_buffer.complete, algorithm.rollout_buffer.segments()))
        lengths |= {len(answer) for _, _, answer in episodes}
    assert lengths == {1, 2, 3, 4, 5}


def test_waiting_rows_cost_no_scores_and_no_prompts(model):
    """In sequential order, rows walk the prompts together: rollout k begins at 8 k."""
    scorer, prompts = Asked(), [f"w{i} w{j}" for i in range(6) for j in range(4)]
    env = small_env(
        model, num_envs=8, eos_token_id=EOS_IDS, scorer=scorer, prompts=prompts,
        prompt_order="sequential",
    )  # fmt: skip
    algorithm = make("REINFORCE", model, env)
    for k in range(5):
        rollouts(algorithm)
        walked = [prompts[(8 * k + row) % len(prompts)] for row in range(8)]
        assert sorted(scorer.prompts[8 * k :]) == sorted(walked)
    assert len(scorer.prompts) == 5 * 8


def test_tokens_are_counted_and_idle_ones_are_not(model):
    algorithm, tokens = make("REINFORCE", model, small_env(model, eos_token_id=EOS_IDS)), 0
    for number in (1, 2):
        rollouts(algorithm)
        lengths = [len(answer) for _, _, answer in played(algorithm)]
        tokens += sum(lengths)
        assert algorithm.num_timesteps == tokens
        idle = algorithm.rollout_statistics["idle_fraction"]
        np.testing.assert_allclose(idle, 1 - np.mean(lengths) / max(lengths))
        assert len(algorithm.ep_info_buffer) == 16 * number


def test_lengths_are_the_policys_own(model):
    """A uniform policy ends with probability 1/4 at each token: mean length 1 + 3/4 + ... .

    Leaving out the episodes that a rollout's end cuts, from rows that play on and on, would miss
    by far: it is done here too.
    """
    env = small_env(model, num_envs=64, eos_token_id=EOS_IDS)
    algorithm = make("REINFORCE", model, env, learning_rate=0.0)
    with torch.no_grad():
        algorithm.policy.model.get_output_embeddings().weight.zero_()
    expected = sum(0.75**k for k in range(5))
    lengths: list[int] = []
    for _ in range(10):
        lengths += [len(answer) for _, _, answer in played(rollouts(algorithm))]
    error = np.std(lengths) / np.sqrt(len(lengths))
    assert abs(np.mean(lengths) - expected) < 4 * error

    cut = make("A2C", model, env, learning_rate=0.0, n_steps=5)
    with torch.no_grad():
        cut.policy.model.get_output_embeddings().weight.zero_()
    kept: list[int] = []
    for _ in range(10):
        cut.env.reset()
        buffer = rollouts(cut).rollout_buffer
        kept += [s.stop - s.start for s in buffer.segments() if buffer.complete(s)]
    assert np.mean(kept) < expected - 6 * error


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_groups_answer_the_same_prompts_in_every_rollout(model, order):
    env = small_env(model, group_size=4, eos_token_id=EOS_IDS, prompt_order=order)
    algorithm = make("RLOO", model, env)
    seen = set()
    for _ in range(6):
        episodes = played(rollouts(algorithm))
        for first in range(0, 16, 4):
            assert len({tuple(prompt) for _, prompt, _ in episodes[first : first + 4]}) == 1
        seen |= {tuple(prompt) for _, prompt, _ in episodes}
    assert len(seen) == len(PROMPTS)


def test_rollouts_of_several_rounds(model):
    env = small_env(model, group_size=4, eos_token_id=EOS_IDS)
    algorithm = make("RLOO", model, env, n_steps=15)
    for _ in range(2):
        rows = [env for env, _, _ in played(rollouts(algorithm))]
        assert rows == np.arange(16).repeat(3).tolist()
        buffer = algorithm.rollout_buffer
        sums = {}
        for s in buffer.segments():
            prompt, value = tuple(s.prefix), buffer.advantages[s.start, s.env]
            sums.setdefault((prompt, s.env // 4), []).append(value)
        for values in sums.values():
            assert len(values) % 4 == 0  # groups, and each sums to zero
            np.testing.assert_allclose(np.sum(values), 0.0, atol=1e-5)


def test_streams_of_prompts(model):
    stream = (PROMPTS[i % len(PROMPTS)] for i in count())
    env = small_env(model, group_size=4, eos_token_id=EOS_IDS, prompts=stream, max_prompt_tokens=4)
    rollouts(make("GRPO", model, env), 4)


def test_single_environments(model):
    env = gym.make(
        "llm_gym/TextGeneration-v0", tokenizer=model, prompts=PROMPTS, scorer=count_w1,
        max_new_tokens=5,
    )  # fmt: skip
    algorithm = rollouts(make("REINFORCE", model, env, advantage="moving_average"), 3)
    assert len(played(algorithm)) == 1


def sum_of_numbers(prompts, completions, **_):
    """Pays every answer otherwise; not for what ends one, be it written or not."""
    ends = {"w4", "w5"}
    return [sum(1.0 + int(w[1:]) for w in text.split() if w not in ends) for text in completions]


def test_greedy_rows_are_the_baseline_and_not_learnt_from(model):
    env = small_env(model, group_size=4, eos_token_id=EOS_IDS, scorer=sum_of_numbers)
    algorithm = rollouts(make("ReMax", model, env, learning_rate=0.0, n_steps=10))
    buffer, [tokenizer] = algorithm.rollout_buffer, algorithm.env.get_attr("tokenizer", [0])
    assert {s.env % 4 for s in buffer.segments()} == {1, 2, 3}
    greedy_reward = {}
    for segment in buffer.segments():
        tokens = segment.prefix.tolist()
        if tuple(tokens) not in greedy_reward:
            answer: list[int] = []
            while len(answer) < 5 and not set(answer) & set(EOS_IDS):
                with torch.no_grad():
                    logits = algorithm.policy.model(torch.tensor([tokens + answer])).logits
                answer.append(int(logits[0, -1].argmax()))
            text = tokenizer.decode(answer, skip_special_tokens=True)
            [greedy_reward[tuple(tokens)]] = sum_of_numbers([""], [text])
        score = buffer.rewards[segment.start : segment.stop, segment.env].sum()
        np.testing.assert_allclose(
            buffer.advantages[segment.start : segment.stop, segment.env],
            score - greedy_reward[tuple(tokens)],
        )
    rounds = len({segment.start for segment in buffer.segments()})
    assert rounds > 1
    assert len(set(greedy_reward.values())) > 2


@pytest.mark.parametrize("name", ["REINFORCE", "RLOO", "GRPO", "ReMax"])
def test_answers_without_a_score_are_refused_before_anything_runs(name, model):
    scorer = Asked()
    env = small_env(model, on_max_length="truncate", scorer=scorer, group_size=4)
    with pytest.raises(ValueError, match=rf"on_max_length='truncate' leaves .* {name} \(adv"):
        make(name, model, env)
    assert not scorer.prompts
    rollouts(make("A2C", model, small_env(model, on_max_length="truncate")))
    rollouts(make("REINFORCE", model, small_env(model, on_max_length="penalise")))


def test_environments_that_do_not_say_are_refused_at_the_first_truncated_answer(model):
    """A time limit around single environments cuts answers off after the second token."""

    def make_single():
        env = llm_gym.TextGenerationEnv(
            tokenizer=model, prompts=PROMPTS, scorer=count_w1, max_new_tokens=5, eos_token_id=()
        )
        return gym.wrappers.TimeLimit(env, 2)

    algorithm = make("REINFORCE", model, DummyVecEnv([make_single, make_single]))
    with pytest.raises(ValueError, match="env has truncated an answer"):
        rollouts(algorithm)


def rounds_on(env: Any, **kwargs: Any) -> Rounds:
    return Rounds(env, 4, 4, group_size=1, learner="RLOO", **kwargs)


@pytest.mark.parametrize(
    ("greedy_first", "counted"),
    [(False, [True, True, False, False]), (True, [False, True] + 2 * [False])],
)
def test_only_answers_that_are_written_and_learnt_from_count(greedy_first, counted):
    rounds = Rounds(rows(4), 4, 4, group_size=2, learner="ReMax", greedy_first=greedy_first)
    infos = [{"row": row} for row in range(4)]
    running = np.array([True, True, False, False])
    assert [bool(info) for info in rounds._counted(infos, running)] == counted


@pytest.mark.parametrize("critic", [False, True])
def test_conversations_side_by_side_must_be_able_to_wait(critic):
    for number in (1, 2, 3):
        rounds_on(rows(number), critic=critic)
        rounds_on(rows(number, max_turn_tokens=5, wait=None), critic=critic)
    rounds_on(rows(1, max_turn_tokens=5), critic=critic)
    for number in (2, 3):
        with pytest.raises(ValueError, match="native vector form alone") as raised:
            rounds_on(rows(number, max_turn_tokens=5), critic=critic)
        assert str(raised.value).endswith(", or pass n_steps") == critic


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


@pytest.mark.parametrize(("known", "limit"), [([2], 2), ([3, 4], 3), ([None, 5], 5)])
def test_a_context_that_begins_anew_in_any_row_is_refused(known, limit):
    for fine in ([None], [None, None]):
        check_contexts(Rows(len(fine), turns_in_context=fine), "RLOO", "use PPO")
    check_contexts(Rows(1), "RLOO", "use PPO")
    env: Any = Rows(len(known), turns_in_context=known)
    with pytest.raises(ValueError, match=f"^turns_in_context={limit} begins"):
        check_contexts(env, "RLOO", "use PPO")


def test_episodes_are_begun_again_where_all_rows_have_numbered_prompts():
    for numbers, again in (([5], True), ([5, 3], True), ([None], False), ([5, None], False)):
        assert _begins_again(Rows(len(numbers), num_prompts=numbers)) is again
    assert _begins_again(rows(1, starts_by_seed=None))


@pytest.mark.parametrize("index", [None, -1, 0, 2])
def test_prompts_without_a_number_are_not_begun_again(index):
    """Rows that were asked a text of somebody's own have none, though other prompts do."""
    info = {} if index is None else {"prompt_index": index}
    told: list[Any] = []
    env: Any = rows(2, num_prompts=5)
    env.reset_infos, env.unwrapped = [info] * 2, env
    env.set_options, env.reset = told.append, lambda: {"fresh": True}
    last = {"completion_mask": np.ones((2, 4))}
    rounds = rounds_on(env)
    assert rounds._fresh_episodes(SimpleNamespace(_last_obs=last), env) == {"fresh": True}
    assert told == ([[{"prompt_index": index}] * 2] if index in (0, 2) else [])


@pytest.mark.parametrize(
    ("ends", "token"),
    [([()], 0), ([(0,)], 1), ([(0,), (1,)], 2), ([(1,), ()], 0), ([(0, 1, 2)], 0)],
)
def test_an_idle_token_ends_no_row(ends, token):
    assert _idle_token(Rows(len(ends), eos_token_ids=ends)) == token
    assert _idle_token(Rows(len(ends))) == 0


class StopAt(BaseCallback):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        return self.n_calls < self.step


def test_an_interrupted_rollout_is_begun_again(model):
    env = small_env(model, group_size=4, eos_token_id=EOS_IDS)
    algorithm = rollouts(make("GRPO", model, env))
    algorithm.learn(100, callback=StopAt(3), reset_num_timesteps=False)
    for _ in range(3):
        assert len(played(rollouts(algorithm))) == 16


def test_no_critic_is_asked(model, monkeypatch):
    algorithm = make("RLOO", model, small_env(model, group_size=4))

    def refuse(*_):
        raise AssertionError("a value was asked for")

    monkeypatch.setattr(algorithm.policy, "predict_values", refuse)
    rollouts(algorithm, 2)
    assert algorithm.policy.critic is None
    assert all(p.grad is None for p in algorithm.policy.value_head.parameters())


def test_rollouts_are_decoded_by_packed_weights(tiny_dir, monkeypatch):
    """Where the model is large; what was sampled is then what the weights themselves say."""
    for limit in ("LARGE_BYTES", "SMALL_BYTES"):
        monkeypatch.setattr(packed_weights, limit, 0)
    monkeypatch.setattr(packed_weights, "MANY_STEPS", 1)
    model = tiny_dir("llama", **MODEL)
    algorithm = make("REINFORCE", model, small_env(model, eos_token_id=EOS_IDS))
    layers = [m for m in algorithm.policy.modules() if type(m) is torch.nn.Linear]
    packed, apart = [], []

    def are_packed():
        return [("forward" in vars(layer)) for layer in layers]

    class Look(BaseCallback):
        def _on_step(self):
            packed.extend(are_packed())
            return True

        @torch.no_grad()
        def _on_rollout_end(self):
            buffer = algorithm.rollout_buffer
            members = buffer.segments()
            batch = buffer.episode_batch(members)
            log_probs = algorithm.policy.evaluate_actions(batch, batch.actions)[1]
            apart.append(np.abs(buffer.log_probs[buffer.places(members)] - log_probs.numpy()).max())

    algorithm.learn(1, callback=Look())
    assert packed
    assert all(packed)
    assert not any(are_packed())
    assert apart[0] < 1e-5


def test_rows_that_rest_do_the_idle_token_and_the_others_what_the_policy_chose(model):
    algorithm = make("REINFORCE", model, small_env(model, eos_token_id=EOS_IDS, num_envs=4))
    chosen = [torch.tensor([5, 6]), torch.tensor([[1.5], [2.5]]), torch.tensor([-0.5, -0.25])]
    algorithm.policy.forward = lambda observed, deterministic=False: chosen
    obs = algorithm.env.reset()
    actions, values, log_probs = algorithm.collector._act(algorithm, obs, np.array([0, 2]), 3)
    assert actions.tolist() == [5, 3, 6, 3]
    assert values.tolist() == [1.5, 0.0, 2.5, 0.0]
    assert log_probs.tolist() == [-0.5, 0.0, -0.25, 0.0]
