from __future__ import annotations

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from llm_gym import ScorerError, TextGenerationEnv, TextGenerationVectorEnv
from tests.text.helpers import EOS, arguments, word


def end(env):
    env.reset(options={"prompt": "w4"})
    env.step(word(1))
    return env.step(EOS)


def fails(prompts, completions):
    raise RuntimeError("out of coffee")


def says_nan(prompts, completions):
    return [float("nan")]


def says_two(prompts, completions):
    return [1.0, 2.0]


@pytest.mark.parametrize("scorer", [fails, says_nan, says_two])
def test_scorer_error_names_scorer_prompt_and_completion(scorer):
    env = TextGenerationEnv(**arguments(scorer=scorer))
    with pytest.raises(ScorerError, match=rf"{scorer.__name__}(?s:.*)'w4'(?s:.*)'w1'"):
        end(env)


@pytest.mark.parametrize("scorer", [fails, says_nan, says_two])
def test_scorer_error_may_be_penalised(scorer):
    env = TextGenerationEnv(
        **arguments(scorer=scorer, on_scorer_error="penalise", scorer_error_penalty=-7.0)
    )
    _, reward, terminated, truncated, info = end(env)
    assert (reward, terminated, truncated) == (-7.0, True, False)
    assert scorer.__name__ in info["scorer_error"]
    assert "score" not in info


def test_rows_of_a_failed_step_do_not_go_on_silently():
    """In mode "SameStep" nobody would reset them."""
    env = TextGenerationVectorEnv(**arguments(scorer=fails), num_envs=2, autoreset_mode="SameStep")
    env.reset(seed=0)
    with pytest.raises(ScorerError):
        env.step(np.array([word(1), EOS]))
    with pytest.raises(ResetNeeded, match=r"rows \[1\] have ended, but the step .* failed"):
        env.step(np.array([word(1), word(1)]))
    env.reset(options={"reset_mask": np.array([False, True])})
    env.step(np.array([word(1), word(1)]))


def test_trl_reward_function_works_unchanged():
    def reward(completions, ground_truth, **kwargs):
        return [float(text == truth) for text, truth in zip(completions, ground_truth, strict=True)]

    rows = [{"prompt": "w4", "ground_truth": "w1"}]
    env = TextGenerationEnv(**arguments(scorer=reward, prompts=rows))
    env.reset(seed=0)
    env.step(word(1))
    assert env.step(EOS)[1] == 1.0


def test_scorer_without_parts_has_none_in_the_info():
    env = TextGenerationEnv(**arguments(scorer=lambda prompts, completions: [3]))
    *_, info = end(env)
    assert info == {"prompt": "w4", "completion": "w1", "stop_reason": "eos", "score": 3.0}
