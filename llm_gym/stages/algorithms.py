"""The algorithms of `llm-gym train` by name, and their parameters as settings.

What an algorithm takes is read from its class: a setting is an option of those algorithms whose
constructor has a parameter of its name, and of no others.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from llm_gym.files.ranges import POSITIVE, check_settings
from llm_gym.files.settings import setting

if TYPE_CHECKING:
    from gymnasium.vector import VectorEnv
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm


@dataclass(frozen=True)
class Algorithm:
    """Where an algorithm is, and what it is without further settings.

    Attributes:
        place: "module:class".
        defaults: Settings for scores of 0 to 100, where they are not the class's own.
        group_size: Answers to one prompt.
    """

    place: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    group_size: int = 1

    @property
    def is_contrib(self) -> bool:
        """Whether it is sb3-contrib's, which knows neither our policy nor our buffer."""
        return self.place.startswith("sb3_contrib")

    def load(self) -> type:
        """Imports the class.

        Raises:
            ImportError: sb3-contrib is not installed.
        """
        module, _, name = self.place.partition(":")
        try:
            return getattr(import_module(module), name)
        except ImportError as error:
            if not self.is_contrib:
                raise
            raise ImportError(
                f'{name} needs sb3-contrib: pip install "llm-gym[contrib]" ({error})'
            ) from error


_PRESETS = "llm_gym.learning.presets"
_PRICE = {"kl_coef": 1.0}  # of a nat, beside scores of 0 to 100
_STEPS = {"batch_size": 512}
_STOCK = {"batch_size": 512, "learning_rate": 1e-4, "gamma": 1.0}

ALGORITHMS: dict[str, Algorithm] = {
    "ppo": Algorithm("llm_gym.learning.ppo:PPO", _PRICE),
    "a2c": Algorithm(f"{_PRESETS}:A2C", _PRICE),
    "reinforce": Algorithm(f"{_PRESETS}:REINFORCE", _PRICE),
    "reinforce++": Algorithm(f"{_PRESETS}:ReinforcePlusPlus", _PRICE | _STEPS),
    "remax": Algorithm(f"{_PRESETS}:ReMax", _PRICE, 4),
    "rloo": Algorithm(f"{_PRESETS}:RLOO", _PRICE, 4),
    "grpo": Algorithm(f"{_PRESETS}:GRPO", {"kl_coef": 0.04} | _STEPS, 8),
    "dr_grpo": Algorithm(f"{_PRESETS}:DrGRPO", _PRICE | _STEPS, 8),
    "dapo": Algorithm(f"{_PRESETS}:DAPO", {"n_epochs": 2} | _STEPS, 8),
    "nlpo": Algorithm(f"{_PRESETS}:NLPO", _PRICE),
    "policy_gradient": Algorithm("llm_gym.learning.policy_gradient:PolicyGradient", _PRICE, 4),
    "raft": Algorithm("llm_gym.learning.expert_iteration:ExpertIteration", {}, 8),
    "sft_on_best": Algorithm("llm_gym.learning.expert_iteration:SFTOnBest", {"n_epochs": 3}, 8),
    "dpo": Algorithm("llm_gym.learning.dpo:DPO", {"batch_size": 2048, "label_scale": 10.0}, 2),
    "online_dpo": Algorithm(
        "llm_gym.learning.dpo:DPO", {"batch_size": 2048, "label_scale": 10.0, "online": True}, 2
    ),
    "trpo": Algorithm("sb3_contrib:TRPO", _STOCK),
    "maskable_ppo": Algorithm("sb3_contrib:MaskablePPO", {**_STOCK, "n_epochs": 4}),
}
_ALIASES = {"reinforce_plus_plus": "reinforce++", "expert_iteration": "raft", "drgrpo": "dr_grpo"}


@dataclass(frozen=True)
class AlgorithmConfig:
    """An algorithm and its parameters; None leaves one to the algorithm.

    Raises:
        TypeError: A setting, one of a subclass included, has a value of another type.
        ValueError: There is no such algorithm, or a value is out of range.
    """

    algorithm: str = setting("ppo", f"how to learn: {', '.join(ALGORITHMS)}")
    learning_rate: float | None = setting(None, "step size of AdamW", POSITIVE)
    n_steps: int | None = setting(
        None, "tokens per answer slot and rollout; default: whole answers, none of them cut"
    )
    answers_per_rollout: int | None = setting(
        None, "answers of a rollout, a multiple of --num-envs; default: one for each"
    )
    batch_size: int | None = setting(None, "tokens per gradient step")
    n_epochs: int | None = setting(None, "passes over what was sampled")
    keep_groups: bool | None = setting(
        None, "never part answers to one prompt: whole groups in a gradient step, which is quicker"
    )
    max_grad_norm: float | None = setting(None, "clipping of the gradient")
    gamma: float | None = setting(None, "discount factor")
    turn_gamma: float | None = setting(None, "discount of each turn of a conversation")
    gae_lambda: float | None = setting(None, "bias against variance of the advantages")
    vf_coef: float | None = setting(None, "weight of the value loss")
    ent_coef: float | None = setting(None, "weight of the entropy bonus")
    clip_range: float | None = setting(None, "how far the probability ratio may leave 1")
    clip_range_high: float | None = setting(None, "the same upwards, if it differs")
    clip_range_vf: float | None = setting(None, "clipping of the value function")
    target_kl: float | None = setting(None, "nats a token at which an update ends")
    normalize_advantage: bool | None = setting(None, "whiten the advantages of a minibatch")
    reward_scaling: bool | None = setting(None, "divide rewards by the deviation of returns")
    recompute_log_probs: bool | None = setting(
        None, "compute log-probabilities anew before learning"
    )
    advantage: str | None = setting(
        None, "what was better than expected, by: gae, rloo, grpo, dr_grpo, batch_mean, ..."
    )
    loss: str | None = setting(
        None, "kind of loss: policy_gradient or clipped; of dpo: sigmoid or ipo"
    )
    ratio: str | None = setting(None, "what has a probability ratio: token or answer")
    aggregation: str | None = setting(
        None, "how tokens are averaged: token_mean, sequence_mean or constant"
    )
    aggregation_constant: float | None = setting(
        None, "divisor of the aggregation constant; default: most tokens of an answer"
    )
    baseline_decay: float | None = setting(None, "weight of the past in a moving average")
    critic: str | None = setting(None, "kind of critic: none, shared, separate or detached")
    critic_start: bool | None = setting(
        None, "set a critic that is zero to the level of the first returns"
    )
    critic_gae_lambda: float | None = setting(
        None, "lambda of the returns that the critic learns; default: gae_lambda"
    )
    length_adaptive_alpha: float | None = setting(
        None, "share of an answer that lambda reaches over, whatever its length; in place of it"
    )
    critic_warmup: int | None = setting(
        None, "rollouts at the beginning from which the critic learns alone"
    )
    kl_coef: float | None = setting(None, "price of a nat of divergence, in units of the score")
    kl_target: float | None = setting(None, "nats per answer that an adaptive price steers to")
    kl_horizon: int | None = setting(None, "answers in which the adaptive price responds")
    kl_in: str | None = setting(None, "the penalty's place: reward or loss")
    kl_estimator: str | None = setting(None, "estimator of the divergence: k1, k2, k3 or exact")
    reference: str | None = setting(
        None, "model to stay close to; default: the one that is trained"
    )
    reference_weights: str | None = setting(
        None, "where that model's weights are: memory, bfloat16 (there, half as large) or disk"
    )
    mask_top_p: float | None = setting(None, "probability of the mask policy's nucleus")
    mask_interval: int | None = setting(None, "rollouts between two refreshments of the mask")
    top_share: float | None = setting(None, "keep this share of all answers")
    threshold: float | None = setting(None, "keep answers of at least this score")
    sample_once: bool | None = setting(None, "sample everything first, then learn")
    beta: float | None = setting(None, "price of a nat of divergence")
    label_smoothing: float | None = setting(None, "share of labels taken to be wrong")
    labels: str | None = setting(
        None, "how scores become labels: soft, bradley_terry or deterministic"
    )
    label_scale: float | None = setting(None, "difference of scores that makes a nat of log-odds")
    online: bool | None = setting(None, "sample fresh pairs each iteration")
    cg_max_steps: int | None = setting(None, "steps of the conjugate gradients")
    n_critic_updates: int | None = setting(None, "passes of the critic over a rollout")
    group_size: int | None = setting(None, "answers to the same prompt; divides --num-envs")

    def __post_init__(self) -> None:
        check_settings(self)
        object.__setattr__(self, "algorithm", known_name(self.algorithm))


_NOT_PARAMETERS = ("algorithm", "group_size")


def known_name(name: str) -> str:
    """An algorithm's own name: hyphens, capitals and second names are understood.

    Raises:
        ValueError: There is no such algorithm; the message has the nearest.
    """
    key = name.lower().replace("-", "_")
    key = _ALIASES.get(key, key)
    if key not in ALGORITHMS:
        near = difflib.get_close_matches(key, [*ALGORITHMS, *_ALIASES], n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ALGORITHMS)}"
        raise ValueError(f"algorithm={name!r} is unknown; {hint}")
    return key


@cache
def parameters_of(name: str) -> Mapping[str, Any]:
    """The parameters of an algorithm that are settings, with their defaults.

    Args:
        name: One of `ALGORITHMS`.

    Raises:
        ImportError: It is sb3-contrib's, which is not installed.
    """
    from llm_gym.learning.objective import KLPenalty, Objective
    from llm_gym.learning.policy_gradient import PolicyGradient

    algorithm = ALGORITHMS[name]
    kind: Any = algorithm.load()
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        # What the common bases take is not settable where a class has fixed it.
        common = base.__module__.startswith("stable_baselines3.common")
        if "__init__" in vars(base) and not common and not inspect.isabstract(base):
            found |= {p.name: p.default for p in inspect.signature(base).parameters.values()}
    if issubclass(kind, PolicyGradient):
        for part in (Objective, KLPenalty):
            found |= {each.name: each.default for each in fields(part)}
        found |= {"clip_range_high": None, **kind.choices}
        if isinstance(found["clip_range"], tuple):
            found["clip_range"], found["clip_range_high"] = found["clip_range"]
    if algorithm.is_contrib:
        found["n_steps"] = None  # a whole answer, as everywhere
    settings = {each.name for each in fields(AlgorithmConfig)} - {*_NOT_PARAMETERS}
    return {key: value for key, value in {**found, **algorithm.defaults}.items() if key in settings}


def resolved(config: AlgorithmConfig) -> dict[str, Any]:
    """The settings of an algorithm with its defaults in the places that were left to it.

    Args:
        config: What was chosen.

    Returns:
        Values by name, of `algorithm` and its parameters alone; None where the algorithm decides
        when it sees the environment.

    Raises:
        ValueError: A setting is none of the algorithm's; the message has those that are, and the
            algorithms that have it.
        ImportError: See `parameters_of`.
    """
    known = parameters_of(config.algorithm)
    given = {each.name: getattr(config, each.name) for each in fields(AlgorithmConfig)}
    given = {k: v for k, v in given.items() if v is not None and k not in _NOT_PARAMETERS}
    values = {**known, **given}
    for name in given:
        if name not in known:
            raise ValueError(_misplaced(name, config.algorithm, known))
    for name, reason in _without_effect(values).items():
        if name in given and given[name] != known[name]:
            raise ValueError(
                f"{name}={given[name]!r} does nothing in algorithm={config.algorithm!r} {reason}; "
                f"leave it out{_elsewhere(name)}"
            )
        values[name] = None
    group_size = config.group_size or ALGORITHMS[config.algorithm].group_size
    return {"algorithm": config.algorithm, **values, "group_size": group_size}


def _without_effect(values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters that an algorithm has and, with the other values, makes no use of; and why."""
    idle: dict[str, str] = {}
    for names, other, needed in (
        ("clip_range clip_range_high ratio", "loss", "clipped"),
        (
            "gae_lambda vf_coef critic_start critic_gae_lambda length_adaptive_alpha critic_warmup",
            "advantage",
            "gae",
        ),
        ("baseline_decay", "advantage", "moving_average"),
        ("aggregation_constant", "aggregation", "constant"),
    ):
        if "advantage" in values and values[other] != needed:
            idle |= dict.fromkeys(names.split(), f"without {other}={needed!r}")
    if values.get("kl_target") is None:
        idle["kl_horizon"] = "without kl_target"
    if values.get("kl_coef") == 0:
        free = ["kl_target", "kl_horizon", "kl_in", "kl_estimator"]
        idle |= dict.fromkeys(free, "with kl_coef=0")
        if values.get("reference") is None:
            idle["reference_weights"] = "with kl_coef=0 and no reference"
    return {name: reason for name, reason in idle.items() if name in values}


def _misplaced(name: str, algorithm: str, known: Mapping[str, Any]) -> str:
    used = [each for each in known if each not in _without_effect(known)]
    return (
        f"{name} is no setting of algorithm={algorithm!r}, which has {', '.join(used)}; those "
        f"that have it: {', '.join(_having(name))}"
    )


def _elsewhere(name: str) -> str:
    having = _having(name)
    return f", or take one of {', '.join(having)}" if having else ""


def _having(name: str) -> list[str]:
    """Algorithms that make use of a parameter."""
    having = []
    for algorithm in ALGORITHMS:
        try:
            known = parameters_of(algorithm)
        except ImportError:
            continue
        if name in known and name not in _without_effect(known):
            having.append(algorithm)
    return having


def build(
    env: VectorEnv,
    values: Mapping[str, Any],
    *,
    anneal_learning_rate: bool = False,
    **common: Any,
) -> OnPolicyAlgorithm:
    """Makes an algorithm on an environment.

    Args:
        env: A text vector environment.
        values: From `resolved`.
        anneal_learning_rate: Let the learning rate fall linearly to 0.
        **common: `policy_kwargs`, `seed` and `device`.

    Raises:
        ValueError: A setting does not fit, naming it.
    """
    algorithm = ALGORITHMS[values["algorithm"]]
    settings = {
        name: value
        for name, value in values.items()
        if value is not None and name not in _NOT_PARAMETERS
    }
    high = settings.pop("clip_range_high", None)
    if high is not None:
        settings["clip_range"] = (settings["clip_range"], high)
    if anneal_learning_rate:
        rate = settings["learning_rate"]
        settings["learning_rate"] = lambda left: rate * left
    if algorithm.is_contrib:
        return _contrib(algorithm, env, settings | common)
    return algorithm.load()("TransformerPolicy", env, **settings, **common)


def _contrib(algorithm: Algorithm, env: VectorEnv, settings: dict[str, Any]) -> OnPolicyAlgorithm:
    """An algorithm of sb3-contrib, unmodified: only policy, buffer and environment are ours."""
    from llm_gym.learning.buffer import EpisodeBuffer, MaskableEpisodeBuffer
    from llm_gym.learning.vec_env import GymVecEnv
    from llm_gym.policy import MaskableTransformerPolicy, TwiceDifferentiablePolicy

    kind = algorithm.load()
    masks = kind.__name__ == "MaskablePPO"
    settings.setdefault("n_steps", env.unwrapped.max_new_tokens)  # type: ignore[attr-defined]
    with warnings.catch_warnings():  # minibatches are whole answers
        warnings.filterwarnings("ignore", "You have specified a mini-batch size of")
        return kind(
            # TRPO: PyTorch's fused attention has no second derivative.
            MaskableTransformerPolicy if masks else TwiceDifferentiablePolicy,
            GymVecEnv(env),
            rollout_buffer_class=MaskableEpisodeBuffer if masks else EpisodeBuffer,
            **settings,
        )
