"""Types of weights: what is trained, what is saved, and what is refused."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

from llm_gym.feedback.dpo.dpo import DPOConfig, train_dpo
from llm_gym.feedback.preferences import Preference
from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
from llm_gym.feedback.reward_model.ratings import RatingModelConfig
from llm_gym.language_models import load_causal_lm
from llm_gym.language_models.trained_types import PrecisionWarning
from llm_gym.stages.rlhf import RLHFConfig
from llm_gym.stages.train import TrainConfig
from llm_gym.supervised.loop import next_token_loss
from llm_gym.supervised.pairs import InstructionPair
from llm_gym.supervised.sft import SFTConfig, fine_tune

PAIRS = [InstructionPair(f"w{n} w{n + 1}", f"w{n + 2}") for n in range(20)]
VOTES = [Preference(f"w{n}", f"w{n + 1}", f"w{n + 2} w3") for n in range(20)]


def tuned(model, output, **settings):
    return fine_tune(model, PAIRS, output, SFTConfig(epochs=2, **settings), quiet=True)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_bfloat16_is_trained_with_a_warning_and_stored_as_the_weights_say(
    tiny_dir, tmp_path, architecture
):
    model = tiny_dir(architecture)
    with pytest.warns(PrecisionWarning, match="256th of a weight"):
        metrics = tuned(model, tmp_path / "a", dtype="bfloat16")
    before, after = (metrics[f"held_out_answer_perplexity{when}"] for when in ("_before", ""))
    assert after < before
    assert load_causal_lm(tmp_path / "a", dtype="auto").dtype == torch.float32
    with pytest.warns(PrecisionWarning):
        tuned(model, tmp_path / "b", dtype="bfloat16", weights="bfloat16")
    kept = load_causal_lm(tmp_path / "b", dtype="auto")
    assert kept.dtype == torch.bfloat16
    # A bfloat16 is a float32: nothing was lost by the wider file.
    wider = load_causal_lm(tmp_path / "a").state_dict()
    assert all(torch.equal(wider[name], value.float()) for name, value in kept.state_dict().items())


def test_preferences_are_learnt_in_bfloat16_too(tiny_dir, tmp_path):
    coarse = {"dtype": "bfloat16", "weights": "bfloat16", "learning_rate": 1e-2}
    config = DPOConfig(model=tiny_dir("llama"), epochs=3, **coarse)
    with pytest.warns(PrecisionWarning):
        metrics = train_dpo(VOTES, tmp_path / "out", config, quiet=True)
    assert metrics["held_out_before"]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert metrics["held_out"]["loss"] < metrics["held_out_before"]["loss"]
    assert load_causal_lm(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


def test_an_adapter_is_trained_in_float32_on_a_base_in_bfloat16(tiny_dir, tmp_path):
    pytest.importorskip("peft", reason="LoRA adapters need PEFT")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        tuned(tiny_dir("llama"), tmp_path / "out", dtype="bfloat16", lora_rank=2)
    model = load_causal_lm(tmp_path / "out", dtype="bfloat16")
    kinds = {"lora" in name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_the_loss_of_coarse_logits_is_computed_in_float32():
    logits = torch.randn(2, 6, 50, dtype=torch.bfloat16)
    labels = torch.randint(50, (2, 6))
    loss = next_token_loss(logits, labels)
    assert loss.dtype == torch.float32
    assert loss == next_token_loss(logits.float(), labels)


@pytest.mark.parametrize(
    "config",
    [SFTConfig, DPOConfig, TrainConfig, RewardModelConfig, RatingModelConfig, RLHFConfig],
)
def test_float16_is_not_trained(config):
    with pytest.raises(ValueError, match="dtype='float16': weights in float16 cannot be trained"):
        config(dtype="float16")
    with pytest.raises(ValueError, match="dtype='int8'"):
        config(dtype="int8")


def test_nor_is_an_adapter_on_it(tiny_dir, tmp_path):
    """Gradients of the adapter pass through the frozen weights in their type."""
    for config in (SFTConfig, DPOConfig, TrainConfig, RewardModelConfig, RLHFConfig):
        with pytest.raises(ValueError, match=r"nor an adapter on them.* take bfloat16"):
            config(dtype="float16", lora_rank=4)
    load_causal_lm(tiny_dir(), dtype="float16").save_pretrained(tmp_path / "base")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    for dtype in ("float16", "auto"):
        with pytest.raises(ValueError, match=f"dtype='{dtype}'.*float16"):
            TrainConfig(dtype=dtype, model=str(tmp_path))
    assert TrainConfig(dtype="bfloat16", model=str(tmp_path)).trains_adapter


def test_answers_are_written_in_any_type(tiny_dir, capsys):
    from llm_gym.cli import main

    for dtype in ("bfloat16", "float16", "float64", "auto"):
        line = ["generate", "w1", "--model", tiny_dir("llama"), "--dtype", dtype, "--json"]
        with pytest.raises(SystemExit) as ended:
            main([*line, "--attn-implementation", "eager", "--max-new-tokens", "4"])
        assert not ended.value.code
        assert '"completion"' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["evaluate", tiny_dir("llama"), "--dtype", "int8"])
    assert "dtype='int8' must be one of" in capsys.readouterr().err
