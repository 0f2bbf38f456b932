"""Bad calls of the library: each must raise `ValueError` or `TypeError` that names what was wrong.

The table says what is called, with which sound arguments, and which values of one argument are bad.
A call is good if the error names the argument and shows the value, within a time limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.faults.forks import forked
from benchmarks.faults.rows import Row, tally
from llm_gym.testing.tiny import save_tiny_model

LIMIT = 30.0  # seconds for a call

NAN, INF = float("nan"), float("inf")
COUNT = [0, -1, 2.5, True, "3", NAN]
POSITIVE = [0.0, -1.0, NAN, INF, "x", True]
AT_LEAST_0 = [-1.0, NAN, INF, "x"]
SHARE = [-0.1, 1.1, NAN, "x"]
SEED = [-1, 2**32, 0.5, "x"]
WORD = ["nonsense", 3]
SWITCH = ["yes", 1]
DEVICE = ["gpu", "cuda:99"]


class Call(NamedTuple):
    """A bad call.

    Attributes:
        what: What is called.
        function: It.
        arguments: All of them, the bad one included.
        name: Of the bad one.
    """

    what: str
    function: Callable[..., Any]
    arguments: dict[str, Any]
    name: str


class World:
    """What sound calls need.

    Args:
        directory: For a model and what calls write.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.model = save_tiny_model(directory / "model")
        self.pairs = [{"prompt": f"w{n}", "completion": "w2"} for n in range(20)]
        self.preferences = [
            {"prompt": f"w{n}", "chosen": f"w{n} w3", "rejected": "w4"} for n in range(20)
        ]

    def environment(self, **options: Any) -> dict[str, Any]:
        """Arguments of a text environment."""
        from llm_gym import LengthScorer
        from llm_gym.language_models import load_tokenizer

        return {
            "tokenizer": load_tokenizer(self.model),
            "prompts": ["w1", "w2 w3"],
            "scorer": LengthScorer(3),
            "max_new_tokens": 4,
            **options,
        }


def calls(world: World) -> Iterator[Call]:
    """All of them."""
    for part in (_algorithms, _environments, _scorers, _runs, _settings, _feedback, _statistics):
        for function, sound, bad in part(world):
            for name, values in bad.items():
                for value in values:
                    what = f"{function.__name__}({name}={value!r:.40})"
                    yield Call(what, function, {**sound, name: value}, name)


Table = Iterator[tuple[Callable[..., Any], dict[str, Any], Mapping[str, list[Any]]]]


def _algorithms(world: World) -> Table:
    from gymnasium.vector import AutoresetMode

    import llm_gym
    from llm_gym.learning.kl import AdaptiveKLController
    from llm_gym.learning.objective import KLPenalty, Objective

    def on(kind: Any, group_size: int) -> Callable[..., Any]:
        def make(policy_kwargs: dict[str, Any] | None = None, **arguments: Any) -> Any:
            options = world.environment(group_size=group_size)
            env = llm_gym.TextGenerationVectorEnv(
                num_envs=4, autoreset_mode=AutoresetMode.SAME_STEP, **options
            )
            policy = {"model": world.model, **(policy_kwargs or {})}
            return kind("TransformerPolicy", env, policy_kwargs=policy, **arguments)

        make.__name__ = kind.__name__
        return make

    def policy(**arguments: Any) -> Any:
        return on(llm_gym.PPO, 1)(policy_kwargs=arguments)

    common = {"learning_rate": [-1.0, NAN, INF, "x"], "n_epochs": COUNT, "seed": SEED}
    ppo = common | {
        "batch_size": COUNT,
        "n_steps": COUNT,
        "gamma": SHARE,
        "gae_lambda": SHARE,
        "clip_range": POSITIVE,
        "max_grad_norm": POSITIVE,
        "vf_coef": AT_LEAST_0,
        "ent_coef": AT_LEAST_0,
        "kl_coef": AT_LEAST_0,
        "kl_target": POSITIVE,
        "target_kl": [-1.0, NAN, "x"],
        "device": DEVICE,
        "reward_scaling": SWITCH,
        "recompute_log_probs": SWITCH,
        "normalize_advantage": SWITCH,
        "stats_window_size": COUNT[:5],
        "rollout_buffer_kwargs": [["x"]],
    }
    yield on(llm_gym.PPO, 1), {}, ppo
    yield (
        on(llm_gym.PPO, 1),
        {"kl_target": 6.0},
        {"kl_horizon": [0, -1, NAN, "x"]},
    )
    gradient = {
        "batch_size": COUNT,
        "gamma": SHARE,
        "max_grad_norm": POSITIVE,
        "advantage": WORD,
        "loss": WORD,
        "aggregation": WORD,
        "kl_estimator": WORD,
        "baseline_decay": [-1.0, 1.0, NAN],
        "aggregation_constant": POSITIVE,
        "n_epochs": COUNT,
    }
    yield on(llm_gym.PolicyGradient, 2), {}, gradient
    yield on(llm_gym.A2C, 1), {}, {"gae_lambda": SHARE, "learning_rate": [-1.0, NAN]}
    yield on(llm_gym.GRPO, 2), {}, {"clip_range": [0.0, -1.0, NAN, "x", (0.2, NAN)]}
    yield on(llm_gym.NLPO, 1), {}, {"mask_top_p": POSITIVE[:5], "mask_interval": COUNT}
    dpo = {
        "beta": POSITIVE,
        "label_smoothing": [-0.1, 0.5, NAN],
        "loss": WORD,
        "labels": WORD,
        "label_scale": POSITIVE,
        "batch_size": COUNT,
        "online": SWITCH,
    }
    yield on(llm_gym.DPO, 2), {}, dpo
    best = {"top_share": [0.0, 1.5, NAN, "x"], "threshold": [NAN, "x"], "kl_coef": AT_LEAST_0}
    yield on(llm_gym.ExpertIteration, 2), {}, best | {"n_epochs": COUNT}
    yield Objective, {}, {"advantage": WORD, "critic": WORD, "clip_range": POSITIVE}
    yield KLPenalty, {}, {"kl_coef": AT_LEAST_0, "kl_in": WORD, "kl_target": POSITIVE}
    yield AdaptiveKLController, {"coef": 0.1}, {"target": POSITIVE[:4]}
    sampling = {
        "temperature": POSITIVE,
        "top_k": [-1, 2.5, "x"],
        "top_p": [0.0, 1.5, NAN, "x"],
        "value_scale": POSITIVE[:4],
        "mixed_precision": WORD,
        "dtype": WORD,
        "prefix_cache": WORD,
        "shared_prompts": WORD,
        "model": ["", 3, None],
        "separate_critic": SWITCH,
        "detach_value": SWITCH,
        "optimizer_class": ["Adam", dict],
        "optimizer_kwargs": [["lr"], {"lr": 1.0}],
    }
    yield policy, {}, sampling


def _environments(world: World) -> Table:
    import llm_gym

    def single(**options: Any) -> Any:
        return llm_gym.TextGenerationEnv(**world.environment(**options)).reset(seed=0)

    def vector(**options: Any) -> Any:
        return llm_gym.TextGenerationVectorEnv(**world.environment(**options))

    def step(action: Any) -> Any:
        env = llm_gym.TextGenerationEnv(**world.environment())
        env.reset(seed=0)
        return env.step(action)

    def reset(**options: Any) -> Any:
        return llm_gym.TextGenerationEnv(**world.environment()).reset(options=options)

    yield (
        single,
        {},
        {
            "max_new_tokens": COUNT,
            "min_new_tokens": [-1, 9, "x"],
            "max_prompt_tokens": COUNT[:4],
            "context_length": COUNT[:4],
            "prompt_template": ["nonsense", 3],
            "prompt_order": WORD,
            "on_max_length": WORD,
            "on_scorer_error": WORD,
            "too_long": WORD,
            "bad_rows": WORD,
            "missing_eos_penalty": [NAN, INF, "x"],
            "scorer_time_limit": POSITIVE,
            "stop_strings": ["text", [""], [3], 3],
            "eos_token_id": [-1, 999, "x", True],
            "forbidden_token_ids": [[-1], [999], [True]],
            "add_special_tokens": SWITCH,
            "shard": [(2, 2), (0, 0), 3],
            "scorer": [3, "nonsense"],
            "prompts": [[], 3, [""], [3]],
        },
    )
    yield vector, {}, {"num_envs": COUNT[:5]}
    yield vector, {"num_envs": 4}, {"group_size": [0, 3, -1]}
    yield step, {}, {"action": [-1, 999, 0.5]}
    yield reset, {}, {"prompt_index": [-1, 99, "x"], "prompt": [3]}


def _scorers(world: World) -> Table:
    import llm_gym
    from llm_gym.scorers import as_scorer

    length = llm_gym.LengthScorer(3)
    yield (
        llm_gym.LengthScorer,
        {"target": 3},
        {"tolerance": POSITIVE, "unit": WORD[:1]},
    )
    yield llm_gym.LengthScorer, {}, {"target": [-1, NAN, "x"]}
    yield llm_gym.RegexScorer, {}, {"pattern": ["("]}
    yield llm_gym.RegexScorer, {"pattern": "x"}, {"score": [NAN, "x"], "otherwise": [INF]}
    yield llm_gym.Scale, {"scorer": length}, {"factor": [NAN, "x"], "offset": [INF]}
    yield llm_gym.Clip, {"scorer": length, "high": 1.0}, {"low": [NAN, "x", 2.0]}
    http = {
        "timeout": POSITIVE,
        "retries": [-1, 0.5],
        "backoff": AT_LEAST_0,
        "concurrency": COUNT[:3],
        "on_failure": ["nonsense", NAN],
        "time_limit": POSITIVE[:4],
    }
    yield llm_gym.HTTPScorer, {"url": "http://127.0.0.1:9/"}, http
    yield llm_gym.HTTPScorer, {}, {"url": ["ftp://x", "", "http://"]}
    judge = {"base_url": "http://127.0.0.1:9", "model": "x"}
    yield (
        llm_gym.JudgeScorer,
        judge,
        {"temperature": [NAN, "x"], "max_tokens": COUNT[:3], "template": ["nonsense"]},
    )

    def limited(time_limit: Any) -> Any:
        return as_scorer(length, time_limit=time_limit)

    yield limited, {}, {"time_limit": POSITIVE}


def _runs(world: World) -> Table:
    import llm_gym
    from llm_gym.feedback.diagnostics import OveroptimisationAlarm
    from llm_gym.runs.callbacks import CheckpointCallback, SampleCallback

    def evaluate(**arguments: Any) -> Any:
        return llm_gym.evaluate(**{"model": world.model, "env": world.environment(), **arguments})

    def best_of_n(**arguments: Any) -> Any:
        sound = {"model": world.model, "env": world.environment(), "n": 2}
        return llm_gym.sample_best_of_n(**{**sound, **arguments})

    playing = {"num_envs": COUNT, "max_prompts": COUNT[:4], "seed": SEED, "device": DEVICE}
    yield evaluate, {}, playing | {"model": ["/nowhere/at/all"]}
    yield best_of_n, {}, playing | {"n": COUNT}
    checkpoints = {"directory": world.directory / "run"}
    yield CheckpointCallback, checkpoints, {"every": COUNT, "keep_last": COUNT}
    yield SampleCallback, {}, {"per_rollout": COUNT}
    alarm = {"every": COUNT, "level": [0.0, 1.0, NAN], "action": WORD, "planned_looks": COUNT}
    yield OveroptimisationAlarm, {}, alarm


def _settings(world: World) -> Table:
    from llm_gym.feedback.dpo.dpo import DPOConfig
    from llm_gym.feedback.reward_model.comparisons import RewardModelConfig
    from llm_gym.stages.compare import CompareConfig
    from llm_gym.stages.rlhf import RLHFConfig
    from llm_gym.stages.train import TrainConfig
    from llm_gym.supervised.pretrain import PretrainConfig
    from llm_gym.supervised.sft import SFTConfig

    shared = {
        "learning_rate": POSITIVE,
        "batch_size": COUNT,
        "warmup_share": SHARE,
        "held_out_share": [0.0, 1.0],
        "weights": WORD,
        "device": DEVICE,
    }
    yield SFTConfig, {}, shared | {"epochs": COUNT[:3]}
    yield PretrainConfig, {}, {"vocab_size": [0, 259, 2.5], "steps": COUNT[:3], "heads": [3]}
    yield DPOConfig, {}, {"beta": POSITIVE, "checkpoint_every": COUNT[:3], "loss": WORD}
    yield RewardModelConfig, {}, {"margin": AT_LEAST_0, "head": WORD, "pooling": WORD}
    yield CompareConfig, {}, {"raters": WORD, "rater_lapse": SHARE, "pairs_per_prompt": COUNT[:3]}
    yield TrainConfig, {}, {"total_tokens": COUNT, "algorithm": WORD[:1], "keep_last": COUNT[:3]}
    yield RLHFConfig, {}, {"kl_coef": AT_LEAST_0, "true_rater": [3], "sft_epochs": COUNT[:3]}


def _feedback(world: World) -> Table:
    from llm_gym.feedback.labelling import HumanScorer
    from llm_gym.feedback.preferences import PreferenceStore, SimulatedRater

    def store(**arguments: Any) -> Any:
        with PreferenceStore(world.directory / "votes.db") as opened:
            return opened.next_for(**{"rater": "ann", **arguments})

    rater = {"temperature": AT_LEAST_0, "lapse": SHARE, "tie_band": AT_LEAST_0}
    yield SimulatedRater, {"quality": lambda prompts, answers: [0.0] * len(answers)}, rater
    yield store, {}, {"votes_per_comparison": COUNT[:4], "lease_seconds": POSITIVE[:4]}
    human = {"budget": [-1, 0.5, NAN], "timeout": POSITIVE, "port": [-1, 99999], "ask": WORD}
    yield HumanScorer, {"book": world.directory / "book.db"}, human


def _statistics(world: World) -> Table:
    from llm_gym.statistics.resampling import bootstrap
    from llm_gym.statistics.shares import mean_over_seeds, share_interval

    samples = {"samples": [[1.0, 2.0, 3.0]], "statistic": lambda x: x.mean(-1)}
    yield bootstrap, samples, {"level": [0.0, 1.0, NAN], "resamples": [-1, 0.5]}
    yield share_interval, {"share": 0.5, "trials": 10}, {"level": [0.0, 1.0, NAN]}
    yield share_interval, {"trials": 10}, {"share": [-1.0, 2.0, NAN]}
    yield mean_over_seeds, {"values": np.array([1.0, 2.0])}, {"level": [0.0, 1.5]}


# ------------------------------------------------------------------ how they end


def problem(call: Call, found: Mapping[str, str], code: int | None) -> str:
    """What is wrong with the end of a call; empty if nothing is."""
    if code is None:
        return "hangs"
    if not found:
        return f"ends the process: {code}"
    if found["error"] == "":
        return "accepted"
    kinds = found["error"].split()
    said = f"{kinds[0]}: {found['message'][:160]}"
    if not {"ValueError", "TypeError", "FileNotFoundError"} & set(kinds):
        return f"another error: {said}"
    value = call.arguments[call.name]
    parts = value if isinstance(value, (list, tuple)) else []
    forms = {str(value), repr(value), type(value).__name__, *map(repr, parts)}
    if value in ([], [""]):
        forms.add("empty")
    message = found["message"].lower()
    if call.name.lower() not in message and call.name.replace("_", " ") not in message:
        return f"no name: {said}"
    if not any(form[:60].lower() in message for form in forms if form):
        return f"no value: {said}"
    return ""


def tried(call: Call, directory: Path) -> str:
    """Makes a call in a copy of this process; what is wrong with its end."""

    def work() -> None:
        try:
            call.function(**call.arguments)
            found = {"error": "", "message": ""}
        except Exception as error:
            kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
            found = {"error": kinds, "message": " ".join(str(error).split())}
        print(json.dumps(found))

    ending = forked(work, directory, LIMIT)
    lines = ending.out.strip().splitlines()
    return problem(call, json.loads(lines[-1]) if lines else {}, ending.code)


def measure(output: Path, quick: bool) -> list[Row]:
    """Makes all calls, or every tenth."""
    world = World(output / "world")
    chosen = list(calls(world))[:: 10 if quick else 1]
    return [tally("bad calls of the library", chosen, lambda call: tried(call, output))]
