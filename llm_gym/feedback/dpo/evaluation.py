"""The loss of preference pairs, and how well a model agrees with preferences it was not shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm_gym.feedback.dpo.preference_pairs import EncodedPreference, pair_log_probs
from llm_gym.language_models.packing import by_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from llm_gym.feedback.dpo.dpo import DPOConfig
    from llm_gym.learning.losses import PairLoss
    from llm_gym.policy.trunk import Trunk


def loss_of(
    ours: tuple[torch.Tensor, torch.Tensor], reference: torch.Tensor, config: DPOConfig
) -> PairLoss:
    """The loss of B pairs under the settings of a run.

    Args:
        ours: Log-probabilities of chosen and rejected answers, float `(B,)` each.
        reference: Float `(B, 2)`, those of the reference.
        config: `beta`, `loss` and `label_smoothing` are used.
    """
    from llm_gym.learning.losses import dpo_loss

    theirs = reference.to(ours[0].device)
    return dpo_loss(
        ours[0],
        ours[1],
        theirs[:, 0],
        theirs[:, 1],
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        loss=config.loss,
    )


def evaluate_dpo(
    model: PreTrainedModel,
    preferences: Sequence[EncodedPreference],
    reference: torch.Tensor,
    config: DPOConfig,
    trunk: Trunk | None = None,
) -> dict[str, float]:
    """How well a model's implicit rewards agree with preferences.

    Args:
        model: The trained model.
        preferences: N encoded rows, which it was not trained on.
        reference: Float `(N, 2)`, log-probabilities of chosen and rejected under the reference.
        config: `beta`, `loss`, `label_smoothing` and `batch_size` are used.
        trunk: Reads a prompt once for both answers, where that pays; `None` reads it twice.

    Returns:
        `loss`; `accuracy`, the share of rows whose chosen answer has the higher implicit reward (a
        tie is half); `margin`, the mean difference of implicit rewards; mean log-probabilities
        `chosen_log_prob` and `rejected_log_prob` of whole answers in nats, and with `reference_`
        before them those of the reference; `pairs`. The two rows of a tie count as one.
    """
    import torch

    columns = torch.empty(len(preferences), 5)
    model.eval()
    with torch.inference_mode():
        for members in by_length([row.length for row in preferences], config.batch_size):
            ours = pair_log_probs(model, [preferences[index] for index in members], trunk)
            pairs = loss_of(ours, reference[members], config)
            columns[members] = torch.stack(
                [pairs.losses, pairs.chosen_rewards, pairs.rejected_rewards, *ours], 1
            ).cpu()
    weights = torch.tensor([row.weight for row in preferences])
    total = weights.sum()
    loss, chosen_reward, rejected_reward, chosen, rejected = columns.unbind(1)
    margins = chosen_reward - rejected_reward
    values = {
        "loss": loss,
        "accuracy": share_right(margins),
        "margin": margins,
        "chosen_log_prob": chosen,
        "rejected_log_prob": rejected,
        "reference_chosen_log_prob": reference[:, 0],
        "reference_rejected_log_prob": reference[:, 1],
    }
    means = {name: float((weights * value).sum() / total) for name, value in values.items()}
    return means | {"pairs": float(total)}


def share_right(margins: torch.Tensor) -> torch.Tensor:
    """1 where the margin is positive, 1/2 where it is zero, else 0: float `(B,)`."""
    return margins.sign() / 2 + 0.5
