"""Fixtures shared by all tests: tiny models on disk, and a quiet transformers."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest


@pytest.fixture(scope="session", autouse=True)
def _quiet_and_quick() -> None:
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)  # tiny models: a second thread only waits
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory):
    """Returns the directory of a tiny random model, made once a session per request."""
    from llm_gym.testing.tiny import save_tiny_model

    made: dict[tuple, str] = {}

    def get(architecture: str = "gpt2", **config) -> str:
        key = (architecture, *sorted(config.items()))
        if key not in made:
            made[key] = save_tiny_model(
                tmp_path_factory.mktemp(architecture), architecture, **config
            )
        return made[key]

    return get
