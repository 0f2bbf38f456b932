"""The same promises on CUDA; skipped with a reason where there is none."""

from __future__ import annotations

import pytest
import torch

from llm_gym.policy import EpisodeBatch

from .conftest import naive_log_probs, observe, play

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(observation: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.cuda() for name, tensor in observation.items()}


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "mistral", "gemma2", "bloom"])
def test_cached_decoding_equals_the_plain_forward_pass(make_policy, architecture):
    policy = make_policy(architecture).cuda()
    plain = make_policy(architecture).model
    for rows in play(seed=1, n_steps=20):
        with torch.no_grad():
            actions, _, log_probs = policy(on_gpu(observe(rows)))
        expected = [naive_log_probs(plain, r)[a] for r, a in zip(rows, actions.cpu(), strict=True)]
        torch.testing.assert_close(log_probs.cpu(), torch.stack(expected), atol=1e-4, rtol=0)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_update_runs_and_agrees_with_the_cpu(make_policy, mixed_precision):
    batch = EpisodeBatch(
        torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([0, 0]), torch.tensor([3, 4])
    )
    policy = make_policy(mixed_precision=mixed_precision).cuda()
    _, log_prob, _ = policy.evaluate_actions(batch.to("cuda"), batch.actions.cuda())
    log_prob.sum().backward()
    policy.optimizer.step()
    expected = make_policy().evaluate_actions(batch, batch.actions)[1]
    tolerance = 1e-4 if mixed_precision == "no" else 0.1
    torch.testing.assert_close(log_prob.detach().cpu(), expected.detach(), atol=tolerance, rtol=0)
