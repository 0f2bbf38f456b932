"""The one loop of supervised learning, against steps written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.divergence import DivergenceError
from llm_gym.supervised.loop import (
    TrainingConfig,
    adamw,
    check_trained,
    cosine_learning_rate,
    descend,
    perplexity_of,
    rounded,
    save_model,
    shuffled_batches,
    thinned,
)

CONFIG = TrainingConfig(learning_rate=0.1, weight_decay=0.2, max_grad_norm=0.5, warmup_share=0.3)
INPUTS = torch.randn(12, 3, generator=torch.Generator().manual_seed(1))
TARGETS = INPUTS.sum(1, keepdim=True)
BATCHES = shuffled_batches([1] * 12, 4, epochs=3)


def new_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout(0.5))


def loss_with(model):
    return lambda batch: ((model(INPUTS[batch]) - TARGETS[batch]) ** 2).mean()


def written_out(model, batches=BATCHES):
    """Adam's steps by the equations of Loshchilov and Hutter (1711.05101), on the CPU."""
    model.eval()
    parameters = list(model.parameters())
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    losses = []
    for step, batch in enumerate(batches):
        rate = cosine_learning_rate(
            step, len(batches), 0.1, warmup_share=0.3, final_share=CONFIG.final_share
        )
        loss = loss_with(model)(batch)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        with torch.no_grad():
            for parameter, gradient, (first, second) in zip(
                parameters, gradients, moments, strict=True
            ):
                gradient = gradient * min(1.0, 0.5 / float(norm))
                first.mul_(0.9).add_(0.1 * gradient)
                second.mul_(0.95).add_(0.05 * gradient**2)
                if parameter.dim() >= 2:
                    parameter.mul_(1 - rate * 0.2)
                unbiased = (second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
                parameter.sub_(rate * (first / (1 - 0.9 ** (step + 1))) / unbiased)
    return losses


def test_the_loop_takes_the_steps_that_the_equations_say():
    ours, theirs = new_model(), new_model()
    losses = descend(ours, BATCHES, loss_with(ours), CONFIG, title="", quiet=True)
    assert losses == pytest.approx(thinned(written_out(theirs)), abs=1e-4)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not ours.training


def test_a_loop_that_goes_on_ends_where_the_whole_one_does():
    whole, parts = new_model(), new_model()
    descend(whole, BATCHES, loss_with(whole), CONFIG, title="", quiet=True)
    optimizer, steps = adamw(parts, CONFIG.weight_decay), []

    class Stopped(Exception):
        pass

    def stop_at_four():
        steps.append(len(steps))
        if len(steps) == 4:
            raise Stopped

    for start in (0, 4):
        try:
            descend(
                parts,
                BATCHES,
                loss_with(parts),
                CONFIG,
                title="",
                quiet=True,
                optimizer=optimizer,
                start=start,
                after_step=stop_at_four,
            )
        except Stopped:
            assert start == 0
    assert len(steps) == len(BATCHES)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_dropout_is_on_only_where_it_is_wished():
    seen = []
    for dropout in (False, True):
        model = new_model()

        def loss_of(batch, model=model, dropout=dropout):
            seen.append((dropout, model.training))
            return loss_with(model)(batch)

        descend(model, BATCHES[:1], loss_of, CONFIG, title="", quiet=True, dropout=dropout)
        assert not model.training
    assert set(seen) == {(False, False), (True, True)}


def test_every_row_comes_once_an_epoch_in_another_order_beside_rows_of_its_length():
    lengths = [n % 7 for n in range(50)]
    batches = shuffled_batches(lengths, 8, epochs=2, seed=3)
    first, second = batches[:7], batches[7:]
    for epoch in (first, second):
        assert sorted(row for batch in epoch for row in batch) == list(range(50))
    assert first != second
    assert batches[:7] == shuffled_batches(lengths, 8, seed=3)
    spans = [max(lengths[row] for row in b) - min(lengths[row] for row in b) for b in batches]
    assert max(spans) <= 2


def test_settings_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"max_grad_norm=0.0 must be a finite number above 0"):
        TrainingConfig(max_grad_norm=0.0)
    with pytest.raises(ValueError, match=r"final_share=.* must be a number from 0 to 1"):
        TrainingConfig(final_share=1.5)


@pytest.mark.parametrize(("rate", "steps"), [(1e30, 3), (1e30, 1), (1e25, 2)])
def test_a_loss_that_is_no_number_is_said_with_the_step_and_what_to_lower(rate, steps):
    """Also where it is the last step that led there; the weights stay numbers."""
    model = new_model()
    config = replace(CONFIG, learning_rate=rate, warmup_share=0.0)
    with pytest.raises(DivergenceError) as caught:
        descend(model, BATCHES[:steps], loss_with(model), config, title="", quiet=True)
    assert "the loss is inf" in str(caught.value)
    where = "after the last step" if steps == 1 else f"at step 2 of {steps}"
    assert f"{where}; lower learning_rate ({rate:g}); nothing was written" in str(caught.value)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_a_perplexity_beyond_a_float_is_infinite_and_no_metric():
    assert perplexity_of(1.0) == pytest.approx(2.71828, abs=1e-5)
    assert perplexity_of(1e4) == float("inf")
    with pytest.raises(
        DivergenceError, match=r"metric 'perplexity' is inf .*learning_rate \(0\.1\)"
    ):
        check_trained({"perplexity": perplexity_of(1e4)}, CONFIG)


@pytest.mark.parametrize("convert", [rounded, lambda *a: save_model(a[0], None, None, a[1])])
def test_weights_that_their_type_cannot_hold_are_not_stored(tiny_dir, convert):
    model = load_causal_lm(tiny_dir())
    with torch.no_grad():
        model.transformer.ln_f.weight[3] = 1e5  # beyond float16
    with pytest.raises(
        DivergenceError, match=r"as float16, .*'transformer\.ln_f\.weight'.*bfloat16"
    ):
        convert(model, "float16")
