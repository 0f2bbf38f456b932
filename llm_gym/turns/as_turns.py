"""The way back: an environment whose actions are tokens, as a world of turns."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from llm_gym.files.encoding import check_characters
from llm_gym.files.ranges import shown
from llm_gym.text.token_env import TokenEnv


class TokenWorld:
    """A turn-level world that plays an environment of tokens: see `as_turns`.

    Args:
        env: The environment.

    Raises:
        TypeError: It is none of tokens.
        ValueError: No token ends a turn in it.
    """

    def __init__(self, env: gym.Env) -> None:
        inner = getattr(env, "unwrapped", env)
        if not isinstance(inner, TokenEnv):
            raise TypeError(
                f"env={shown(env)} must be a single environment of tokens, such as "
                "gymnasium.make('llm_gym/TextGeneration-v0', ...)"
            )
        if not inner.eos_token_ids:
            raise ValueError("as_turns needs an environment in which a token ends a turn")
        self.env, self._tokenizer, self._end = env, inner.tokenizer, inner.eos_token_ids[0]

    def reset(self, *, seed: int | None = None) -> tuple[str, dict[str, Any]]:
        """Begins an episode: its prompt as text, and the info."""
        info = self.env.reset(seed=seed)[1]
        return str(info["prompt"]), info

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Writes a turn, token by token, and ends it.

        Args:
            text: What the agent says; control tokens in it are text.

        Returns:
            What comes back ("" of `TextGenerationEnv`), the sum of the rewards, terminated,
            truncated, and the last step's info.

        Raises:
            TypeError: It is no text.
            ValueError: It has half of a character.
        """
        if not isinstance(text, str):
            raise TypeError(f"a turn must be a text, got {shown(text)}")
        check_characters("the turn", text)
        encoded = self._tokenizer(
            [text], add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        total = 0.0
        for token in [*encoded["input_ids"][0], self._end]:
            _, reward, terminated, truncated, info = self.env.step(token)
            total += float(reward)
            # A turn of several is over where the world has said something; an episode, at its end.
            if terminated or truncated or "turn" in info:
                break
        return str(info.get("world_text", "")), total, terminated, truncated, info

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()


def as_turns(env: gym.Env) -> TokenWorld:
    """An environment of tokens as a world of turns.

    Other people's agents, which speak texts, can then be asked for answers to its prompts:

    ```python
    world = llm_gym.as_turns(gymnasium.make("llm_gym/PoliteEmail-v0"))
    prompt, info = world.reset(seed=0)
    text, score, terminated, truncated, info = world.step("Dear Ms Smith, thank you.")
    ```

    Args:
        env: `TextGenerationEnv`, a task of it, or `TurnEnv`.

    Returns:
        An object with `reset(seed)` and `step(text)`, as `TurnEnv` takes.

    Raises:
        TypeError: It is none of tokens.
        ValueError: No token ends a turn in it.
    """
    return TokenWorld(env)
