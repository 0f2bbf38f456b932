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

from llm_gym.files.atomic import replace_directory, write_json
from llm_gym.files.settings import setting
from llm_gym.language_models import PROMPT_TEMPLATE, SFT_MODEL, load_causal_lm, load_tokenizer
from llm_gym.supervised.loop import (
    adamw,
    check_training_settings,
    cosine_learning_rate,
    progress,
    save_model,
    shuffled_batches,
    thinned,
    training_step,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llm_gym.feedback.dpo.dpo_progress import Progress
    from llm_gym.feedback.dpo.preference_pairs import EncodedPreference
    from llm_gym.feedback.preferences import Preference, PreferenceStore

__all__ = ["DPOConfig", "train_dpo"]

_NOT_PART_OF_A_RUN = ("device", "checkpoint_every")


@dataclass(frozen=True)
class DPOConfig:
    """Settings of direct preference optimisation."""

    model: str = setting(
        SFT_MODEL, "language model to start from: embedded or hub name, or directory"
    )
    reference: str = setting(
        "", "language model to stay close to; empty means the one to start from"
    )
    prompt_template: str = setting(
        PROMPT_TEMPLATE, "filled with the prompt before encoding; generate with the same one"
    )
    beta: float = setting(0.1, "price of a nat of divergence from the reference")
    loss: str = setting("sigmoid", "the loss: sigmoid (DPO) or ipo")
    label_smoothing: float = setting(
        0.0, "share of the labels taken to be wrong, from 0 to less than 0.5 (cDPO)"
    )
    epochs: int = setting(3, "passes over the preferences")
    batch_size: int = setting(16, "preferences per step")
    learning_rate: float = setting(1e-4, "peak of the cosine schedule")
    warmup_share: float = setting(0.1, "share of the steps that warm up")
    final_share: float = setting(0.1, "last learning rate as a share of the peak")
    weight_decay: float = setting(0.0, "decay of the weight matrices")
    max_grad_norm: float = setting(1.0, "longer gradients are clipped")
    too_long: str = setting(
        "raise", "what becomes of rows longer than the model's context: raise or drop"
    )
    held_out_share: float = setting(
        0.1, "share of the prompts that is held out if no held-out rows are given"
    )
    contradictions: str = setting(
        "raise", "what becomes of rows that contradict others: raise, keep or drop"
    )
    checkpoint_every: int = setting(100, "steps between two savings of the unfinished run")
    seed: int = setting(0, "seed of the order of preferences")
    weights: str = setting("float32", "type of the stored weights: float32, float16 or bfloat16")
    device: str = setting("cpu", "where to train: cpu or cuda, for example")

    def __post_init__(self) -> None:
        from llm_gym.learning.losses import check_loss_settings

        check_loss_settings(self.beta, self.label_smoothing, self.loss)
        check_training_settings(self)
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1, got {self.checkpoint_every!r}")
        if "{prompt}" not in self.prompt_template:
            raise ValueError(f"prompt_template must contain {{prompt}}: {self.prompt_template!r}")
        if self.too_long not in ("raise", "drop"):
            raise ValueError(f"too_long must be 'raise' or 'drop', got {self.too_long!r}")


def train_dpo(
    preferences: str | Path | PreferenceStore | Sequence[Preference],
    output: str | Path,
    config: DPOConfig | None = None,
    *,
    held_out: Sequence[Preference] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Fine-tunes a causal language model on preferences, and saves it.

    What is written is an ordinary directory for `AutoModelForCausalLM`. While it is not finished,
    the run is kept in `OUTPUT-unfinished`, and the same call goes on from there, bit for bit.

    Args:
        preferences: A file in TRL's format (`.jsonl`, `.parquet`), a store of votes or its path, or
            the rows.
        output: Directory for model, tokenizer and `metrics.json`; written whole or not at all.
        config: Settings; None means the defaults.
        held_out: Preferences to measure on; None holds out a share of the prompts.
        quiet: No progress bar.

    Returns:
        The metrics: `held_out` before and after (see `dpo_measure.evaluate_dpo`), the curves of
        loss, accuracy, margin and log-probabilities, counts, the configuration, seconds.

    Raises:
        FileNotFoundError: The file or the model does not exist.
        TypeError: A row is no `Preference`.
        ValueError: The preferences cannot be learnt from, two vocabularies differ, a setting does
            not fit, or there is an unfinished run with other settings.
    """
    from llm_gym.feedback.dpo.dpo_measure import evaluate_dpo
    from llm_gym.feedback.dpo.dpo_progress import Progress, data_digest, model_digest
    from llm_gym.feedback.dpo.preference_pairs import preferences_from
    from llm_gym.feedback.preferences.files import split_preferences
    from llm_gym.supervised.loop import rounded

    config = config or DPOConfig()
    started = time.perf_counter()
    rows = preferences_from(preferences, config.contradictions)
    if held_out is None:
        rows, held_out = split_preferences(rows, config.held_out_share, config.seed)
    held_out = preferences_from(held_out)
    model, tokenizer = load_causal_lm(config.model), load_tokenizer(config.model)
    encoded = _encoded(tokenizer, rows, model, config)
    held_out_encoded = _encoded(tokenizer, held_out, model, config)
    settings = {k: v for k, v in asdict(config).items() if k not in _NOT_PART_OF_A_RUN}
    settings["preferences"] = data_digest([*encoded, *held_out_encoded])
    settings["weights_of_the_model"] = model_digest(model)
    state = Progress.beside(output, settings)
    model.to(config.device)
    if "reference" not in state.tensors:
        state.tensors["reference"] = _reference(model, [*encoded, *held_out_encoded], config)
        state.save()
    reference = state.tensors["reference"].split([len(encoded), len(held_out_encoded)])
    before = evaluate_dpo(model, held_out_encoded, reference[1], config)
    _train(model, encoded, reference[0], state, config, quiet=quiet)
    rounded(model, config.weights)
    metrics = {
        "held_out_before": before,
        "held_out": evaluate_dpo(model, held_out_encoded, reference[1], config),
        "preferences": len(encoded),
        "too_long": len(rows) + len(held_out) - len(encoded) - len(held_out_encoded),
        "steps": state.step,
        "curves": {name: thinned(values) for name, values in state.statistics.items()},
        "config": asdict(config),
        "seconds": time.perf_counter() - started,
    }
    with replace_directory(output) as directory:
        save_model(model, tokenizer, directory, config.weights)
        write_json(directory / "metrics.json", metrics)
    state.remove()
    return metrics


def _train(
    model: PreTrainedModel,
    preferences: Sequence[EncodedPreference],
    reference: torch.Tensor,
    state: Progress,
    config: DPOConfig,
    *,
    quiet: bool,
) -> None:
    """Takes the steps that are left, and saves the run every so often."""
    import torch

    from llm_gym.feedback.dpo.dpo_measure import loss_of, share_right
    from llm_gym.feedback.dpo.preference_pairs import pair_log_probs

    generator = torch.Generator().manual_seed(config.seed)
    lengths = [row.length for row in preferences]
    batches = [
        batch
        for _ in range(config.epochs)
        for batch in shuffled_batches(lengths, config.batch_size, generator)
    ]
    weights = torch.tensor([row.weight for row in preferences]).to(model.device)
    weights /= weights.mean()
    optimizer = adamw(model, config.weight_decay)
    parameters = [each for each in model.parameters() if each.requires_grad]
    state.restore(model, optimizer)
    model.eval()  # dropout stays off: the reference's log-probabilities had none either
    with progress("dpo", len(batches) - state.step, quiet=quiet) as show:
        for batch in batches[state.step :]:
            ours = pair_log_probs(model, [preferences[index] for index in batch])
            found = loss_of(ours, reference[batch], config)
            loss = (weights[batch] * found.losses).mean()
            rate = cosine_learning_rate(
                state.step,
                len(batches),
                config.learning_rate,
                warmup_share=config.warmup_share,
                final_share=config.final_share,
            )
            training_step(
                optimizer,
                parameters,
                loss,
                learning_rate=rate,
                max_grad_norm=config.max_grad_norm,
            )
            margins = found.chosen_rewards - found.rejected_rewards
            state.note(
                loss=loss.item(),
                accuracy=float(share_right(margins).mean()),
                margin=float(margins.mean()),
                chosen_log_prob=float(ours[0].detach().mean()),
                rejected_log_prob=float(ours[1].detach().mean()),
            )
            show(loss.item())
            if state.step % config.checkpoint_every == 0 and state.step < len(batches):
                state.save(model, optimizer)


def _encoded(
    tokenizer: Any, rows: Sequence[Preference], model: PreTrainedModel, config: DPOConfig
) -> list[EncodedPreference]:
    from llm_gym.feedback.dpo.preference_pairs import encode_preferences

    context = getattr(model.config, "max_position_embeddings", None)
    drop = config.too_long == "drop"
    return encode_preferences(tokenizer, rows, config.prompt_template, context, drop_too_long=drop)


def _reference(
    model: PreTrainedModel, preferences: Sequence[EncodedPreference], config: DPOConfig
) -> torch.Tensor:
    """Log-probabilities under the reference, float32 `(N, 2)`."""
    from llm_gym.feedback.dpo.preference_pairs import reference_log_probs

    if not config.reference or config.reference == config.model:
        return reference_log_probs(model, preferences, config.batch_size)
    other = load_causal_lm(config.reference)
    if other.config.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"reference={config.reference!r} has {other.config.vocab_size} tokens but "
            f"model={config.model!r} has {model.config.vocab_size}; they need the same vocabulary"
        )
    return reference_log_probs(other.to(config.device), preferences, config.batch_size)
