"""Modes, threads, copies: dropout stays off, checkpointing checkpoints, the cache stays right."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from transformers import AutoConfig

from llm_gym.policy import EpisodeBatch
from llm_gym.testing.tiny import ARCHITECTURES, tiny_model

from .conftest import VOCABULARY, evaluated, naive_log_probs, observe, play, tokens_read

ROWS = [[3, 4, 5, 6, 7, 8, 9, 3], [6, 7]]
BATCH = EpisodeBatch(
    torch.tensor([[5, 6, 7, 8, 9, 3, 4, 5], [4, 4, 8, 9, 0, 0, 0, 0]]),
    torch.tensor([0, 0, 0, 1]),
    torch.tensor([3, 4, 7, 3]),
)
every_architecture = pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))


def all_dropouts(architecture: str) -> dict[str, float]:
    """Every probability of dropping something that the configuration has, at one half."""
    names = AutoConfig.for_model(architecture).to_dict()
    return {name: 0.5 for name in names if name.endswith(("dropout", "pdrop", "layerdrop"))}


@every_architecture
def test_dropout_is_off_whatever_anybody_switches_on(make_policy, architecture):
    config = all_dropouts(architecture)
    policy = make_policy(architecture, config=config)
    plain = tiny_model(architecture, **config)
    actions = torch.tensor([5, 9])
    expected = torch.stack(
        [naive_log_probs(plain, r)[a] for r, a in zip(ROWS, actions, strict=True)]
    )

    def check() -> None:
        update = policy.evaluate_actions(observe(ROWS), actions)[1]
        torch.testing.assert_close(update, expected, atol=1e-5, rtol=0)
        with torch.no_grad():
            read = policy.get_distribution(observe(ROWS)).log_prob(actions)
        torch.testing.assert_close(read, expected, atol=1e-5, rtol=0)
        policy.forget()

    check()
    policy.set_training_mode(True)
    assert policy.training
    check()
    policy.model.train()
    check()
    for module in policy.model.modules():
        module.train()
    check()
    policy.model.base_model.apply(lambda module: setattr(module, "training", True))
    check()


@every_architecture
def test_an_update_computes_in_evaluation_mode(make_policy, architecture):
    """Not a single module may be in training mode while it computes."""
    policy = make_policy(architecture)
    policy.train()
    policy.model.train()
    modes = []
    for module in policy.model.base_model.modules():
        module.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    policy.evaluate_actions(BATCH, BATCH.actions)
    assert modes
    assert not any(modes)


class CountedCheckpoints:
    """Counts checkpointed calls of a model's layers."""

    def __init__(self, model) -> None:
        self.calls = 0
        for module in model.modules():
            if getattr(module, "gradient_checkpointing", False):
                self._count(module)

    def _count(self, module) -> None:
        inner = module._gradient_checkpointing_func

        def counted(*args, **kwargs):
            self.calls += 1
            return inner(*args, **kwargs)

        module._gradient_checkpointing_func = counted


def update(policy) -> tuple[torch.Tensor, int]:
    """Gradient of an update, and the elements that were kept for it."""
    (values, log_prob, entropy), kept_after_forward = evaluated(policy, BATCH)
    (log_prob.sum() + values.square().sum() + entropy.sum()).backward()
    grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return torch.cat(grads), kept_after_forward


@every_architecture
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_activation_checkpointing_checkpoints(make_policy, architecture, mixed_precision):
    """Every layer once a pass, less memory, the same gradients, with dropout in the checkpoint."""
    config = all_dropouts(architecture)
    settings = {"config": config, "mixed_precision": mixed_precision}
    expected, kept_before = update(make_policy(architecture, **settings))
    policy = make_policy(architecture, **settings)
    policy.model.gradient_checkpointing_enable()
    checkpoints = CountedCheckpoints(policy.model)
    found, kept = update(policy)
    assert checkpoints.calls == policy.model.config.num_hidden_layers
    assert kept < 0.7 * kept_before
    if mixed_precision == "no":
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    else:  # without checkpointing, another implementation of attention
        assert torch.cosine_similarity(found, expected, dim=0) > 0.99
    assert not policy.model.training


def test_a_rollout_decodes_from_the_cache_while_checkpointing_is_on(make_policy):
    policy = make_policy("llama")
    policy.model.gradient_checkpointing_enable()
    checkpoints = CountedCheckpoints(policy.model)
    plain = tiny_model("llama")
    for rows in play(seed=2, n_steps=8):
        with torch.no_grad():
            actions, _, log_probs = policy(observe(rows))
        expected = [naive_log_probs(plain, r)[a] for r, a in zip(rows, actions, strict=True)]
        torch.testing.assert_close(log_probs, torch.stack(expected), atol=1e-5, rtol=0)
    assert checkpoints.calls == 0
    assert policy.actor_trunk._cache is not None


def test_checkpointing_that_would_need_dropout_is_refused(make_policy):
    policy = make_policy("gpt2")
    policy.model.transformer.gradient_checkpointing = True  # of the model, not of its layers
    with pytest.raises(ValueError, match=r"activation checkpointing of GPT2Model.*dropout"):
        policy.evaluate_actions(BATCH, BATCH.actions)


def test_modes_alone_do_not_forget(make_policy, monkeypatch):
    """Other libraries call eval() and train() around every step."""
    policy = make_policy()
    read = tokens_read(policy, monkeypatch)
    rows = [[3, 4, 5], [6, 7]]
    for _ in range(4):
        policy.eval()
        with torch.no_grad():
            policy(observe(rows))
        policy.train()
        rows = [[*row, 9] for row in rows]
    assert read == [(2, 3), (2, 1), (2, 1), (2, 1)]


@pytest.mark.parametrize("training", [True, False])
def test_either_change_of_mode_has_the_weights_compared(make_policy, training):
    policy = make_policy().train(training)
    with torch.no_grad():
        policy(observe([[3, 4, 5]]))
        before = policy(observe([[3, 4, 5]]))[1]
        list(policy.model.base_model.parameters())[-1].data.add_(0.5)
        policy.train(not training)
        assert not torch.equal(policy(observe([[3, 4, 5]]))[1], before)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_writes_that_leave_no_trace_are_seen_after_a_change_of_mode(
    make_policy, architecture, dtype
):
    policy = make_policy(architecture, dtype=dtype)
    row = [3, 4, 5]
    with torch.no_grad():
        policy(observe([row]))
        before = policy(observe([row]))[1]
        # Not a bias before a norm: a shift of all numbers alike is what a norm takes away.
        list(policy.model.base_model.parameters())[-1].data.add_(0.5)
        policy.train()
        policy.eval()
        changed = policy(observe([row]))[1]
        policy.forget()
        assert torch.equal(policy(observe([row]))[1], changed)
    assert not torch.equal(changed, before)


def in_threads(*functions) -> None:
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def test_one_policy_in_several_threads_is_right(make_policy):
    policy = make_policy("llama", mixed_precision="bf16")
    policy.model.gradient_checkpointing_enable()
    plain = tiny_model("llama")

    def decode(seed: int):
        def run() -> None:
            for rows in play(seed=seed, n_rows=seed + 1, n_steps=25):
                with torch.no_grad():
                    logits = policy.get_distribution(observe(rows)).distribution.logits
                expected = torch.stack([naive_log_probs(plain, row) for row in rows])
                torch.testing.assert_close(logits.log_softmax(-1), expected, atol=1e-5, rtol=0)

        return run

    def learn() -> None:
        for _ in range(10):
            policy.evaluate_actions(BATCH, BATCH.actions)[1].sum().backward()

    in_threads(decode(1), decode(2), decode(2), learn)


def test_masks_of_two_threads_are_not_mixed(tiny_dir):
    pytest.importorskip("sb3_contrib")
    from gymnasium import spaces

    from llm_gym.policy import MaskableTransformerPolicy

    from .conftest import text_space

    policy = MaskableTransformerPolicy(
        text_space(), spaces.Discrete(VOCABULARY), lambda _: 1e-3, model=tiny_dir()
    )

    def only(token: int):
        masks = torch.zeros(1, VOCABULARY, dtype=torch.bool)
        masks[:, token] = True

        def run() -> None:
            for _ in range(60):
                with torch.no_grad():
                    action, _, _ = policy(observe([[token, 3]]), action_masks=masks.numpy())
                assert int(action) == token

        return run

    in_threads(only(5), only(9), only(11))


def test_a_policy_can_be_copied_and_pickled(make_policy):
    policy = make_policy()
    with torch.no_grad():
        policy(observe(ROWS))
        expected = policy.get_distribution(observe(ROWS)).distribution.logits
        for other in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
            found = other.get_distribution(observe(ROWS)).distribution.logits
            assert torch.equal(found, expected)
            for parameter in other.parameters():
                parameter.data.mul_(1.2)
        assert torch.equal(policy.get_distribution(observe(ROWS)).distribution.logits, expected)
