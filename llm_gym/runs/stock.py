"""Runs of stock algorithms that can be stopped: checkpoints, and learning with them.

For Stable-Baselines3's own PPO, SAC, DQN and their kind, on a vector environment that can save its
state. A checkpoint is a directory, as that of `llm_gym.runs.checkpoint`, without a language model:

    llm_gym.json               size and SHA-256 of every other file
    checkpoint.json            counters, optimizer settings, random states, the environment's state
    training.safetensors       weights, moments, replay buffer, and all arrays among the rest
    log.json                   how long the run's logs were, and what waited for their next row
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from llm_gym import __version__
from llm_gym.files import atomic, owned
from llm_gym.language_models.divergence import check_tensors
from llm_gym.runs import stock_state
from llm_gym.runs.callbacks import CheckpointCallback, History, stop_on_signals
from llm_gym.runs.checkpoint import (
    KIND,
    LOG,
    METADATA,
    TENSORS,
    keep_newest,
    numbered_checkpoint,
)
from llm_gym.runs.directory import CHECKPOINTS, read_object
from llm_gym.runs.logs import LOGS, cut_back, log_state

FORMAT = "stock-1"


def save_stock_checkpoint(
    algorithm: BaseAlgorithm, directory: str | Path, *, log: Mapping[str, Any] | None = None
) -> Path:
    """Saves everything needed to go on as if nothing had happened, whole or not at all.

    Args:
        algorithm: Between two rollouts; what it must be is said by `stock_state.collect`.
        directory: Destination; a checkpoint already there is replaced. Anything else is not.
        log: What `llm_gym.runs.logs` needs to go on; None keeps nothing of it.

    Returns:
        The directory.

    Raises:
        DivergenceError: A weight is not finite, by name; nothing is written.
        ValueError: The algorithm cannot be saved, or the destination is something else.
    """
    check_tensors(dict(algorithm.policy.named_parameters()), "the parameter")
    arrays: stock_state.Arrays = {}
    state = stock_state.take_apart(stock_state.collect(algorithm), arrays)
    with owned.replace_directory(Path(directory), KIND) as temporary:
        save_file(arrays, temporary / TENSORS)
        if log is not None:
            atomic.write_json(temporary / LOG, log)
        atomic.write_json(
            temporary / METADATA, {"format": FORMAT, "llm_gym": __version__, "state": state}
        )
    return Path(directory)


def load_stock_checkpoint(algorithm: BaseAlgorithm, directory: str | Path) -> None:
    """Puts a saved state into an algorithm built with the same settings.

    Continue with `algorithm.learn(remaining_steps, reset_num_timesteps=False)`.

    Args:
        algorithm: As it was made. Nothing of it is changed before all has been found to fit.
        directory: A checkpoint.

    Raises:
        ValueError: A file is missing or damaged, or the checkpoint is of something else.
    """
    directory = Path(directory)
    problem = owned.damage(directory, KIND)
    if problem is not None:
        raise ValueError(problem)
    metadata = read_object(directory / METADATA)
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{directory / METADATA} has format {metadata.get('format')!r}, not {FORMAT!r}: it is "
            "of another kind of run or version of llm_gym"
        )
    try:
        arrays = load_file(directory / TENSORS)
        state = stock_state.put_together(metadata["state"], arrays)
        problem = stock_state.misfit(algorithm, state)
    except (SafetensorError, OSError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory} is damaged: {type(error).__name__}: {error}") from error
    if problem is not None:
        raise ValueError(f"{directory} does not fit: {problem}")
    stock_state.restore(algorithm, state)


class StockCheckpointCallback(CheckpointCallback):
    """`CheckpointCallback` for stock algorithms: `every` counts steps of all environments."""

    model: BaseAlgorithm  # type: ignore[assignment]

    def _on_training_start(self) -> None:
        super()._on_training_start()
        stock_state.check_can_be_saved(self.model)
        self._saved_at = self.model.num_timesteps

    def _is_due(self) -> bool:
        return self.model.num_timesteps // self.every > self._saved_at // self.every

    def _on_rollout_end(self) -> None:
        """Nothing is saved in the middle of an iteration."""

    def _save(self) -> None:
        self._saved_at = self.model.num_timesteps
        log = log_state(self.directory.parent, self.logs, self.logger)
        place = numbered_checkpoint(self.directory, self.model.num_timesteps)
        self.saved = save_stock_checkpoint(self.model, place, log=log)
        if self.keep_last is not None:
            keep_newest(self.directory, self.keep_last)


def learn_to(
    algorithm: BaseAlgorithm,
    total_steps: int,
    output: str | Path,
    *,
    checkpoint: Path | None = None,
    checkpoint_every: int,
    callbacks: Sequence[BaseCallback] = (),
    announce: Callable[[str], None],
) -> bool:
    """Learns, with `metrics.jsonl` and checkpoints, from the beginning or from a checkpoint.

    Args:
        algorithm: As it was made, on an environment that can save its state.
        total_steps: Where to stop, counted from the very beginning of the run.
        output: Directory of the run.
        checkpoint: Where to go on from; None begins.
        checkpoint_every: Steps between two checkpoints.
        callbacks: Further ones. They are called before a checkpoint is saved, and write all rows.
        announce: Called with a sentence when Ctrl-C, SIGTERM or SIGHUP asks for the end.

    Returns:
        Whether it got to its end. Otherwise it was stopped, with a checkpoint.

    Raises:
        ValueError: The checkpoint does not fit, or the algorithm cannot be saved.
    """
    output = Path(output)
    if checkpoint is not None:
        load_stock_checkpoint(algorithm, checkpoint)
    start = algorithm.num_timesteps
    output.mkdir(parents=True, exist_ok=True)
    cut_back(output, LOGS, start)
    history = History(output / "metrics.jsonl", resume_at=start or None)
    algorithm.set_logger(Logger(str(output), [history]))
    checkpoints = StockCheckpointCallback(output / CHECKPOINTS, every=checkpoint_every, logs=LOGS)
    with stop_on_signals(checkpoints, announce):
        algorithm.learn(
            total_steps - start,  # below 0 if the end was passed: the total stays what it was
            callback=[*callbacks, checkpoints],
            log_interval=None,  # type: ignore[arg-type]
            reset_num_timesteps=checkpoint is None,
        )
    algorithm.logger.close()
    return not checkpoints.stopped
