"""What answers share is read once: the same hidden states, log-probabilities and gradients."""

from __future__ import annotations

import random
import warnings
from itertools import pairwise, product

import numpy as np
import pytest
import torch

from benchmarks.architectures.tiny import tiny_model as any_tiny_model
from llm_gym.language_models.architecture import decoder_of
from llm_gym.language_models.packing import pack
from llm_gym.learning.kl import ReferenceModel
from llm_gym.policy import EpisodeBatch
from llm_gym.policy.attention import explicit_masks
from llm_gym.policy.shared_rows import _group, share
from llm_gym.policy.trunk import Trunk
from llm_gym.testing.tiny import tiny_model

SHARED = ["gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen3"]
IN_FLOAT64 = {  # others round to float32 in norms or in the softmax
    ("gpt2", "eager"),
    *[(name, "sdpa") for name in ("gpt2", "gpt_neox", "llama", "opt")],
}
READ_WHOLE = {  # each for another reason
    "bloom": "take no position_ids",  # columns counted
    "gpt_neo": "differ by",  # a local window cut inside the layer
    "bamba": "differ by",  # a recurrent state
}


def text(rng: random.Random, n_tokens: int) -> list[int]:
    return [rng.randrange(32) for _ in range(n_tokens)]


def groups(sizes=(4, 3, 1), prompts=(12, 9, 7), longest=6, seed=0) -> EpisodeBatch:
    """Groups of answers of different lengths, rows in any order, one answer given twice."""
    rng = random.Random(seed)
    rows, starts = [], []
    for size, length in zip(sizes, prompts, strict=True):
        prompt = text(rng, length)
        for _ in range(size):
            rows.append(prompt + text(rng, rng.randint(1, longest)))
            starts.append(length)
    rows.append(rows[0])
    starts.append(starts[0])
    order = rng.sample(range(len(rows)), len(rows))
    return EpisodeBatch.of(pack([rows[i] for i in order], [starts[i] for i in order]))


def counted(trunk: Trunk) -> list[int]:
    """Tokens of each pass from now on."""
    passes: list[int] = []
    trunk.decoder.register_forward_pre_hook(
        lambda _, __, kwargs: passes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    return passes


def hidden_and_gradients(trunk: Trunk, batch: EpisodeBatch):
    trunk.decoder.zero_grad()
    hidden = trunk.of_episodes(batch)
    (hidden * torch.linspace(-1, 1, hidden.numel()).reshape(hidden.shape)).sum().backward()
    grads = {n: p.grad.clone() for n, p in trunk.decoder.named_parameters() if p.grad is not None}
    return hidden.detach(), grads


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / (1 + other.abs().max()))


def trunks(model) -> tuple[Trunk, Trunk]:
    decoder = decoder_of(model)
    return Trunk(decoder, shared_prompts=True), Trunk(decoder, shared_prompts=False)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("architecture", SHARED)
@pytest.mark.usefixtures("norms_as_wide_as_the_model")
def test_hidden_states_and_gradients_are_those_of_the_plain_pass(architecture, attention):
    if (architecture, attention) == ("gemma2", "sdpa"):
        pytest.skip("transformers has Gemma 2 with its own attention alone")
    model = tiny_model(architecture, attn_implementation=attention)
    batch = groups()
    for dtype, tolerated in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        if dtype == torch.float64 and (architecture, attention) not in IN_FLOAT64:
            continue
        shared, plain = trunks(model.to(dtype))
        expected, gradients = hidden_and_gradients(plain, batch)
        passes = counted(shared)
        hidden, found = hidden_and_gradients(shared, batch)
        assert passes[-1] < batch.context.numel() * 0.7
        assert apart(hidden, expected) < tolerated
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert apart(found[name], gradient) < tolerated, name


def test_activation_checkpointing_reads_the_same():
    model = tiny_model("llama")
    shared, plain = trunks(model)
    expected, gradients = hidden_and_gradients(plain, groups())
    shared.of_episodes(groups())  # asked
    model.gradient_checkpointing_enable()
    passes = counted(shared)
    hidden, found = hidden_and_gradients(shared, groups())
    assert passes[0] < groups().context.numel() * 0.7
    assert apart(hidden, expected) < 1e-5
    assert all(apart(found[name], gradients[name]) < 1e-5 for name in gradients)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_bfloat16_products_differ_by_their_rounding(architecture):
    shared, plain = trunks(tiny_model(architecture))
    exact = plain.of_episodes(groups()).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, _ = hidden_and_gradients(plain, groups())
        hidden, _ = hidden_and_gradients(shared, groups())
    rounding = apart(expected, exact)
    assert 1e-4 < rounding < 0.05
    assert apart(hidden, exact) < 2 * rounding
    assert {way for _, way in shared._sharing._crossed} == {"eager", "sdpa"}


# ------------------------------------------------------------------ the layout


def packed(rows, starts, **kwargs):
    return share(EpisodeBatch.of(pack(rows, starts)), 0, always=True, **kwargs)


def test_a_group_is_one_row_whose_answers_see_the_prompt_and_themselves():
    found = packed([[7, 8, 1, 2, 9], [7, 8, 3, 9], [7, 8, 4, 9]], [2, 2, 2])
    assert found.input_ids.tolist() == [[7, 8, 1, 2, 3, 4]]  # nothing is chosen behind a last token
    assert found.position_ids.tolist() == [[0, 1, 2, 3, 2, 2]]
    assert found.owners.tolist() == [[0, 0, 1, 1, 2, 3]]
    assert found.rows.tolist() == [0] * 7
    assert found.slots.tolist() == [1, 2, 3, 1, 4, 1, 5]
    assert found.visible[0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_what_an_episode_said_before_it_was_cut_is_shared_as_far_as_it_is_alike():
    """The rollout before had [5] of one answer and [6, 6] of the other."""
    found = packed([[7, 8, 5, 1, 9], [7, 8, 6, 6, 1, 9], [3, 9]], [3, 4, 1])
    assert found.input_ids.tolist() == [[3, 0, 0, 0, 0, 0, 0], [7, 8, 5, 1, 6, 6, 1]]
    assert found.position_ids[1].tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert found.slots.tolist() == [2, 3, 5, 6, 0]


def test_equal_answers_are_read_once():
    found = packed([[7, 8, 9]] * 3, [1] * 3)
    assert found.input_ids.tolist() == [[7, 8]]
    assert found.slots.tolist() == [0, 1] * 3
    among = packed([[7, 8, 9], [5, 5, 5, 5, 9], [7, 8, 9]], [1] * 3)
    assert among.input_ids.tolist() == [[5, 5, 5, 5], [7, 8, 0, 0]]
    assert among.owners.tolist() == [[0, 0, 0, 0], [0, 0, -1, -1]]


def test_a_beginning_of_all_prompts_does_not_join_the_groups():
    system = [1] * 4
    rows = [[*system, *prompt, answer, 0] for prompt in ([2] * 6, [3] * 6) for answer in range(4)]
    found = packed(rows, [10] * 8)
    assert found.owners.tolist() == [[0] * 10 + [1, 2, 3, 4]] * 2


def saved_by(common, firsts) -> int:
    ranges = pairwise([*firsts, len(common) + 1])
    return sum(
        (stop - first - 1) * min(common[first : stop - 1], default=0) for first, stop in ranges
    )


def test_groups_are_parted_so_that_most_is_saved():
    rng = np.random.default_rng(0)
    for _ in range(100):
        common = rng.integers(0, 6, rng.integers(1, 8)).tolist()
        cuts = product([False, True], repeat=len(common))
        every = [[0, *[i for i, is_cut in enumerate(cut, start=1) if is_cut]] for cut in cuts]
        firsts = _group(np.array(common))
        assert saved_by(common, firsts) == max(saved_by(common, other) for other in every)
    assert _group(np.array([0, 3, 0])) == [0, 1, 3]


def test_long_rows_are_cut_where_attention_would_cost_more_than_the_prompt():
    rng = random.Random(0)
    rows = [[1] * 20 + text(rng, 60) for _ in range(16)]
    batch = EpisodeBatch.of(pack(rows, [20] * 16))
    narrow, wide = share(batch, 1024), share(batch, 32768)
    assert len(wide.input_ids) == 1
    assert 1 < len(narrow.input_ids) < 16
    assert share(batch, 4096, longest=300).input_ids.shape[1] <= 300
    assert share(batch, 4096, longest=79) is None


def test_packed_rows_are_never_cut_and_shared_where_tokens_are_saved():
    rng = random.Random(0)
    rows = [[1] * 20 + text(rng, 61) for _ in range(16)]
    batch = EpisodeBatch.of(pack(rows, [20] * 16))
    found = share(batch, 1, longest=79, packed=True)
    assert found.spans == [[20] + [60] * 16]
    for beginning, is_shared in ((12, True), (11, False)):  # of 60 tokens of each of two
        rows = [[1] * beginning + text(rng, 61 - beginning) for _ in range(2)]
        rows[1][beginning] = (rows[0][beginning] + 1) % 32
        batch = EpisodeBatch.of(pack(rows, [beginning] * 2))
        assert (share(batch, 1, packed=True) is not None) == is_shared
        assert share(batch, 1, packed=True, always=True) is not None


def test_rows_with_nothing_in_common_are_left_alone():
    rng = random.Random(0)
    rows = [[i, *text(rng, 8)] for i in range(8)]
    assert share(EpisodeBatch.of(pack(rows, [5] * 8)), 64) is None
    assert share(EpisodeBatch.of(pack(rows[:1], [5])), 64) is None


# ------------------------------------------------------------------ the question


@pytest.mark.parametrize("name", READ_WHOLE)
def test_where_sharing_is_wrong_rows_are_read_whole_and_it_is_said_once(name):
    decoder = decoder_of(any_tiny_model(name))
    trunk, plain = Trunk(decoder), Trunk(decoder, shared_prompts=False)
    with pytest.warns(UserWarning, match=f"prompts cannot be shared.*{READ_WHOLE[name]}"):
        hidden = trunk.of_episodes(groups())
    assert torch.equal(hidden, plain.of_episodes(groups()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trunk.of_episodes(groups())
    with pytest.raises(ValueError, match='pass shared_prompts="auto" or False'):
        Trunk(decoder, shared_prompts=True).of_episodes(groups())


def test_nothing_is_asked_where_nothing_is_shared():
    trunk = Trunk(decoder_of(any_tiny_model("bloom")), shared_prompts=True)
    rows = [[1, 2, 3, 4], [2, 2, 3, 4]]
    assert len(trunk.of_episodes(EpisodeBatch.of(pack(rows, [2, 2])))) == 4


def columns_for_positions(full):
    return lambda trunk, ids, positions=None, visible=None, asked=None: full(
        trunk, ids, torch.arange(ids.shape[1]).expand_as(ids), visible
    )


def all_before(full):
    def every(trunk, ids, positions=None, visible=None):
        return full(trunk, ids, positions, torch.ones_like(visible).tril())

    return lambda trunk, ids, *rest, **_: every(trunk, ids, *rest) if rest else full(trunk, ids)


def windows_by_column(_):
    def explicit(trunk, allowed, back):
        columns = torch.arange(allowed.shape[-1])
        return explicit_masks(trunk.config, torch.float32, allowed, columns[:, None] - columns)

    return explicit


@pytest.mark.parametrize(
    ("method", "fault", "name"),
    [
        ("full", columns_for_positions, "gpt2"),
        ("full", columns_for_positions, "llama"),
        ("full", all_before, "gpt2"),
        ("full", all_before, "llama"),
        ("_explicit", windows_by_column, "mistral"),
        ("_explicit", windows_by_column, "gemma2"),
    ],
)
def test_positions_masks_and_windows_are_asked_about(monkeypatch, method, fault, name):
    monkeypatch.setattr(Trunk, method, fault(getattr(Trunk, method)))
    trunk, _ = trunks(tiny_model(name, attn_implementation="eager"))  # by masks
    with pytest.raises(ValueError, match=f"'{name}': hidden states differ by"):
        trunk.of_episodes(groups())


def test_a_window_is_crossed_when_a_row_first_outgrows_it():
    trunk, _ = trunks(any_tiny_model("gpt_neo", window_size=40))
    trunk.of_episodes(groups((4,), (12,)))
    assert trunk._sharing.passed
    with pytest.raises(ValueError, match="differ by"):
        trunk.of_episodes(groups((9,), (30,)))


def test_the_question_draws_nothing_and_is_asked_once():
    trunk, _ = trunks(tiny_model("llama"))
    state, passes = torch.get_rng_state(), counted(trunk)
    trunk.of_episodes(groups())
    assert torch.equal(state, torch.get_rng_state())
    asked = len(passes)
    trunk.of_episodes(groups(seed=1))
    assert len(passes) == asked + 1


def test_a_context_that_one_row_would_outgrow_is_kept_to():
    model = tiny_model("gpt2", n_positions=40)
    shared, plain = trunks(model)
    batch = groups((12,), (30,))
    assert apart(shared.of_episodes(batch), plain.of_episodes(batch)) < 1e-5


def test_the_question_keeps_to_the_context_too(monkeypatch):
    monkeypatch.setattr("llm_gym.policy.shared_prompts.windows", lambda config: [36])
    shared, plain = trunks(tiny_model("gpt2", n_positions=40, attn_implementation="eager"))
    rng = random.Random(0)
    prompt = text(rng, 30)
    rows = [prompt + text(rng, 5) for _ in range(2)]
    batch = EpisodeBatch.of(pack(rows, [30, 30]))
    assert shared._sharing.rows_of(batch, shared)[0].input_ids.shape[1] > 36
    assert apart(shared.of_episodes(batch), plain.of_episodes(batch)) < 1e-5


def test_a_context_without_room_for_the_question_is_not_asked():
    shared, plain = trunks(tiny_model("gpt2", n_positions=8, attn_implementation="eager"))
    batch = EpisodeBatch.of(pack([[1, 2, 3, 4, 5, 6, n, 0] for n in range(4)], [6] * 4))
    assert apart(shared.of_episodes(batch), plain.of_episodes(batch)) < 1e-5


def test_the_question_is_asked_in_float32():
    shared, _ = trunks(tiny_model("llama"))
    rounded = []
    shared.decoder.register_forward_pre_hook(
        lambda *_: rounded.append(torch.is_autocast_enabled("cpu"))
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shared.of_episodes(groups())
    assert rounded == [False] * (len(rounded) - 1) + [True]
    assert len(rounded) > 1


# ------------------------------------------------------------------ who uses it


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_policy_and_reference_share_prompts(make_policy, architecture):
    plain = make_policy(architecture, shared_prompts=False, separate_critic=True)
    policy = make_policy(architecture, separate_critic=True)
    reference = ReferenceModel.of(policy)
    batch = groups()
    expected = plain.evaluate_actions(batch, batch.actions)
    passes = [counted(t) for t in (policy.actor_trunk, policy.critic_trunk, reference._trunk)]
    found = policy.evaluate_actions(batch, batch.actions)
    for one, other in zip(found, expected, strict=True):
        assert apart(one, other) < 1e-5
    assert apart(reference.log_probs(batch), expected[1]) < 1e-5
    assert all(tokens[-1] < batch.context.numel() * 0.7 for tokens in passes)
    assert ReferenceModel.of(plain)._trunk._sharing.passed is False


def test_the_option_is_saved_with_the_policy_and_checked(make_policy):
    policy = make_policy(shared_prompts=False)
    assert policy._get_constructor_parameters()["shared_prompts"] is False
    with pytest.raises(
        ValueError, match=r"shared_prompts='yes' must be one of 'auto', True, False"
    ):
        make_policy(shared_prompts="yes")
