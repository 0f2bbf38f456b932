"""Several models at one table: they answer the same prompts while somebody looks on."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any

from llm_gym.feedback.labelling.questions import ConflictError, UnknownQuestionError
from llm_gym.files.untrusted import pieces
from llm_gym.stages.chat import Answer, Conversation
from llm_gym.stages.scored import scores_so_far

if TYPE_CHECKING:
    from llm_gym.scorers.protocol import Scorer

_DIGITS = 5


class Turn:
    """A prompt, and what every model makes of it.

    Attributes:
        prompt: What the user said.
        answers: Of each model, as it stands.
        scores: Of each, when all are finished and somebody judges.
        done: Whether all are finished.
        stopped: Whether that was before their ends.
        error: What a model could not do; "" if nothing.
        version: Grows with every change.
    """

    def __init__(self, prompt: str, models: int) -> None:
        self.prompt = prompt
        self.answers = [Answer.empty()] * models
        self.scores: list[float | None] = [None] * models
        self.done = self.stopped = False
        self.error = ""
        self.version = 0


class Table:
    """Lets models answer in a thread of its own, a token of each in turn.

    Args:
        talks: The models.
        scorer: Judges answers; None if nobody does.
        scorer_name: What it was called by.
    """

    def __init__(
        self, talks: Sequence[Conversation], scorer: Scorer | None = None, scorer_name: str = ""
    ) -> None:
        self._talks, self._scorer, self._scorer_name = list(talks), scorer, scorer_name
        self._turns: list[Turn] = []
        self._changed = Condition()
        self._thread: Thread | None = None
        self._stop = False
        self._begun = 0  # conversations; a page that was left open shows another one

    def overview(self) -> dict[str, Any]:
        """Who is at the table, and what was said."""
        with self._changed:
            return {
                "models": [
                    {
                        "name": pieces(talk.name),
                        "format": pieces(str(talk.prompt_format)),
                        "critic": talk.has_critic,
                    }
                    for talk in self._talks
                ],
                "scorer": self._scorer_name,
                "highest": None if self._scorer is None else self._scorer.highest,
                "begun": self._begun,
                "turns": [self._shown(turn) for turn in self._turns],
            }

    def say(self, prompt: str) -> int:
        """Has every model answer.

        Args:
            prompt: What the user says.

        Returns:
            The number of the turn.

        Raises:
            ConflictError: They are still at the last one.
            ValueError: Nothing was said, or see `Conversation.answer`.
        """
        if not prompt.strip():
            raise ValueError("Nothing was said: write a prompt.")
        with self._changed:
            if self._turns and not self._turns[-1].done:
                raise ConflictError("The models are still answering; stop them first.")
            streams = {n: talk.write(prompt) for n, talk in enumerate(self._talks)}
            turn = Turn(prompt, len(self._talks))
            self._turns.append(turn)
            self._stop = False
            self._thread = Thread(
                target=self._answer, args=(turn, streams), daemon=True, name="chat"
            )
            self._thread.start()
            return len(self._turns) - 1

    def turn(self, number: int, seen: int, patience: float) -> dict[str, Any]:
        """A turn, as soon as it differs from what was seen of it.

        Args:
            number: Of the turn.
            seen: Its `version` when it was last looked at; -1 for never.
            patience: Seconds to wait for a change.
        """
        with self._changed:
            turn = self._turn(number)
            self._changed.wait_for(lambda: turn.version != seen or turn.done, patience)
            return self._shown(turn)

    def stop(self) -> None:
        """Ends the answers where they are; the halves stay, and are remembered."""
        with self._changed:
            self._stop = True
            thread = self._thread
        if thread is not None:
            thread.join()

    def reset(self) -> None:
        """Forgets what was said."""
        self.stop()
        with self._changed:
            for talk in self._talks:
                talk.reset()
            self._turns = []
            self._begun += 1

    def scores(self, number: int, model: int) -> list[float | None]:
        """What the scorer would say if an answer ended at each of its tokens.

        Args:
            number: Of the turn.
            model: Place of the model.

        Raises:
            ValueError: Nobody judges, or there is no such answer.
        """
        with self._changed:
            turn = self._turn(number)
            if not 0 <= model < len(turn.answers):
                raise UnknownQuestionError(f"There is no model {model} at the table.")
            answer, prompt = turn.answers[model], turn.prompt
        if self._scorer is None:
            raise ValueError("Nobody judges here: give the command --scorer NAME.")
        return [_number(score) for score in scores_so_far(self._scorer, prompt, answer.beginnings)]

    def _turn(self, number: int) -> Turn:
        if not 0 <= number < len(self._turns):
            raise UnknownQuestionError("That was said in a conversation that has been forgotten.")
        return self._turns[number]

    def _answer(self, turn: Turn, streams: dict[int, Any]) -> None:
        left = dict(streams)
        try:
            while left and not self._stop:
                for number, stream in list(left.items()):
                    answer = next(stream, None)
                    if answer is None:
                        del left[number]
                        continue
                    with self._changed:
                        turn.answers[number] = answer
                        turn.version += 1
                        self._changed.notify_all()
            self._judge(turn)
        except Exception as error:  # said on the page: there is nobody else to tell
            turn.error = f"{type(error).__name__}: {error}"
        finally:
            for stream in streams.values():
                stream.close()
            with self._changed:
                turn.done, turn.stopped = True, bool(left)
                turn.version += 1
                self._changed.notify_all()

    def _judge(self, turn: Turn) -> None:
        if self._scorer is not None and turn.answers:
            texts = [answer.text for answer in turn.answers]
            values = self._scorer.score([turn.prompt] * len(texts), texts).values
            turn.scores = [_number(float(score)) for score in values]

    def _shown(self, turn: Turn) -> dict[str, Any]:
        return {
            "prompt": pieces(turn.prompt),
            "answers": [
                {**_shown(answer, talk), "score": score}
                for answer, score, talk in zip(turn.answers, turn.scores, self._talks, strict=True)
            ],
            "done": turn.done,
            "stopped": turn.stopped,
            "error": turn.error,
            "version": turn.version,
        }


def _shown(answer: Answer, talk: Conversation) -> dict[str, Any]:
    """An answer as the page shows those of a watched run: pieces of text, columns of numbers."""
    tokens = answer.tokens
    columns: dict[str, list[Any]] = {
        "prob": [_number(token.prob) for token in tokens],
        "entropy": [_number(token.entropy) for token in tokens],
    }
    if talk.has_critic:
        columns["value"] = [_number(token.value) for token in tokens]
    return {
        "tokens": [pieces(text) for text in answer.texts],
        "ids": [token.id for token in tokens],
        "by_agent": [True] * len(tokens),
        "quantities": columns,
        "top": [
            [[pieces(talk.token_text(other)), other, _number(prob)] for other, prob in token.top]
            for token in tokens
        ],
    }


def _number(x: float | None) -> float | None:
    """As JSON has it, to so many digits; None where it is none."""
    if x is None or x != x or x in (float("inf"), float("-inf")):
        return None
    return float(f"{x:.{_DIGITS}g}")
