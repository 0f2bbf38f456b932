"""Supervised training a few examples at a time takes the steps of whole batches."""

from __future__ import annotations

import pytest
import torch

from llm_gym.feedback.dpo import dpo
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model import comparisons, fitting
from llm_gym.supervised import pretrain, sft
from llm_gym.supervised.loop import descend
from llm_gym.supervised.pairs import InstructionPair

PAIRS = [InstructionPair(f"w{n}", " ".join(["w5 w6"] * (1 + n % 4))) for n in range(12)]
PREFERENCES = [
    Preference(f"w{n}", "w20 " * (1 + n % 3) + f"w{n}", f"w21 w{n + 1} w22") for n in range(14)
]
SIZES = {"batch_size": 7, "held_out_share": 0.2}


def run_sft(model, output, size):
    config = sft.SFTConfig(prompt_template="{prompt}", epochs=1, micro_batch_size=size, **SIZES)
    sft.fine_tune(model, PAIRS, output, config, quiet=True)


def run_dpo(model, output, size):
    config = dpo.DPOConfig(
        model=model, prompt_template="{prompt}", epochs=1, micro_batch_size=size, **SIZES
    )
    return dpo.train_dpo(PREFERENCES, output, config, quiet=True)["curves"]


def run_pretrain(model, output, size):
    config = pretrain.PretrainConfig(
        vocab_size=300, context=8, width=16, layers=1, heads=2, steps=3, micro_batch_size=size,
        **SIZES,
    )  # fmt: skip
    text = ["the cat sat down", "a dog ran up the hill"] * 20
    pretrain.pretrain(text, output, config, quiet=True)


def run_reward(model, output, size):
    config = comparisons.RewardModelConfig(
        model=model, template="{prompt} {completion}", micro_batch_size=size, head="finetune",
        center_rewards_coefficient=0.1, **SIZES,
    )  # fmt: skip
    comparisons.train_reward_model(PREFERENCES, output, config, quiet=True)


RUNS = {
    "sft": (run_sft, sft),
    "dpo": (run_dpo, dpo),
    "pretrain": (run_pretrain, pretrain),
    "reward": (run_reward, fitting),
}


@pytest.mark.parametrize("name", RUNS)
def test_steps_are_those_of_whole_batches(name, tiny_dir, tmp_path, monkeypatch):
    run, module = RUNS[name]
    gradients, sizes, curves = {}, {}, {}

    def in_float64(model, batches, loss_of, *args, **kwargs):
        def counted(batch):
            sizes.setdefault(size, []).append(len(batch))
            return loss_of(batch)

        model.double()
        losses = descend(model, batches, counted, *args, **kwargs)
        model.float()
        return losses

    clip = torch.nn.utils.clip_grad_norm_

    def noted(parameters, *args):
        grads = [p.grad.flatten().clone() for p in parameters if p.grad is not None]
        gradients.setdefault(size, []).append(torch.cat(grads))
        return clip(parameters, *args)

    monkeypatch.setattr(module, "descend", in_float64)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", noted)
    for size in (None, 1, 3):
        curves[size] = run(tiny_dir("llama"), tmp_path / str(size), size)
    assert gradients[None][0].dtype == torch.float64
    assert max(sizes[None]) > 3
    assert gradients[None][0].norm() > 1e-4
    for size in (1, 3):
        assert max(sizes[size]) == size
        torch.testing.assert_close(
            torch.stack(gradients[size]), torch.stack(gradients[None]), atol=1e-6, rtol=1e-6
        )
    if name == "dpo":
        for key, curve in curves[None].items():
            assert curves[1][key] == pytest.approx(curve, abs=2e-4)
            assert curves[3][key] == pytest.approx(curve, abs=2e-4)


def test_none_or_a_whole_number():
    with pytest.raises(ValueError, match="micro_batch_size=0 must be a whole number"):
        sft.SFTConfig(micro_batch_size=0)


def test_an_unfinished_run_of_dpo_goes_on_with_other_micro_batches(tiny_dir, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(self, **values):
        if self.step == 1:
            raise Stopped
        note(self, **values)

    from llm_gym.feedback.dpo.progress import Progress

    note = Progress.note
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "note", stop)
        with pytest.raises(Stopped):
            run_dpo(tiny_dir("gpt2"), tmp_path / "model", None)
    assert (tmp_path / "model-unfinished").is_dir()
    run_dpo(tiny_dir("gpt2"), tmp_path / "model", 2)
    assert (tmp_path / "model" / "metrics.json").is_file()
