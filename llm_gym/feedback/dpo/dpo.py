"""Direct preference optimisation: from stored preferences to a model, without a reward model.

Rafailov et al., 2305.18290. The reference's log-probabilities are computed once, before the first
step; after that only the trained model is in memory. A run that was stopped goes on when the same
command is given again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gym.feedback.dpo.evaluation import evaluate_dpo, loss_of, share_right
from llm_gym.feedback.dpo.preference_pairs import (
    EncodedPreference,
    encode_preferences,
    pair_log_probs,
    reference_log_probs,
    trunk_of,
)
from llm_gym.feedback.dpo.reference import reference_of
from llm_gym.feedback.preferences import preferences_from
from llm_gym.feedback.preferences.files import CONTRADICTIONS, split_preferences
from llm_gym.feedback.preferences.records import asked
from llm_gym.files.atomic import write_json
from llm_gym.files.owned import check_replaceable, replace_directory
from llm_gym.files.ranges import POSITIVE, check_choice
from llm_gym.files.rows import LengthConfig
from llm_gym.files.settings import AUTO_ON_OFF, defaults_of, setting
from llm_gym.language_models import SFT_MODEL, load_causal_lm, load_tokenizer
from llm_gym.language_models.architecture import check_ids, context_length
from llm_gym.language_models.chat import PromptFormat, check_prompt_template
from llm_gym.language_models.divergence import DivergenceError
from llm_gym.language_models.generation import end_with
from llm_gym.language_models.memory import check_training
from llm_gym.language_models.model_objects import named
from llm_gym.supervised.loop import (
    TrainingConfig,
    adamw,
    check_dtype,
    check_trained,
    descend,
    rounded,
    save_model,
    say_precision,
    shuffled_batches,
    spread_out,
    thinned,
)
from llm_gym.supervised.lora import (
    LoraSettings,
    check_base,
    put_adapter,
    told_adapter,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llm_gym.feedback.dpo.progress import Progress
    from llm_gym.feedback.preferences import Preference
    from llm_gym.policy.trunk import Trunk

_NOT_PART_OF_A_RUN = ("device", "checkpoint_every", "micro_batch_size", "shared_prompts")


@dataclass(frozen=True)
class DPOConfig(LengthConfig, TrainingConfig, LoraSettings):
    """Settings of direct preference optimisation."""

    model: str = setting(
        SFT_MODEL, "language model to start from: embedded or hub name, or directory"
    )
    reference: str = setting(
        "", "language model to stay close to; empty means the one to start from"
    )
    prompt_template: str | None = setting(
        None,
        "text around {prompt}, saved as the model's chat template; default: the chat template of "
        "the tokenizer, or the bare prompt if it has none",
    )
    beta: float = setting(0.1, "price of a nat of divergence from the reference")
    loss: str = setting("sigmoid", "the loss: sigmoid (DPO) or ipo")
    label_smoothing: float = setting(
        0.0, "share of the labels taken to be wrong, from 0 to less than 0.5 (cDPO)"
    )
    epochs: int = setting(3, "passes over the preferences")
    batch_size: int = setting(16, "preferences per step")
    learning_rate: float = setting(1e-4, "peak of the cosine schedule", POSITIVE)
    warmup_share: float = setting(0.1, "share of the steps that warm up")
    final_share: float = setting(0.1, "last learning rate as a share of the peak")
    held_out_share: float = setting(
        0.1, "share of the prompts that is held out if no held-out rows are given"
    )
    contradictions: str = setting(
        "raise", "what becomes of rows that contradict others: raise, keep or drop"
    )
    dtype: str = setting(
        "float32", "type of the model's weights while it is trained: float32 or bfloat16"
    )
    shared_prompts: str = setting(
        "auto",
        "read a prompt once for both answers: auto (where it is right and pays), on, off",
    )
    checkpoint_every: int = setting(100, "steps between two savings of the unfinished run")
    seed: int = setting(0, "seed of the order of preferences, and of a new adapter")

    def __post_init__(self) -> None:
        from llm_gym.learning.losses import check_loss_settings

        object.__setattr__(self, "model", named(self.model))
        object.__setattr__(self, "reference", named(self.reference, "reference"))
        check_loss_settings(self.beta, self.label_smoothing, self.loss)
        super().__post_init__()
        LoraSettings.__post_init__(self)
        check_choice("contradictions", self.contradictions, CONTRADICTIONS)
        check_prompt_template(self.prompt_template)
        check_dtype(self.dtype)
        check_choice("shared_prompts", self.shared_prompts, AUTO_ON_OFF)


def train_dpo(
    preferences: Any,
    output: str | Path,
    config: DPOConfig | None = None,
    *,
    held_out: Sequence[Preference] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tunes a causal language model on preferences, and saves it.

    With `lora_rank`, or from a model that is a LoRA adapter, the adapter alone is trained and
    saved, and the base is in memory once: the reference is what the model is before the first step,
    the base itself or the base with the adapter that it starts from.

    What is written is an ordinary directory for `AutoModelForCausalLM`. While it is not finished,
    the run is kept in `OUTPUT-unfinished`, and the same call goes on from there, bit for bit.

    Args:
        preferences: See `llm_gym.feedback.preferences.preferences_from`.
        output: Directory for model, tokenizer and `metrics.json`; written whole or not at all.
        config: Settings; None means the defaults.
        held_out: Preferences to measure on; None holds out a share of the prompts.
        quiet: No progress bar.

    Returns:
        The metrics: `held_out` before and after (see `evaluate_dpo`), the curves of
        loss, accuracy, margin and log-probabilities, counts, a few held-out `examples`, the format
        of the prompts, the configuration, seconds.

    Raises:
        FileNotFoundError: The file or the model does not exist.
        ImportError: For an adapter, PEFT is not installed.
        TypeError: A row is no `Preference`.
        ValueError: The preferences cannot be learnt from, two vocabularies differ, a setting does
            not fit, or there is an unfinished run with other settings.
    """
    import torch

    from llm_gym.feedback.dpo.progress import Progress, data_digest
    from llm_gym.runs.training_state import weights_digest

    config = config or DPOConfig()
    check_replaceable(output)
    check_base(config, config.model, output)
    check_training(
        config.model, dtype=config.dtype, device=config.device, frozen=bool(config.lora_rank)
    )
    started = time.perf_counter()
    rows = preferences_from(preferences, config.contradictions, bad_rows=config.bad_rows)
    if held_out is None:
        rows, held_out = split_preferences(rows, config.held_out_share, config.seed)
    held_out = preferences_from(held_out)
    model = load_causal_lm(config.model, dtype=config.dtype)
    tokenizer = load_tokenizer(config.model)
    put_adapter(model, config, seed=config.seed)
    say_precision(model)
    prompt_format = PromptFormat(tokenizer, config.prompt_template)
    saved_tokenizer = prompt_format.saved_tokenizer()
    if not quiet:
        print(f"prompts are shown as {prompt_format}")
        told = told_adapter(model, config.learning_rate, DPOConfig.learning_rate)
        if told:
            print(told)
    encoded = _encoded(prompt_format, rows, model, config)
    held_out_encoded = _encoded(prompt_format, held_out, model, config)
    settings = {k: v for k, v in asdict(config).items() if k not in _NOT_PART_OF_A_RUN}
    settings["preferences"] = data_digest([*encoded, *held_out_encoded])
    settings["weights_of_the_model"] = weights_digest(model)
    state = Progress.beside(output, settings, defaults_of(DPOConfig))
    model.to(config.device)
    trunk = trunk_of(model, AUTO_ON_OFF[config.shared_prompts])
    if "reference" not in state.tensors:
        other = reference_of(model, config.model, config.reference)
        reads = trunk if other is model else trunk_of(other, AUTO_ON_OFF[config.shared_prompts])
        # Each by itself, in the batches in which it is measured: equal to the bit before training.
        of_reference = [
            reference_log_probs(other, part, config.batch_size, reads)
            for part in (encoded, held_out_encoded)
        ]
        state.tensors["reference"] = torch.cat(of_reference)
        del other, reads
        state.save()
    reference = state.tensors["reference"].split([len(encoded), len(held_out_encoded)])
    before = evaluate_dpo(model, held_out_encoded, reference[1], config, trunk)
    try:
        _train(model, encoded, reference[0], state, config, trunk, quiet=quiet)
    except DivergenceError:
        state.remove()  # to go on from it would end in the same place
        raise
    rounded(model, config.weights)
    metrics = {
        "held_out_before": before,
        "held_out": evaluate_dpo(model, held_out_encoded, reference[1], config, trunk),
        "preferences": len(encoded),
        "too_long": len(rows) + len(held_out) - len(encoded) - len(held_out_encoded),
        "steps": state.step,
        "curves": {name: thinned(values) for name, values in state.statistics.items()},
        "examples": [
            {"prompt": asked(row), "completion": row.chosen} for row in spread_out(held_out)
        ],
        "prompt_format": prompt_format.shown,
        "config": asdict(config),
        "seconds": time.perf_counter() - started,
    }
    check_trained(metrics, config)
    with replace_directory(output) as directory:
        end_with(model, [prompt_format.end_token_id])
        save_model(model, saved_tokenizer, directory, config.weights)
        write_json(directory / "metrics.json", metrics)
    state.remove()
    return metrics


def _train(
    model: PreTrainedModel,
    preferences: Sequence[EncodedPreference],
    reference: torch.Tensor,
    state: Progress,
    config: DPOConfig,
    trunk: Trunk | None,
    *,
    quiet: bool,
) -> None:
    """Takes the steps that are left, and saves the run every so often."""
    import torch

    batches = shuffled_batches(
        [row.length for row in preferences],
        config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
    )
    weights = torch.tensor([row.weight for row in preferences]).to(model.device)
    weights /= weights.mean()
    optimizer = adamw(model, config.weight_decay)
    state.restore(model, optimizer)
    noted: list[dict[str, float]] = []  # of each micro-batch of the step, times its pairs

    def weighted_loss(batch: list[int]) -> torch.Tensor:
        ours = pair_log_probs(model, [preferences[index] for index in batch], trunk)
        pairs = loss_of(ours, reference[batch], config)
        loss = (weights[batch] * pairs.losses).mean()
        margins = pairs.chosen_rewards - pairs.rejected_rewards
        means = {
            "loss": loss.detach(),
            "accuracy": share_right(margins).mean(),
            "margin": margins.mean(),
            "chosen_log_prob": ours[0].detach().mean(),
            "rejected_log_prob": ours[1].detach().mean(),
        }
        noted.append({name: len(batch) * float(mean) for name, mean in means.items()})
        return loss

    def note() -> None:
        n_pairs = len(batches[state.step])
        state.note(**{name: sum(part[name] for part in noted) / n_pairs for name in noted[0]})
        noted.clear()
        if state.step % config.checkpoint_every == 0 and state.step < len(batches):
            state.save(model, optimizer)

    # Dropout stays off: the reference's log-probabilities had none either.
    descend(
        model,
        batches,
        weighted_loss,
        config,
        title="dpo",
        quiet=quiet,
        optimizer=optimizer,
        start=state.step,
        after_step=note,
    )


def _encoded(
    shown: PromptFormat, rows: Sequence[Preference], model: PreTrainedModel, config: DPOConfig
) -> list[EncodedPreference]:
    tokenizer = shown.tokenizer
    encoded = encode_preferences(
        tokenizer,
        rows,
        shown,
        context_length(model),
        too_long=config.too_long,
        bad_rows=config.bad_rows,
    )
    check_ids([[*pair.chosen.ids, *pair.rejected.ids] for pair in encoded], model, tokenizer)
    return encoded
