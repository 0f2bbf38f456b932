"""Passes of a trunk: over many rows, and with the attention that is right where they run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from llm_gym.language_models.architecture import decoder_of
from llm_gym.policy.trunk import Trunk
from llm_gym.testing.tiny import tiny_model
from tests.policy.test_shared_prompts import counted

N_ROWS = 300  # more than the small whole numbers of which CPython has one object each


@torch.no_grad()
def test_each_of_many_rows_goes_on_from_its_own_keys():
    trunk = Trunk(decoder_of(tiny_model()))
    ids = torch.cartesian_prod(torch.arange(32), torch.arange(32)).flip(0)[:N_ROWS]
    ids = torch.cat([ids, torch.arange(N_ROWS)[:, None] % 7], dim=1)  # none twice, not in order
    read = counted(trunk)
    for length in (2, 3):
        lengths = torch.full((N_ROWS,), length)
        found = trunk.last_hidden(ids, lengths, keep_others=True)
        expected = trunk.full(ids[:, :length])[:, -1]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert read == [2 * N_ROWS, 2 * N_ROWS, N_ROWS, 3 * N_ROWS]


def test_options_of_passes_are_given_by_name():
    decoder = decoder_of(tiny_model())
    with pytest.raises(TypeError, match="positional"):
        Trunk(decoder, False)
    ids, lengths = torch.tensor([[3, 4]]), torch.tensor([2])
    with pytest.raises(TypeError, match="positional"):
        Trunk(decoder).last_hidden(ids, lengths, True)
    assert not Trunk(decoder=decoder, use_cache=False).use_cache
    assert Trunk(decoder).last_hidden(input_ids=ids, lengths=lengths).shape == (1, 32)


@pytest.mark.parametrize(
    ("device", "autocast", "attention"),
    [("cpu", True, "eager"), ("cpu", False, "sdpa"), ("meta", True, "sdpa")],
)
@torch.no_grad()
def test_attention_is_spelled_out_where_the_fused_one_is_slow(device, autocast, attention):
    """In low precision on a CPU."""
    trunk = Trunk(decoder_of(tiny_model()))
    seen = []

    def forward(**kwargs):
        seen.append(trunk.config._attn_implementation)
        return SimpleNamespace(last_hidden_state=None)

    trunk.decoder.forward = forward
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        trunk.full(torch.zeros(1, 3, dtype=torch.int64, device=device))
    assert seen == [attention]
