"""Checkpoints of a training run: whole or absent, without pickle, resumed exactly.

A checkpoint is a directory:

    llm_gym.json               size and SHA-256 of every other file
    checkpoint.json            counters, optimizer settings, random states, the environment's state
    process-1.safetensors      of a run in several processes: random states, environment and last
                               observations of the second process; and so on
    training.safetensors       parameters, optimizer moments, random states, last observations; of a
                               policy with a LoRA adapter not the base, only its fingerprint
    log.json                   how long the run's logs were, and what waited for their next row
    model/                     the language model as `transformers` saves it, tokenizer included:
                               AutoModelForCausalLM.from_pretrained("CHECKPOINT/model") loads it; of
                               a policy with a LoRA adapter that adapter, which names its base

Training 2N iterations equals training N, saving, loading and training N, bit for bit on the same
machine, if the checkpoint is taken between iterations, as `callbacks.CheckpointCallback` does.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from llm_gym import __version__
from llm_gym.files import atomic, owned
from llm_gym.files.ranges import COUNT, shown
from llm_gym.files.schema import anything, check_file, read_json, record
from llm_gym.parallel import world
from llm_gym.runs import checkpoint_schema, misfit, own_state, training_state
from llm_gym.runs.divergence import check_state
from llm_gym.runs.ties import check_ties, shared_tensors, without_aliases

if TYPE_CHECKING:
    import torch
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
    from transformers import PreTrainedTokenizerBase

    from llm_gym.language_models.chat import PromptFormat

FORMAT = 2
KIND = "checkpoint"
METADATA = "checkpoint.json"
TENSORS = "training.safetensors"
LOG = "log.json"
MODEL = "model"
EVALUATION = "evaluation.json"

_NUMBERED = re.compile(r"step-(\d+)")


class DamagedCheckpointWarning(UserWarning):
    """A run goes on from an older checkpoint than the newest."""


def save_checkpoint(
    algorithm: OnPolicyAlgorithm,
    directory: str | Path,
    *,
    evaluation: Mapping[str, Any] | None = None,
    log: Mapping[str, Any] | None = None,
    beginning: training_state.State | None = None,
) -> Path:
    """Saves everything needed to go on as if nothing had happened.

    The directory appears when it is complete: it is written beside its destination and renamed. Of
    several processes of a run all have to call this; the first writes, and the others wait for it.

    Args:
        algorithm: An on-policy algorithm between two iterations, its policy a
            `TransformerActorCriticPolicy`.
        directory: Destination; a checkpoint already there is replaced. Anything else is not.
        evaluation: What was measured on it, JSON-able; lies in it as `evaluation.json`.
        log: What `llm_gym.runs.logs` needs to go on; None keeps nothing of it.
        beginning: See `training_state.collect`.

    Returns:
        The directory.

    Raises:
        DivergenceError: Something of the state is not finite, by name; nothing is written.
        ValueError: The destination exists and is not a checkpoint, or holds something that is not
            part of it.
    """
    directory = Path(directory)
    values, tensors = training_state.collect(algorithm, beginning)
    check_state(values, tensors)
    everyone = world().gather(own_state.packed(values, tensors) if world().size > 1 else b"")
    if world().rank == 0:
        _write(algorithm, directory, values, tensors, everyone, evaluation, log)
    world().of_first("written")
    return directory


def _write(
    algorithm: OnPolicyAlgorithm,
    directory: Path,
    values: Mapping[str, Any],
    tensors: dict[str, torch.Tensor],
    everyone: list[bytes],
    evaluation: Mapping[str, Any] | None,
    log: Mapping[str, Any] | None,
) -> None:
    tensors, aliases = without_aliases(tensors)
    metadata = {
        "format": FORMAT,
        "llm_gym": __version__,
        **values,
        "shared_tensors": aliases,
    }
    with owned.replace_directory(directory, KIND) as temporary:
        on_cpu = {name: tensor.to("cpu").contiguous() for name, tensor in tensors.items()}
        save_file(on_cpu, temporary / TENSORS)
        own_state.write(temporary, everyone)
        _write_model(algorithm, temporary / MODEL)
        if evaluation is not None:
            atomic.write_json(temporary / EVALUATION, evaluation)
        if log is not None:
            atomic.write_json(temporary / LOG, log)
        atomic.write_json(temporary / METADATA, metadata)


def save_model(algorithm: OnPolicyAlgorithm, directory: str | Path) -> Path:
    """Saves only the language model, its tokenizer and the value head, atomically.

    Args:
        algorithm: Its policy must be a `TransformerActorCriticPolicy`.
        directory: Destination, for `AutoModelForCausalLM.from_pretrained`; a model that was saved
            there is replaced.

    Returns:
        The directory.

    Raises:
        ValueError: The destination holds something else (see `owned.check_replaceable`).
    """
    with owned.replace_directory(directory) as temporary:
        _write_model(algorithm, temporary)
    return Path(directory)


def load_checkpoint(algorithm: OnPolicyAlgorithm, directory: str | Path) -> dict[str, Any]:
    """Puts a saved state into an algorithm built with the same settings.

    Continue with `algorithm.learn(remaining_tokens, reset_num_timesteps=False)`. Nothing of the
    algorithm is changed before everything has been read and found to fit. A run of several
    processes goes on exactly in as many; in another number, with a warning that says what is kept.

    Args:
        algorithm: Built as the saved one was: same class, model, environment and settings. A KL
            reference is not part of a checkpoint; it comes from the model the run started from.
        directory: A checkpoint.

    Returns:
        The checkpoint's metadata.

    Raises:
        ValueError: A file is missing, incomplete or corrupt, or the checkpoint belongs to another
            kind of algorithm or model; the message names the file.
    """
    directory = Path(directory)
    metadata = read_metadata(directory)
    problem = owned.damage(directory, KIND)
    if problem is not None:
        raise ValueError(problem)
    try:
        tensors = load_file(directory / TENSORS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{directory / TENSORS} is corrupt: {error}") from error
    values = {key: metadata.get(key) for key in checkpoint_schema.STATE}
    with _naming(directory / METADATA):
        tensors |= shared_tensors(metadata["shared_tensors"], tensors)
    values, tensors = own_state.with_own(algorithm, directory, values, tensors)
    with _naming(directory):
        misfit.check_origin(algorithm, values, tensors)
    with _naming(directory / METADATA):
        check_ties(algorithm.policy, metadata["shared_tensors"])
        misfit.check_values(algorithm, values)
    with _naming(directory / TENSORS):
        misfit.check_tensors(algorithm, values, tensors)
    with _naming(directory / METADATA):
        training_state.restore(algorithm, values, tensors)
    return metadata


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts what does not fit into a message in front of the reason."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} does not fit: {error}") from error


def save_numbered_checkpoint(
    algorithm: OnPolicyAlgorithm,
    folder: str | Path,
    *,
    keep_last: int | None = None,
    log: Mapping[str, Any] | None = None,
    beginning: training_state.State | None = None,
) -> Path:
    """Saves to `folder/step-NNN`, NNN being the number of tokens so far.

    Args:
        algorithm: See `save_checkpoint`.
        folder: Holds the checkpoints of one run.
        keep_last: Afterwards delete all but this many of the newest; None deletes none.
        log: See `save_checkpoint`.
        beginning: See `training_state.collect`.

    Returns:
        The new checkpoint.
    """
    if keep_last is not None and keep_last < 1:
        raise ValueError(f"keep_last must be at least 1 or None, got {keep_last}")
    folder = Path(folder)
    step = algorithm.num_timesteps if beginning is None else beginning[0]["num_timesteps"]
    saved = save_checkpoint(
        algorithm, numbered_checkpoint(folder, step), log=log, beginning=beginning
    )
    if keep_last is not None and world().rank == 0:
        keep_newest(folder, keep_last)
    return saved


def keep_newest(folder: str | Path, number: int) -> None:
    """Removes all but so many of the newest checkpoints of one run, at least one."""
    COUNT.check("number", number)
    for old in [*filter(_is_finished, numbered_checkpoints(folder))][:-number]:
        owned.remove_directory(old, KIND)


def numbered_checkpoint(folder: str | Path, step: int) -> Path:
    """Where the checkpoint of a number of tokens is, or would be."""
    return Path(folder) / f"step-{step:012d}"


def latest_checkpoint(folder: str | Path) -> Path:
    """The newest checkpoint below `folder`, or `folder` itself if it is one.

    Raises:
        ValueError: There is none.
    """
    checkpoint = _newest(Path(folder))
    if checkpoint is None:
        raise ValueError(
            f"there is no checkpoint in {folder} (no step-... directory with {METADATA})"
        )
    return checkpoint


def has_checkpoint(folder: str | Path) -> bool:
    """Whether `latest_checkpoint` finds one below `folder`."""
    return _newest(Path(folder)) is not None


def numbered_checkpoints(folder: str | Path) -> list[Path]:
    """What is called a checkpoint of one run, oldest first, whole or not.

    Args:
        folder: Where `save_numbered_checkpoint` put them; it need not exist.
    """
    folder = Path(folder)
    steps = [
        (int(match[1]), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NUMBERED.fullmatch(path.name))
    ]
    return [path for _, path in sorted(steps)]


def resume_point(folder: str | Path) -> Path | None:
    """The newest checkpoint in which every file is as it was written.

    Newer ones that are damaged are set aside under another name, `damaged-step-NNN`, with a
    warning: nothing of them is lost, and the run can write theirs anew.

    Args:
        folder: Holds the checkpoints of one run. No other process may be writing there.

    Returns:
        The checkpoint; None if the run never completed one.

    Raises:
        ValueError: There are checkpoints, and none is whole.
    """
    folder = Path(folder)
    atomic.clear_leftovers(folder)
    for previous in sorted(folder.glob(".step-*.llm_gym-previous")):
        owned.recover_directory(folder / previous.name[1:].removesuffix(".llm_gym-previous"))
    damaged: dict[Path, str] = {}
    for path in reversed(numbered_checkpoints(folder)):
        problem = owned.damage(path, KIND)
        if problem is None:
            if damaged:
                _set_aside(damaged, path)
            return path
        damaged[path] = problem
    if damaged:
        raise ValueError(f"no checkpoint in {folder} is whole: {'; '.join(damaged.values())}")
    return None


def _set_aside(damaged: dict[Path, str], good: Path) -> None:
    for path in damaged:
        aside, number = path.with_name(f"damaged-{path.name}"), 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"damaged-{number}-{path.name}")
        path.rename(aside)
    warnings.warn(
        f"going on from {good}, because what is newer is damaged: {'; '.join(damaged.values())}. "
        "It was renamed to damaged-...",
        DamagedCheckpointWarning,
        stacklevel=4,
    )


def read_metadata(directory: str | Path) -> dict[str, Any]:
    """Reads and checks `checkpoint.json`.

    Raises:
        ValueError: Missing, unreadable, written in another format, or with a value that is not what
            it must be; the message has the path, and the key.
    """
    path = Path(directory) / METADATA
    owned.recover_directory(directory)
    if not path.exists():
        raise ValueError(f"{path} is missing, so {directory} is not a whole checkpoint")
    metadata = read_json(path)
    any_format = record({"format": anything}, others=anything)
    check_file(path, any_format, metadata)
    if type(metadata["format"]) is not int or metadata["format"] != FORMAT:
        raise ValueError(
            f"{path} has format {shown(metadata['format'])}, this version of llm_gym reads "
            f"{FORMAT}; it was written by llm_gym {shown(metadata.get('llm_gym'))}"
        )
    check_file(path, checkpoint_schema.METADATA, metadata)
    return metadata


# ------------------------------------------------------------------ files


def _write_model(algorithm: OnPolicyAlgorithm, directory: Path) -> None:
    policy: Any = algorithm.policy
    policy.save_pretrained(directory)
    prompt_format = training_state.environment_attribute(algorithm, "prompt_format")
    if prompt_format is not None:
        _tokenizer_to_save(prompt_format).save_pretrained(directory)
    ends = training_state.environment_attribute(algorithm, "eos_token_ids")
    if ends:
        _write_ends(directory, [int(token) for token in ends])


def _write_ends(directory: Path, ends: list[int]) -> None:
    """Has everybody who generates with the saved model end where the environment did."""
    from transformers import GenerationConfig

    try:
        config = GenerationConfig.from_pretrained(directory)
    except OSError:  # a model that was made without one
        config = GenerationConfig()
    config.eos_token_id = ends[0] if len(ends) == 1 else ends
    config.save_pretrained(directory)


def _tokenizer_to_save(prompt_format: PromptFormat) -> PreTrainedTokenizerBase:
    try:
        return prompt_format.saved_tokenizer()
    except (ValueError, LookupError, AttributeError) as error:
        warnings.warn(
            f"the saved tokenizer does not show prompts as {prompt_format}, in which the model was "
            f"trained: {error}",
            stacklevel=4,
        )
        return prompt_format.tokenizer


def _newest(folder: Path) -> Path | None:
    candidates = [folder, *numbered_checkpoints(folder / "checkpoints")]
    candidates += numbered_checkpoints(folder)
    return next(filter(_is_finished, reversed(candidates)), None)


def _is_finished(directory: Path) -> bool:
    """Whether a checkpoint was written to its end there; not whether it still is as it was."""
    return (directory / METADATA).is_file() and (directory / owned.MARKER).is_file()
