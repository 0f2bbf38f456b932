"""Decides where what answers share is read once: where that pays, and the architecture can."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING

import torch

from llm_gym.language_models.architecture import context_length
from llm_gym.language_models.packing import pack
from llm_gym.policy.attention import attention_by
from llm_gym.policy.buckets import price_of_a_pass
from llm_gym.policy.sampling import EpisodeBatch, tolerance
from llm_gym.policy.shared_rows import SharedRows, share
from llm_gym.policy.windows import windows

if TYPE_CHECKING:
    from llm_gym.policy.trunk import Trunk

_ROOM = 16  # tokens that a row of the question needs


class SharedPrompts:
    """Lays out batches for a trunk so that shared beginnings are read once, where that is right.

    An architecture has to take positions and masks as they are given: ALiBi counts columns,
    recurrent layers and windows cut inside a layer know no masks. As no list of names can be
    complete, the model is asked when sharing would first pay: a small batch is read in both ways,
    beyond every window of its configuration that a row outgrows. On another device, and for another
    way of computing attention, it is asked again.

    Args:
        shared_prompts: `"auto"` reads every row whole where sharing is wrong, and says so; true
            raises there; false never shares.

    Attributes:
        passed: Whether anything is shared.
    """

    def __init__(self, shared_prompts: bool | str) -> None:
        self.shared_prompts = shared_prompts
        self.passed = shared_prompts is not False
        self._crossed: dict[tuple[torch.device, str], int] = {}

    def rows_of(self, batch: EpisodeBatch, trunk: Trunk) -> tuple[SharedRows | None, bool]:
        """The batch with shared beginnings, and whether it is to be read packed.

        Returns:
            The rows, `None` where a plain pass is right or no dearer; and whether they are to be
            read packed, which asks nothing further: it is right where rows are packed at all.

        Raises:
            ValueError: If what is shared is read wrongly and `shared_prompts` is true.
        """
        longest = context_length(trunk.config)
        if not self.passed or (longest is not None and longest < _ROOM):
            return None, False
        # Attention of each answer on its own keeps the shared keys and values with each.
        if trunk.packing.suits(batch, trunk) and not trunk.spares_memory:
            shared = share(batch, _width(trunk), packed=True)
            if shared is None or trunk.packing.may_read(batch, trunk):
                return shared, True
        shared = share(batch, _width(trunk), longest, price=price_of_a_pass(batch.input_ids.device))
        if shared is None:
            return None, False
        device, length = batch.input_ids.device, shared.input_ids.shape[1]
        outgrown = max((w for w in windows(trunk.config) if w < length), default=1)
        ways = {trunk.config._attn_implementation}
        if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            ways.add("eager")  # as `Trunk.full` has it
        for way in ways:
            if self.passed and self._crossed.get((device, way), 0) < outgrown:
                self._crossed[device, way] = outgrown
                with attention_by(trunk.config, way):
                    trouble = _trouble(trunk, _question(trunk, outgrown, longest, device))
                if trouble:
                    self._give_up(trunk.config.model_type, trouble)
        return shared if self.passed else None, False

    def _give_up(self, name: str, trouble: str) -> None:
        self.passed = False
        complaint = f"prompts cannot be shared in models of type {name!r}: {trouble}"
        if self.shared_prompts is True:
            raise ValueError(
                f'{complaint}; pass shared_prompts="auto" or False to read the prompt with every '
                "answer"
            )
        warnings.warn(
            f"{complaint}; the prompt is read with every answer instead, which is right but slower "
            "(shared_prompts=False does the same without this message)",
            stacklevel=2,
        )


def _width(trunk: Trunk) -> int:
    # Where a configuration does not say, attention counts alone, and less is shared.
    return getattr(trunk.config, "hidden_size", 0)


def _question(trunk: Trunk, window: int, longest: int | None, device: torch.device) -> EpisodeBatch:
    """Two groups of answers, of different lengths, to prompts beyond a window and short of it."""
    rng = random.Random(0)  # noqa: S311

    def text(n_tokens: int) -> list[int]:
        return [rng.randrange(trunk.config.vocab_size) for _ in range(n_tokens)]

    room = window + 2 if longest is None else min(window + 2, longest - _ROOM // 2)
    prompts = [text(room)] * 3 + [text(2)] * 2
    answers = [text(n_tokens) for n_tokens in (3, 1, 5, 2, 4)]
    rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    return EpisodeBatch.of(pack(rows, [len(prompt) for prompt in prompts], device=device))


@torch.no_grad()
def _trouble(trunk: Trunk, batch: EpisodeBatch) -> str:
    """What is wrong with sharing, if anything, in float32."""
    if not trunk.takes_positions:
        return "they take no position_ids"
    shared = share(batch, _width(trunk), always=True)
    assert shared is not None
    with torch.autocast(batch.input_ids.device.type, enabled=False):
        plain = trunk.full(batch.context)[batch.action_rows, batch.action_slots - 1]  # (A, H)
        try:
            hidden = trunk.full(shared.input_ids, shared.position_ids, shared.visible)
        except Exception as error:  # whatever an architecture raises that wants other masks
            return f"reading them raises {type(error).__name__}: {error}"
    apart = float((hidden[shared.rows, shared.slots] - plain).abs().max())
    tolerated = tolerance(plain, plain.dtype)
    if apart <= tolerated:
        return ""
    return (
        f"hidden states differ by {apart:.1e} from those of a plain pass (tolerance "
        f"{tolerated:.0e})"
    )
