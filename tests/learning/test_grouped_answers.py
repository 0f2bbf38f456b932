from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from llm_gym import GymVecEnv, ReferenceModel, TransformerActorCriticPolicy
from llm_gym.learning.answer_algorithm import answer_batch
from llm_gym.learning.answers import GroupedAnswers
from llm_gym.learning.base import group_size_of
from llm_gym.learning.losses import answer_sums
from llm_gym.text.answer import Answer
from tests.learning.bare_rows import rows
from tests.learning.worlds import count_w20, grouped_env

V = 32


@pytest.fixture
def keeper(tiny_dir):
    env = GroupedAnswers(GymVecEnv(grouped_env(tiny_dir())))
    env.seed(5)
    env.reset()
    return env


def play(env, steps, rng):
    """Random tokens; returns every finished episode as (row, prompt, completion text, return)."""
    episodes = []
    for _ in range(steps):
        _, rewards, dones, infos = env.step(rng.integers(V, size=env.num_envs))
        for row in np.flatnonzero(dones):
            last = infos[row]["terminal_observation"]
            n_prompt = int((last["attention_mask"] - last["completion_mask"]).sum())
            n_all = int(last["attention_mask"].sum())
            ids = last["input_ids"].tolist()
            episodes.append((row, tuple(ids[:n_prompt]), tuple(ids[n_prompt:n_all]), rewards[row]))
    return episodes


def test_groups_are_the_jth_answers_of_their_rows(keeper):
    episodes = play(keeper, 60, np.random.default_rng(0))
    by_row = {row: [e[1:] for e in episodes if e[0] == row] for row in range(8)}
    expected = []
    for first in (0, 4):
        rows = [by_row[row] for row in range(first, first + 4)]
        expected += [list(members) for members in zip(*rows, strict=False)]
    result = [
        [(answer.prompt_ids, answer.completion_ids, answer.score) for answer in group]
        for group in keeper.take()
    ]
    assert sorted(result) == sorted(expected)
    assert len(result) > 10
    assert keeper.take() == []


def test_members_share_their_prompt_and_carry_the_scorers_value(keeper, tiny_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_dir())
    play(keeper, 60, np.random.default_rng(1))
    for group in keeper.take():
        assert len({answer.prompt_ids for answer in group}) == 1
        for answer in group:
            text = tokenizer.decode(answer.completion_ids, skip_special_tokens=True)
            assert answer.score == count_w20([""], [text])[0]


def test_an_answer_is_worth_all_that_was_paid_for_its_tokens(keeper, monkeypatch):
    step = keeper.venv.step_wait

    def paid():
        observations, rewards, *rest = step()
        return observations, rewards + 0.25, *rest

    monkeypatch.setattr(keeper.venv, "step_wait", paid)
    last = {episode[1:3]: episode[3] for episode in play(keeper, 60, np.random.default_rng(1))}
    answers = [answer for group in keeper.take() for answer in group]
    assert len({len(answer.completion_ids) for answer in answers}) > 3
    for answer in answers:
        before = 0.25 * (len(answer.completion_ids) - 1)
        assert answer.score == last[answer.prompt_ids, answer.completion_ids] + before


def test_state_continues_exactly(keeper, tiny_dir):
    rng = np.random.default_rng(2)
    play(keeper, 17, rng)
    state = json.loads(json.dumps(keeper.get_state()))
    actions = [rng.integers(V, size=8) for _ in range(25)]
    resumed = GroupedAnswers(GymVecEnv(grouped_env(tiny_dir())))
    resumed.reset()
    resumed.set_state(state)
    for action in actions:
        keeper.step(action)
        resumed.step(action)
    assert resumed.take() == keeper.take()


@pytest.mark.parametrize(("group", "member"), [(2, 0), (-1, 0), (0, 4), (0, -1)])
def test_a_state_of_answers_beyond_the_groups_is_refused(keeper, group, member):
    play(keeper, 5, np.random.default_rng(2))
    state = json.loads(json.dumps(keeper.get_state()))
    state["pending"] = [[1, 0, [[3, [3], [4], 0.5, []]]]]
    keeper.check_state("the state", state)
    state["pending"] = [[group, 0, [[member, [3], [4], 0.5, []]]]]
    with pytest.raises(ValueError, match=r"the state\.pending"):
        keeper.check_state("the state", state)


@pytest.mark.parametrize("seed", [None, 7])
def test_after_a_reset_groups_are_whole_again(keeper, seed):
    """Rows may be at different prompts when all are reset; no group mixes two prompts."""
    rng = np.random.default_rng(3)
    for _ in range(4):
        play(keeper, 13, rng)
        if seed is not None:
            keeper.seed(seed)
        keeper.reset()
    keeper.take()
    play(keeper, 60, rng)
    state = keeper.get_state()
    # Nothing is kept of groups that cannot be completed any more.
    assert all(n >= state["first_ordinal"][group] for group, n, _ in state["pending"])
    groups = keeper.take()
    assert len(groups) > 8
    assert all(len({answer.prompt_ids for answer in group}) == 1 for group in groups)


def test_unscored_answers_are_left_out(tiny_dir):
    env = grouped_env(tiny_dir(), on_max_length="truncate", max_new_tokens=2, eos_token_id=(1,))
    keeper = GroupedAnswers(GymVecEnv(env))
    keeper.seed(0)
    keeper.reset()
    keeper.step(np.array([1, 9, 1, 9, 9, 9, 9, 9]))  # rows 0 and 2 end by themselves
    for _ in range(2):
        keeper.step(np.full(8, 9))
    first, *_ = sorted(keeper.take(), key=len, reverse=True)
    assert [answer.completion_ids for answer in first] == [(1,), (1,)]


def test_a_state_with_tokens_beyond_the_vocabulary_is_refused(keeper):
    play(keeper, 25, np.random.default_rng(0))
    state = json.loads(json.dumps(keeper.get_state()))
    for token in (-1, V):
        for ids in (0, 1):  # of the prompt, of the answer
            broken = json.loads(json.dumps(state))
            broken["finished"][0][0][ids] = [token]
            with pytest.raises(ValueError, match="finished"):
                keeper.set_state(broken)
    state["finished"][0][0][0] = [V - 1]
    keeper.set_state(state)


def test_one_row_is_a_group_by_itself(tiny_dir):
    keeper = GroupedAnswers(GymVecEnv(grouped_env(tiny_dir(), num_envs=1, group_size=1)))
    keeper.reset()
    episodes = play(keeper, 30, np.random.default_rng(0))
    groups = [[(a.prompt_ids, a.completion_ids) for a in group] for group in keeper.take()]
    assert groups == [[(prompt, completion)] for _, prompt, completion, _ in episodes]
    assert len(groups) > 3


def test_rows_of_a_group_with_different_prompts_are_an_error(tiny_dir):
    keeper = GroupedAnswers(GymVecEnv(grouped_env(tiny_dir())))
    keeper.reset()  # never seeded: every row shuffles for itself
    with pytest.raises(ValueError, match="got different prompts; seed the environment"):
        play(keeper, 60, np.random.default_rng(0))


def test_one_row_says_how_large_its_group_is():
    assert group_size_of(rows(1, group_size=1)) == 1
    assert group_size_of(rows(4, group_size=2)) == 2
    assert group_size_of(rows(4)) == 1


def grouped(num_envs: int, group_size: int) -> GroupedAnswers:
    env = rows(num_envs, group_size=group_size, render_mode=None)
    env.observation_space, env.unwrapped = spaces.Discrete(2), env
    return GroupedAnswers(env)


def ended(*tokens: int) -> dict[str, Any]:
    """The info of an answer of one token behind a prompt of some tokens."""
    mask = [False] * (len(tokens) - 1) + [True]
    observation = {"input_ids": np.array(tokens), "completion_mask": np.array(mask)}
    return {"terminal_observation": observation}


@pytest.mark.parametrize("size", [1, 2, 300])
def test_a_group_is_finished_with_its_last_member(size):
    keeper = grouped(2 * size, size)
    for row in range(size):
        assert keeper.finished == []
        keeper._keep(row, ended(1, 2))
    assert [len(group) for group in keeper.finished] == [size]
    assert keeper._pending == {}


@pytest.mark.parametrize("prompts", [(1, 2), (2, 1)])
def test_other_prompts_are_seen_in_whatever_order_they_come(prompts):
    keeper = grouped(2, 2)
    keeper._keep(0, ended(prompts[0], 0))
    with pytest.raises(ValueError, match="rows of a group got different prompts"):
        keeper._keep(1, ended(prompts[1], 0))


def state_of(keeper: GroupedAnswers, group: int, answer: list[Any]) -> dict[str, Any]:
    member = [0, *answer]
    return {
        "env": None,
        "finished": [],
        "pending": [[group, 0, [member]]],
        "ordinals": [0] * keeper.num_envs,
        "returns": [0.0] * keeper.num_envs,
        "first_ordinal": [0] * (keeper.num_envs // keeper.group_size),
    }


def test_a_state_is_of_the_groups_there_are():
    keeper = grouped(8, 2)
    for group in range(4):
        keeper.check_state("it", state_of(keeper, group, [[1], [2], 0.5]))
    with pytest.raises(ValueError, match="whole number from 0 to 3, got 4"):
        keeper.check_state("it", state_of(keeper, 4, [[1], [2], 0.5]))


@pytest.mark.parametrize(
    ("answer", "number"), [([], 1), ([[1], [2]], 3), ([[1], [2], 0.5, [], 1], 6)]
)
def test_answers_that_are_too_short_or_too_long_are_told_their_length(answer, number):
    keeper = grouped(2, 2)
    with pytest.raises(ValueError, match=f"must be a list of 5, got a list of {number}$"):
        keeper.check_state("it", state_of(keeper, 0, answer))


# ------------------------------------------------------------------ batches


ANSWERS = [
    Answer(prompt_ids=(4, 5), completion_ids=(6, 7, 1)),
    Answer(prompt_ids=(8,), completion_ids=(9,)),
    Answer(prompt_ids=(3, 3, 3), completion_ids=(4, 1)),
]


def make_policy(tiny_dir, **kwargs):
    env = grouped_env(tiny_dir())
    return TransformerActorCriticPolicy(
        env.single_observation_space,
        env.single_action_space,
        lambda _: 0.0,
        model=tiny_dir(),
        **kwargs,
    )


def by_hand(model, answer, temperature):
    """The sum over the answer's tokens, one forward pass a prefix."""
    total = 0.0
    for position, token in enumerate(answer.completion_ids):
        prefix = torch.tensor([[*answer.prompt_ids, *answer.completion_ids[:position]]])
        logits = model(input_ids=prefix).logits[0, -1] / temperature
        total += float(logits.log_softmax(-1)[token])
    return total


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 2, "top_p": 0.5}])
@torch.no_grad()
def test_log_probabilities_of_answers_equal_those_by_hand(tiny_dir, options):
    """Under top-k and top-p too: a likelihood is that of the whole distribution."""
    policy = make_policy(tiny_dir, **options)
    batch = answer_batch(ANSWERS, "cpu", n_tokens=V if policy.truncates else None)
    expected = [
        by_hand(policy.model, answer, options.get("temperature", 1.0)) for answer in ANSWERS
    ]
    ours = answer_sums(policy.evaluate_actions(batch, batch.actions)[1], batch.action_rows)
    reference = answer_sums(ReferenceModel.of(policy).log_probs(batch), batch.action_rows)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    np.testing.assert_allclose(reference, expected, atol=1e-4)
