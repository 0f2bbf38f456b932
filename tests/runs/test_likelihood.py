from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llm_gym.runs.evaluation import evaluate, perplexity_under, sequence_kl
from llm_gym.testing.tiny import tiny_model
from llm_gym.text.answer import Answer
from tests.tiny_runs import count_w1

ANSWERS = [
    Answer(prompt_ids=(4, 5), completion_ids=(6, 7, 1)),
    Answer(prompt_ids=(8,), completion_ids=(9,)),
    Answer(prompt_ids=(3, 4, 5, 6), completion_ids=(7, 8)),
]


def next_log_probs(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_perplexity_equals_a_loop_over_prefixes(architecture):
    model = tiny_model(architecture)
    total, count = 0.0, 0
    for answer in ANSWERS:
        ids = list(answer.prompt_ids)
        for token in answer.completion_ids:
            total += next_log_probs(model, ids)[token].item()
            count += 1
            ids.append(token)
    expected = math.exp(-total / count)
    for batch_size in (1, 2, 8):
        assert perplexity_under(model, ANSWERS, batch_size=batch_size) == pytest.approx(expected)


def test_kl_equals_a_loop_over_prefixes_and_is_zero_of_itself():
    model, reference = tiny_model(seed=0), tiny_model(seed=1)
    total = 0.0
    for answer in ANSWERS:
        ids = list(answer.prompt_ids)
        for token in answer.completion_ids:
            p, q = (
                (next_log_probs(m, ids) / 0.7).log_softmax(-1).exp() for m in (model, reference)
            )
            total += (p * (p / q).log()).sum().item()
            ids.append(token)
    divergence = sequence_kl(model, reference, ANSWERS, temperature=0.7, batch_size=2)
    assert divergence == pytest.approx(total / len(ANSWERS), rel=1e-5)
    assert sequence_kl(model, model, ANSWERS) == 0.0


def test_exact_kl_has_the_mean_of_the_sampled_log_ratio(tiny_dir):
    """KL per sequence agrees with what PPO logs: the mean log-ratio of sampled tokens."""
    model, reference = tiny_model(seed=0), tiny_model(seed=1)
    task = {"tokenizer": tiny_dir(), "prompts": ["w1"] * 200, "scorer": count_w1}
    answers = evaluate(tiny_dir(), {**task, "max_new_tokens": 6}, num_envs=100).rows
    exact = sequence_kl(model, reference, answers)
    ratio = [
        math.log(perplexity_under(m, [answer])) * len(answer.completion_ids)
        for answer in answers
        for m in (reference, model)
    ]
    sampled = np.array(ratio[::2]) - np.array(ratio[1::2])
    assert exact == pytest.approx(sampled.mean(), abs=4 * sampled.std() / math.sqrt(len(answers)))


def test_no_answers_is_an_error():
    with pytest.raises(ValueError, match="answers is empty"):
        perplexity_under(tiny_model(), [])
