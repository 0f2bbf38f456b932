"""An algorithm in each of several processes, learning as one would from all of their rollouts.

`train` of Stable-Baselines3's PPO and A2C runs unmodified: what it reads (`rollout_buffer.get`,
`policy.evaluate_actions`) says how many tokens the minibatch of all processes has and gives
advantages that are whitened over all of them, and when its backward pass ends the gradients are
summed, before it clips them. The library's own algorithms ask `llm_gym.parallel.world` themselves.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed

from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.parallel import World, world
from llm_gym.policy.setup import THEIR_BUFFERS


@contextmanager
def joined(algorithm: OnPolicyAlgorithm) -> Iterator[None]:
    """Has an algorithm learn from the rollouts of all processes while the block runs.

    `learn` of the library's algorithms does so itself; around that of Stable-Baselines3's it is the
    one line that `torchrun` needs:

        with joined(model):
            model.learn(100_000)

    In a process that `torchrun` did not start nothing is done. `n_steps` and the rows of the
    environment are each process's own, `batch_size` is that of all together.

    Args:
        algorithm: The same in every process, on an environment of its own.

    Raises:
        ValueError: Its gradients cannot be summed, or the processes' settings differ.
    """
    processes = world()
    if processes.size == 1 or "collect_rollouts" in vars(algorithm):  # joined already
        yield
        return
    with processes.failing_together():
        _check(processes, algorithm)
        processes.broadcast([*algorithm.policy.parameters(), *algorithm.policy.buffers()])
        if algorithm._last_obs is None and processes.rank:
            draw_otherwise(algorithm)  # it begins; a restored one has random states of its own
        if processes.rank:
            algorithm.set_logger(Logger(None, []))
        joint = _Joint(processes, algorithm)
        usual = algorithm._excluded_save_params()
        changes: dict[str, Any] = {
            "collect_rollouts": joint.collect_rollouts,
            "train": joint.train,
            "_excluded_save_params": lambda: [*usual, *changes],
        }
        vars(algorithm).update(changes)
        try:
            yield
        finally:
            for name in changes:
                del vars(algorithm)[name]


def _check(processes: World, algorithm: OnPolicyAlgorithm) -> None:
    kind = type(algorithm).__name__
    ours = hasattr(algorithm, "reduces_gradients")
    if not ours and not isinstance(algorithm, (PPO, A2C)) and kind != "MaskablePPO":
        raise ValueError(
            f"{kind} cannot learn in {processes.size} processes: its update is no step along a "
            "gradient that could be summed; run it in one, or take PPO or A2C"
        )
    names = ("n_steps", "n_envs", "batch_size", "n_epochs", "target_kl", "gamma", "seed")
    settings = {name: getattr(algorithm, name, None) for name in names}
    settings["parameters"] = sum(p.numel() for p in algorithm.policy.parameters())
    for rank, theirs in enumerate(processes.each({"algorithm": kind, **settings})):
        for name, value in settings.items():
            if theirs["algorithm"] == kind and theirs[name] == value:
                continue
            raise ValueError(
                f"process {rank} has {theirs['algorithm']} with {name}={theirs[name]!r}, process "
                f"{processes.rank} {kind} with {name}={value!r}: they must be the same"
            )


def _check_weights(processes: World, algorithm: OnPolicyAlgorithm) -> None:
    """Raises `RuntimeError` if processes have other weights: then they have not learnt together."""
    sums = [int(_as_integers(p).sum()) for p in algorithm.policy.parameters() if p.requires_grad]
    for rank, theirs in enumerate(processes.each(sums)):
        if theirs != sums:
            raise RuntimeError(
                f"the weights of process {rank} and process {processes.rank} differ: something but "
                "the update has changed them, in one process alone; a callback of your own?"
            )


def _as_integers(parameter: torch.Tensor) -> torch.Tensor:
    """The bits of numbers, whose sum does not depend on the order of adding."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return parameter.detach().contiguous().view(kinds[parameter.element_size()])


def draw_otherwise(algorithm: OnPolicyAlgorithm, num_timesteps: int = 0) -> None:
    """Has each process draw tokens, prompts and minibatches of its own.

    Stable-Baselines3 has made everything random of the one seed when it made the algorithm.

    Args:
        algorithm: One without a seed draws as it does.
        num_timesteps: Where a run goes on, so that it does not draw again what it drew before.
    """
    if algorithm.seed is None:
        return
    entropy = [algorithm.seed, world().rank, num_timesteps]
    seeds = np.random.SeedSequence(entropy).generate_state(4).tolist()
    set_random_seed(seeds[0])
    assert algorithm.env is not None
    algorithm.env.seed(seeds[1] // 2)  # room for one seed a row
    generator = getattr(algorithm.policy, "generator", None)
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seeds[2])
    if hasattr(algorithm.rollout_buffer, "rng"):
        algorithm.rollout_buffer.rng = np.random.default_rng(seeds[3])


class _Joint:
    """Rollouts and updates of an algorithm that all processes have part in."""

    def __init__(self, processes: World, algorithm: OnPolicyAlgorithm) -> None:
        self.processes, self.algorithm = processes, algorithm
        self._collect, self._train = algorithm.collect_rollouts, algorithm.train
        self._tokens = 0

    def collect_rollouts(
        self, env: Any, callback: BaseCallback, rollout_buffer: Any, n_rollout_steps: int
    ) -> bool:
        """As the algorithm's own; counters, episodes and figures become those of all processes."""
        algorithm, before = self.algorithm, self.algorithm.num_timesteps
        _check_weights(self.processes, algorithm)
        assert algorithm.ep_info_buffer is not None
        assert algorithm.ep_success_buffer is not None
        known = list(algorithm.ep_info_buffer), list(algorithm.ep_success_buffer)
        algorithm.ep_info_buffer, algorithm.ep_success_buffer = deque(known[0]), deque(known[1])
        told = _AgreedCallback(self.processes, callback)
        goes_on = self._collect(env, told, rollout_buffer, n_rollout_steps)  # type: ignore[arg-type]
        self._tokens = algorithm.num_timesteps - before
        algorithm.num_timesteps = before + int(self.processes.sums(self._tokens)[0])
        window = algorithm._stats_window_size
        algorithm.ep_info_buffer, algorithm.ep_success_buffer = (
            deque([*old, *self._of_all(list(buffer)[len(old) :])], maxlen=window)
            for old, buffer in zip(
                known, (algorithm.ep_info_buffer, algorithm.ep_success_buffer), strict=True
            )
        )
        self._average("rollout/")
        return goes_on and not self.processes.any(told.stops)

    def train(self) -> None:
        """As the algorithm's own, with gradients of all processes."""
        alone = getattr(self.algorithm, "is_warming_up", False)  # sums its gradients itself
        if alone or hasattr(self.algorithm, "reduces_gradients"):
            self._train()
        else:
            with _StockUpdate(self.processes, self.algorithm).installed():
                self._train()
        self._average("train/")

    def _of_all(self, new: list[Any]) -> list[Any]:
        """What the episodes of all processes left behind, in turn."""
        if new and isinstance(new[0], dict):
            new = [
                {"r": float(info["r"]), "l": int(info["l"]), "t": float(info["t"])} for info in new
            ]
        else:
            new = [float(success) for success in new]
        in_turn = itertools.zip_longest(*self.processes.each(new))
        return [one for row in in_turn for one in row if one is not None]

    def _average(self, prefix: str) -> None:
        """Has what was logged be the mean over the tokens of all processes."""
        logged = self.algorithm.logger.name_to_value
        figures = {
            name: float(value)
            for name, value in logged.items()
            if name.startswith(prefix) and isinstance(value, (int, float, np.number))
        }
        for name, value in self.processes.means(figures, self._tokens).items():
            if name not in logged:  # what only the others had: a record says where it goes, too
                self.algorithm.logger.record(name, value)
            logged[name] = value


class _AgreedCallback:
    """A callback whose wish to stop takes effect in all processes at once.

    At the first step of a rollout they agree whether to play it, and else at its end.
    """

    def __init__(self, processes: World, callback: BaseCallback) -> None:
        self._processes, self._callback = processes, callback
        self._is_first_step = True
        self.stops = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)

    def on_step(self) -> bool:
        self.stops |= not self._callback.on_step()
        if self._is_first_step:
            self._is_first_step = False
            self.stops = self._processes.any(self.stops)
            return not self.stops
        return True


class _StockUpdate:
    """What Stable-Baselines3's own `train` reads, as of the minibatch of all processes."""

    def __init__(self, processes: World, algorithm: OnPolicyAlgorithm) -> None:
        self.processes, self.algorithm = processes, algorithm
        self._get = algorithm.rollout_buffer.get
        self._evaluate = algorithm.policy.evaluate_actions
        self._whitens = getattr(algorithm, "normalize_advantage", False)
        self._target = getattr(algorithm, "target_kl", None)
        self._parameters = [p for p in algorithm.policy.parameters() if p.requires_grad]
        self._is_queued = False
        self._tokens = self._all_tokens = 0
        self._samples: Any = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Has an update go through this one while the block runs."""
        algorithm: Any = self.algorithm
        hooks = [p.register_post_accumulate_grad_hook(self._on_gradient) for p in self._parameters]
        algorithm.rollout_buffer.get = self.get
        algorithm.policy.evaluate_actions = self.evaluate_actions
        algorithm.normalize_advantage = False  # done in `get`
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            del algorithm.rollout_buffer.get, algorithm.policy.evaluate_actions
            algorithm.normalize_advantage = self._whitens
            if self._target is not None:
                algorithm.target_kl = self._target

    def get(self, batch_size: int | None = None) -> Iterator[Any]:
        """Minibatches whose advantages are whitened over those of all processes."""
        own = batch_size
        if batch_size is not None and not isinstance(self.algorithm.rollout_buffer, EpisodeBuffer):
            own = max(1, batch_size // self.processes.size)  # `EpisodeBuffer` shares it out itself
        own_advantages, minibatches = self._minibatches(own)
        of_all = self.processes.unions(own_advantages)  # one message for all of them
        for samples, array in zip(minibatches, of_all, strict=True):
            advantages, whole = samples.advantages, torch.from_numpy(array)
            self._tokens, self._all_tokens = len(advantages), len(whole)
            if self._whitens and self._all_tokens > 1:
                mean, std = float(whole.mean()), float(whole.std())
                samples = samples._replace(advantages=(advantages - mean) / (std + 1e-8))
            self._samples = samples
            yield samples

    def _minibatches(
        self, batch_size: int | None
    ) -> tuple[list[NDArray[np.float32]], Iterator[Any]]:
        """The advantages of an epoch's minibatches, and the minibatches, each made in its turn.

        Stable-Baselines3's buffers copy the observation of every transition: an epoch of them at
        once would be the rollout a second time.
        """
        buffer: Any = self.algorithm.rollout_buffer
        if not type(buffer).__module__.startswith(THEIR_BUFFERS):
            made = list(self._get(batch_size))  # `EpisodeBuffer` keeps tokens alone
            return [samples.advantages.cpu().numpy() for samples in made], iter(made)
        copy, buffer._get_samples = buffer._get_samples, lambda indices: indices
        try:
            chosen = list(self._get(batch_size))
        finally:
            del buffer._get_samples
        return [buffer.advantages[indices].flatten() for indices in chosen], map(copy, chosen)

    def evaluate_actions(self, *args: Any, **kwargs: Any) -> Any:
        """As the policy's; has `train` stop early where the divergence of all tokens says so."""
        values, log_prob, entropy = self._evaluate(*args, **kwargs)
        if self._target is not None:
            log_ratio = (log_prob - self._samples.old_log_prob).detach()
            of_tokens = log_ratio.exp() - 1 - log_ratio
            kl = self.processes.sums(float(of_tokens.sum()))[0] / self._all_tokens
            # `train` compares the mean of its own tokens with what it is told here.
            algorithm: Any = self.algorithm
            algorithm.target_kl = -1.0 if kl > 1.5 * self._target else math.inf
        return values, log_prob, entropy

    def _on_gradient(self, _: torch.Tensor) -> None:
        if not self._is_queued:
            self._is_queued = True
            engine = torch.autograd.Variable._execution_engine
            engine.queue_callback(self._reduce)  # when the backward pass has ended

    def _reduce(self) -> None:
        self._is_queued = False
        self.processes.reduce_gradients(self._parameters, self._tokens / self._all_tokens)
