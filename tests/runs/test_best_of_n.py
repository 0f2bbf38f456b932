"""Best-of-n by sampling against its exact distribution, on answers of one token."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from llm_gym.runs.best_of_n import sample_best_of_n
from llm_gym.runs.evaluation import evaluate
from llm_gym.statistics.best_of_n import best_of_n

N, REPEATS = 4, 600


def score(prompts, completions, **_):
    """Seven classes of words, so that there are ties."""
    return [float(int(completion[1:] or 0) % 7) for completion in completions]


def task(model, prompts, **overrides):
    options = {"max_new_tokens": 1, "eos_token_id": (), "scorer": score}
    return {"tokenizer": model, "prompts": prompts} | options | overrides


@pytest.fixture(scope="module")
def world(tiny_dir):
    """Exact probabilities and scores of the 32 answers to one prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tiny_dir()
    tokenizer = AutoTokenizer.from_pretrained(model)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(model)(**tokenizer("w3", return_tensors="pt"))
    probabilities = logits.logits[0, -1].double().softmax(-1).numpy()
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(32)]
    return model, probabilities, np.array(score(None, texts))


@pytest.fixture(scope="module")
def sampled(world):
    return sample_best_of_n(world[0], task(world[0], ["w3"] * REPEATS), N, seed=1)


def test_mean_score_is_the_exact_one_for_every_n(world, sampled):
    _, probabilities, scores = world
    curve = sampled.curve([1, 2, 3, 4])
    for m, exact in zip(curve.n, best_of_n(probabilities, scores, [1, 2, 3, 4]), strict=True):
        expected = exact.expectation(scores)
        deviation = np.sqrt(exact.expectation((scores - expected) ** 2) / REPEATS)
        assert abs(curve.mean["score"][m - 1] - expected) < 4 * deviation, m
    assert curve.mean["score"][3] == pytest.approx(sampled.best.mean_score)


def test_answers_have_the_exact_distribution_ties_included(world, sampled):
    _, probabilities, scores = world
    [exact] = best_of_n(probabilities, scores, N)
    tokens = [row.completion_ids[0] for row in sampled.best.rows]
    frequencies = np.bincount(tokens, minlength=32) / REPEATS
    deviation = np.sqrt(exact.probabilities * (1 - exact.probabilities) / REPEATS)
    assert (np.abs(frequencies - exact.probabilities) < 4.5 * deviation + 1e-9).all()


def test_bound_is_that_of_theory_and_holds(world, sampled):
    assert sampled.kl_bound == pytest.approx(np.log(4) - 3 / 4)
    assert best_of_n(*world[1:], N)[0].kl <= sampled.kl_bound


def test_every_prompt_gets_n_answers_and_keeps_its_best(world):
    prompts = ["w1", "w2 w3", "w4"]
    result = sample_best_of_n(world[0], task(world[0], prompts), 5, num_envs=4)
    assert [row.prompt for row in result.best.rows] == prompts
    assert result.scores.shape == (3, 5)
    for best, rows in zip(result.best.rows, result.candidates, strict=True):
        assert best in rows
        assert best.score == max(row.score for row in rows)
        assert {row.prompt for row in rows} == {best.prompt}
    json.dumps(result.to_dict(), allow_nan=False)


def test_one_answer_is_plain_sampling(world):
    env = task(world[0], ["w3"] * 50)
    single, plain = sample_best_of_n(world[0], env, 1, seed=3), evaluate(world[0], env, seed=3)
    assert single.best.rows == plain.rows
    assert single.kl_bound == 0.0


def test_max_prompts_and_wrong_values(world):
    env = task(world[0], ["w1", "w2", "w3"])
    assert len(sample_best_of_n(world[0], env, 2, max_prompts=2).best.rows) == 2
    with pytest.raises(ValueError, match="n=0 must be a whole number of at least 1"):
        sample_best_of_n(world[0], env, 0)
    with pytest.raises(ValueError, match=r"max_prompts=.* must be a .*number of at least 1"):
        sample_best_of_n(world[0], env, 2, max_prompts=0)
    with pytest.raises(ValueError, match="prompts are a stream"):
        sample_best_of_n(world[0], task(world[0], iter(["w1"]), max_prompt_tokens=4), 2)
