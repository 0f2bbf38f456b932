from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from llm_gym.runs.answering import AnswerRow
from llm_gym.runs.evaluation import evaluate
from llm_gym.runs.likelihood import perplexity_under, sequence_kl
from llm_gym.testing.tiny import tiny_model
from tests.tiny_runs import count_w1


def row(prompt_ids, completion_ids):
    return AnswerRow(0, "", "", 0.0, "eos", tuple(prompt_ids), tuple(completion_ids))


ROWS = [row([4, 5], [6, 7, 1]), row([8], [9]), row([3, 4, 5, 6], [7, 8])]


def next_log_probs(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_perplexity_equals_a_loop_over_prefixes(architecture):
    model = tiny_model(architecture)
    total, count = 0.0, 0
    for one in ROWS:
        ids = list(one.prompt_ids)
        for token in one.completion_ids:
            total += next_log_probs(model, ids)[token].item()
            count += 1
            ids.append(token)
    expected = math.exp(-total / count)
    for batch_size in (1, 2, 8):
        assert perplexity_under(model, ROWS, batch_size=batch_size) == pytest.approx(expected)


def test_kl_equals_a_loop_over_prefixes_and_is_zero_of_itself():
    model, reference = tiny_model(seed=0), tiny_model(seed=1)
    total = 0.0
    for one in ROWS:
        ids = list(one.prompt_ids)
        for token in one.completion_ids:
            p, q = (
                (next_log_probs(m, ids) / 0.7).log_softmax(-1).exp() for m in (model, reference)
            )
            total += (p * (p / q).log()).sum().item()
            ids.append(token)
    found = sequence_kl(model, reference, ROWS, temperature=0.7, batch_size=2)
    assert found == pytest.approx(total / len(ROWS), rel=1e-5)
    assert sequence_kl(model, model, ROWS) == 0.0


def test_exact_kl_has_the_mean_of_the_sampled_log_ratio(tiny_dir):
    """KL per sequence agrees with what PPO logs: the mean log-ratio of sampled tokens."""
    model, reference = tiny_model(seed=0), tiny_model(seed=1)
    task = {"tokenizer": tiny_dir(), "prompts": ["w1"] * 200, "scorer": count_w1}
    rows = evaluate(tiny_dir(), {**task, "max_new_tokens": 6}, num_envs=100).rows
    exact = sequence_kl(model, reference, rows)
    ratio = [
        math.log(perplexity_under(m, [r])) * len(r.completion_ids)
        for r in rows
        for m in (reference, model)
    ]
    sampled = np.array(ratio[::2]) - np.array(ratio[1::2])
    assert exact == pytest.approx(sampled.mean(), abs=4 * sampled.std() / math.sqrt(len(rows)))


def test_no_answers_is_an_error():
    with pytest.raises(ValueError, match="rows is empty"):
        perplexity_under(tiny_model(), [])
