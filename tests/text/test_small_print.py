"""What a space, a seed, a state and an info are, to the digit."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import seeding

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.scorers import Scorer, Scores
from llm_gym.testing.conformance import assert_same
from tests.text.helpers import EOS, PROMPTS, arguments, word


@pytest.mark.parametrize(
    ("options", "highest", "length"),
    [
        ({}, 31, 9),  # the longest prompt has four tokens, an answer five
        ({"vocab_size": 40}, 39, 9),
        ({"pad_token_id": 50}, 50, 9),  # it need be no action
        ({"max_prompt_tokens": 7, "max_new_tokens": 2}, 31, 9),
    ],
)
def test_the_spaces_are_exactly_what_an_agent_may_see_and_do(options, highest, length):
    env = TextGenerationEnv(**arguments(**options))
    size = options.get("vocab_size", 32)
    assert env.action_space == spaces.Discrete(size)
    assert env.observation_space == spaces.Dict(
        {
            "input_ids": spaces.Box(0, highest, (length,), np.int64),
            "attention_mask": spaces.Box(0, 1, (length,), np.int8),
            "completion_mask": spaces.Box(0, 1, (length,), np.int8),
        }
    )
    assert env.max_prompt_tokens == length - env.max_new_tokens
    vector = TextGenerationVectorEnv(**arguments(**options), num_envs=3)
    assert vector.single_observation_space == env.observation_space


def test_generators_before_the_first_reset_are_those_that_are_told():
    """A seed that nobody gave can be read, and makes the same run again."""
    env = TextGenerationVectorEnv(**arguments(), num_envs=3)
    seeds = env.np_random_seed
    assert len(set(seeds)) == 3
    assert min(seeds) >= 0
    for rng, seed in zip(env.np_random, seeds, strict=True):
        assert rng.bit_generator.state == seeding.np_random(seed)[0].bit_generator.state
    again = TextGenerationVectorEnv(**arguments(), num_envs=3)
    assert_same(env.reset(), again.reset(seed=list(seeds)), "the same first episodes")
    assert env.np_random_seed == again.np_random_seed == seeds


def test_a_reset_without_a_seed_goes_on_and_with_one_begins_anew():
    for env in (
        TextGenerationEnv(**arguments()),
        TextGenerationVectorEnv(**arguments(), num_envs=2),
    ):

        def walk(env=env, **first):
            resets = [env.reset(**first), *(env.reset() for _ in range(6))]
            return [np.asarray(info["prompt_index"]).tolist() for _, info in resets]

        begun = walk(seed=3)
        assert walk() != begun
        env.reset()
        assert walk(seed=3) == begun


@pytest.mark.parametrize("num_tokens", range(6))
@pytest.mark.parametrize("prompt_index", range(len(PROMPTS)))
def test_a_state_of_every_length_is_taken_up(prompt_index, num_tokens):
    """From the bare prompt to an observation without a free column, at rest or running."""
    env, restored = (TextGenerationVectorEnv(**arguments(), num_envs=2) for _ in range(2))
    env.reset(options={"prompt_index": prompt_index})
    for _ in range(num_tokens):
        env.step(np.array([word(1), word(2)]))
    observation = restored.set_state(env.get_state())
    assert_same(observation, env._episodes.observation(), "the observation")
    actions = np.array([word(3), EOS])
    assert_same(restored.step(actions), env.step(actions), "the next step")


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_prompt_given_at_reset_may_be_as_long_as_the_longest_and_no_longer(limit):
    env = TextGenerationEnv(**arguments(prompts=["w1"], max_prompt_tokens=limit))
    fits = " ".join(["w1"] * limit)
    observation, _ = env.reset(options={"prompt": fits})
    assert observation["attention_mask"].sum() == limit
    with pytest.raises(ValueError, match=f"has {limit + 1} tokens, more than"):
        env.reset(options={"prompt": f"{fits} w1"})
    cut = TextGenerationEnv(
        **arguments(prompts=["w1"], max_prompt_tokens=limit, too_long="truncate")
    )
    with pytest.warns(UserWarning, match="too long"):
        observation, _ = cut.reset(options={"prompt": f"w9 {fits}"})
    assert observation["input_ids"][:limit].tolist() == [word(1)] * limit  # its last tokens


class Parts(Scorer):
    """Says one part of short answers, another of long ones, and a third of both."""

    name = "parts"

    def compute(self, prompts, completions, columns) -> Scores:
        words = [float(len(text.split())) for text in completions]
        short = [w if w < 2 else None for w in words]
        long = [w if w >= 2 else None for w in words]
        return Scores(words, {"short": short, "long": long, "words": words})


def test_parts_are_those_of_the_row_and_only_what_is_said():
    env = TextGenerationVectorEnv(
        **arguments(scorer=Parts(), max_new_tokens=3), num_envs=2, autoreset_mode="Disabled"
    )
    env.reset(seed=0)
    env.step(np.array([word(1), word(1)]))
    _, _, terminated, _, infos = env.step(np.array([word(1), EOS]))
    assert terminated.tolist() == [False, True]
    parts = infos["score_parts"]
    said = {
        name: bool(parts[f"_{name}"][1]) for name in ("short", "long", "words") if name in parts
    }
    assert {name for name, is_said in said.items() if is_said} == {"short", "words"}
    single = TextGenerationEnv(**arguments(scorer=Parts(), max_new_tokens=3))
    single.reset(seed=0)
    single.step(word(1))
    single.step(word(1))
    assert single.step(EOS)[4]["score_parts"] == {"long": 2.0, "words": 2.0}


@pytest.mark.parametrize("probability", [1.0 + 1e-6, -1e-6, float("nan"), [0.5, 2.0], "much"])
def test_what_is_no_probability_is_refused(probability):
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    with pytest.raises(ValueError, match="probability="):
        env.note_probability(probability)


def test_a_probability_is_that_of_the_next_token_alone():
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    env.reset(seed=0)
    env.note_probability([0.25, 1.0])
    env.step(np.array([word(1), word(1)]))
    assert env._episodes.probabilities.tolist() == [0.25, 1.0]
    env.step(np.array([word(1), word(1)]))
    assert np.isnan(env._episodes.probabilities).all()


def test_columns_go_with_their_own_row():
    seen = []

    def reward(prompts, completions, truth, **_):
        seen.extend(zip(prompts, completions, truth, strict=True))
        return [0.0] * len(prompts)

    rows = [{"prompt": f"w{n}", "truth": n} for n in range(4)]
    env = TextGenerationVectorEnv(
        **arguments(prompts=rows, scorer=reward, prompt_order="sequential", max_new_tokens=1),
        num_envs=4, autoreset_mode="SameStep",
    )  # fmt: skip
    env.reset(seed=0)
    env.step(np.array([word(n) for n in range(4)]))
    assert seen == [(f"w{n}", f"w{n}", n) for n in range(4)]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_of_an_episode_is_left_in_the_next(seed):
    """Whatever was written before, a prompt is observed as by an environment that is new."""
    rng = np.random.default_rng(seed)
    single, vector = (
        TextGenerationEnv(**arguments()),
        TextGenerationVectorEnv(**arguments(), num_envs=2),
    )
    single.reset(seed=0)
    vector.reset(seed=0)
    for index in rng.permutation(len(PROMPTS)).tolist():
        fresh = TextGenerationEnv(**arguments()).reset(options={"prompt_index": index})
        assert_same(single.reset(options={"prompt_index": index}), fresh, "single")
        observation, _ = vector.reset(options={"prompt_index": index})
        for row in range(2):
            found = {name: array[row] for name, array in observation.items()}
            assert_same(found, fresh[0], "vector")
        for _ in range(int(rng.integers(1, 5))):
            single.step(word(1))
            vector.step(np.array([word(1), word(2)]))


def test_observations_infos_and_masks_are_nobody_elses():
    """Written over by whoever got them, they change nothing in the environment."""
    options = {"min_new_tokens": 2}
    plain, spoilt = (TextGenerationVectorEnv(**arguments(**options), num_envs=2) for _ in range(2))
    alone, misused = (TextGenerationEnv(**arguments(**options)) for _ in range(2))
    plain.reset(seed=1), spoilt.reset(seed=1), alone.reset(seed=1), misused.reset(seed=1)
    for _ in range(4):
        expected = plain.step(np.array([word(1), word(2)]))
        found = spoilt.step(np.array([word(1), word(2)]))
        assert_same(found, expected, "vector")
        of_one, of_other = alone.step(word(1)), misused.step(word(1))
        assert_same(of_other, of_one, "single")
        for array in (*found[0].values(), found[4]["action_mask"], found[1]):
            array[...] = 0
        for array in (*of_other[0].values(), of_other[4]["action_mask"]):
            array[...] = 0
