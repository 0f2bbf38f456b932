from __future__ import annotations

import itertools
import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gym import TextGenerationEnv, TextGenerationVectorEnv
from llm_gym.testing.conformance import assert_same, assert_same_vector_envs
from tests.text.helpers import EOS, PROMPTS, Recorder, arguments, word

SAME_STEP = AutoresetMode.SAME_STEP
DISABLED = AutoresetMode.DISABLED
TOKENIZER = arguments()["tokenizer"]


def brittle(prompts, completions):
    """A scorer that gives no number for some completions."""
    return [float("nan") if "w3" in text else float(len(text)) for text in completions]


def sync_of(num_envs: int, mode: AutoresetMode, **overrides) -> SyncVectorEnv:
    """The same rows as Python objects in a loop."""
    sequential = overrides.get("prompt_order") == "sequential"

    def maker(row: int):
        shard = (row, num_envs) if sequential else (0, 1)
        return lambda: TextGenerationEnv(**arguments(shard=shard, **overrides))

    return SyncVectorEnv([maker(row) for row in range(num_envs)], autoreset_mode=mode)


@settings(max_examples=60, deadline=None)
@given(
    num_envs=st.integers(1, 5),
    mode=st.sampled_from(AutoresetMode),
    seed=st.integers(0, 10**6),
    max_new_tokens=st.integers(1, 6),
    on_max_length=st.sampled_from(["terminate", "truncate", "penalise"]),
    prompt_order=st.sampled_from(["shuffled", "sequential"]),
    eos_token_id=st.sampled_from([None, (), [word(0), EOS]]),
    stop_strings=st.sampled_from([(), ("w1 w2",), ("w0 w", "3")]),
    is_brittle=st.booleans(),
)
def test_equal_to_sync_vector_env(num_envs, mode, seed, is_brittle, **options):
    """Observations, rewards, flags and infos are those of `SyncVectorEnv`, whatever happens."""
    options["tokenizer"] = TOKENIZER
    options["scorer"] = brittle if is_brittle else Recorder()
    options["on_scorer_error"] = "penalise"
    # Few tokens, so that ends of every kind happen often.
    tokens = np.array([EOS, word(0), word(1), word(2), word(3)])
    actions = np.random.default_rng(seed).choice(tokens, size=(30, num_envs))
    env = TextGenerationVectorEnv(**arguments(**options), num_envs=num_envs, autoreset_mode=mode)
    assert_same_vector_envs(
        env,
        sync_of(num_envs, mode, **options),
        seed=seed,
        num_steps=len(actions),
        actions=lambda number: actions[number],
    )


@pytest.mark.parametrize("mode", AutoresetMode)
def test_equal_to_sync_vector_env_with_masks(mode):
    options = {
        "tokenizer": TOKENIZER,
        "min_new_tokens": 2,
        "forbidden_token_ids": [0, 5],
        "allowed_token_ids": lambda prompt, done: [EOS, 5, 6, 7 + len(prompt) + len(done)],
    }
    env = TextGenerationVectorEnv(**arguments(**options), num_envs=3, autoreset_mode=mode)
    assert_same_vector_envs(env, sync_of(3, mode, **options), seed=1, num_steps=30)


@pytest.mark.parametrize("order", ["shuffled", "sequential"])
def test_groups_walk_the_same_prompts_each_at_its_own_pace(order):
    env = TextGenerationVectorEnv(
        **arguments(prompt_order=order, on_max_length="truncate"),
        num_envs=6,
        group_size=3,
        autoreset_mode=SAME_STEP,
    )
    _, infos = env.reset(seed=5)
    walks = [[int(index)] for index in infos["prompt_index"]]
    rng = np.random.default_rng(0)
    for _ in range(80):
        _, _, terminated, truncated, infos = env.step(rng.choice([EOS, 5, 6], size=6))
        for row in np.flatnonzero(terminated | truncated):
            walks[row].append(int(infos["prompt_index"][row]))
    lengths = [len(walk) for walk in walks]
    assert len(set(lengths[:3])) > 1  # the paces differ
    for group in (walks[:3], walks[3:]):
        shortest = min(map(len, group))
        assert group[0][:shortest] == group[1][:shortest] == group[2][:shortest]
    assert walks[0][:4] != walks[3][:4]


def test_sequential_rows_walk_the_list_once_together():
    env = TextGenerationVectorEnv(
        **arguments(prompt_order="sequential"), num_envs=2, autoreset_mode=SAME_STEP
    )
    seen = env.reset()[1]["prompt_index"].tolist()
    for _ in range(2):
        seen += env.step(np.array([EOS, EOS]))[4]["prompt_index"].tolist()
    assert seen == [0, 1, 2, 3, 4, 1]  # five prompts: row 1 begins its share anew


def test_more_rows_than_prompts():
    env = TextGenerationVectorEnv(
        **arguments(prompts=["w1", "w2"], prompt_order="sequential"), num_envs=5
    )
    assert env.reset()[1]["prompt_index"].tolist() == [0, 1, 0, 1, 0]


def test_scorer_is_called_once_a_step_for_all_rows_that_ended():
    scorer = Recorder()
    env = TextGenerationVectorEnv(**arguments(scorer=scorer, max_new_tokens=3), num_envs=4)
    env.reset(seed=0)
    env.step(np.full(4, word(1)))
    assert scorer.batches == []
    env.step(np.array([EOS, word(2), EOS, word(2)]))
    assert [batch[1] for batch in scorer.batches] == [["w1", "w1"]]
    env.step(np.array([EOS, EOS, EOS, word(3)]))  # rows 0 and 2 are being reset
    assert [batch[1] for batch in scorer.batches[1:]] == [["w1 w2", "w1 w2 w3"]]


def test_failing_completion_does_not_spoil_the_others():
    """With on_scorer_error="penalise" only the episodes at fault pay."""
    env = TextGenerationVectorEnv(
        **arguments(scorer=brittle, on_scorer_error="penalise", scorer_error_penalty=-9.0),
        num_envs=3,
    )
    env.reset(seed=0)
    env.step(np.array([word(1), word(3), word(12)]))
    _, rewards, _, _, infos = env.step(np.full(3, EOS))
    assert rewards.tolist() == [2.0, -9.0, 3.0]
    assert infos["_scorer_error"].tolist() == [False, True, False]
    assert "brittle" in infos["scorer_error"][1]


def test_rows_are_seeded_one_after_the_other():
    env = TextGenerationVectorEnv(**arguments(), num_envs=3)
    _, infos = env.reset(seed=40)
    single = TextGenerationEnv(**arguments())
    assert env.np_random_seed == (40, 41, 42)
    for row in range(3):
        assert single.reset(seed=40 + row)[1]["prompt_index"] == infos["prompt_index"][row]


def test_seed_may_be_a_sequence():
    env = TextGenerationVectorEnv(**arguments(), num_envs=3)
    first = env.reset(seed=[7, 7, 8])[1]["prompt_index"].tolist()
    assert first == env.reset(seed=[7, 7, 8])[1]["prompt_index"].tolist()
    assert first[0] == first[1]
    with pytest.raises(ValueError, match="2 entries, but num_envs=3"):
        env.reset(seed=[1, 2])


def test_reset_mask_resets_the_rows_it_names_and_no_other():
    env = TextGenerationVectorEnv(**arguments(), num_envs=3, autoreset_mode=DISABLED)
    env.reset(seed=0)
    before, *_ = env.step(np.array([word(1), EOS, word(1)]))
    mask = np.array([False, True, False])
    after, infos = env.reset(options={"reset_mask": mask, "prompt_index": [0, 3, 0]})
    assert infos["_prompt_index"].tolist() == mask.tolist()
    assert infos["prompt_index"][1] == 3
    assert_same(after["input_ids"][[0, 2]], before["input_ids"][[0, 2]], "untouched rows")
    assert after["completion_mask"].sum(axis=1).tolist() == [1, 0, 1]


def test_group_reset_gives_one_prompt_to_all_rows():
    env = TextGenerationVectorEnv(**arguments(), num_envs=3, autoreset_mode=DISABLED)
    observation, infos = env.reset(options={"prompt": "w5 w6"})
    assert infos["prompt"].tolist() == ["w5 w6"] * 3
    assert (observation["input_ids"][:, :2] == [word(5), word(6)]).all()
    _, infos = env.reset(options={"prompt": ["w1", "w2", {"prompt": "w3", "column": 1}]})
    assert infos["prompt"].tolist() == ["w1", "w2", "w3"]


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, False, True], TypeError),
        (np.array([1, 0, 1]), TypeError),
        (np.array([True, False]), ValueError),
        (np.zeros(3, dtype=bool), ValueError),
    ],
)
def test_bad_reset_mask(mask, error):
    env = TextGenerationVectorEnv(**arguments(), num_envs=3, autoreset_mode=DISABLED)
    env.reset(seed=0)
    with pytest.raises(error, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_bad_reset_option_changes_nothing():
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    before, _ = env.reset(seed=0)
    with pytest.raises(ValueError, match="outside the list"):
        env.reset(seed=1, options={"prompt_index": [1, 99]})
    with pytest.raises(ValueError, match="3 entries, but num_envs=2"):
        env.reset(options={"prompt": ["w1"] * 3})
    with pytest.raises(ValueError, match="unknown reset option 'mask'"):
        env.reset(options={"mask": 1})
    after, *_ = env.step(np.array([word(1), word(1)]))
    ids = before["attention_mask"].astype(bool)
    assert_same(after["input_ids"][ids], before["input_ids"][ids], "prompts")


def test_ended_row_must_be_reset_when_autoreset_is_disabled():
    env = TextGenerationVectorEnv(**arguments(), num_envs=2, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(np.array([EOS, word(1)]))
    with pytest.raises(ResetNeeded, match=r"rows \[0\] have ended"):
        env.step(np.array([word(1), word(1)]))


def test_step_before_reset_is_an_error():
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(np.array([word(1), word(1)]))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([word(1), 32], r"action 32 \(row 1\)"),
        ([-1, word(1)], r"action -1 \(row 0\)"),
        ([word(1)], "shape"),
        ([1.0, 2.0], "integers"),
    ],
)
def test_bad_actions(actions, message):
    env = TextGenerationVectorEnv(**arguments(), num_envs=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(np.array(actions))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_envs": 4, "group_size": 3}, "group_size=3 must divide num_envs=4"),
        ({"num_envs": 4, "group_size": 0}, "group_size=0"),
        ({"autoreset_mode": "sometimes"}, "autoreset_mode='sometimes' is not one of"),
        ({"render_mode": "svg"}, "render_mode='svg'"),
    ],
)
def test_bad_vector_arguments(keywords, message):
    with pytest.raises(ValueError, match=message):
        TextGenerationVectorEnv(**arguments(), **keywords)


def test_group_members_share_the_prompts_of_a_stream():
    stream = ({"prompt": f"w{n % 20}"} for n in itertools.count())
    env = TextGenerationVectorEnv(
        **arguments(prompts=stream, max_prompt_tokens=1),
        num_envs=4,
        group_size=2,
        autoreset_mode=SAME_STEP,
    )
    assert env.reset()[1]["prompt_index"].tolist() == [0, 0, 1, 1]
    _, _, _, _, infos = env.step(np.array([EOS, word(1), EOS, EOS]))
    assert infos["prompt_index"].tolist() == [2, 0, 3, 3]
    _, _, _, _, infos = env.step(np.array([EOS, EOS, word(1), word(1)]))
    assert infos["prompt_index"].tolist() == [4, 2, 0, 0]


def test_prompts_of_the_whole_list_appear_in_every_row():
    env = TextGenerationVectorEnv(**arguments(), num_envs=3, autoreset_mode=SAME_STEP)
    seen = [env.reset(seed=0)[1]["prompt_index"]]
    seen += [env.step(np.full(3, EOS))[4]["prompt_index"] for _ in range(len(PROMPTS) - 1)]
    assert np.sort(np.stack(seen), axis=0).T.tolist() == [list(range(len(PROMPTS)))] * 3


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("options", [{}, {"min_new_tokens": 2}, {"on_max_length": "truncate"}])
@pytest.mark.parametrize("limit", [1, 3, 5, -1])
def test_a_limit_of_steps_is_that_of_time_limit(mode, options, limit):
    """`make_vec(id, n, max_episode_steps=...)` is, natively too, what the wrapper does."""
    task = {**arguments(prompt_order="sequential", **options), "max_episode_steps": limit}
    name = "llm_gym/TextGeneration-v0"
    native = gym.make_vec(name, num_envs=3, autoreset_mode=mode, **task)
    makers = [lambda row=row: gym.make(name, shard=(row, 3), **task) for row in range(3)]
    sync = SyncVectorEnv(makers, autoreset_mode=mode)
    assert_same_vector_envs(native, sync, seed=4, num_steps=40)


def test_rows_cut_off_by_the_limit_are_saved():
    task = {**arguments(), "num_envs": 2, "max_episode_steps": 2}
    first, second = TextGenerationVectorEnv(**task), TextGenerationVectorEnv(**task)
    first.reset(seed=0)
    for tokens in ([word(1), EOS], [word(2), word(2)]):
        first.step(np.array(tokens))
    second.set_state(json.loads(json.dumps(first.get_state())))
    for _ in range(4):
        action = np.array([word(1), word(2)])
        assert_same(first.step(action), second.step(action), "the state is complete")


@pytest.mark.parametrize(
    ("limit", "error"), [(0, ValueError), (-2, ValueError), (2.5, TypeError), (True, TypeError)]
)
def test_what_is_no_limit_of_steps_is_refused(limit, error):
    with pytest.raises(error, match="max_episode_steps="):
        TextGenerationVectorEnv(**arguments(), max_episode_steps=limit)
