"""The conformance rules hold for the text environments, and catch environments that break them."""

from __future__ import annotations

import itertools

import gymnasium as gym
import numpy as np
import pytest

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.testing import conformance
from llm_gym.testing.conformance import EnvironmentConformance, VectorEnvironmentConformance
from tests.text.helpers import EOS, Recorder, arguments


class TestSingle(EnvironmentConformance):
    def make_env(self):
        return gym.make("llm_gym/TextGeneration-v0", **arguments())


class TestRendered(EnvironmentConformance):
    def make_env(self):
        return gym.make("llm_gym/TextGeneration-v0", render_mode="ansi", **arguments())


class TestMasked(EnvironmentConformance):
    def make_env(self):
        return TextGenerationEnv(**arguments(min_new_tokens=1))

    # The checkers of Gymnasium and Stable-Baselines3 sample actions without looking at the mask.
    test_gymnasium_check_env = test_sb3_check_env = None


class TestVector(VectorEnvironmentConformance):
    def make_env(self, row, num_rows):
        return gym.make("llm_gym/TextGeneration-v0", **arguments())

    def make_vector_env(self, num_envs, autoreset_mode):
        return gym.make_vec(
            "llm_gym/TextGeneration-v0", num_envs, autoreset_mode=autoreset_mode, **arguments()
        )


class Reusing(TextGenerationEnv):
    """Returns the same arrays at every step."""

    def step(self, action):
        observation, *rest = super().step(action)
        self._kept = getattr(self, "_kept", observation)
        for key, value in observation.items():
            self._kept[key][:] = value
        return self._kept, *rest


class Unseeded(TextGenerationEnv):
    """Takes another seed than the one it is given."""

    seeds = itertools.count()

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=next(self.seeds), options=options)


class Global(TextGenerationEnv):
    """Uses NumPy's global generator."""

    def step(self, action):
        np.random.rand()  # noqa: NPY002 -- what the rule forbids
        return super().step(action)


class Endless(TextGenerationEnv):
    """Never says that an episode has ended."""

    def step(self, action):
        if not self._episodes.running[0]:
            self.reset()
        observation, reward, *_, info = super().step(action)
        return observation, reward, False, False, info


class Infinite(TextGenerationEnv):
    """Pays an infinite reward."""

    def step(self, action):
        observation, _, *rest = super().step(action)
        return observation, float("inf"), *rest


@pytest.mark.parametrize(
    ("broken", "test", "rule"),
    [
        (Reusing, "test_returned_data_stays_as_it_was", conformance.RULE_FRESH),
        (Unseeded, "test_seed_fixes_the_episodes", conformance.RULE_SEED),
        (Global, "test_global_random_state_is_left_alone", conformance.RULE_GLOBAL_RNG),
        (Endless, "test_episodes_end", conformance.RULE_ENDS),
        (Infinite, "test_transitions_have_the_right_types", conformance.RULE_REWARD),
    ],
)
def test_a_broken_environment_is_caught(broken, test, rule):
    suite = EnvironmentConformance()
    suite.max_steps = 50
    suite.make_env = lambda: broken(**arguments())
    with pytest.raises(AssertionError) as caught:
        getattr(suite, test)()
    assert str(caught.value).startswith(rule)


def test_a_vector_environment_unlike_the_single_one_is_caught():
    suite = VectorEnvironmentConformance()
    suite.make_env = lambda row, num_rows: TextGenerationEnv(**arguments())
    suite.make_vector_env = lambda num_envs, mode: TextGenerationVectorEnv(
        **arguments(max_new_tokens=5, missing_eos_penalty=1.0, on_max_length="penalise"),
        num_envs=num_envs,
        autoreset_mode=mode,
    )
    with pytest.raises(AssertionError) as caught:
        suite.test_equal_to_sync_vector_env()
    assert str(caught.value).startswith(conformance.RULE_SYNC)


def test_recorder_is_consulted_by_the_suite():
    """Guards the suite itself: its random actions do reach the end of episodes."""
    scorer = Recorder()
    suite = EnvironmentConformance()
    suite.make_env = lambda: TextGenerationEnv(**arguments(scorer=scorer, eos_token_id=EOS))
    suite.test_episodes_end()
    assert len(scorer.batches) == 3
