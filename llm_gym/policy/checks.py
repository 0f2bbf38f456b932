"""Asks a model whether decoding from a cache says what a plain pass says, before it is trusted.

Architectures differ in what a key/value cache with rows of different lengths must hold and know:
windows cut inside a layer, positions counted from the cache's length, recurrent states. No list of
names can be complete, so the model is asked: a few rows are decoded as rollouts decode them, and
every distribution is compared with that of one plain pass.
"""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from typing import TypeAlias

import torch

from llm_gym.language_models.packing import pad
from llm_gym.policy.sampling import tolerance
from llm_gym.policy.trunk import Lock, Trunk
from llm_gym.policy.windows import windows

Row: TypeAlias = tuple[int, ...]
Rows: TypeAlias = list[Row]

_MULTIPLICATIONS = 5e9  # spent at construction to get beyond a window: a fraction of a second


class CacheCheck:
    """Decides whether a policy's trunks may use their prefix cache.

    Asked at construction with short rows. A window that the configuration names, and that
    observations can outgrow, is crossed at once where that is cheap, else when the first row gets
    so far. On another device everything is asked again.

    Attributes:
        passed: Whether the cache is used.

    Args:
        name: The architecture, for messages.
        trunk: A trunk of the policy.
        head: Hidden states `(..., H)` to logits `(..., V)`.
        capacity: Most tokens of an observation.
        prefix_cache: `"auto"` recomputes prefixes where the cache is wrong, and says so; true
            raises there; false never uses it.
        device: Where the trunk is; a decoder without parameters cannot say it.

    Raises:
        ValueError: If what the model says about a row depends on what stands behind or beside it;
            if the cache is wrong and `prefix_cache` is true.
    """

    def __init__(
        self,
        name: str,
        trunk: Trunk,
        head: Callable[[torch.Tensor], torch.Tensor],
        capacity: int,
        prefix_cache: bool | str,
        device: torch.device,
    ) -> None:
        self.name, self.prefix_cache = name, prefix_cache
        self.passed = prefix_cache is not False
        self._trunk, self._head, self._capacity = trunk, head, capacity
        self._lock = Lock()
        size = sum(parameter.numel() for parameter in trunk.decoder.parameters())
        self._ask(device, reach=max(16, int(_MULTIPLICATIONS / (5 * max(size, 1)))))

    def before(self, lengths: torch.Tensor) -> bool:
        """Whether the cache may read rows of these lengths, int64 `(N,)`; asks where it is due."""
        with self._lock:  # nobody decodes while it is being asked
            if self.passed and (
                lengths.device != self._device
                or (self._next_window is not None and int(lengths.max()) > self._next_window)
            ):
                self._ask(lengths.device, reach=self._capacity)
            return self.passed

    def _ask(self, device: torch.device, reach: int) -> None:
        self._device = device
        ahead = [w for w in windows(self._trunk.config) if w < self._capacity]
        crossed = [w for w in ahead if w <= reach]
        self._next_window = min((w for w in ahead if w > reach), default=None)
        vocabulary = self._trunk.config.vocab_size
        steps = _play(vocabulary, max(crossed, default=2), self._capacity)
        with torch.no_grad():
            hidden = self._trunk.full(pad(steps[-1], device=device))  # (N, S, H)
            trouble = self._trouble_in_decoding(steps, hidden) if self.passed else ""
            if trouble or not self.passed:  # decoding sees no token ahead, so it settles this too
                self._refuse_if_ahead_counts(steps[-1][1], hidden[1], min(crossed, default=None))
        if trouble:
            self._give_up(trouble)

    def _refuse_if_ahead_counts(self, row: Row, hidden: torch.Tensor, window: int | None) -> None:
        """Compares a row read among others, hidden states float `(S, H)`, with the row alone."""
        alone = self._trunk.full(pad([row], device=self._device))[0]
        apart, tolerated = self._distance(hidden[: len(row)], alone)
        if apart <= tolerated:
            return
        hint = f"; observations of fewer than {window} tokens may do" if window else ""
        raise ValueError(
            f"what a model of type {self.name!r} says about a row depends on the tokens behind "
            f"it or on the rows beside it: log-probabilities differ by {apart:.1e} nats from "
            f"those of the row alone (tolerance {tolerated:.0e}); a policy has to say the same "
            f"in rollouts and in updates, so this model is not supported{hint}"
        )

    def _trouble_in_decoding(self, steps: list[Rows], hidden: torch.Tensor) -> str:
        """What is wrong with decoding, if anything, beside plain hidden states `(N, S, H)`."""
        probe = copy.copy(self._trunk)
        probe.use_cache = True
        probe.forget()
        # Rows that start anew later are not in the plain pass: the others' steps are compared.
        kept = [
            [i for i, row in enumerate(rows) if steps[-1][i][: len(row)] == row] for rows in steps
        ]
        try:
            found = [self._decode(probe, rows)[k] for rows, k in zip(steps, kept, strict=True)]
        except Exception as error:  # whatever an architecture raises that wants another cache
            return f"decoding from it raises {type(error).__name__}: {error}"
        expected = [
            hidden[k, [len(rows[i]) - 1 for i in k]] for rows, k in zip(steps, kept, strict=True)
        ]
        apart, tolerated = self._distance(torch.cat(found), torch.cat(expected))
        if apart <= tolerated:
            return ""
        return (
            f"log-probabilities decoded from it differ by {apart:.1e} nats from those of a "
            f"plain pass (tolerance {tolerated:.0e})"
        )

    def _give_up(self, trouble: str) -> None:
        self.passed = False
        complaint = f"the prefix cache does not fit models of type {self.name!r}: {trouble}"
        if self.prefix_cache is True:
            raise ValueError(
                f'{complaint}; pass prefix_cache="auto" or False to recompute the prefix at every '
                "token"
            )
        warnings.warn(
            f"{complaint}; the prefix is recomputed at every token instead, which is right but "
            "slower (prefix_cache=False does the same without this message)",
            stacklevel=2,
        )

    def _decode(self, probe: Trunk, rows: Rows) -> torch.Tensor:
        lengths = torch.tensor([len(row) for row in rows], device=self._device)
        ids = torch.zeros(len(rows), self._capacity, dtype=torch.int64, device=self._device)
        ids[:, : int(lengths.max())] = pad(rows, device=self._device)
        return probe.last_hidden(ids, lengths)

    def _distance(self, one: torch.Tensor, other: torch.Tensor) -> tuple[float, float]:
        """How far the log-probabilities of two float `(A, H)` are apart, and may be, in nats."""
        logits = self._head(torch.cat([one, other]))  # (2 A, V): weights are read once
        found, expected = logits.log_softmax(-1).chunk(2)
        apart = (found - expected).abs().masked_fill(found == expected, 0)  # -inf equals -inf
        return float(apart.max()), tolerance(logits, one.dtype)


def _play(vocabulary: int, window: int, capacity: int) -> list[Rows]:
    """Three rows as environments show them, one of them growing beyond the window.

    All start alike and grow side by side; two start anew, longer and shorter, while one stays as it
    is; then all grow, each at its own length. No more than that: every step costs a pass. A row
    that has reached the capacity stays as it is.
    """
    rng = random.Random(0)  # noqa: S311

    def more(row: Row = (), n_tokens: int = 1) -> Row:
        n_tokens = min(n_tokens, capacity - len(row))
        return (*row, *(rng.randrange(vocabulary) for _ in range(n_tokens)))

    first = [more((), 2) for _ in range(3)]
    second = [more(row) for row in first]
    third = [more((), max(1, min(window + 2, capacity - 1))), second[1], more()]
    return [first, second, third, [more(row) for row in third]]
