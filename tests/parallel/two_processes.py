"""What each of several processes does for `test_parallel.py`; the first writes what came of it.

python -m torch.distributed.run --standalone --nproc-per-node 2 two_processes.py MODEL RESULTS
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import stable_baselines3
import torch
from rich.console import Console
from stable_baselines3.common.logger import Logger

import llm_gym
from llm_gym.language_models.loading import quiet_libraries
from llm_gym.learning.answers import _answer, _saved
from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.learning.joined import joined
from llm_gym.learning.policy_gradient import PolicyGradient
from llm_gym.parallel import World, world
from llm_gym.parallel.torchrun import Torchrun
from llm_gym.runs.checkpoint import load_checkpoint, save_checkpoint
from llm_gym.stages.train import TrainConfig, train
from tests.learning.online_worlds import small_env

ROWS = 4  # of each process
ENDS = (1, 7, 8)
OF_STEPS = ("rewards", "values", "log_probs", "bootstraps")
SGD = {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}}
LEARNERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "PPO": (llm_gym.PPO, {"n_steps": 9, "batch_size": 10**6, "n_epochs": 2, "kl_target": 0.5}),
    "critic alone": (llm_gym.PPO, {"n_steps": 9, "batch_size": 10**6, "critic_warmup": 1}),
    "stock PPO": (stable_baselines3.PPO, {"n_steps": 9, "batch_size": 10**6, "target_kl": 1e9}),
    "stock A2C": (stable_baselines3.A2C, {"n_steps": 9, "normalize_advantage": True}),
    "batch mean": (PolicyGradient, {"advantage": "batch_mean", "normalize_advantage": True}),
    "RLOO": (llm_gym.RLOO, {"kl_coef": 0.3}),
    "GRPO": (llm_gym.GRPO, {"kl_coef": 0.3}),
    "REINFORCE++": (llm_gym.ReinforcePlusPlus, {"kl_coef": 0.3}),
    "ReMax": (llm_gym.ReMax, {}),
    "in parts": (llm_gym.RLOO, {"policy_kwargs": {"micro_batch_size": 3}}),
    "entropy": (llm_gym.RLOO, {"ent_coef": 0.1, "aggregation": "sequence_mean"}),
    "expert iteration": (llm_gym.ExpertIteration, {"top_share": 0.3, "kl_coef": 0.1}),
    "DPO": (llm_gym.DPO, {"online": True}),
}


class RecordedBuffer(EpisodeBuffer):
    """In float64; `played` is a rollout before anything is made of it."""

    def reset(self):
        super().reset()
        self._widen()

    def _widen(self):
        for name in (*OF_STEPS, "advantages", "returns"):
            setattr(self, name, getattr(self, name).astype(np.float64))

    def end_rollout(self, dones, keep=None):
        arrays = {name: getattr(self, name).copy() for name in OF_STEPS}
        arrays |= {"actions": self.actions.copy(), "episode_starts": self.episode_starts.copy()}
        self.played = arrays, dict(self._prefixes), np.array(dones, dtype=bool), self.pos
        super().end_rollout(dones, keep)

    def compute_returns_and_advantage(self, last_values, dones):
        self.last_values = last_values.detach().cpu().numpy().reshape(-1)
        super().compute_returns_and_advantage(last_values, dones)
        self._widen()


def learner(name: str, model: str, rows: int, **overrides: Any) -> Any:
    kind, settings = LEARNERS[name]
    settings = {**settings, **overrides}
    processes = world()
    env = small_env(
        model,
        num_envs=rows,
        group_size=2,
        eos_token_id=ENDS,
        shard=(processes.rank, processes.size),
    )
    policy_kwargs = {"model": model, "dtype": "float64", **SGD, **settings.pop("policy_kwargs", {})}
    common = {
        "learning_rate": 0.0,
        "seed": 3,
        "device": os.environ.get("LLM_GYM_TEST_DEVICE", "cpu"),
        "max_grad_norm": 1e9,
        "rollout_buffer_class": RecordedBuffer,
        "policy_kwargs": policy_kwargs,
    }
    if kind.__module__.startswith("stable_baselines3"):
        policy, env = llm_gym.TransformerActorCriticPolicy, llm_gym.GymVecEnv(env)
    else:
        policy = "TransformerPolicy"
    algorithm = kind(policy, env, **{**common, **settings})
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # away from the reference, and with a critic that says something
        for parameter in algorithm.policy.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.05 * noise
    return algorithm


@contextmanager
def alone():
    """This process as if `torchrun` had not started it."""
    started = os.environ.pop("TORCHELASTIC_RUN_ID")
    try:
        yield
    finally:
        os.environ["TORCHELASTIC_RUN_ID"] = started


def gradient_of(algorithm: Any) -> dict[str, torch.Tensor]:
    named = algorithm.policy.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def learn(algorithm: Any, tokens: int = 1, **kwargs: Any) -> Any:
    with joined(algorithm):  # of ours, a second time, which does nothing
        return algorithm.learn(tokens, **kwargs)


def both_gradients(name: str, model: str) -> float | None:
    """How far the gradient of all processes is from that of one on the same episodes."""
    algorithm = learner(name, model, ROWS)
    of_answers = hasattr(algorithm, "fit")
    if of_answers:
        own_fit, seen = algorithm.fit, []
        algorithm.fit = lambda groups: (seen.append(groups), own_fit(groups))
        while not world().any(bool(seen)):
            learn(algorithm, reset_num_timesteps=False)
        mine = [[_saved(answer) for answer in group] for group in (seen or [[]])[0]]
    else:
        learn(algorithm)
        mine = rollout_as_json(algorithm.rollout_buffer)
    everyone = world().each(mine)
    if world().rank:
        return None
    with alone():
        single = learner(name, model, ROWS * len(everyone))
        single.set_logger(Logger(None, []))
        if of_answers:
            groups = [group for theirs in everyone for group in theirs]
            single.fit([[_answer(saved) for saved in group] for group in groups])
        else:
            replay(single, everyone)
            single.train()
    ours, reference = gradient_of(algorithm), gradient_of(single)
    assert ours.keys() == reference.keys(), ours.keys() ^ reference.keys()
    assert max(float(g.abs().max()) for g in reference.values()) > 1e-3
    return max(float((ours[key] - reference[key]).abs().max()) for key in reference)


def rollout_as_json(buffer: RecordedBuffer) -> dict[str, Any]:
    arrays, prefixes, dones, pos = buffer.played
    return {
        "arrays": {name: array[:pos].tolist() for name, array in arrays.items()},
        "prefixes": [[*key, value.tolist()] for key, value in prefixes.items()],
        "dones": dones.tolist(),
        "last_values": getattr(buffer, "last_values", np.zeros(0)).tolist(),
    }


def replay(single: Any, everyone: list[dict[str, Any]]) -> None:
    """Puts the rollouts of all processes side by side into the buffer of one."""
    buffer = single.rollout_buffer
    buffer.reset()
    for rank, played in enumerate(everyone):
        columns = slice(rank * ROWS, (rank + 1) * ROWS)
        steps = len(played["dones"] and played["arrays"]["rewards"])
        for name, values in played["arrays"].items():
            getattr(buffer, name)[:steps, columns] = np.array(values)
        buffer.pos = max(buffer.pos, steps)
        for step, row, prefix in played["prefixes"]:
            buffer._prefixes[step, rank * ROWS + row] = np.array(prefix, dtype=np.int64)
    for rank, played in enumerate(everyone):  # a shorter round waits for the longest
        steps = len(played["arrays"]["rewards"])
        if steps < buffer.pos:
            for row in range(rank * ROWS, (rank + 1) * ROWS):
                buffer._prefixes[steps, row] = np.zeros(1, dtype=np.int64)
                buffer.episode_starts[steps, row] = True
    dones = np.concatenate([played["dones"] for played in everyone])
    if getattr(single, "collector", None) is not None:
        single.collector.end(single, [0], dones)
        return
    values = np.concatenate([played["last_values"] for played in everyone])
    buffer.compute_returns_and_advantage(torch.from_numpy(values), dones)


# ------------------------------------------------------------------ many updates


def digest(algorithm: Any) -> str:
    whole = b"".join(p.detach().cpu().numpy().tobytes() for p in algorithm.policy.parameters())
    return hashlib.sha256(whole).hexdigest()


def small_steps(name: str, model: str, **overrides: Any) -> dict[str, Any]:
    settings = {"learning_rate": 1e-2, "batch_size": 7, "max_grad_norm": 1.0}
    if name == "stock A2C":
        del settings["batch_size"]
    return settings | overrides


def equal_everywhere(name: str, model: str, tokens: str) -> dict[str, Any]:
    algorithm = learner(name, model, ROWS, **small_steps(name, model))
    learn(algorithm, int(tokens))
    played = [info["l"] for info in algorithm.ep_info_buffer]
    state = algorithm.get_state() if hasattr(algorithm, "get_state") else {}
    state.pop("unfinished", None)
    known = [algorithm.num_timesteps, algorithm._n_updates, played, state]
    observed = algorithm._last_obs["input_ids"].tolist()
    return {
        "weights": world().each(digest(algorithm)),
        "known": world().each(known),
        "observed": world().each(observed),
    }


def stopped_early(model: str) -> dict[str, Any]:
    """A divergence that one process alone would find too large, or too small."""
    found = {}
    for target in (1e-9, 1e9):
        changes = small_steps("stock PPO", model, target_kl=target, n_epochs=3)
        algorithm = learner("stock PPO", model, ROWS, **changes)
        learn(algorithm, 80)
        found[str(target)] = world().each(algorithm._n_updates)
        assert algorithm.target_kl == target
        found[f"{target} weights"] = world().each(digest(algorithm))
    return found


def a_callback_stops(model: str) -> list[Any]:
    """In one process, in the middle of a rollout."""
    algorithm = learner("PPO", model, ROWS)
    calls = iter(range(10**6))
    learn(algorithm, 10**6, callback=lambda *_: world().rank == 0 or next(calls) < 13)
    return world().each(algorithm.num_timesteps)


def weights_that_differ(model: str) -> str:
    """As a callback of one process alone would have it."""
    algorithm = learner("PPO", model, ROWS)

    def callback(*_):
        if world().rank:
            with torch.no_grad():
                next(algorithm.policy.parameters())[0] += 1e-3
        return True

    try:
        # Not what would tell the other process: both find it.
        with mock.patch.object(Torchrun, "failing_together", World.failing_together):
            learn(algorithm, 200, callback=callback)
    except RuntimeError as error:
        return str(error)
    return ""


def nothing_to_learn_from(model: str) -> dict[str, Any]:
    """In one process: its answers are too bad."""
    algorithm = learner(
        "expert iteration", model, ROWS, top_share=None, threshold=-1.0, learning_rate=1e-2
    )
    own = algorithm.select
    algorithm.select = lambda groups: own(groups) if world().rank == 0 else []
    learn(algorithm, 100)
    return {"weights": world().each(digest(algorithm)), "updates": algorithm._n_updates}


# ------------------------------------------------------------------ runs


def goes_on(name: str, model: str, folder: Path) -> dict[str, Any]:
    """Two rollouts, a checkpoint, and two more; against four."""
    whole = learner(name, model, ROWS, **small_steps(name, model))
    rollouts(whole, 4)
    begun = learner(name, model, ROWS, **small_steps(name, model))
    rollouts(begun, 2)
    directory = save_checkpoint(begun, folder / name)
    resumed = learner(name, model, ROWS, **small_steps(name, model))
    load_checkpoint(resumed, directory)
    at_checkpoint = digest(resumed)
    rollouts(resumed, 2)
    drawn = [torch.rand(1, generator=a.policy.generator).item() for a in (whole, resumed)]
    return {
        "whole": world().each([digest(whole), whole.num_timesteps, drawn[0]]),
        "resumed": world().each([digest(resumed), resumed.num_timesteps, drawn[1]]),
        "checkpoint": [str(directory), at_checkpoint],
    }


def rollouts(algorithm: Any, number: int) -> None:
    for _ in range(number):
        learn(algorithm, reset_num_timesteps=algorithm._last_obs is None)


def from_one_process(model: str, folder: Path) -> dict[str, Any]:
    """A checkpoint of one process goes on in all of them."""
    directory = folder / "single"
    if world().rank == 0:
        with alone():
            single = learner("PPO", model, 2 * ROWS, **small_steps("PPO", model))
            rollouts(single, 2)
            save_checkpoint(single, directory)
    world().of_first("written")
    algorithm = learner("PPO", model, ROWS, **small_steps("PPO", model))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_checkpoint(algorithm, directory)
    told = [str(w.message) for w in caught if w.category.__name__ == "OtherProcessesWarning"]
    before, moments = digest(algorithm), algorithm.policy.optimizer.state_dict()["state"]
    state = algorithm.get_state()
    tokens, first = algorithm.num_timesteps, algorithm._last_obs["input_ids"].tolist()
    rollouts(algorithm, 1)
    return {
        "told": world().each(told),
        "before": world().each([before, len(moments), tokens, state["kl_coef"]]),
        "first": world().each(first),
        "after": world().each([digest(algorithm), algorithm.num_timesteps]),
    }


def whole_run(model: str, folder: Path) -> dict[str, Any]:
    """`llm-gym train`'s own function, with a LoRA adapter; stopped, and gone on with."""
    (folder / "prompts.txt").write_text("w1\nw2\nw3\n")
    (folder / "scorer.py").write_text(
        "def score(prompts, completions, **_):\n"
        "    return [float(c.split().count('w1')) for c in completions]\n"
    )
    config = TrainConfig(
        env="llm_gym/TextGeneration-v0",
        model=model,
        scorer=f"{folder / 'scorer.py'}:score",
        prompts=str(folder / "prompts.txt"),
        eval_prompts=str(folder / "prompts.txt"),
        max_new_tokens=5,
        total_tokens=200,
        num_envs=2 * ROWS,
        eval_every=2,
        keep_best=True,
        checkpoint_every=2,
        lora_rank=2,
        learning_rate=1e-2,
    )
    run = train(folder / "run", config, console=Console(quiet=True))
    again = train(folder / "run", replace(config, total_tokens=300), resume=True)
    rows = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return {
        "files": sorted(path.name for path in (folder / "run").iterdir()),
        "rows": [json.loads(row)["step"] for row in rows],
        "evaluations": world().each([sorted(run.evaluations), sorted(again.evaluations)]),
        "checkpoints": world().each([str(run.checkpoint), str(again.checkpoint)]),
    }


SIZES = (0, 1, 1015, 1016, 1017, 5000)  # bytes; a message has 1016


def means() -> dict[str, Any]:
    figures = {"everywhere": float(world().rank), **({"here": 7.0} if world().rank else {})}
    rank = world().rank
    arrays = [np.full(abs(2 - rank), rank), np.zeros(0, int), np.full(3 * rank, rank + 5)]
    return {
        "means": world().means(figures, 1.0 + world().rank),
        "union": world().union(np.arange(world().rank + 1, dtype=np.int32)).tolist(),
        "nothing": world().union(np.zeros((0, 2))).shape,
        "unions": [each.tolist() for each in world().unions(arrays)],
        "long": [len(set(part)) * len(part) for part in world().gather(b"ab"[rank:] * 700)],
        "longest": [world().gather(bytes([rank]) * n)[1].hex() == "01" * n for n in SIZES],
        "sums": world().sums(0.1, 2),
        "of first": world().of_first(["rank", world().rank]),
    }


def buckets() -> list[Any]:
    """Gradients of several types, some not there in a process or anywhere; and sums. Both ways."""
    from llm_gym.parallel import torchrun

    torchrun._BUCKET = 64
    processes: Any = world()
    memory, found = processes._memory, []
    for way in (memory, None):
        processes._memory = way
        found.append(_reduced(processes))
    processes._memory = memory
    return [memory is not None, *found]


def _reduced(processes: Any) -> list[Any]:
    rank = processes.rank
    kinds = [torch.float64, torch.float32, torch.bfloat16, torch.float32, torch.float32]
    parameters = [torch.nn.Parameter(torch.zeros(5, 2, dtype=kind)) for kind in kinds]
    for number, parameter in enumerate(parameters[:-1]):
        if number != 3 or rank == 0:
            parameter.grad = torch.full((2, 5), number + rank, dtype=parameter.dtype).T
    sums = processes.reduce_gradients(parameters, 0.25 + 0.5 * rank, figures=[0.1 + rank, rank])
    return [*(None if p.grad is None else float(p.grad[1, 1]) for p in parameters), sums]


def main(model: str, results: str, tokens: str = "150") -> None:
    quiet_libraries()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = Path(results).parent
    with world().failing_together():
        assert isinstance(world(), Torchrun)
        found = {
            "gradients": {name: both_gradients(name, model) for name in LEARNERS},
            "equal": {
                name: equal_everywhere(name, model, tokens) for name in ("PPO", "RLOO", "DPO")
            },
            "early": stopped_early(model),
            "stop": a_callback_stops(model),
            "differ": world().each(weights_that_differ(model)),
            "nothing": nothing_to_learn_from(model),
            "goes on": {name: goes_on(name, model, folder) for name in ("PPO", "DPO")},
            "from one": from_one_process(model, folder),
            "run": whole_run(model, folder),
            "means": means(),
            "buckets": buckets(),
        }
        if world().rank == 0:
            Path(results).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
