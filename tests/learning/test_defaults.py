"""Numbers that nobody gives are part of what people publish: none of them changes by accident."""

from __future__ import annotations

import inspect

import pytest

import llm_gym
from tests.learning.online_worlds import MODEL, small_env

DEFAULTS = {
    "PPO": {
        "learning_rate": 1e-4, "batch_size": 512, "n_epochs": 4, "gamma": 1.0, "gae_lambda": 0.95,
        "vf_coef": 0.1, "max_grad_norm": 1.0, "kl_coef": 0.05, "kl_horizon": 10_000,
        "reference_weights": "memory", "reward_scaling": True, "critic_start": True,
        "critic_warmup": 0, "ent_coef": 0.0,
    },
    "PolicyGradient": {
        "learning_rate": 1e-4, "n_epochs": 1, "keep_groups": False, "gamma": 1.0, "ent_coef": 0.0,
        "vf_coef": 0.5, "max_grad_norm": 1.0, "critic_start": True, "critic_warmup": 0,
    },
    "DPO": {
        "learning_rate": 1e-4, "batch_size": 1024, "n_epochs": 1, "max_grad_norm": 1.0,
        "beta": 0.1, "label_smoothing": 0.0, "loss": "sigmoid", "labels": "soft",
        "label_scale": 1.0, "online": False, "reference_weights": "memory",
    },
    "ExpertIteration": {
        "learning_rate": 1e-4, "batch_size": 512, "n_epochs": 1, "max_grad_norm": 1.0,
        "kl_coef": 0.0, "reference_weights": "memory", "sample_once": False,
    },
    "SFTOnBest": {"sample_once": True},
    "NLPO": {"mask_top_p": 0.9, "mask_interval": 10, "batch_size": 512, "n_epochs": 4},
}  # fmt: skip


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_that_were_published(name):
    parameters = inspect.signature(getattr(llm_gym, name).__init__).parameters.values()
    found = {
        p.name: p.default
        for p in parameters
        if isinstance(p.default, (int, float, str)) and not p.name.startswith("_")
    }
    assert found == DEFAULTS[name]


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("A2C", {"advantage": "gae", "gae_lambda": 1.0, "normalize_advantage": False}),
        ("DAPO", {"clip_range": (0.2, 0.28), "kl_coef": 0.0, "aggregation": "token_mean"}),
        ("NLPO", {"advantage": "gae", "loss": "clipped", "normalize_advantage": True}),
        ("GRPO", {"kl_in": "loss", "kl_estimator": "k3", "aggregation": "sequence_mean"}),
    ],
)
def test_what_a_name_stands_for_is_what_was_published(name, choices, tiny_dir):
    model = tiny_dir("gpt2", **MODEL)
    algorithm = getattr(llm_gym, name)(
        "TransformerPolicy", small_env(model, group_size=4), policy_kwargs={"model": model}
    )
    settings = vars(algorithm.objective) | vars(algorithm.shaping.penalty)
    assert {key: settings[key] for key in choices} == choices
