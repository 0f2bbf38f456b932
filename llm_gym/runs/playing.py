"""A model plays the prompts of a text environment, each as often as it is asked to.

What `llm_gym.evaluate` and `llm_gym.sample_best_of_n` share: the environment whose rows are reset
by hand, the policy of whatever was given as a model, its sampling for a while from a seed, and the
playing itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import obs_as_tensor

from llm_gym.files.ranges import check_mapping, check_numbers
from llm_gym.language_models.generation import unheard_end_ids
from llm_gym.language_models.model_objects import named
from llm_gym.policy import MaskableTransformerPolicy, TransformerActorCriticPolicy
from llm_gym.text import TextGenerationVectorEnv
from llm_gym.text.answer import Answer, Conversation, transcript
from llm_gym.text.tasks import make_text_vector_env
from llm_gym.text.token_vector import TokenVectorEnv
from llm_gym.turns import TurnVectorEnv

CONVERSATIONS = 100
"""So many are had with a world of turns where nobody says how many."""

if TYPE_CHECKING:
    from numpy.typing import NDArray


def by_name(model: Any) -> Any:
    """A model by its name, and a policy or an algorithm as it is, which `policy_of` looks at."""
    played = isinstance(model, (BasePolicy, BaseAlgorithm))
    return model if played else named(model)


def make_playing_env(
    env: str | Mapping[str, Any],
    env_kwargs: Mapping[str, Any] | None = None,
    *,
    num_envs: int,
    max_prompts: int | None = None,
    model: str | Path | TransformerActorCriticPolicy | BaseAlgorithm | None = None,
) -> gym.vector.VectorEnv:
    """A vector environment for `play_prompts`: nothing resets a row but the caller.

    Args:
        env: Id of a registered text environment, or the arguments of `TextGenerationVectorEnv`, or
            with `world` among them of `TurnVectorEnv`. A task whose `split` is "train" by default
            is made with "test".
        env_kwargs: Further arguments of the environment; they win.
        num_envs: Rows, at least 1.
        max_prompts: So many prompts will be asked, and no more rows are made; None is all.
        model: Who will answer. What ends an answer by its generation config does so here, unless
            the environment has an `eos_token_id` of its own.

    Returns:
        The environment; the caller closes it.

    Raises:
        ValueError: A number is below 1, or the environment is not one of text.
    """
    check_numbers(num_envs=num_envs)
    check_mapping("env_kwargs", env_kwargs)
    if max_prompts is not None:
        check_numbers(max_prompts=max_prompts)
        num_envs = min(num_envs, max_prompts)
    # Rows are reset by hand: each to the next prompt that nobody has answered yet.
    kwargs = {
        **(env_kwargs or {}),
        "num_envs": num_envs,
        "autoreset_mode": AutoresetMode.DISABLED,
    }
    made = _make(env, kwargs)
    text_env: Any = made.unwrapped
    unheard = _unheard_ends(text_env, model)
    if unheard:
        text_env.also_end_with(unheard)
    return made


def _make(env: str | Mapping[str, Any], kwargs: Mapping[str, Any]) -> gym.vector.VectorEnv:
    if not isinstance(env, str):
        arguments: dict[str, Any] = {**env, **kwargs}
        kind = TurnVectorEnv if "world" in arguments else TextGenerationVectorEnv
        return kind(**arguments)
    if env in gym.registry and gym.spec(env).kwargs.get("split") == "train":
        kwargs = {"split": "test", **kwargs}
    return make_text_vector_env(env, **kwargs)


def _unheard_ends(env: Any, model: Any) -> list[int]:
    if not isinstance(model, (str, Path)):
        model = getattr(getattr(model, "policy", model), "model", None)
    if model is None or not env.ends_by_default:
        return []
    return unheard_end_ids(model, env.eos_token_ids, int(env.single_action_space.n))


def number_of_prompts(env: TokenVectorEnv, max_prompts: int | None = None) -> int:
    """How many prompts there are to answer.

    Args:
        env: The environment, unwrapped.
        max_prompts: At most so many; None is all, and `CONVERSATIONS` of a world of turns.

    Returns:
        Their number; they are the first ones. A world of turns begins with the seeds from 0.

    Raises:
        ValueError: The prompts are a stream.
    """
    if isinstance(env, TurnVectorEnv):
        return CONVERSATIONS if max_prompts is None else max_prompts
    assert isinstance(env, TextGenerationVectorEnv)
    if env.num_prompts is None:
        raise ValueError("the prompts are a stream; give a finite list of prompts to evaluate on")
    return env.num_prompts if max_prompts is None else min(max_prompts, env.num_prompts)


def policy_of(
    model: str | Path | TransformerActorCriticPolicy | BaseAlgorithm,
    env: TokenVectorEnv,
    policy_kwargs: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> TransformerActorCriticPolicy:
    """The policy that answers for a model.

    Args:
        model: Name or path of a causal language model, a policy, or an algorithm (its policy).
        env: The environment it plays in, unwrapped.
        policy_kwargs: Arguments of the policy made from a name or path (`temperature=`, ...).
        device: Where a model given by name runs.

    Returns:
        The policy: a new one for a name or path, else the very one that was given. The global
        random state is as it was.

    Raises:
        TypeError: It is none of these.
        ValueError: `policy_kwargs` for a policy that is given, or masked actions for a policy that
            does not heed masks.
    """
    check_mapping("policy_kwargs", policy_kwargs)
    if isinstance(model, (str, Path)):
        # A new layer draws its first weights from the global generator, which is not ours to move.
        with torch.random.fork_rng(devices=[]):
            policy_class = (
                MaskableTransformerPolicy if env.masks_actions else TransformerActorCriticPolicy
            )
            return policy_class(
                env.single_observation_space,
                env.single_action_space,
                lambda _: 0.0,
                model=model,
                seed=0,
                **(policy_kwargs or {}),
            ).to(device)
    policy = getattr(model, "policy", model)
    if not isinstance(policy, TransformerActorCriticPolicy):
        raise TypeError(
            f"model must be a name, a path, a TransformerActorCriticPolicy or an algorithm that "
            f"has one, got {type(model).__name__}"
        )
    if env.masks_actions and not isinstance(policy, MaskableTransformerPolicy):
        raise ValueError(
            "env masks actions (min_new_tokens, forbidden_token_ids or allowed_token_ids), which "
            f"{type(policy).__name__} does not heed: pass the name of a model or a "
            "llm_gym.policy.MaskableTransformerPolicy, or leave the option out"
        )
    if policy_kwargs:
        raise ValueError(f"policy_kwargs={policy_kwargs} cannot change a policy that is given")
    return policy


@contextmanager
def seeded_sampling(policy: TransformerActorCriticPolicy, seed: int) -> Iterator[None]:
    """Seeds the policy's sampling for the block, then gives it its own generator back.

    Args:
        policy: Whose sampling.
        seed: The same seed draws the same answers.
    """
    generator = policy.generator
    policy.generator = torch.Generator(generator.device).manual_seed(seed)
    try:
        yield
    finally:
        policy.generator = generator


def play_prompts(
    policy: TransformerActorCriticPolicy,
    env: gym.vector.VectorEnv,
    indices: Sequence[int],
    *,
    deterministic: bool = False,
) -> Iterator[Answer]:
    """Plays one episode for each prompt index, as many at a time as the environment has rows.

    When no prompt is left, rows that are done repeat one until the last is finished, because a
    vector environment steps all its rows; those repetitions are not returned.

    Args:
        policy: Who answers.
        env: From `make_playing_env`.
        indices: Places of the prompts in the environment's list; one that occurs n times is
            answered n times.
        deterministic: Take the most probable token instead of sampling.

    Yields:
        The answers, each as soon as it has ended: in no order of the prompts. Of a world of turns
        they are `Conversation`s.
    """
    waiting = deque(indices)
    remaining = len(waiting)
    current = np.full(env.num_envs, -1)

    def assign(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        for row in rows:
            current[row] = waiting.popleft() if waiting else -1
        return np.maximum(current, 0)

    unwrapped: Any = env.unwrapped
    turns = isinstance(unwrapped, TurnVectorEnv)
    everyone = np.arange(env.num_envs)
    obs, infos = env.reset(seed=0, options={"prompt_index": assign(everyone)})
    prompts = list(infos["prompt"])
    returns, lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=np.int64)
    while remaining:
        masks = {"action_masks": unwrapped.action_masks()} if unwrapped.masks_actions else {}
        actions, _, _ = policy(obs_as_tensor(obs, policy.device), deterministic, **masks)
        obs, rewards, terminated, truncated, infos = env.step(actions.cpu().numpy())
        ended = terminated | truncated
        returns += rewards
        lengths += 1
        if not ended.any():
            continue
        for row in np.flatnonzero(ended).tolist():
            if current[row] >= 0:
                remaining -= 1
                answer = _answer(int(current[row]), prompts[row], obs, infos, row, returns[row])
                yield _conversation(answer, infos, row, int(lengths[row])) if turns else answer
        returns[ended], lengths[ended] = 0.0, 0
        options = {"reset_mask": ended, "prompt_index": assign(np.flatnonzero(ended))}
        obs, infos = env.reset(options=options)
        for row in np.flatnonzero(ended).tolist():
            prompts[row] = infos["prompt"][row]


def _answer(
    index: int,
    prompt: str,
    obs: Mapping[str, NDArray[Any]],
    infos: Mapping[str, Any],
    row: int,
    score: float,
) -> Answer:
    ids = obs["input_ids"][row]
    is_token = obs["attention_mask"][row].astype(bool)
    is_action = obs["completion_mask"][row].astype(bool)
    return Answer(
        prompt_index=index,
        prompt=str(prompt),
        completion=str(infos["completion"][row]),
        score=float(score),
        stop_reason=infos["stop_reason"][row],
        prompt_ids=tuple(ids[is_token & ~is_action].tolist()),
        completion_ids=tuple(ids[is_action].tolist()),
    )


def _conversation(
    last: Answer, infos: Mapping[str, Any], row: int, num_tokens: int
) -> Conversation:
    """A conversation whose last observation and turn are known."""
    messages = tuple(infos["messages"][row])
    return Conversation(
        prompt_index=last.prompt_index,
        prompt=last.prompt,
        completion=transcript(messages[1:]),
        score=last.score,
        stop_reason=last.stop_reason,
        messages=messages,
        tokens=num_tokens,
        end_reason=str(infos["end_reason"][row]),
    )
