"""Worlds of TextArena (https://github.com/LeonGuertler/TextArena): one seat at a table of games."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llm_gym.turns.sources.global_random import OwnRandom
from llm_gym.turns.sources.making import check_name, library, made, not_made


class TextArenaWorld:
    """A game of TextArena: `world="textarena:FrozenLake-v0"`.

    The agent hears what is new to its seat since it last spoke, without its own words, which it
    has; whatever the id's wrappers of observations would repeat. Its actions go through the id's
    wrappers of actions, most of which put missing brackets around them. The reward is the seat's,
    paid at the end. A game's draws from the global generators are its own.

    Args:
        name: An id of TextArena's.
        num_players: Players at the table.
        opponent: Plays all other seats: a function from what a player has heard to what it says, as
            TextArena's agents are.
        seat: The agent's seat, from 0.
        **kwargs: Arguments of the game.

    Raises:
        ImportError: TextArena is missing.
        ValueError: It has no such id; or the players do not fit the game, or lack an opponent.
        WorldError: TextArena could not make it.
    """

    def __init__(
        self,
        name: str,
        *,
        num_players: int = 1,
        opponent: Callable[[str], str] | None = None,
        seat: int = 0,
        **kwargs: Any,
    ) -> None:
        self._world = f"textarena:{name}"
        textarena = library("textarena", self._world, "textarena")
        registry = library("textarena.envs.registration", self._world, "textarena").ENV_REGISTRY
        check_name(self._world, name, registry)
        if num_players > 1 and not callable(opponent):
            raise ValueError(
                f"world={self._world!r} with num_players={num_players} needs opponent=, a function "
                f"from text to text, got {opponent!r}"
            )
        if not 0 <= seat < num_players:
            raise ValueError(f"seat={seat!r} must be from 0 to num_players - 1 = {num_players - 1}")
        self._seat, self._opponent, self._num_players = seat, opponent, num_players
        self._own_words = textarena.ObservationType.PLAYER_ACTION
        self._library, self._make = textarena, partial(textarena.make, name, **kwargs)
        self._random = OwnRandom()
        with made(self._world), self._random.lent():
            self._set_table()
        self._check_players()

    def _set_table(self) -> None:
        """A new game: old ones keep their decks, and what players have heard, from game to game."""
        self.env = self._game = self._make()
        while isinstance(self._game, self._library.Wrapper):
            self._game = self._game.env

    def _check_players(self) -> None:
        """A game says how many players it takes by refusing others when it begins."""
        try:
            with self._random.lent():
                self.env.reset(num_players=self._num_players, seed=0)
        except (AssertionError, ValueError) as error:
            raise ValueError(
                f"world={self._world!r} does not begin with num_players={self._num_players}: "
                f"{error}; pass world_kwargs={{'num_players': ..., 'opponent': ...}}"
            ) from error
        except Exception as error:
            raise not_made(self._world, error) from error

    def reset(self, *, seed: int) -> tuple[str, dict[str, Any]]:
        """Begins anew, and lets others play until it is the agent's turn."""
        self._random.seed(seed)
        with self._random.lent():
            self._set_table()
            self.env.reset(num_players=self._num_players, seed=seed)
            self._let_others_play(done=False)
            return self._news(), {}

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Plays the agent's turn and those of the others up to its next."""
        with self._random.lent():
            done = self._let_others_play(done=self.env.step(action=text)[0])
            said = self._news()
            if not done:
                return said, 0.0, False, False, {}
            rewards, infos = self.env.close()
        return said, float((rewards or {}).get(self._seat, 0.0)), True, False, infos[self._seat]

    def _let_others_play(self, *, done: bool) -> bool:
        while not done and self._game.state.current_player_id != self._seat:
            assert self._opponent is not None
            player, heard = self.env.get_observation()
            heard = heard if isinstance(heard, str) else self._shown(player, heard)
            done = self.env.step(action=self._opponent(heard))[0]
        return done

    def _news(self) -> str:
        """What the agent's seat has not heard yet."""
        state = self._game.state
        news, state.observations[self._seat] = state.observations[self._seat], []
        return self._shown(self._seat, news)

    def _shown(self, listener: int, messages: list[tuple[int, str, Any]]) -> str:
        roles = self._game.state.role_mapping
        lines = [
            text.strip() if sender < 0 else f"[{roles.get(sender, sender)}] {text.strip()}"
            for sender, text, kind in messages
            if not (sender == listener and kind == self._own_words)
        ]
        return "\n".join(lines)
