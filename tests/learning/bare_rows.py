"""What a vector environment says of its rows, without an environment behind it."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces


class Rows:
    """Of a vector environment no more than what its rows say when they are asked."""

    def __init__(self, num_envs: int, **attributes: list[Any]) -> None:
        self.num_envs, self.attributes = num_envs, attributes
        self.action_space = spaces.Discrete(3)

    def has_attr(self, name):
        return name in self.attributes

    def get_attr(self, name, indices=None):
        if name not in self.attributes:
            raise AttributeError(name)
        return self.attributes[name]


def rows(num_envs: int, **attributes: Any) -> Any:
    return Rows(num_envs, **{name: [value] * num_envs for name, value in attributes.items()})
