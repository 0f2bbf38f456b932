"""Stand-ins for models: a test chooses their words and numbers, and when they go on."""

from __future__ import annotations

from threading import Semaphore

from llm_gym.stages.chat import Answer, WrittenToken


class Speaker:
    """Writes words of its own.

    Args:
        name: As it is shown.
        words: What it writes, a token each; the same to every prompt.
        values: What its critic says before each; None is no critic.
        waits: Whether it writes a token only when `go` is released.
    """

    def __init__(self, name, words, values=None, *, waits=False):
        self.name, self.words, self.values = name, words, values
        self.prompt_format = "'{prompt}'"
        self.has_critic = values is not None
        self.asked, self.resets, self.closed = [], 0, 0
        self.go = Semaphore(0) if waits else None

    def write(self, prompt):
        if prompt == "too long":
            raise ValueError("the prompt has 80 tokens, and it reads at most 64")
        self.asked.append(prompt)
        self.stream = self._write()  # held here: it ends when it is closed, not when it is let go
        return self.stream

    def _write(self):
        tokens, texts, beginnings = (), (), ()
        try:
            for place, word in enumerate(self.words):
                if self.go is not None:
                    self.go.acquire()
                value = None if self.values is None else self.values[place]
                prob = (place + 1) / (len(self.words) + 1)
                tokens += (WrittenToken(place, prob, 0.5, value, ((place, prob), (99, 0.01))),)
                texts += (word,)
                beginnings += ("".join(texts),)
                yield Answer(beginnings[-1], tokens, texts, beginnings)
        finally:
            self.closed += 1

    def token_text(self, token):
        return self.words[token] if token < len(self.words) else " other"

    def reset(self):
        self.resets += 1
