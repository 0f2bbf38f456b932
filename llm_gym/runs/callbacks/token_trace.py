"""What every update does to single tokens, kept for `llm-gym watch` and `llm_gym.runs.trace`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.files.ranges import check_numbers
from llm_gym.language_models.decoding import TokenTexts
from llm_gym.learning.answer_algorithm import AnswerAlgorithm
from llm_gym.learning.base import AnswerLearner
from llm_gym.learning.buffer import EpisodeBuffer, Segment
from llm_gym.learning.kl import ReferenceModel
from llm_gym.learning.policy_gradient import PolicyGradient
from llm_gym.parallel import world
from llm_gym.policy import EpisodeBatch, TransformerActorCriticPolicy
from llm_gym.runs.callbacks.trace_folder import TraceFolder
from llm_gym.runs.reading import PolicyReader, Reading
from llm_gym.runs.trace import ALTERNATIVES, Look, TracedAnswer

if TYPE_CHECKING:
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

Columns = dict[str, NDArray[np.floating]]

_EVERY = 64  # rollouts between two looks, where an update goes through a rollout once


@dataclass
class _Open:
    """A look that is being taken.

    Attributes:
        step: Tokens that had been generated before the iteration.
        is_played: Whether the rollout has ended.
        answers: So far.
        batches: Of probes and of the rollout's answers, in their order, with their alternatives:
            what is read again after the update.
        rewards: float `(N,)` of each step of the rollout.
        ended: Infos of episodes that ended, by step and row.
        absent: Why a quantity is not there.
        kl_coef: What a nat costs.
    """

    step: int
    is_played: bool = False
    answers: list[TracedAnswer] = field(default_factory=list)
    batches: list[tuple[EpisodeBatch, NDArray[np.int64]]] = field(default_factory=list)
    rewards: list[NDArray[np.floating]] = field(default_factory=list)
    ended: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    kl_coef: float | None = None


class TokenTrace(BaseCallback):
    """Keeps some answers of some iterations token by token, as `llm_gym.runs.trace` describes.

    Of some rollouts a few answers are drawn, and read once more before the update and
    once after it. Probes are the prompts that the run began with: the policy's most probable answer
    to each is written anew at every look, so that one can be followed through training. Nothing is
    asked of the scorer for that.

    Training stays what it is to the bit: no random number is drawn, and nothing that the policy
    remembers is touched. A resumed run writes what an uninterrupted one would have, if the folder
    `trace` is among the logs that are cut back (`llm_gym.runs.logs.LOGS`). Of several processes the
    first writes, of its own answers.

    The nearer the budget, the rarer the looks: when half of it is used the interval doubles, at
    three quarters again, so that a run without end never fills the disk and is never without new
    looks for good. To come before `CheckpointCallback` in the list of callbacks.

    Args:
        directory: Of the run; looks lie in its folder `trace`.
        every: Rollouts between two looks, counted in tokens of the one that was looked at last, so
            that a resumed run has its looks where it would have had them. `None` is 64 over the
            passes of an update (`n_epochs`): the more an iteration does, the less a look weighs
            (`docs/watch.md` has what it costs).
        episodes: Answers that are drawn from a rollout, at least 1.
        probes: Prompts that are asked at every look; 0 asks none.
        budget: Most bytes of all looks.

    Raises:
        ValueError: An argument does not fit.
    """

    model: OnPolicyAlgorithm

    def __init__(
        self,
        directory: str | Path,
        *,
        every: int | None = None,
        episodes: int = 4,
        probes: int = 2,
        budget: int = 32 * 2**20,
    ) -> None:
        super().__init__()
        check_numbers(episodes=episodes, probes=probes, budget=budget)
        if every is not None:
            check_numbers(every=every)
        self.every, self.episodes, self.probes = every, episodes, probes
        self._folder = TraceFolder(directory, budget)
        self._open: _Open | None = None

    # ------------------------------------------------------------------ Stable-Baselines3's face

    def _on_training_start(self) -> None:
        policy, buffer = self.model.policy, getattr(self.model, "rollout_buffer", None)
        if not isinstance(policy, TransformerActorCriticPolicy) or not isinstance(
            buffer, EpisodeBuffer
        ):
            raise ValueError(
                f"TokenTrace looks at answers of a language model, and {type(self.model).__name__} "
                f"has a {type(policy).__name__} and a {type(buffer).__name__}: use a "
                "TransformerActorCriticPolicy and rollout_buffer_class=llm_gym.EpisodeBuffer"
            )
        self._open = None
        if world().rank:
            return
        self._policy, self._buffer = policy, buffer
        self._reader = PolicyReader(policy)
        self._tokenizer = self.training_env.get_attr("tokenizer")[0]
        self._texts = TokenTexts(self._tokenizer)
        self._folder.take_up(self.model.num_timesteps)
        self._prompts = self._folder.prompts() or self._prompts_of_rows()

    def _on_rollout_start(self) -> None:
        if world().rank:
            return
        self._finish()
        if self._is_due():
            self._open = self._begun()

    def _on_step(self) -> bool:
        look = self._open
        if look is not None:
            step = len(look.rewards)
            look.rewards.append(np.array(self.locals["rewards"]))  # SB3 adds bootstraps in place
            for row in np.flatnonzero(self.locals["dones"]).tolist():
                info = self.locals["infos"][row]
                look.ended[step, row] = {key: info.get(key) for key in ("score", "stop_reason")}
        return True

    def _on_rollout_end(self) -> None:
        look = self._open
        if look is None:
            return
        if isinstance(self.model, AnswerLearner) and self.model.is_turning_point():
            self._open = None  # a checkpoint of this moment could not go on with it
            return
        look.is_played = True
        self._look_at_rollout(look)

    def _on_training_end(self) -> None:
        if not world().rank:
            self._finish()

    def finish(self) -> None:
        """Has the trained policy answer the probes, for a last look; once learning is over.

        It is no part of any checkpoint: a run that goes on takes its looks as if it had never
        ended.
        """
        if world().rank or not self._prompts or self._folder.has(self.model.num_timesteps):
            return
        look = self._begun()
        look.absent["log_prob_after"] = "no update came after it"
        look.batches.clear()
        self._write(look)

    def _is_due(self) -> bool:
        passes = getattr(self.model, "n_epochs", 1)
        every = max(1, round(_EVERY / passes)) if self.every is None else self.every
        return self._folder.is_due(self.model.num_timesteps, every)

    # ------------------------------------------------------------------ before the update

    def _prompts_of_rows(self) -> list[tuple[int, ...]]:
        """What the first rows of the environment ask, each prompt once."""
        observed = self.model._last_obs
        assert isinstance(observed, dict)
        prompts: dict[tuple[int, ...], None] = {}
        for ids, read, chosen in zip(
            observed["input_ids"],
            observed["attention_mask"],
            observed["completion_mask"],
            strict=True,
        ):
            length = int(chosen.argmax()) if chosen.any() else int(read.sum())
            prompts[tuple(map(int, ids[:length]))] = None
        return list(prompts)[: self.probes]

    def _begun(self) -> _Open:
        look = _Open(self.model.num_timesteps)
        if self.training_env.get_attr("masks_actions")[0]:
            look.absent["probes"] = "the environment forbids tokens, which a probe would not heed"
        elif self._prompts:
            self._look_at_probes(look)
        return look

    def _look_at_probes(self, look: _Open) -> None:
        env, prompts = self.training_env, self._prompts
        turns = env.has_attr("max_turn_tokens")
        longest = int(env.get_attr("max_turn_tokens" if turns else "max_new_tokens")[0])
        width = env.observation_space["input_ids"].shape[0]  # type: ignore[index]
        longest = min(longest, width - max(map(len, prompts)))
        ends = set(env.get_attr("eos_token_ids")[0])
        stops = env.get_attr("has_stop_string")[0]

        def reason(answer: Sequence[int], prompt: Sequence[int]) -> str | None:
            if answer[-1] in ends:
                return "eos"
            return "stop_string" if stops(np.array(answer), np.array(prompt)) else None

        answers = self._reader.most_probable(
            prompts, longest, lambda a, p: reason(a, p) is not None
        )
        batch = self._reader.batch_of(prompts, answers)
        reading, values = self._reader.read(batch, ALTERNATIVES, values=self._has_critic)
        columns: Columns = {"log_prob": reading.log_prob, "entropy": reading.entropy}
        if values is not None:
            columns["value"] = values * self._unit
        if self._reference is not None:
            columns["kl"] = reading.log_prob - self._reference.log_probs(batch).cpu().numpy()
        stop_reasons = [reason(a, p) or "length" for a, p in zip(answers, prompts, strict=True)]
        lengths = list(map(len, answers))
        for number, (start, stop) in enumerate(_parts(lengths)):
            answer = self._answer(
                "probe",
                number,
                prompts[number],
                np.array(answers[number]),
                np.arange(lengths[number]),
                {name: column[start:stop] for name, column in columns.items()},
                reading.part(start, stop),
            )
            look.answers.append(replace(answer, stop_reason=stop_reasons[number]))
        look.batches.append((batch, reading.top_ids))

    def _look_at_rollout(self, look: _Open) -> None:
        """Answers of the rollout that has ended, with what will be learnt from them."""
        buffer, chosen = self._buffer, self._drawn(look.step)
        columns = self._columns(look, chosen)
        if not chosen:
            return
        batch = buffer.episode_batch(chosen)
        reading, _ = self._reader.read(batch, ALTERNATIVES)
        columns["entropy"] = reading.entropy
        if self._reference is not None and "kl" not in columns:  # what learns from whole answers
            columns["kl"] = columns["log_prob"] - self._reference.log_probs(batch).cpu().numpy()
        ids, rows, slots = (
            tensor.cpu().numpy()
            for tensor in (batch.input_ids, batch.action_rows, batch.action_slots)
        )
        lengths = [segment.stop - segment.start for segment in chosen]
        for number, (segment, (start, stop)) in enumerate(
            zip(chosen, _parts(lengths), strict=True)
        ):
            before = len(segment.prefix)
            answer = self._answer(
                "rollout",
                number,
                segment.prefix,
                ids[number, before : segment.num_tokens],
                slots[rows == number] - before,
                {name: column[start:stop] for name, column in columns.items()},
                reading.part(start, stop),
            )
            ended = look.ended.get((segment.stop - 1, segment.env), {})
            score = ended.get("score")
            look.answers.append(
                replace(
                    answer,
                    score=None if score is None else float(score),
                    stop_reason=ended.get("stop_reason"),
                    begins=bool(segment.is_start),
                    ends=buffer.ends(segment),
                )
            )
        look.batches.append((batch, reading.top_ids))

    def _drawn(self, step: int) -> list[Segment]:
        """Some of the rollout's answers, whole ones if there are any, in their order."""
        segments = self._buffer.segments()
        whole = [s for s in segments if self._buffer.complete(s)] or segments
        number = min(self.episodes, len(whole))
        # A generator of its own, from nothing but the step: a resumed run draws the same.
        places = np.random.default_rng(step).choice(len(whole), number, replace=False)
        return [whole[place] for place in sorted(places.tolist())]

    def _columns(self, look: _Open, chosen: list[Segment]) -> Columns:
        """What the rollout has of the answers' tokens, float `(A,)` each; says what it has not."""
        model, buffer, name = self.model, self._buffer, type(self.model).__name__
        places = buffer.places(chosen) if chosen else (np.zeros(0, int), np.zeros(0, int))
        columns: Columns = {"log_prob": buffer.log_probs[places]}
        columns["reward"] = np.array(look.rewards)[places]
        if isinstance(model, AnswerAlgorithm):
            look.absent["advantage"] = f"{name} learns from whole answers, not token by token"
        else:
            columns["advantage"] = buffer.advantages[places] * self._divisor
        if self._has_critic:
            columns["value"] = buffer.values[places] * self._divisor
        else:
            look.absent["value"] = f"{name} has no critic"
        shaping: Any = getattr(model, "shaping", None)
        if self._reference is None:
            look.absent["kl"] = f"{name} has no reference model here"
        elif shaping is not None:
            columns["kl"] = (buffer.log_probs - shaping.reference_log_probs)[places]
            look.kl_coef = float(shaping.statistics["kl_coef"])
        if self._clip() is None:
            look.absent["clipped"] = f"{name} clips no ratios of tokens"
        return columns

    def _answer(
        self,
        kind: str,
        number: int,
        prompt: Sequence[int] | NDArray[np.integer],
        ids: NDArray[np.integer],
        slots: NDArray[np.integer],
        columns: Columns,
        reading: Reading,
    ) -> TracedAnswer:
        """An answer without what comes later; `slots` `(A,)` says which of `ids` are actions."""
        before = [int(token) for token in prompt]
        n_tokens, top_ids = len(ids), np.full((len(ids), ALTERNATIVES), -1, dtype=np.int32)
        top_log_prob = np.full((n_tokens, ALTERNATIVES), np.nan, dtype=np.float32)
        width = reading.top_ids.shape[1]
        top_ids[slots, :width] = reading.top_ids
        top_log_prob[slots, :width] = reading.top_log_prob
        return TracedAnswer(
            kind=kind,
            number=number,
            prompt=self._tokenizer.decode(before, skip_special_tokens=True),
            prompt_ids=tuple(before),
            ids=ids.astype(np.int32),
            texts=tuple(self._texts.of_answer(before, ids.tolist())),
            by_agent=np.isin(np.arange(n_tokens), slots),
            quantities={name: _spread(column, slots, n_tokens) for name, column in columns.items()},
            top_ids=top_ids,
            top_log_prob=top_log_prob,
            top_log_prob_after=np.full_like(top_log_prob, np.nan),
        )

    # ------------------------------------------------------------------ after it

    def _finish(self) -> None:
        """Reads the same answers after the update, and writes the look."""
        look, self._open = self._open, None
        if look is not None and look.is_played:
            self._write(look)

    def _write(self, look: _Open) -> None:
        answers, clip = look.answers, self._clip()
        start = 0
        for batch, top_ids in look.batches:
            after, _ = self._reader.read(batch, top_ids)
            n_answers = len(batch.input_ids)
            for place in range(start, start + n_answers):
                answers[place] = _with_after(answers[place], after, clip)
                after = after.part(int(answers[place].by_agent.sum()))
            start += n_answers
        done = Look(
            step=look.step,
            end=self.model.num_timesteps,  # now of all processes
            algorithm=type(self.model).__name__,
            answers=tuple(answers),
            vocabulary=self._vocabulary(answers),
            absent=look.absent,
            clip=clip,
            kl_coef=look.kl_coef,
        )
        self._folder.write(done)

    def _vocabulary(self, answers: Sequence[TracedAnswer]) -> dict[int, str]:
        texts = {}
        for answer in answers:
            before = answer.prompt_ids[-1:]
            for token in np.unique(answer.top_ids[answer.top_ids >= 0]).tolist():
                texts[token] = self._texts.of_token(before, token)
        return texts

    def _clip(self) -> tuple[float, float] | None:
        """How far a ratio of a token may fall and rise in the update; None if it is not clipped."""
        model = self.model
        if isinstance(model, PPO):
            clip = float(model.clip_range(model._current_progress_remaining))  # type: ignore[operator]
            return clip, clip
        if isinstance(model, PolicyGradient):
            objective = model.objective
            if objective.loss != "policy_gradient" and objective.ratio == "token":
                return float(model.clip_low), float(model.clip_high)
        return None

    @property
    def _has_critic(self) -> bool:
        return self.model.has_critic if isinstance(self.model, AnswerLearner) else True

    @property
    def _reference(self) -> ReferenceModel | None:
        return getattr(self.model, "reference", None)

    @property
    def _divisor(self) -> float:
        """What the last rollout's rewards were divided by."""
        shaping: Any = getattr(self.model, "shaping", None)
        return 1.0 if shaping is None else float(shaping.divisor)

    @property
    def _unit(self) -> float:
        """The same between two rollouts, from what a checkpoint knows."""
        shaping: Any = getattr(self.model, "shaping", None)
        return shaping.returns.unit(smallest=0.0) if shaping is not None and shaping.scale else 1.0


def _with_after(
    answer: TracedAnswer, after: Reading, clip: tuple[float, float] | None
) -> TracedAnswer:
    """An answer with what the update did to it; `after` begins with its actions."""
    slots = np.flatnonzero(answer.by_agent)
    log_prob = after.log_prob[: len(slots)]
    columns = {"log_prob_after": _spread(log_prob, slots, len(answer.ids))}
    if clip is not None and answer.kind == "rollout":
        ratio = np.exp(log_prob - answer.quantities["log_prob"][slots])
        beyond = (ratio < 1 - clip[0]) | (ratio > 1 + clip[1])
        columns["clipped"] = _spread(beyond.astype(np.float32), slots, len(answer.ids))
    tops = answer.top_log_prob_after.copy()
    tops[slots, : after.top_ids.shape[1]] = after.top_log_prob[: len(slots)]
    quantities = {**answer.quantities, **columns}
    return replace(answer, quantities=quantities, top_log_prob_after=tops)


def _spread(
    column: NDArray[np.floating], slots: NDArray[np.integer], n_tokens: int
) -> NDArray[np.float32]:
    """Values `(A,)` of actions in their places among all tokens, `(n,)`; else NaN."""
    everywhere = np.full(n_tokens, np.nan, dtype=np.float32)
    everywhere[slots] = column
    return everywhere


def _parts(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Where each of some parts begins and ends, one after the other."""
    ends = np.cumsum(lengths).tolist()
    return [(end - length, end) for end, length in zip(ends, lengths, strict=True)]
