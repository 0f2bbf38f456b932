"""The command `dpo`: from votes or preferences straight to a language model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm_gym.cli.options import with_options_of
from llm_gym.feedback.dpo.dpo import DPOConfig

__all__ = ["EXAMPLES", "dpo", "run_dpo"]

EXAMPLES = """\
From the votes of `llm-gym label`, or from a file in TRL's format:

\b
  llm-gym dpo votes.db --output runs/dpo
  llm-gym dpo preferences.jsonl --model my-model --beta 0.05
  llm-gym dpo preferences.jsonl --loss ipo"""


@with_options_of(DPOConfig)
def dpo(
    preferences: Annotated[
        Path, typer.Argument(help="Preferences (.jsonl, .parquet) or votes (.db, .sqlite).")
    ],
    output: Annotated[Path, typer.Option(help="Directory for everything that is written.")] = Path(
        "runs/dpo"
    ),
    **values: Any,
) -> None:
    """Fine-tune a language model on preferences, without a reward model (DPO).

    After Ctrl-C the same command goes on where the run was last saved.
    """
    run_dpo(preferences, output, DPOConfig(**values))


def run_dpo(preferences: Path, output: Path, config: DPOConfig) -> None:
    """Trains by DPO and says how well the result agrees with held-out preferences.

    Args:
        preferences: A preference file (`.jsonl`, `.parquet`) or a store of votes (`.db`, `.sqlite`,
            `.sqlite3`).
        output: Directory of the model.
        config: settings.

    Raises:
        FileNotFoundError, ValueError: See `train_dpo`.
    """
    from llm_gym.cli.runs import INTERRUPTED, say
    from llm_gym.feedback.dpo.dpo import train_dpo
    from llm_gym.language_models.loading import quiet_libraries

    quiet_libraries()
    try:
        metrics = train_dpo(preferences, output, config)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on where the run was last saved")
        raise SystemExit(INTERRUPTED) from None
    before, after = metrics["held_out_before"], metrics["held_out"]
    print(
        f"held-out accuracy {after['accuracy']:.3f} ({after['pairs']:g} preferences), margin "
        f"{after['margin']:.3f}, loss {before['loss']:.3f} before, {after['loss']:.3f} after\n"
        f"log-probability of the chosen answers {before['chosen_log_prob']:.1f} before, "
        f"{after['chosen_log_prob']:.1f} after; of the rejected ones "
        f"{before['rejected_log_prob']:.1f} and {after['rejected_log_prob']:.1f}\n"
        f"model: {output}"
    )
