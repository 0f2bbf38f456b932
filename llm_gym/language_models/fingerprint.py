"""What tells the base of an adapter from other models of the same shapes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from llm_gym.language_models.architecture import decoder_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NUMBERS = 64  # of each parameter: enough to tell models apart, and nothing to compute

# Of an adapter, or new and random where a classifier is made of a model: a pooler, and what stands
# behind a module that is trained whole.
_NOT_THE_BASES = ("lora_", ".modules_to_save.", ".original_module.", "pooler.")


def fingerprint_of_base(model: PreTrainedModel) -> str | None:
    """A hash of the first numbers of every parameter below an adapter, rounded to bfloat16.

    So it is the same for the base in float32, in bfloat16 and in float64, and with embeddings of
    further tokens.

    Args:
        model: With or without an adapter in it; heads above the transformer do not count.

    Returns:
        The hash; None where a weight is in float16, whose rounding another type does not share.
    """
    import torch

    base = {}
    for name, parameter in decoder_of(model).named_parameters():
        if parameter.dtype == torch.float16:
            return None
        if not any(part in name for part in _NOT_THE_BASES):
            plain = name.replace(".base_layer.", ".")
            base[plain] = parameter.detach().flatten()[:_NUMBERS].to("cpu", torch.bfloat16)
    digest = hashlib.sha256()
    for plain, numbers in sorted(base.items(), key=lambda item: item[0]):
        digest.update(plain.encode() + numbers.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
