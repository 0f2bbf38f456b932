from __future__ import annotations

import numpy as np
import pytest

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.learning.vec_env import GymVecEnv
from tests.text.helpers import EOS, arguments, word


def allowed(mask) -> list[int]:
    return np.flatnonzero(mask).tolist()


def test_no_option_no_mask():
    env = TextGenerationEnv(**arguments())
    assert "action_mask" not in env.reset()[1]
    assert "action_mask" not in env.step(word(1))[4]
    assert env.action_masks().dtype == bool
    assert env.action_masks().tolist() == [True] * 32


def test_forbidden_ids_are_masked_and_refused():
    env = TextGenerationEnv(**arguments(forbidden_token_ids=[0, 7]))
    _, info = env.reset()
    assert info["action_mask"].dtype == np.int8
    assert allowed(1 - info["action_mask"]) == [0, 7]
    with pytest.raises(ValueError, match=r"action 7 \(row 0\) is masked"):
        env.step(7)
    assert env.step(8)[4].keys() == {"action_mask"}


@pytest.mark.parametrize(
    ("actions", "named"),
    [
        ([8, 7, 0], r"action 7 \(row 1\) is masked"),
        ([8, 40, -1], r"action 40 \(row 1\) is outside"),
    ],
)
def test_of_several_wrong_actions_the_first_is_named(actions, named):
    env = TextGenerationVectorEnv(**arguments(forbidden_token_ids=[0, 7]), num_envs=3)
    env.reset()
    with pytest.raises(ValueError, match=named):
        env.step(np.array(actions))


def test_minimum_length_masks_every_eos():
    env = TextGenerationEnv(**arguments(min_new_tokens=2, eos_token_id=[EOS, 9]))
    masks = [env.reset()[1]["action_mask"]]
    masks += [env.step(word(1))[4]["action_mask"] for _ in range(3)]
    assert [int(mask[[EOS, 9]].sum()) for mask in masks] == [0, 0, 2, 2]
    env.reset()
    with pytest.raises(ValueError, match="masked"):
        env.step(9)


def test_allowed_ids():
    env = TextGenerationEnv(**arguments(allowed_token_ids=[EOS, 5, 6], forbidden_token_ids=[6]))
    assert allowed(env.reset()[1]["action_mask"]) == [EOS, 5]


def test_allowed_ids_may_depend_on_the_state():
    seen = []

    def rule(prompt_ids, completion_ids):
        seen.append((prompt_ids, completion_ids))
        return [EOS, 10 + len(completion_ids)]

    env = TextGenerationEnv(**arguments(allowed_token_ids=rule, min_new_tokens=1))
    _, info = env.reset(options={"prompt": "w1 w2"})
    assert allowed(info["action_mask"]) == [10]
    assert allowed(env.step(10)[4]["action_mask"]) == [EOS, 11]
    assert seen == [([word(1), word(2)], []), ([word(1), word(2)], [10])]


def test_mask_after_the_end_is_all_ones():
    """A sampler that asks for it gets an action, which nobody reads."""
    env = TextGenerationEnv(**arguments(allowed_token_ids=[EOS]))
    env.reset()
    assert env.step(EOS)[4]["action_mask"].all()


def test_masks_of_one_step_are_not_changed_by_the_next():
    env = TextGenerationVectorEnv(**arguments(min_new_tokens=1), num_envs=2)
    masks = env.reset(seed=0)[1]["action_mask"]
    env.step(np.array([5, 5]))
    assert masks[:, EOS].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forbidden_token_ids": [32]}, "forbidden_token_ids contains 32"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids contains -1"),
        ({"allowed_token_ids": []}, "no action is left"),
        ({"allowed_token_ids": [EOS], "min_new_tokens": 1}, "no action is left"),
        ({"forbidden_token_ids": range(32)}, "no action is left"),
    ],
)
def test_masks_that_cannot_work(options, message):
    with pytest.raises(ValueError, match=message):
        TextGenerationEnv(**arguments(**options))


def test_rule_that_leaves_no_action():
    env = TextGenerationEnv(**arguments(allowed_token_ids=lambda prompt, done: [EOS][: len(done)]))
    with pytest.raises(ValueError, match="leaves no action after 0 tokens"):
        env.reset()


def test_maskable_ppo_reads_the_masks():
    utils = pytest.importorskip("sb3_contrib.common.maskable.utils")
    single = TextGenerationEnv(**arguments(forbidden_token_ids=[7]))
    single.reset()
    assert utils.is_masking_supported(single)
    assert allowed(~utils.get_action_masks(single)) == [7]
    vector = GymVecEnv(
        TextGenerationVectorEnv(
            **arguments(min_new_tokens=1), num_envs=3, autoreset_mode="SameStep"
        )
    )
    vector.reset()
    assert utils.is_masking_supported(vector)
    vector.step(np.array([5, 5, 5]))
    vector.step(np.array([5, EOS, 5]))
    assert utils.get_action_masks(vector)[:, EOS].tolist() == [True, False, True]


def test_maskable_ppo_trains():
    MaskablePPO = pytest.importorskip("sb3_contrib").MaskablePPO
    env = GymVecEnv(
        TextGenerationVectorEnv(
            **arguments(min_new_tokens=2, forbidden_token_ids=[0]),
            num_envs=2,
            autoreset_mode="SameStep",
        )
    )
    model = MaskablePPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, seed=0)
    model.learn(32)  # a masked action would raise
    assert min(episode["l"] for episode in model.ep_info_buffer) >= 3
