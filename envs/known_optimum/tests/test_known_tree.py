"""Numbering of answers and prefixes, and the reward families."""

from __future__ import annotations

import numpy as np
import pytest
from llm_gym_known_optimum import FAMILIES, AnswerTree, draw_rewards
from llm_gym_known_optimum.rewards import LENGTH_SHARE


def test_answers_are_numbers_with_words_as_digits():
    tree = AnswerTree(3, 2)
    assert (tree.n_actions, tree.n_answers) == (3, 9)
    assert [tree.index([a, b]) for a in range(3) for b in range(3)] == list(range(9))
    assert tree.words(2).tolist() == [[a, b] for a in range(3) for b in range(3)]


def test_answers_that_end_early_come_by_length():
    tree = AnswerTree(2, 2, ends_early=True)
    assert (tree.n_actions, tree.n_answers) == (3, 7)
    answers = [[], [0], [1], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert [tree.index(words) for words in answers] == list(range(7))
    assert tree.answer_lengths.tolist() == [0, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("ends_early", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_rewards_lie_between_zero_and_one_and_differ_by_prompt_and_seed(family, ends_early):
    tree = AnswerTree(4, 4, ends_early)
    rewards = draw_rewards(family, tree, 2, seed=0)
    assert rewards.shape == (2, tree.n_answers)
    assert rewards.min() >= 0
    assert rewards.max() <= 1
    assert not np.array_equal(rewards[0], rewards[1])
    assert np.array_equal(rewards, draw_rewards(family, tree, 2, seed=0))
    assert not np.array_equal(rewards, draw_rewards(family, tree, 2, seed=1))
    # a prompt's rewards do not depend on how many there are
    assert np.array_equal(rewards[:1], draw_rewards(family, tree, 1, seed=0))


def test_the_unique_answer_is_found_word_by_word():
    tree = AnswerTree(3, 3)
    rewards = draw_rewards("unique", tree, 1, seed=2)[0]
    assert (rewards == 1).sum() == 1
    best = tree.words(3)[rewards.argmax()]
    wrong = (best + 1) % 3
    for right in range(4):
        words = [*best[:right], *wrong[right:]]
        assert rewards[tree.index(words)] == pytest.approx(right / 3)


def test_additive_rewards_are_sums_over_places():
    tree = AnswerTree(4, 3)
    table = draw_rewards("additive", tree, 1, seed=0)[0].reshape(4, 4, 4)
    assert table[1:] - table[:-1] == pytest.approx(
        np.broadcast_to((table[1:] - table[:-1])[:, :1, :1], (3, 4, 4))
    )
    assert (table.min(), table.max()) == (0, 1)


def test_single_words_tell_nothing_in_interactions():
    """Averaged over all other words, every first word is worth the same; pairs are not."""
    tree = AnswerTree(4, 3)
    table = draw_rewards("interaction", tree, 1, seed=0)[0].reshape(4, 4, 4)
    for axes in ((1, 2), (0, 2), (0, 1)):
        assert table.mean(axes) == pytest.approx(np.full(4, table.mean()))
    assert table.mean(2).std() > 0.05


def test_going_on_pays_in_family_length():
    tree = AnswerTree(3, 4, ends_early=True)
    rewards = draw_rewards("length", tree, 1, seed=0)[0]
    for word in range(3):
        said = [rewards[tree.index([word] * n)] for n in range(1, 5)]
        assert np.diff(said) == pytest.approx(LENGTH_SHARE / 4)
    assert rewards[0] == 0


def test_one_answer_in_twenty_pays_in_family_sparse():
    rewards = draw_rewards("sparse", AnswerTree(4, 4), 3, seed=0)
    assert (rewards == 1).sum(1).tolist() == [13, 13, 13]
    assert (rewards == 0).sum(1).tolist() == [243, 243, 243]
    assert draw_rewards("sparse", AnswerTree(2, 1), 1, seed=0).sum() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 2), "n_words=1 must be a whole number of at least 2"),
        ((2, 0), "length=0 must be a whole number of at least 1"),
        ((2, 1.5), "length=1.5"),
        ((100, 4), "at most 1,000,000 can be listed"),
    ],
)
def test_impossible_trees_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AnswerTree(*arguments)


def test_unknown_answers_and_families_are_named():
    tree = AnswerTree(3, 2)
    with pytest.raises(ValueError, match=r"\[0\] has 1 words, answers have 2"):
        tree.index([0])
    with pytest.raises(ValueError, match=r"has the word 3, of 3"):
        tree.index([0, 3])
    with pytest.raises(ValueError, match="family='nice' is not one of"):
        draw_rewards("nice", tree, 1, 0)
    with pytest.raises(ValueError, match="needs neighbouring words"):
        draw_rewards("interaction", AnswerTree(3, 1), 1, 0)
