"""Samples of another implementation are learnt to the weights that it learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.side_by_side import replay
from benchmarks.systems import ours_groups
from benchmarks.workload import FavouredShare, build_model, build_prompt_ids, build_tokenizer
from tests.benchmarks.test_handwritten import TINY

GROUPS = replace(TINY, episodes=8, group_size=4, minibatch_episodes=2, kl_coef=0.1)


def log_probs_of(model, ids):
    """Log-probabilities of the completions, `(B, T)`."""
    logits = model(ids).logits[:, GROUPS.prompt_tokens - 1 : -1]
    return logits.log_softmax(-1).gather(-1, ids[:, GROUPS.prompt_tokens :, None])[..., 0]


def grouped_advantages(scores, algorithm):
    groups = scores.view(-1, GROUPS.group_size)
    if algorithm == "rloo":
        others = (groups.sum(1, keepdim=True) - groups) / (GROUPS.group_size - 1)
        return (groups - others).flatten()
    return (
        (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    ).flatten()


def plain_loss(new, old, reference, advantages, algorithm):
    if algorithm == "rloo":
        ratio = (new.sum(1) - old.sum(1)).exp()
        return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
    ratio, each = (new - old).exp(), advantages[:, None]
    k3 = (reference - new).exp() - (reference - new) - 1
    policy = -torch.minimum(ratio * each, ratio.clamp(0.8, 1.2) * each)
    return (policy + GROUPS.kl_coef * k3).mean(1).mean()


def plain_training(algorithm):
    """What TRL does, with nothing but PyTorch; samples are any tokens, written down as TRL's."""
    generator = torch.Generator().manual_seed(1)
    model, reference = build_model(GROUPS), build_model(GROUPS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=GROUPS.learning_rate, weight_decay=0.0)
    tokenizer, score = build_tokenizer(GROUPS), FavouredShare(GROUPS)
    written = {}
    for batch in range(replay.BATCHES):
        chosen = torch.randperm(GROUPS.prompts, generator=generator)[:2]
        prompts = torch.from_numpy(build_prompt_ids(GROUPS))[chosen].repeat_interleave(4, 0)
        answers = torch.randint(GROUPS.vocabulary, (8, GROUPS.new_tokens), generator=generator)
        ids = torch.cat([prompts, answers], 1)
        with torch.no_grad():
            old, kept = log_probs_of(model, ids), log_probs_of(reference, ids)
        scores = torch.tensor(score([""] * 8, tokenizer.batch_decode(answers)))
        if algorithm == "rloo":
            scores = scores - GROUPS.kl_coef * (old - kept).sum(1)
        advantages = grouped_advantages(scores, algorithm)
        order = torch.randperm(8, generator=generator)
        for _ in range(GROUPS.epochs):
            for rows in order.split(GROUPS.minibatch_episodes):
                new = log_probs_of(model, ids[rows])
                loss = plain_loss(new, old[rows], kept[rows], advantages[rows], algorithm)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
        padding = torch.full((8, 3), GROUPS.vocabulary)
        written[f"sampled.{batch}.prompt_ids"] = torch.cat([padding, prompts], 1)[order]
        written[f"sampled.{batch}.prompt_mask"] = torch.cat(
            [torch.zeros(8, 3), torch.ones(8, GROUPS.prompt_tokens)], 1
        )
        written[f"sampled.{batch}.completion_ids"] = answers[order]
        written[f"sampled.{batch}.completion_mask"] = torch.ones_like(answers)
        written[f"sampled.{batch}.advantages"] = advantages[order]
    return written | {f"weights.{name}": value for name, value in model.state_dict().items()}


@pytest.mark.parametrize("algorithm", ["rloo", "grpo"])
def test_three_batches_of_plain_pytorch_are_learnt_to_the_same_weights(algorithm):
    found = replay.replay(GROUPS, {"algorithm": algorithm}, plain_training(algorithm))
    assert found["advantages"] < 1e-5
    assert found["weights"] < 1e-3


def test_the_replay_tells_another_algorithm_apart():
    found = replay.replay(GROUPS, {"algorithm": "rloo_tokens"}, plain_training("rloo"))
    assert found["weights"] > 0.1


def test_answers_of_unequal_length_are_filled_in_to_their_ends():
    learner = ours_groups.build(GROUPS, algorithm="rloo").algorithm
    learner._setup_learn(1, callback=None)
    learner.reference = None
    lengths = [1, 6, 3, 2, 5, 6, 4, 1]
    answers = [np.arange(10, 10 + length) for length in lengths]
    prompts = [np.full(1 + row // 4, 7 + row // 4) for row in range(8)]
    replay.fill(learner, prompts, answers, [float(row) for row in range(8)])
    buffer = learner.rollout_buffer
    assert len(buffer.segments()) == 8
    for row, segment in enumerate(buffer.segments()):
        played = slice(segment.start, segment.stop), segment.env
        assert buffer.actions[played].tolist() == answers[row].tolist()
        assert segment.prefix.tolist() == prompts[row].tolist()
        assert buffer.rewards[played].sum() == buffer.rewards[segment.stop - 1, row] == row
