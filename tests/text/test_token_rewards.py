"""`scorer_scope="token"`: rewards before the end, paid where they fall."""

from __future__ import annotations

import json

import numpy as np
import pytest

import llm_gym
from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.scorers import ScorerError, WeightedSum, as_scorer
from llm_gym.scorers.texts import SourcedText
from tests.text.helpers import EOS, arguments, word

TOKENS = [word(1), word(5), word(2), EOS]


def ids_of_tokens(completions, completion_ids, **kwargs):
    """One number a token."""
    return [[float(token) for token in ids] for ids in completion_ids]


def every_second(completions, completion_ids, **kwargs):
    """Numbers where a "sentence" of two tokens ends."""
    return [[float(k % 2) for k, _ in enumerate(ids)] for ids in completion_ids]


def words_squared(prompts, completions):
    """An ordinary scorer, of one number a completion."""
    return [float(len(text.split()) ** 2) for text in completions]


def total(completions, completion_ids, **kwargs):
    return [np.array(numbers) for numbers in ids_of_tokens(completions, completion_ids)]


def rewards_of(env, tokens=TOKENS, seed=0):
    env.reset(seed=seed)
    steps = [env.step(token) for token in tokens]
    return [step[1] for step in steps], steps[-1][4]


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [
        (ids_of_tokens, [float(token) for token in TOKENS]),
        (total, [float(token) for token in TOKENS]),
        (every_second, [0.0, 1.0, 0.0, 1.0]),
        (words_squared, [1.0, 3.0, 5.0, 0.0]),
        (WeightedSum({"ids": (ids_of_tokens, 2.0), "w": (words_squared, 1.0)}), [9, 19, 15, 2]),
    ],
)
def test_each_token_is_paid_what_it_changes(scorer, expected):
    rewards, info = rewards_of(TextGenerationEnv(**arguments(scorer=scorer, scorer_scope="token")))
    assert rewards == expected
    at_the_end, final = rewards_of(TextGenerationEnv(**arguments(scorer=scorer)))
    assert at_the_end == [0.0, 0.0, 0.0, sum(expected)]
    assert info == final
    assert info["score"] == sum(expected)


def test_the_vector_form_pays_as_single_ones_do():
    rng = np.random.default_rng(0)
    actions = rng.integers(1, 12, size=(60, 4))  # EOS among them, and the length limit
    settings = arguments(scorer=WeightedSum({"a": (words_squared, 1.0), "b": (ids_of_tokens, 0.1)}))
    vector = TextGenerationVectorEnv(
        **settings, num_envs=4, scorer_scope="token", autoreset_mode="SameStep"
    )
    vector.reset(seed=[0, 1, 2, 3])
    rewards, scores = [], [[] for _ in range(4)]
    for action in actions:
        _, reward, _, _, infos = vector.step(action)
        rewards.append(reward)
        for row in np.flatnonzero(infos.get("_final_info", np.zeros(4, bool))):
            scores[row].append(infos["final_info"]["score"][row])
    for row in range(4):
        env = TextGenerationEnv(**settings, scorer_scope="token")
        env.reset(seed=row)
        single, returns, paid = [], [], 0.0
        for action in actions[:, row]:
            _, reward, terminated, truncated, info = env.step(action)
            single.append(reward)
            paid += reward
            if terminated or truncated:
                returns.append((paid, info["score"]))
                paid = 0.0
                env.reset()
        assert single == [step[row] for step in rewards]
        assert len(returns) > 5
        assert np.allclose(*zip(*returns, strict=True), rtol=0, atol=1e-9)
        assert [score for _, score in returns] == scores[row]


def test_a_state_remembers_what_has_been_paid():
    first, second = (
        TextGenerationEnv(**arguments(scorer=words_squared, scorer_scope="token")) for _ in range(2)
    )
    first.reset(seed=0)
    first.step(word(1))
    second.set_state(json.loads(json.dumps(first.get_state())))
    assert second.step(word(2))[1] == first.step(word(2))[1] == 3.0


@pytest.mark.parametrize(
    ("mode", "last"), [("terminate", 3.0), ("truncate", 0.0), ("penalise", -1.0)]
)
def test_the_length_limit_pays_its_last_token_as_it_says(mode, last):
    env = TextGenerationEnv(
        **arguments(
            scorer=words_squared, scorer_scope="token", max_new_tokens=2, on_max_length=mode
        )
    )
    assert rewards_of(env, [word(1), word(2)])[0] == [1.0, last]


def test_a_scorer_that_fails_on_the_way():
    def picky(prompts, completions):
        if completions[0] == "w1 w5":
            raise RuntimeError("not yet")
        return words_squared(prompts, completions)

    with pytest.raises(ScorerError, match="not yet"):
        rewards_of(TextGenerationEnv(**arguments(scorer=picky, scorer_scope="token")))
    env = TextGenerationEnv(
        **arguments(scorer=picky, scorer_scope="token", on_scorer_error="penalise")
    )
    rewards, info = rewards_of(env)
    assert rewards == [1.0, 0.0, 8.0, 0.0]  # paid with the next token that can be judged
    assert info["score"] == 9.0


def test_one_number_a_token_sums_up_to_the_score():
    text = SourcedText("w1 w2", token_ids=[4, 5])
    assert as_scorer(lambda p, c: [[1.0, 0.5]])(["p"], [text]) == [1.5]
    with pytest.raises(ScorerError, match=r"for the tokens of a completion 3 scores for 2 tokens"):
        as_scorer(lambda p, c: [[1.0, 0.5, 0.0]])(["p"], [text])
    with pytest.raises(ScorerError, match="for the tokens of a completion the score nan"):
        as_scorer(lambda p, c: [[1.0, float("nan")]])(["p"], [text])
    with pytest.raises(ScorerError, match="instead of a real number"):
        as_scorer(lambda p, c: [[1.0, 0.5]])(["p"], ["no token ids"])


def test_another_scope_is_refused():
    with pytest.raises(ValueError, match="scorer_scope='sentence' is not one of"):
        TextGenerationEnv(**arguments(scorer_scope="sentence"))


@pytest.mark.slow
def test_ppo_learns_from_rewards_before_the_end(tmp_path):
    """A token in thirty is worth 1, each time it is written: chance finds 0.2 an answer of 5."""
    from llm_gym.testing.tiny import tiny_model

    def w1(completions, completion_ids, **kwargs):
        return [[float(token == word(1)) for token in ids] for ids in completion_ids]

    env = TextGenerationVectorEnv(
        **arguments(scorer=w1, scorer_scope="token", eos_token_id=()),
        num_envs=16,
        autoreset_mode="SameStep",
    )
    tiny_model(vocab_size=len(env.tokenizer)).save_pretrained(tmp_path)
    agent = llm_gym.PPO(
        "TransformerPolicy",
        env,
        n_steps=10,
        batch_size=40,
        learning_rate=3e-3,
        reward_scaling=False,
        policy_kwargs={"model": str(tmp_path)},
        seed=0,
        device="cpu",
    )
    agent.learn(160)
    before = agent.rollout_buffer.rewards.mean()
    agent.learn(160 * 15)
    assert before < 0.15
    assert agent.rollout_buffer.rewards.mean() > 0.5
