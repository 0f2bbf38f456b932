"""A language model in the cockpit. Needs llm_gym, which this package does without elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.pilots.protocol import PilotState
from llm_gym_autopilot.words import LONGEST_LINE

__all__ = ["LanguageModel"]


class LanguageModel:
    """Answers lines of instruments by a language model, each without any memory.

    The model sees what it saw in training on `llm_gym/TextCockpit-v0` with `turns_in_context=1`: the
    line, as its tokenizer's chat template shows a question.

    Args:
        model: Name or directory of a causal language model.
        question: What is asked, with `{line}` where the line stands.
        max_turn_tokens: Most tokens of an answer.
        temperature: 0 takes the most probable tokens.
        seed: Seed of the sampling.

    Raises:
        ImportError: llm_gym is not installed.
    """  # noqa: E501 -- a name is not broken

    def __init__(
        self,
        model: str | Path,
        *,
        question: str = "{line}",
        max_turn_tokens: int = 8,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        try:
            from llm_gym import TextGenerationVectorEnv
            from llm_gym.language_models.loading import quiet_libraries
            from llm_gym.runs.playing import policy_of
            from llm_gym.stages.by_name import TEXT_GENERATION, environment_kwargs, no_score
        except ImportError as error:
            raise ImportError(
                f'a language model as a pilot needs llm_gym: pip install "llm-gym" ({error})'
            ) from error
        quiet_libraries()
        kwargs = environment_kwargs(TEXT_GENERATION, str(model), max_new_tokens=max_turn_tokens)
        # Its prompt is the longest question there is, so that there is room for all of them.
        longest = [question.replace("{line}", LONGEST_LINE)]
        self._env: Any = TextGenerationVectorEnv(prompts=longest, scorer=no_score, **kwargs)
        self._greedy = temperature == 0
        options = {} if self._greedy else {"temperature": temperature}
        self._policy: Any = policy_of(str(model), self._env, options)
        self._policy.generator.manual_seed(seed)
        self._question, self._longest = question, max_turn_tokens

    def answer(
        self, lines: Sequence[str], state: PilotState, episode_start: NDArray[Any] | None
    ) -> tuple[list[str], PilotState]:
        """What the model answers; each line is read alone."""
        from llm_gym.language_models.decoding import decode_after

        shown = self._env.prompt_format
        questions = [self._question.replace("{line}", line) for line in lines]
        asked = shown.encode([shown.render(question) for question in questions])
        return [
            decode_after(self._env.tokenizer, ids, written, skip_special_tokens=True)
            for ids, written in zip(asked, self._write(asked), strict=True)
        ], state

    def _write(self, asked: Sequence[Sequence[int]]) -> list[list[int]]:
        """Token ids of the answers; rows that have ended are left out of what is still written."""
        import torch

        from llm_gym.learning.rounds import compacted

        shape = (len(asked), self._env.single_observation_space["input_ids"].shape[0])
        seen = {
            name: np.zeros(shape, dtype=np.int64)
            for name in self._env.single_observation_space.spaces
        }
        for row, ids in enumerate(asked):
            seen["input_ids"][row, : len(ids)] = ids
            seen["attention_mask"][row, : len(ids)] = 1
        lengths = seen["attention_mask"].sum(axis=1)
        written: list[list[int]] = [[] for _ in asked]
        rows = np.arange(len(asked))
        for _ in range(self._longest):
            observed = {name: torch.from_numpy(array[rows]) for name, array in seen.items()}
            with torch.no_grad():
                tokens = self._policy(observed, self._greedy)[0].numpy()
            for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
                written[row].append(token)
            seen["input_ids"][rows, lengths[rows]] = tokens
            seen["attention_mask"][rows, lengths[rows]] = 1
            lengths[rows] += 1
            running = ~np.isin(tokens, self._env.eos_token_ids)
            if not running.any():
                break
            kept = compacted(running)
            self._policy.keep_rows(torch.from_numpy(kept))
            rows = rows[kept]
        return [ids[:-1] if ids[-1] in self._env.eos_token_ids else ids for ids in written]
