"""Words as vectors, and the linear models on them, are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model.linear import conjugate_gradients, logistic, ridge, stacked
from llm_gym.feedback.reward_model.rival import tfidf_margins, tfidf_ratings
from llm_gym.feedback.reward_model.words import (
    Terms,
    WordWeights,
    load_words,
    save_words,
)

WORDS = ["please", "no", "wörld", "it's", "NOT", "a", "42", "?", "!!", "the"]


def texts(number, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 14))) for _ in range(number)]


def dense(matrix):
    table = np.zeros((len(matrix), matrix.width))
    np.add.at(table, (matrix.rows, matrix.columns), matrix.values)
    return table


def vectorizer(marks):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    pattern = {"token_pattern": r"\w+|[^\w\s]"} if marks else {}
    return text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **pattern)


@pytest.mark.parametrize("marks", [False, True])
def test_vectors_are_those_of_scikit_learn(marks):
    train, test = texts(40), [*texts(10, seed=1), "unknown words only", ""]
    theirs = vectorizer(marks)
    expected = np.vstack([theirs.fit_transform(train).toarray(), theirs.transform(test).toarray()])
    terms = Terms([*train, *test], marks=marks)
    ours = dense(terms.vectors(terms.rarity(np.arange(40))))
    columns = [terms.index[term] for term in theirs.get_feature_names_out()]
    np.testing.assert_allclose(ours[:, columns], expected, atol=1e-12)
    unseen = np.setdiff1d(np.arange(ours.shape[1]), columns)
    assert not ours[:, unseen].any()


def test_margins_of_comparisons_are_those_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    answers = texts(200, seed=2)
    pairs = [(a, b) for a, b in zip(answers[::2], answers[1::2], strict=True) if a != b]
    rows = [Preference(f"p{n}", *pair) for n, pair in enumerate(pairs)]
    train, test = rows[:60], rows[60:]
    theirs = vectorizer(False).fit([r.chosen for r in train] + [r.rejected for r in train])

    def differences(part):
        chosen, rejected = ([getattr(row, side) for row in part] for side in ("chosen", "rejected"))
        return (theirs.transform(chosen) - theirs.transform(rejected)).toarray()

    learnt = differences(train)
    model = linear.LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=10_000)
    model.fit(np.vstack([learnt, -learnt]), [1] * len(train) + [0] * len(train), [0.5] * 2 * 60)
    expected = differences(test) @ model.coef_[0]
    np.testing.assert_allclose(tfidf_margins(train, test), expected, atol=1e-4)


def test_predicted_ratings_are_those_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    train, test = texts(80, seed=3), texts(20, seed=4)
    ratings = np.random.default_rng(0).normal(12, 3, size=80)
    theirs = vectorizer(False)
    model = linear.Ridge(alpha=1.0).fit(theirs.fit_transform(train).toarray(), ratings)
    expected = model.predict(theirs.transform(test).toarray())
    np.testing.assert_allclose(tfidf_ratings(train, ratings, test), expected, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=6), st.booleans())
def test_any_text_has_a_vector_of_length_1_or_0(found, marks):
    terms = Terms(found, marks=marks)
    vectors = dense(terms.vectors(terms.rarity(np.arange(len(found)))))
    lengths = np.linalg.norm(vectors, axis=1)
    assert ((np.abs(lengths - 1) < 1e-9) | (lengths == 0)).all()


def test_products_rows_and_differences_are_those_of_the_dense_matrix():
    terms = Terms([*texts(12), ""], marks=True)
    matrix = terms.vectors(terms.rarity(np.arange(12)))
    table, rng = dense(matrix), np.random.default_rng(0)
    right, left = rng.normal(size=matrix.width), rng.normal(size=13)
    np.testing.assert_allclose(matrix.times(right), table @ right, atol=1e-12)
    np.testing.assert_allclose(matrix.transposed_times(left), table.T @ left, atol=1e-12)
    some = np.array([3, 12, 0, 3])
    np.testing.assert_array_equal(dense(matrix.take(some)), table[some])
    less = matrix.take(some).less(matrix.take(np.array([1, 2, 12, 3])))
    np.testing.assert_allclose(dense(less), table[some] - table[[1, 2, 12, 3]], atol=1e-15)


# ------------------------------------------------------------------ fits


def test_ridge_is_the_closed_form_with_weights_and_an_intercept():
    rng = np.random.default_rng(0)
    matrix, targets = rng.normal(size=(50, 6)), rng.normal(3, 1, size=50)
    trust = rng.uniform(0.2, 2, size=50)
    found, shift = ridge(matrix, targets, 2.5, trust)
    wide = np.hstack([matrix, np.ones((50, 1))])
    penalty = np.diag([2.5] * 6 + [0])
    expected = np.linalg.solve(wide.T * trust @ wide + penalty, wide.T @ (trust * targets))
    np.testing.assert_allclose([*found, shift], expected, atol=1e-5)


@pytest.mark.parametrize("start", [None, np.full(5, 30.0)])
def test_logistic_is_where_the_gradient_is_0_from_wherever_it_starts(start):
    rng = np.random.default_rng(0)
    matrix, trust = rng.normal(0.3, 1, size=(80, 5)), rng.uniform(0.5, 2, size=80)
    margins = rng.uniform(0, 1, size=80)
    found = logistic(matrix, 0.7, trust, margins, start)
    wrong = 1 / (1 + np.exp(matrix @ found - margins))
    np.testing.assert_allclose(matrix.T @ (trust * wrong), 0.7 * found, atol=2e-3)


def test_conjugate_gradients_solve_a_system():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(20, 20))
    matrix, right = root @ root.T + np.eye(20), rng.normal(size=20)
    found = conjugate_gradients(lambda v: matrix @ v, right, tolerance=1e-12)
    np.testing.assert_allclose(matrix @ found, right, atol=1e-8)
    assert not conjugate_gradients(lambda v: matrix @ v, np.zeros(20)).any()


def test_stacking_leaves_out_what_would_count_negatively():
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=200), rng.normal(size=200)
    parts = np.stack([signal + noise, -signal, signal], axis=1)

    def fit(columns):
        return np.linalg.lstsq(columns, signal, rcond=None)[0]

    def loss(predicted):
        return float(np.mean((predicted - signal) ** 2))

    np.testing.assert_allclose(stacked(parts, fit, loss), [0, 0, 1], atol=1e-12)
    assert not stacked(parts[:, 1:2], fit, loss).any()


# ------------------------------------------------------------------ files


def test_words_are_saved_and_read(tmp_path):
    words = WordWeights(["please", "no thanks"], np.array([1.5, 2.0]), np.array([1.0, -3.0]), True)
    save_words(words, tmp_path)
    loaded = load_words(tmp_path)
    found = ["Please!", "no thanks", "other"]
    assert loaded(found).tolist() == words(found).tolist() == [1.0, -3.0, 0.0]
    assert words.scaled(2)(found).tolist() == [2.0, -6.0, 0.0]
    assert words.strongest(1) == [("no thanks", -6.0)]
    assert load_words(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("reward_words.json", b"{", "reward_words.json"),
        ("reward_words.json", b'{"format": 2, "marks": true, "terms": []}', "format"),
        ("reward_words.json", b'{"format": 1, "marks": true, "terms": [3]}', r"terms\[0\]"),
        (
            "reward_words.json",
            b'{"format": 1, "marks": true, "terms": ["a"]}',
            "must be 1 finite numbers",
        ),
        ("reward_words.safetensors", b"broken", "cannot be read"),
    ],
)
def test_damaged_words_are_named(name, content, message, tmp_path):
    words = WordWeights(["please", "no"], np.ones(2), np.ones(2), False)
    save_words(words, tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_words(tmp_path)
    save_words(WordWeights(["a"], np.ones(1), np.array([np.nan]), False), tmp_path)
    with pytest.raises(ValueError, match="finite"):
        load_words(tmp_path)
