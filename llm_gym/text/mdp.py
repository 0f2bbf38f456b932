"""The text Markov decision process: everything that the rows of an environment share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from gymnasium import spaces

from llm_gym.files.ranges import shown
from llm_gym.scorers.protocol import as_scorer
from llm_gym.text.answer import Answer, StopReason
from llm_gym.text.masking import ActionMasks
from llm_gym.text.options import TextOptions
from llm_gym.text.prompt_sources import make_source
from llm_gym.text.prompts import Prompt, PromptEncoder, read_prompt
from llm_gym.text.scoring import EpisodeScoring
from llm_gym.text.vocabulary import StopStrings, Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llm_gym.language_models.chat import PromptFormat
    from llm_gym.text.options import OptionKeywords
    from llm_gym.text.rows import Rows


class TokenMDP:
    """States are token sequences, actions are tokens.

    Args:
        vocabulary: Ids and text.
        options: Of these, what concerns tokens.
        length: L.

    Attributes:
        options: The options.
        vocabulary: Ids and text.
        stop_strings: Finds stop strings.
        masks: Allowed actions.
        length: Length L of an observation.
        observation_space: Dict of three Box spaces of shape `(L,)`.
        action_space: `Discrete(V)`.
    """

    def __init__(self, vocabulary: Vocabulary, options: TextOptions, length: int) -> None:
        self.options, self.vocabulary, self.length = options, vocabulary, length
        self.stop_strings = StopStrings(vocabulary, options.stop_strings)
        self.masks = ActionMasks(vocabulary, options)
        self.observation_space = self._observation_space()
        self.action_space = spaces.Discrete(vocabulary.size)

    def _observation_space(self) -> spaces.Dict:
        highest = max(self.vocabulary.size - 1, self.vocabulary.pad_token_id)
        shape = (self.length,)
        return spaces.Dict(
            {
                "input_ids": spaces.Box(0, highest, shape, np.int64),
                "attention_mask": spaces.Box(0, 1, shape, np.int8),
                "completion_mask": spaces.Box(0, 1, shape, np.int8),
            }
        )

    def text_of(self, ids: np.ndarray, before: np.ndarray, reason: StopReason | None) -> str:
        """What an agent wrote, for people, scorers and worlds.

        Args:
            ids: int64 `(T,)`, its tokens.
            before: int64 `(P,)`, what stands before them.
            reason: What ended them; None if they go on.

        Returns:
            The text, without the EOS token, special tokens and the stop string.
        """
        if reason == "stop_string":
            return self.stop_strings.strip(ids, before)
        # The id that ended the text need not be a special token of the tokenizer.
        ids = ids[:-1] if reason == "eos" else ids
        return self.vocabulary.decode(ids, skip_special_tokens=True, after=before)


class TextMDP(TokenMDP):
    """A scorer judges the finished text.

    Args:
        tokenizer: Tokenizer, or its path or name.
        prompts: Where episodes start.
        scorer: What a finished completion is worth.
        keywords: See `TextOptions`.

    Attributes:
        source: The prompts.
        scoring: Reward and final info.
    """

    def __init__(self, tokenizer: Any, prompts: Any, scorer: Any, keywords: OptionKeywords) -> None:
        options = TextOptions.from_keywords(keywords)
        checked_scorer = as_scorer(scorer, time_limit=options.scorer_time_limit)
        vocabulary = Vocabulary(tokenizer, options)
        self._encoder = PromptEncoder(vocabulary, options)
        self.source = make_source(prompts, self._encoder, options)
        # `max_prompt_tokens + max_new_tokens`.
        super().__init__(vocabulary, options, self.source.max_tokens + options.max_new_tokens)
        self.scoring = EpisodeScoring(checked_scorer, self.source.column_names, options)

    def prompt_at_reset(self, item: Any) -> Prompt:
        """Encodes a prompt that was passed to `reset`.

        Args:
            item: A str, the messages of a conversation, or a mapping with either under "prompt" and
                further columns.

        Returns:
            The prompt, its index -1.

        Raises:
            TypeError: None of these.
            ValueError: Empty or too long.
        """
        row = read_prompt(item, "options['prompt']", self.options.prompt_column)
        # The episode needs a prompt: dropping it is no choice.
        too_long = "truncate" if self.options.too_long == "truncate" else "error"
        limit = self.source.max_tokens
        ((row, ids),) = self._encoder.encode([row], too_long=too_long, limit=limit)
        return Prompt(-1, row, ids)

    def answer(
        self, prompt: Prompt, completion_ids: np.ndarray, reason: StopReason | None
    ) -> Answer:
        """The answer of an episode as people and the scorer see it.

        Args:
            prompt: The prompt.
            completion_ids: int64 `(T,)`, all actions of the episode.
            reason: What ended it; None if it goes on.

        Returns:
            The answer, not yet scored; its text is without the EOS token, special tokens and the
            stop string.
        """
        return Answer(
            prompt=prompt.row.text,
            completion=self.text_of(completion_ids, prompt.ids, reason),
            completion_ids=tuple(completion_ids.tolist()),
            stop_reason=reason,
            prompt_index=prompt.index,
            columns=prompt.row.columns,
        )


class TokenProperties:
    """What both forms of an environment of tokens tell about themselves."""

    _mdp: TokenMDP
    _episodes: Rows

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer."""
        return self._mdp.vocabulary.tokenizer

    @property
    def prompt_format(self) -> PromptFormat:
        """How prompts are shown to the model."""
        return self._mdp.vocabulary.prompt_format

    @property
    def masks_actions(self) -> bool:
        """Whether an option may forbid a token: an agent then has to heed `action_masks()`."""
        return self._mdp.masks.active

    def note_probability(self, probability: float | Sequence[float] | np.ndarray) -> None:
        """Says how probable the next action is to its agent; `render()` shows it.

        Call it before `step`. The environment knows no agent, so without it pictures show none.

        Args:
            probability: From 0 to 1; for the vector form one a row.

        Raises:
            ValueError: It is something else.
        """
        self._episodes.note_probabilities(probability)

    @property
    def pad_token_id(self) -> int:
        """Id that fills observations to the right; the masks say where."""
        return self._mdp.vocabulary.pad_token_id

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Ids that end an episode."""
        return tuple(self._mdp.vocabulary.eos_token_ids.tolist())

    def has_stop_string(self, completion_ids: np.ndarray, prompt_ids: np.ndarray) -> bool:
        """Whether a completion contains a stop string.

        Args:
            completion_ids: int64 `(T,)`.
            prompt_ids: int64 `(P,)`, what stands before it.
        """
        return self._mdp.stop_strings.found_in(completion_ids, prompt_ids)

    @property
    def ends_by_default(self) -> bool:
        """Whether these are what the tokenizer could tell, no `eos_token_id` having been given."""
        return self._mdp.options.eos_token_id is None

    def also_end_with(self, token_ids: Sequence[int]) -> None:
        """Has further tokens end an episode, of which the tokenizer could not tell.

        Args:
            token_ids: Ids beside `eos_token_ids`.

        Raises:
            ValueError: An id is outside the vocabulary, or no action is left before
                `min_new_tokens`.
        """
        self._mdp.vocabulary.also_end_with(token_ids)
        self._mdp.masks = ActionMasks(self._mdp.vocabulary, self._mdp.options)


class TextProperties(TokenProperties):
    """What both forms of `TextGenerationEnv` tell about themselves."""

    _mdp: TextMDP

    @property
    def max_new_tokens(self) -> int:
        """Length budget of a completion, in tokens."""
        return self._mdp.options.max_new_tokens

    @property
    def on_max_length(self) -> Literal["terminate", "truncate", "penalise"]:
        """What becomes of an answer that the length budget cuts off."""
        return self._mdp.options.on_max_length

    @property
    def max_prompt_tokens(self) -> int:
        """Length limit of a prompt, in tokens."""
        return self._mdp.length - self._mdp.options.max_new_tokens

    @property
    def num_prompts(self) -> int | None:
        """Number of prompts; None for a stream."""
        return self._mdp.source.num_prompts


def check_reset_options(
    options: Mapping[str, Any] | None, known: Sequence[str]
) -> Mapping[str, Any]:
    """Checks the keys of reset options.

    Args:
        options: The options, or None.
        known: Keys that are understood.

    Returns:
        The options; empty for None.

    Raises:
        TypeError: They are no mapping.
        ValueError: A key is unknown, or two keys contradict each other.
    """
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise TypeError(f"options={shown(options)} must be a dict of reset options, or None")
    for key in options:
        if key not in known:
            raise ValueError(f"unknown reset option {key!r}; known are {list(known)}")
    if "prompt" in options and "prompt_index" in options:
        raise ValueError("reset options: pass either 'prompt' or 'prompt_index', not both")
    return options
