"""Which choices of an objective fit, however they were written."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np
import pytest

from llm_gym.learning.advantages import ESTIMATORS
from llm_gym.learning.objective import KLPenalty, Objective

CRITICS = ("shared", "separate", "detached")


def read(text: str) -> str:
    """The same text as another object, as a file or a command line gives it."""
    return "".join(list(text))


def refusal(build, **settings) -> str:
    """The last words of what is refused, or nothing."""
    try:
        build(**{k: read(v) if isinstance(v, str) else v for k, v in settings.items()})
    except ValueError as error:
        return str(error)
    return ""


def test_what_nobody_chooses_is_what_is_documented():
    assert Objective() == Objective(
        "rloo", "policy_gradient", "token", 0.2, "token_mean", None, False, 0.95, 0.9, "none"
    )
    assert KLPenalty() == KLPenalty(0.05, None, 10_000, "reward", "k1", None, "memory")


@pytest.mark.parametrize(("made", "name"), [(Objective(), "loss"), (KLPenalty(), "kl_coef")])
def test_choices_stay_what_was_checked(made, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, name, getattr(made, name))


@pytest.mark.parametrize("advantage", ["gae", *ESTIMATORS])
def test_a_critic_is_there_where_values_are_needed_and_only_there(advantage):
    needed = advantage == "gae"
    assert Objective(advantage=read(advantage)).critic == ("shared" if needed else "none")
    for critic in CRITICS:
        said = refusal(Objective, advantage=advantage, critic=critic)
        assert ("uses no values" in said) is not needed
    said = refusal(Objective, advantage=advantage, critic="none")
    assert "needs values" in said if needed else said == ""


@pytest.mark.parametrize("advantage", ["gae", *ESTIMATORS])
@pytest.mark.parametrize("loss", ["policy_gradient", "clipped"])
@pytest.mark.parametrize("ratio", ["token", "answer"])
def test_answers_have_a_ratio_where_they_have_one_advantage_and_a_clip(advantage, loss, ratio):
    said = refusal(Objective, advantage=advantage, loss=loss, ratio=ratio)
    if ratio == "answer" and loss == "policy_gradient":
        assert "has no ratio" in said
    elif ratio == "answer" and advantage in ("gae", "reinforce_plus_plus"):
        assert "differs between the tokens" in said
    else:
        assert said == ""


@pytest.mark.parametrize(
    ("clip_range", "bounds"),
    [(0.2, (0.2, 0.2)), ((0.2, 1.5), (0.2, 1.5)), ([1, 3], (1.0, 3.0)), (1.0, (1.0, 1.0))],
)
def test_only_the_lower_clip_ends_at_one(clip_range, bounds):
    assert Objective(clip_range=clip_range).clip_bounds() == bounds


@pytest.mark.parametrize("clip_range", [1.01, (1.5, 2.0), (2.5, 3.0), (0.2,), (0.1, 0.2, 0.3)])
def test_other_clip_ranges_are_refused(clip_range):
    with pytest.raises(ValueError, match="must be one number > 0, or"):
        Objective(clip_range=clip_range)


def test_only_a_clipped_loss_learns_from_a_sample_more_than_once():
    plain = Objective(loss=read("policy_gradient"))
    plain.check_epochs(1)
    with pytest.raises(ValueError, match="n_epochs=2 with loss='policy_gradient'"):
        plain.check_epochs(2)
    Objective(loss=read("clipped")).check_epochs(2)


@pytest.mark.parametrize("critic", CRITICS)
def test_the_policy_has_the_critic_of_the_objective_or_says_that_it_has_another(critic):
    objective = Objective(advantage="gae", critic=read(critic))
    ours = {"separate_critic": critic == "separate", "detach_value": critic == "detached"}
    assert objective.with_critic(None) == ours
    same = {name: np.bool_(value) for name, value in ours.items()}
    assert objective.with_critic({"model": "m", **same}) == {"model": "m", **ours}
    for name, value in ours.items():
        with pytest.raises(ValueError, match=f"{name}={not value} contradicts critic='{critic}'"):
            objective.with_critic({name: not value})


@pytest.mark.parametrize(
    ("kl_in", "kl_estimator"),
    list(itertools.product(["reward", "loss"], [None, "k1", "k2", "k3", "exact"])),
)
def test_each_place_of_the_penalty_has_its_estimators(kl_in, kl_estimator):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = refusal(KLPenalty, kl_in=kl_in, kl_estimator=kl_estimator)
        chosen = KLPenalty(kl_in=read(kl_in)).kl_estimator
    assert ("has no gradient" in said) is ((kl_in, kl_estimator) == ("reward", "exact"))
    assert bool(caught) is ((kl_in, kl_estimator) == ("loss", "k1"))
    assert {warning.filename for warning in caught} <= {__file__}  # where it was asked for
    assert chosen == {"reward": "k1", "loss": "k2"}[kl_in]


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({"kl_coef": 0.0}, False),
        ({"kl_coef": 1e-6}, True),
        ({"kl_coef": lambda left: 0.0}, True),
        ({"kl_coef": 0.0, "reference": "model"}, True),
    ],
)
def test_a_reference_is_needed_where_there_is_a_divergence_to_measure(settings, needed):
    assert KLPenalty(**settings).needs_reference is needed
