"""Worlds in TRL's `GRPOTrainer`: as an environment with a tool, and as a function that plays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode

if TYPE_CHECKING:
    from llm_gym.turns.environment import TurnVectorEnv


class TRLEnvironment:
    """What TRL's `environment_factory` makes: the agent speaks to a world by the tool `answer`.

    ```python
    GRPOTrainer(environment_factory=lambda: TRLEnvironment(MyWorld), train_dataset=rows, ...)
    ```

    The data need a column "prompt", whose last message the world's first text is put behind, and
    may have one "seed": rollouts of one row begin alike.

    Args:
        make: Makes the world: anything with `reset(seed)` and `step(text)`.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._world, self._reward, self._over = make(), 0.0, False

    def reset(self, seed: int = 0, **columns: Any) -> str:
        """Begins a conversation; TRL shows the text to the model."""
        told = self._world.reset(seed=seed)
        self._reward, self._over = 0.0, False
        return told[0] if isinstance(told, tuple) else told

    def answer(self, text: str) -> str:
        """Says something to the world, and hears what it answers.

        Args:
            text: What to say.

        Returns:
            The world's answer.
        """
        if self._over:
            return "The conversation is over."
        said, reward, terminated, truncated, _ = self._world.step(text)
        self._reward, self._over = self._reward + float(reward), terminated or truncated
        return said

    def get_reward(self) -> float:
        """The sum of the rewards."""
        return self._reward


def trl_rollout(env: TurnVectorEnv) -> Callable[[Sequence[Any], Any], dict[str, list[Any]]]:
    """A `rollout_func` that plays whole conversations, token by token.

    ```python
    GRPOTrainer(rollout_func=trl_rollout(env), reward_funcs=trl_reward, train_dataset=rows, ...)
    ```

    What the world says is among the tokens of the completion, with 0 in the `env_mask` by which
    TRL's loss leaves it out; nothing is tokenised twice.

    Args:
        env: Its rows are conversations that are played at a time; made with
            `autoreset_mode="Disabled"`. The column "prompt" of the data has seeds that
            conversations begin with, as texts: "0", "1", ...

    Returns:
        The function.

    Raises:
        ValueError: The environment resets its rows by itself.
    """
    if env.metadata["autoreset_mode"] is not AutoresetMode.DISABLED:
        raise ValueError('trl_rollout(env) needs an env made with autoreset_mode="Disabled"')

    def play(prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        played: dict[int, dict[str, Any]] = {}
        waiting = iter(range(len(prompts)))
        now = [next(waiting, -1) for _ in range(env.num_envs)]  # -1: plays the last, uncounted
        seeds = [int(prompt) for prompt in prompts]
        obs, _ = env.reset(options={"prompt_index": [seeds[place] for place in now]})
        episodes = [_Episode(obs, row) for row in range(env.num_envs)]
        while len(played) < len(prompts):
            tokens, logprobs = _sampled(trainer, obs)
            obs, rewards, terminated, truncated, _ = env.step(tokens)
            ended = terminated | truncated  # (N,)
            for row, episode in enumerate(episodes):
                episode.add(logprobs[row], rewards[row])
                if ended[row]:
                    played |= {now[row]: episode.fields(obs)} if now[row] >= 0 else {}
                    now[row] = next(waiting, -1)
            if ended.any() and len(played) < len(prompts):
                starts = [seeds[place] for place in now]
                obs, _ = env.reset(options={"reset_mask": ended, "prompt_index": starts})
                for row in np.flatnonzero(ended).tolist():
                    episodes[row] = _Episode(obs, row)
        rows = [played[place] for place in range(len(prompts))]
        return {name: [row[name] for row in rows] for name in rows[0]}

    return play


def trl_reward(
    prompts: Any, completions: Any, episode_return: list[float], **_: Any
) -> list[float]:
    """TRL's reward function for `trl_rollout`: the sum of each conversation's rewards."""
    return episode_return


class _Episode:
    """What TRL is told of a row's conversation."""

    def __init__(self, obs: Mapping[str, Any], row: int) -> None:
        self._row, self._start = row, int(obs["attention_mask"][row].sum())
        self._logprobs, self._return = list[float](), 0.0

    def add(self, logprob: float, reward: float) -> None:
        self._logprobs.append(float(logprob))
        self._return += float(reward)

    def fields(self, obs: Mapping[str, Any]) -> dict[str, Any]:
        length = int(obs["attention_mask"][self._row].sum())
        ids = obs["input_ids"][self._row, :length].tolist()
        by_agent = obs["completion_mask"][self._row, self._start : length].tolist()
        logprobs = iter(self._logprobs)
        return {
            "prompt_ids": ids[: self._start],
            "completion_ids": ids[self._start :],
            "logprobs": [next(logprobs) if own else 0.0 for own in by_agent],
            "env_mask": by_agent,
            "episode_return": self._return,
        }


def _sampled(trainer: Any, obs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Next tokens int64 `(N,)` of TRL's model, and their log-probabilities `(N,)`."""
    import torch

    lengths = obs["attention_mask"].sum(1)  # (N,)
    device = next(trainer.model.parameters()).device
    ids = torch.as_tensor(obs["input_ids"][:, : lengths.max()], device=device)  # (N, T)
    with torch.no_grad():  # right-padded, so that no position reads padding
        logits = trainer.model(input_ids=ids).logits  # (N, T, V)
    last = logits[torch.arange(len(ids)), torch.as_tensor(lengths - 1, device=device)].float()
    policy = torch.distributions.Categorical(logits=last / trainer.temperature)
    tokens = policy.sample()  # (N,)
    return tokens.cpu().numpy(), policy.log_prob(tokens).cpu().numpy()
