"""Models that have to be made before a task of text can run, and scores from 0 to 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_gym.files import atomic

MADE = "made.json"
"""Written last: whoever finds it finds the model whole."""

_DATA_SEED = 0  # of model and prompts; the runs' seeds are of the training


def make_model(job: dict[str, Any]) -> dict[str, Any]:
    """Makes a task's model in `job["folder"]`; a job like any other.

    Args:
        job: `task`, `folder`, `data` and `settings`.

    Returns:
        What the maker has to say.
    """
    from benchmarks.algorithms.building import named

    folder: Path = job["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    metrics = named(job["task"].maker)(folder, job["data"], job["task"].maker_steps)
    plain = json.loads(json.dumps(metrics, default=str))
    atomic.write_json(folder / MADE, {"settings": job["settings"], "metrics": plain})
    return {"metrics": plain}


def made_with(folder: Path) -> str | None:
    """Fingerprint of the settings that the model in a folder was made with, None without one."""
    path = folder / MADE
    return json.loads(path.read_text(encoding="utf-8"))["settings"] if path.exists() else None


def make_reasoning_model(folder: Path, data: Path | None, steps: int | None) -> dict[str, Any]:
    """A model that spells words of four letters backwards now and then."""
    from llm_gym_reasoning import make_model as make

    return make(folder / "model", task="spell_backward", seed=_DATA_SEED)


def make_real_text_model(folder: Path, data: Path | None, steps: int | None) -> dict[str, Any]:
    """Pre-trains on a file of text, as `benchmarks/real_text` does, and cuts held-out prompts."""
    from benchmarks.real_text.prompts import cut_prompts, split_prompts
    from benchmarks.real_text.run import DEFAULT_SCORERS, Settings, pretrain_on
    from llm_gym.supervised.pretrain import read_documents, split_held_out

    assert data is not None
    settings = Settings(data=str(data), seed=_DATA_SEED, pretrain_steps=steps or 1000)
    documents, held_out = split_held_out(
        read_documents(data), settings.held_out_share, settings.seed
    )
    training, measuring = split_prompts(
        cut_prompts(held_out, settings.prompt_words), settings.measured_prompts, settings.seed
    )
    prompts = {
        "training": training,
        "measuring": measuring,
        "scorer": DEFAULT_SCORERS.get(data.suffix, DEFAULT_SCORERS[""]),
    }
    atomic.write_json(folder / "prompts.json", prompts)
    return pretrain_on(settings, documents, held_out, folder / "model")


# ---------------------------------------------------------------------- scores from 0 to 1


def politeness_share(folder: Path | None) -> Any:
    """The judge of politeness, with 1 for its 100 points."""
    from llm_gym.polite_email.judge import PolitenessScorer
    from llm_gym.scorers import Scale

    return Scale(PolitenessScorer(), 0.01)


def real_text_scorer(folder: Path | None) -> Callable[..., list[float]]:
    """The scorer of `benchmarks/real_text` for the kind of file that the model was made of."""
    from benchmarks.real_text import scorers

    assert folder is not None
    name = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))["scorer"]
    return getattr(scorers, name)
