"""Text generation as a Gymnasium vector environment: N rows in one set of arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymnasium.vector import AutoresetMode

from llm_gym.text.episodes import Episodes
from llm_gym.text.mdp import TextMDP, TextProperties
from llm_gym.text.token_vector import TokenVectorEnv

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from llm_gym.text.options import OptionKeywords
    from llm_gym.text.single import PromptsLike, ScorerLike, TokenizerLike


class TextGenerationVectorEnv(TextProperties, TokenVectorEnv):
    """N rows of `TextGenerationEnv`, stepped together.

    Step for step the same as `SyncVectorEnv` of the single environment (spaces, rewards, infos and
    their format), but one array write a step, and one call of the scorer for all episodes that
    ended in it. Row i is seeded `seed + i` and, in sequential order, walks shard `(i, N)` of the
    prompts, so that the rows walk the list once together.

    Observations are new arrays at each step (as `SyncVectorEnv(copy=True)`).

    Reset options, beside those of the single environment: `"prompt"` and `"prompt_index"` may be a
    sequence with one entry a row (the messages of one conversation are a single prompt, for all
    rows), and `"reset_mask"`, bool `(N,)`, resets the rows where it is true and leaves the others
    as they are.

    Args:
        tokenizer: See `TextGenerationEnv`.
        prompts: See `TextGenerationEnv`.
        scorer: See `TextGenerationEnv`.
        num_envs: Number of rows N.
        autoreset_mode: What happens to a row that has ended: it is reset at the next step, whose
            action it ignores ("NextStep"); in the same step, final observation and info under
            `final_obs` and `final_info` ("SameStep"); or by the caller, with a `reset_mask`, before
            the next step ("Disabled").
        group_size: Rows `k*G .. k*G + G-1` get the same sequence of prompts, each at its own pace.
        max_episode_steps: Truncates an episode after so many steps, as the wrapper `TimeLimit` does
            for the single environment; None or -1 is no limit.
        render_mode: As in the single environment; `render()` gives one text or picture a row. In
            mode "SameStep" a row that has just ended shows its end.
        **options: All other arguments of `TextGenerationEnv`.

    Raises:
        TypeError: An argument has the wrong type, or is unknown.
        ValueError: An argument has a value that is not allowed.
    """

    def __init__(
        self,
        tokenizer: TokenizerLike,
        prompts: PromptsLike,
        scorer: ScorerLike,
        *,
        num_envs: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        group_size: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        self._set_up(num_envs, autoreset_mode, group_size, max_episode_steps, render_mode)
        mdp = TextMDP(tokenizer, prompts, scorer, options)
        self._set_rows(mdp, Episodes(mdp, num_envs, group_size))
