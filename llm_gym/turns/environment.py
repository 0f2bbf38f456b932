"""Conversations with a world as Gymnasium environments whose actions are tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from gymnasium.vector import AutoresetMode

from llm_gym.text.mdp import TokenProperties
from llm_gym.text.options import check_shard
from llm_gym.text.token_env import TokenEnv
from llm_gym.text.token_vector import TokenVectorEnv
from llm_gym.turns.turn_rows import TurnMDP, TurnRows
from llm_gym.turns.worlds import Worlds, world_maker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llm_gym.text.single import TokenizerLike
    from llm_gym.turns.options import TurnKeywords


class TurnProperties(TokenProperties):
    """What both forms of the environment tell about themselves."""

    _mdp: TurnMDP
    _episodes: TurnRows

    #: A `prompt_index` of an info is a seed, with which the same start comes again.
    starts_by_seed = True
    #: Where episodes begin is no list.
    num_prompts = None

    @property
    def max_new_tokens(self) -> int:
        """The most tokens that the agent can write in a conversation."""
        return self._mdp.turns.longest

    @property
    def max_turn_tokens(self) -> int:
        """Length budget of a turn, in tokens."""
        return self._mdp.turns.max_turn_tokens

    @property
    def max_turns(self) -> int | None:
        """Turns that the agent may have; None is as many as there is room for."""
        return self._mdp.turns.max_turns

    @property
    def turns_in_context(self) -> int | None:
        """Turns of the agent after which its context begins anew; None is never."""
        return self._mdp.turns.turns_in_context

    @property
    def on_max_length(self) -> Literal["truncate", "terminate"]:
        """What becomes of a conversation that is cut off."""
        return self._mdp.turns.on_max_length

    @property
    def turn_template(self) -> str:
        """All that stands between two turns of the agent, with `{text}` for the world's text."""
        return self._mdp.format.turn_template

    def close(self, **kwargs: Any) -> None:
        """Closes the worlds."""
        self._episodes.worlds.close()
        super().close(**kwargs)  # type: ignore[misc]


class TurnEnv(TurnProperties, TokenEnv):
    r"""A conversation with a world, one token of the agent an action.

    ## Description
    Any turn-level environment of texts becomes one of tokens. An episode begins with the world's
    first text. Each action is the next token of the agent's turn; when the turn ends, its text is
    handed to the world, whose answer is encoded by itself and written behind it, in the same step.
    The world's words are observations and never actions, so there is nothing to mask in a loss.
    What was written is never tokenised again. `TextGenerationEnv` is the case of one turn.

    ## The world
    Anything with `reset(seed=...)` and `step(text) -> (text, reward, terminated, truncated, info)`,
    where `reset` returns the first text or `(text, info)`: every `gymnasium.Env` of `spaces.Text`
    as it is, and a class of ten lines. Worlds of GEM, TextArena, reasoning-gym, SkyRL-gym and
    OpenEnv are made by name.

    ## Action Space
    `Discrete(V)`: the id of the next token.

    ## Observation Space
    `Dict`, right-padded to `L = context_length`, with the keys of `TextGenerationEnv`:

    | key               | dtype | shape  | range           | meaning                              |
    |-------------------|-------|--------|-----------------|--------------------------------------|
    | `input_ids`       | int64 | `(L,)` | 0 .. max(V-1, pad) | the conversation, then padding    |
    | `attention_mask`  | int8  | `(L,)` | 0 .. 1          | 1 where there is a token, 0 in padding |
    | `completion_mask` | int8  | `(L,)` | 0 .. 1          | 1 where the token is an action       |

    It grows by one token a step, and by the world's answer where a turn ends.

    ## A turn's end
    An EOS token, a stop string, `max_turn_tokens`, or a full context. The text that the world gets
    is without EOS, special tokens and the stop string. What follows is the chat template's end of
    turn (unless the agent has just written it), the world's text, and what asks for an answer; by
    `turn_template` whatever that says. Control tokens in the world's text stay text.

    With `turns_in_context=k` the context begins anew after every k turns: the observation is then
    the world's last text alone, shown as a first text is, and the conversation goes on. That is the
    whole state of worlds whose every text says all that matters, and makes conversations of any
    length affordable.

    ## Rewards
    0, but on the last token of a turn what the world pays for it.

    ## Starting State
    The world, reset with a seed that the environment's generator draws. The reset option
    `{"prompt_index": seed}` chooses the seed.

    ## Episode End
    - The world terminates: so does the environment (`end_reason` "world").
    - What cuts a conversation off truncates it, or ends it by `on_max_length="terminate"`: the
      world truncates ("world"); the turn was the last of `max_turns` ("max_turns"); the world's
      answer leaves no room for another token ("context_length"); the world takes longer than
      `world_time_limit` ("timeout"), or raises and `on_world_error` is "truncate" ("error"), both
      with `world_error`. A world that hangs is left to itself, and the row gets a new one, as it
      does where one hangs at its beginning.

    ## Information
    At reset: `prompt` (the first text), `prompt_index` (the seed), `world_info`. When a turn ends:
    `turn` (its number, from 1), `completion` (its text), `stop_reason` ("eos", "stop_string",
    "length"), `world_text`, and `world_info` if the world gave one. At the end also `prompt`,
    `end_reason`, `world_error` if there was one, `messages` (what both have said, with their roles
    in a chat), and unless it was truncated `score`, the sum of the rewards. `world_info` is a
    mapping that the vector form keeps whole, one a row.

    ## Arguments

    | argument | default | meaning |
    |---|---|---|
    | `tokenizer` | | Hugging Face tokenizer, or path or hub name of one; never changed |
    | `world` | | a world; a function or class that makes one, or its place as "module:NAME" or "path.py:NAME"; an id of Gymnasium's; or another library's name, such as "textarena:FrozenLake-v0" |
    | `world_kwargs` | `None` | arguments of the function, class, id or name |
    | `render_mode` | `None` | "ansi", "rgb_array" or "human", as of `TextGenerationEnv` |
    | `max_turn_tokens` | 64 | length budget of a turn |
    | `max_turns` | `None` | turns of the agent; None: as many as there is room for |
    | `turns_in_context` | `None` | turns after which the context begins anew with the world's last text; needs `max_turns` |
    | `context_length` | 512 | length budget L of the conversation, the world's tokens included |
    | `on_max_length` | "truncate" | or "terminate": what becomes of conversations that are cut off. The masks say what is left, so that an agent can know; algorithms without a critic need "terminate" |
    | `turn_template` | `None` | all that stands between two turns of the agent, with `{text}`; None: by the tokenizer's chat template, or `"\n{text}\n"` if it has none |
    | `world_time_limit` | 60.0 | seconds that a world may take to be made, and the worlds of one step to begin or to answer. Each world has a thread of its own. None: no limit, and no threads |
    | `on_world_error` | "raise" | or "truncate": what a world's exception does |
    | `prompt_template`, `add_special_tokens` | `None` | of the first text; see `TextGenerationEnv` |
    | `eos_token_id`, `pad_token_id`, `vocab_size`, `stop_strings`, `forbidden_token_ids`, `min_new_tokens`, `allowed_token_ids` | | as of `TextGenerationEnv`, for each turn; `allowed_token_ids` is called with what stands before the turn |

    ## Version History
    - v0: first version.

    Raises:
        ImportError: The world's library is not installed.
        TypeError: An argument has the wrong type, or is unknown; the world makes no text.
        ValueError: An argument has a value that is not allowed; the message says what to do.
        WorldError: A world raised an exception, or was not made or did not begin in time.
    """  # noqa: E501 -- a table row cannot be broken

    def __init__(
        self,
        tokenizer: TokenizerLike,
        world: Any,
        *,
        world_kwargs: Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        **options: Unpack[TurnKeywords],
    ) -> None:
        mdp = TurnMDP(tokenizer, options)
        worlds = Worlds(world_maker(world, 1, world_kwargs), 1, mdp.turns.world_time_limit)
        super().__init__(mdp, TurnRows(mdp, worlds, num_rows=1), render_mode)


class TurnVectorEnv(TurnProperties, TokenVectorEnv):
    """N rows of `TurnEnv`, stepped together, each with a world of its own.

    Step for step the same as `SyncVectorEnv` of the single environment, but one array write a step,
    and the worlds of all turns that ended in it at work side by side. Row i is seeded `seed + i`.

    Reset options, beside those of the single environment: `"prompt_index"` may have one entry a
    row, and `"reset_mask"`, bool `(N,)`, resets the rows where it is true.

    Args:
        tokenizer: See `TurnEnv`.
        world: A function or class that makes a world, its place, an id of Gymnasium's, or another
            library's name.
        num_envs: Number of rows N.
        world_kwargs: See `TurnEnv`.
        autoreset_mode: See `llm_gym.TextGenerationVectorEnv`.
        group_size: Rows `k*G .. k*G + G-1` begin with the same sequence of seeds, each at its own
            pace.
        max_episode_steps: Truncates an episode after so many steps; None or -1 is no limit.
        render_mode: See `llm_gym.TextGenerationVectorEnv`.
        shard: (index, number): of so many environments that are seeded alike, in processes of their
            own, this is the one of the index, and its rows come behind those before it.
        **options: All other arguments of `TurnEnv`.

    Raises:
        ImportError: The world's library is not installed.
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed.
        WorldError: A world could not be made.
    """

    def __init__(
        self,
        tokenizer: TokenizerLike,
        world: Any,
        *,
        num_envs: int = 1,
        world_kwargs: Mapping[str, Any] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        group_size: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        shard: tuple[int, int] = (0, 1),
        **options: Unpack[TurnKeywords],
    ) -> None:
        self._shard = check_shard(shard)
        self._set_up(num_envs, autoreset_mode, group_size, max_episode_steps, render_mode)
        mdp = TurnMDP(tokenizer, options)
        make = world_maker(world, num_envs, world_kwargs)
        worlds = Worlds(make, num_envs, mdp.turns.world_time_limit)
        self._set_rows(mdp, TurnRows(mdp, worlds, num_envs))

    def _row_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if isinstance(seed, int | np.integer):
            seed = int(seed) + self._shard[0] * (self.num_envs // self.group_size)
        return super()._row_seeds(seed)
