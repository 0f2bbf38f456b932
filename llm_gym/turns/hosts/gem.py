"""A world, or one of our tasks, as an environment of GEM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class GemEnv:
    """What GEM's vector environments, wrappers and trainers call, around a world.

    ```python
    gem.register("llm_gym:email", lambda: GemEnv(lambda: as_turns(gym.make("llm_gym/PoliteEmail-v0"))))
    env = gem.make("llm_gym:email")
    ```

    Args:
        make: Makes the world: anything with `reset(seed)` and `step(text)`.
    """  # noqa: E501 -- one statement of a user's

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make, self.world = make, make()

    @property
    def unwrapped(self) -> GemEnv:
        """Itself: it wraps no environment of GEM's."""
        return self

    def reset(self, seed: int | None = None) -> tuple[str, dict[str, Any]]:
        """Begins anew; the first text and the info."""
        told = self.world.reset(seed=seed)
        return told if isinstance(told, tuple) else (told, {})

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Hands a turn to the world."""
        return self.world.step(action)

    def spawn(self, same_state: bool = False, **kwargs: Any) -> GemEnv:
        """Another one, whose world is new.

        Raises:
            ValueError: It is to be in the same state: a world can be begun, not copied.
        """
        if same_state:
            raise ValueError("same_state=True: a world cannot be copied; reset both by one seed")
        return type(self)(self._make)
