"""Fixtures shared by all tests: tiny models on disk, and a quiet transformers."""

from __future__ import annotations

import os
from pathlib import Path

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


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory) -> Path:
    """What `llm-gym fetch smollm2` writes, once for all workers: to be read, not written to."""
    from filelock import FileLock

    from llm_gym.cli import main

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    directory = root / "smollm2"
    with FileLock(root / "smollm2.lock"):
        if not directory.exists():
            with pytest.raises(SystemExit) as ended:
                main(["fetch", "smollm2", "--output", str(directory)])
            assert not ended.value.code
    return directory


@pytest.fixture
def norms_as_wide_as_the_model(monkeypatch):
    """LLaMA's own rounds to float32."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def forward(norm, hidden):
        variance = hidden.pow(2).mean(-1, keepdim=True)
        return norm.weight * hidden * torch.rsqrt(variance + norm.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
