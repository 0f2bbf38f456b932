"""Whether a saved state fits an algorithm, asked before anything of the algorithm is changed.

Who can write a checkpoint's files can write their digests, too. So names, shapes, types and ranges
of all tensors are looked at: an optimizer that is given moments of another shape writes past
their end.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces

from llm_gym.files.schema import list_of, one_of, record, refuse
from llm_gym.learning.base import AnswerLearner
from llm_gym.runs.shared_base import check_adapter, stored_state
from llm_gym.runs.training_state import Tensors, below, plain, reference_digest

_NEVER_NEGATIVE = {"step", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"}  # of moments

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    from llm_gym.files.schema import Check


def check_origin(algorithm: OnPolicyAlgorithm, values: Mapping[str, Any], tensors: Tensors) -> None:
    """Raises `ValueError` unless a state is one of such an algorithm with such a model.

    Args:
        algorithm: The algorithm.
        values: JSON-able, as `checkpoint_schema.STATE` says.
        tensors: By name.
    """
    kind = type(algorithm).__name__
    if values["algorithm"] != kind:
        raise ValueError(f"it was saved by {values['algorithm']}, not {kind}")
    check_adapter(algorithm.policy, values["adapter"])
    present = stored_state(algorithm.policy)
    saved = below(tensors, "policy.")
    for name in sorted(present.keys() ^ saved.keys()):
        where = "the policy has no" if name in saved else "it has no"
        raise ValueError(f"{where} parameter {name!r}; was the run started from another model?")
    for name, value in present.items():
        if value.shape != saved[name].shape:
            raise ValueError(
                f"parameter {name!r} has shape {tuple(saved[name].shape)}, the policy's has "
                f"{tuple(value.shape)}; was the run started from another model?"
            )
        check_tensor(f"policy.{name}", saved[name], value.shape, value.dtype)
    starts = values["last_episode_starts"]
    if starts is not None and len(starts) != algorithm.n_envs:
        raise ValueError(
            f"it was saved with {len(starts)} environments, there are {algorithm.n_envs}"
        )
    if values["reference_sha256"] != reference_digest(algorithm):
        raise ValueError(
            "the KL reference is not the one of the saved run; build the algorithm with the "
            "model (or reference=) that the run started from, then load the checkpoint"
        )


def check_values(algorithm: OnPolicyAlgorithm, values: Mapping[str, Any]) -> None:
    """Raises `ValueError` for values that `training_state.restore` could not put back.

    Args:
        algorithm: The algorithm.
        values: As `checkpoint_schema.STATE` says.
    """
    infos = list_of(lambda *_: None, longest=algorithm._stats_window_size)
    infos("episode_infos", values["episode_infos"])
    infos("episode_successes", values["episode_successes"])
    rng = getattr(algorithm.rollout_buffer, "rng", None)
    if rng is None:
        one_of(None)("random.buffer", values["random"]["buffer"])
    else:
        same_kind = {"bit_generator": one_of(rng.bit_generator.state["bit_generator"])}
        record(same_kind, others=lambda *_: None)("random.buffer", values["random"]["buffer"])
    own = algorithm.state_checks() if isinstance(algorithm, AnswerLearner) else {}
    record(own)("own", values["own"])
    _check_groups(algorithm.policy.optimizer, values["optimizer"]["param_groups"])
    _check_environment(algorithm, values["environment"])


def check_tensors(
    algorithm: OnPolicyAlgorithm, values: Mapping[str, Any], tensors: Tensors
) -> None:
    """Raises `ValueError` for tensors that `training_state.restore` could not put back.

    Those of the policy are `check_origin`'s to check.

    Args:
        algorithm: The algorithm.
        values: As `check_values` found them to be right.
        tensors: By name.
    """
    parts = ("policy.", "optimizer.", "last_obs.", "random.")
    for name in sorted(tensors):
        if not name.startswith(parts):
            raise ValueError(f"{name} is no tensor that belongs there")
    check_moments(
        algorithm.policy.optimizer, values["optimizer"]["scalars"], below(tensors, "optimizer.")
    )
    _check_observations(algorithm, values, below(tensors, "last_obs."))
    _check_random(algorithm, values["random"]["policy_device"], below(tensors, "random."))


def check_tensor(
    name: str, tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    """Raises `ValueError` for a tensor of another shape or type, or with NaN or infinity."""
    for word, is_value, must_be in (
        ("shape", tuple(tensor.shape), tuple(shape)),
        ("type", tensor.dtype, dtype),
    ):
        if is_value != must_be:
            raise ValueError(f"{name} has {word} {is_value}, must have {must_be}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name} has NaN or infinity among its values")


# ------------------------------------------------------------------ optimizer


def _check_groups(optimizer: torch.optim.Optimizer, saved: list[dict[str, Any]]) -> None:
    """The settings must be those of the optimizer that is there, but for the learning rate."""
    groups = plain(optimizer.state_dict()["param_groups"])
    if len(saved) != len(groups):
        refuse("optimizer.param_groups", f"a list of {len(groups)}", saved)
    for place, (present, group) in enumerate(zip(groups, saved, strict=True)):
        checks: dict[str, Check] = {
            key: _same_as(value) for key, value in present.items() if key != "lr"
        }
        record({"lr": lambda *_: None, **checks})(f"optimizer.param_groups[{place}]", group)


def _same_as(expected: Any) -> Check:
    def check(name: str, value: Any) -> None:
        if type(value) is not type(expected) or value != expected:
            raise ValueError(
                f"{name} is not that of the optimizer that is there; build the algorithm with the "
                "settings of the saved run"
            )

    return check


def check_moments(
    optimizer: torch.optim.Optimizer, scalars: Mapping[str, dict[str, Any]], saved: Tensors
) -> None:
    """Raises `ValueError` unless an optimizer can go on with what was kept of its parameters.

    Args:
        optimizer: The optimizer.
        scalars: Plain numbers by name, by the place of the parameter.
        saved: Tensors, `PLACE.NAME`.
    """
    expected = dict(enumerate(moments_of(optimizer)))
    names = {key.partition(".")[0] for key in saved}
    for index in sorted(names | scalars.keys()):
        if index not in scalars or int(index) not in expected:
            raise ValueError(f"optimizer.{index} is of no parameter")
        of_parameter = expected[int(index)]
        if of_parameter is None:
            continue
        moments = below(saved, f"{index}.")
        tensors = {name for name, like in of_parameter.items() if isinstance(like, torch.Tensor)}
        for expected_names, there in (
            (tensors, moments),
            (of_parameter.keys() - tensors, scalars[index]),
        ):
            for name in sorted(expected_names ^ there.keys()):
                problem = "missing" if name in expected_names else "none of the optimizer's"
                raise ValueError(f"optimizer.{index}.{name} is {problem}")
        for name, moment in moments.items():
            like = of_parameter[name]
            check_tensor(f"optimizer.{index}.{name}", moment, like.shape, like.dtype)
            if name in _NEVER_NEGATIVE and (moment < 0).any():
                raise ValueError(f"optimizer.{index}.{name} has values below 0")


def moments_of(optimizer: torch.optim.Optimizer) -> Iterator[dict[str, Any] | None]:
    """What an optimizer keeps of each of its parameters once it has taken a step.

    It is asked by a step of a copy whose tensors have shapes and types alone.

    Yields:
        By name, values of which shape and type are right; None where the optimizer cannot take a
        step like that. In the order of the parameters.
    """
    probe = copy.copy(optimizer)
    probe.state = defaultdict(dict)
    probe._optimizer_step_pre_hooks = OrderedDict()
    probe._optimizer_step_post_hooks = OrderedDict()
    plainly = {"fused": False, "foreach": False}
    probe.param_groups = []
    for group in optimizer.param_groups:
        shadows = [torch.empty_like(p, device="meta").requires_grad_() for p in group["params"]]
        for shadow in shadows:
            shadow.grad = torch.empty_like(shadow)
        settings = {key: plainly.get(key, value) for key, value in group.items()}
        probe.param_groups.append({**settings, "params": shadows})
    with suppress(RuntimeError, NotImplementedError):  # Adafactor asks for values
        probe.step()
    for group in probe.param_groups:
        for shadow in group["params"]:
            yield probe.state.get(shadow)


# ------------------------------------------------------------------ environment


def _check_environment(algorithm: OnPolicyAlgorithm, state: Any) -> None:
    env: Any = algorithm.env
    if state is None:
        if hasattr(env, "get_state"):
            refuse("environment", "the state of the environment", None)
    elif not hasattr(env, "set_state"):
        one_of(None)("environment", state)
    elif hasattr(env, "check_state"):
        env.check_state("environment", state)


def _check_observations(
    algorithm: OnPolicyAlgorithm, values: Mapping[str, Any], saved: Tensors
) -> None:
    space = algorithm.observation_space
    expected = dict(space.spaces) if isinstance(space, spaces.Dict) else {}
    if not saved and (not expected or values["last_episode_starts"] is None):
        return  # nothing was played yet, or observations that are no dicts are not kept
    for name in sorted(expected.keys() ^ saved.keys()):
        problem = "missing" if name in expected else "none of the environment's"
        raise ValueError(f"last_obs.{name} is {problem}")
    if values["last_episode_starts"] is None:
        raise ValueError("last_obs is there, and last_episode_starts is not")
    for name, of_row in expected.items():
        array = saved[name].numpy()
        must_be = (algorithm.n_envs, *(of_row.shape or ()))
        if array.shape != must_be or array.dtype != of_row.dtype:
            raise ValueError(
                f"last_obs.{name} is {array.dtype} of shape {array.shape}, must be {of_row.dtype} "
                f"of shape {must_be}"
            )
        for row, value in enumerate(array):
            if not of_row.contains(value):
                raise ValueError(f"last_obs.{name}[{row}] is outside the observation space")
    if "attention_mask" in expected and "completion_mask" in expected:
        assert algorithm.env is not None
        masks = saved["attention_mask"].numpy(), saved["completion_mask"].numpy()
        _check_masks(*masks, turns=algorithm.env.has_attr("max_turn_tokens"))


def _check_masks(attention: np.ndarray, completion: np.ndarray, *, turns: bool = False) -> None:
    """Masks, both int8 `(N, L)`, of rows that are a prompt, a completion and padding.

    With turns, others may have written between what the agent has.
    """
    has_holes = (np.diff(attention, axis=1) > 0).any()
    if not attention[:, 0].all() or has_holes:
        raise ValueError("last_obs.attention_mask must be ones, then zeros, in each row")
    goes_on = (np.diff(completion, axis=1) < 0) & (attention[:, 1:] == 1)
    if (completion > attention).any() or (goes_on.any() and not turns):
        raise ValueError("last_obs.completion_mask must mark the end of what is attended to")


# ------------------------------------------------------------------ random states


def _check_random(algorithm: OnPolicyAlgorithm, device: str, saved: Tensors) -> None:
    needed = {"torch", "policy", "numpy"}
    for name in sorted((saved.keys() ^ needed) - {"cuda"}):
        problem = "missing" if name in needed else "no state of a generator"
        raise ValueError(f"random.{name} is {problem}")
    _check_generator("random.torch", saved["torch"], "cpu")
    if device in ("cpu", algorithm.device.type):
        _check_generator("random.policy", saved["policy"], device)
    elif saved["policy"].shape == saved["torch"].shape:
        raise ValueError(f"random.policy is the state of a generator on cpu, not {device}")
    words = saved["numpy"]
    if words.shape != (624,) or words.dtype != torch.int64:
        raise ValueError(
            f"random.numpy is {words.dtype} of shape {tuple(words.shape)}, must be "
            f"{torch.int64} of shape (624,)"
        )
    if not ((words >= 0) & (words <= np.iinfo(np.uint32).max)).all():
        raise ValueError("random.numpy has values outside 0 to 2^32 - 1")
    if "cuda" in saved:
        states = saved["cuda"]
        if states.dtype != torch.uint8 or states.ndim != 2 or not len(states):
            raise ValueError(
                f"random.cuda is {states.dtype} of shape {tuple(states.shape)}, must be "
                f"{torch.uint8} with one row a device"
            )
        if torch.cuda.is_available():
            for index, state in enumerate(states[: torch.cuda.device_count()]):
                _check_generator(f"random.cuda[{index}]", state, f"cuda:{index}")


def _check_generator(name: str, state: torch.Tensor, device: str) -> None:
    try:
        torch.Generator(device).set_state(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name} is no state of a generator on {device}: {error}") from error
