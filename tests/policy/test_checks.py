"""A prefix cache is trusted after it was held against plain passes, whatever the architecture."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import replace
from functools import partial
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaModel

from benchmarks.architectures.run import LENGTH, make_policy, worst_distance
from benchmarks.architectures.tiny import tiny_model
from llm_gym.policy import checks
from llm_gym.policy.checks import CacheCheck
from llm_gym.policy.prefix_cache import _Layer
from llm_gym.policy.trunk import Trunk
from llm_gym.policy.windows import windows
from tests.products import sampled

from .conftest import naive_log_probs, observe

CACHED = ["bert", "bloom", "gemma3", "gpt_oss", "granite", "mistral", "modernbert-decoder", "phi3"]
RECOMPUTED = [  # each for another reason
    "bart",  # positions counted from the cache's length
    "gpt_neo",  # a local window cut inside the layer
    "llama4",  # chunks
    "mamba",  # a recurrent state only
    "nemotron_h",  # one in some layers
    "openai-gpt",  # no cache at all
    "roberta",  # positions counted from tokens
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns the directory of an architecture's tiny model, made once."""
    made: dict[str, str] = {}

    def get(name: str) -> str:
        if name not in made:
            made[name] = str(tmp_path_factory.mktemp("architecture"))
            tiny_model(name).save_pretrained(made[name])
        return made[name]

    return get


def distance(policy, directory):
    return worst_distance(policy, AutoModelForCausalLM.from_pretrained(directory).eval())


@pytest.mark.parametrize("name", sampled(CACHED, "bert", "gpt_oss", "mistral"))
def test_right_caches_are_used_without_a_word(saved, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        policy = make_policy(saved(name))
    assert distance(policy, saved(name)) < 1e-4
    assert policy.actor_trunk.use_cache


@pytest.mark.parametrize("name", sampled(RECOMPUTED, "bart", "gpt_neo", "mamba"))
def test_where_the_cache_is_wrong_prefixes_are_recomputed_and_it_is_said_once(saved, name):
    with pytest.warns(UserWarning, match="prefix cache does not fit"):
        policy = make_policy(saved(name))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert distance(policy, saved(name)) < 1e-4
    assert not policy.actor_trunk.use_cache


def test_the_difference_is_measured_and_an_error_where_the_cache_was_demanded(saved):
    with pytest.raises(ValueError, match=r"'gpt_neo'.*differ by (\S+) nats") as caught:
        make_policy(saved("gpt_neo"), prefix_cache=True)
    assert float(re.search(r"differ by (\S+) nats", str(caught.value)).group(1)) > 0.1
    assert make_policy(saved("bloom"), prefix_cache=True).actor_trunk.use_cache


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ([[0.0, 0.0]], [[0.0, math.log(3.0)]], math.log(2.0)),  # halves; a quarter and the rest
        ([[0.0, 1.0], [2.0, 0.0]], [[5.0, 6.0], [-1.0, -3.0]], 0.0),  # a constant says nothing
        ([[0.0, -math.inf, 0.0]], [[1.0, -math.inf, 1.0]], 0.0),
        ([[0.0, -math.inf]], [[0.0, 0.0]], math.inf),
    ],
)
def test_the_distance_is_the_largest_of_log_probabilities(one, other, apart):
    check: Any = SimpleNamespace(_head=lambda hidden: hidden)
    found, _ = CacheCheck._distance(check, torch.tensor(one), torch.tensor(other))
    assert found == pytest.approx(apart, abs=1e-6)


@pytest.mark.parametrize("name", sampled(["gpt_neo", "mamba", "mistral"], "gpt_neo"))
def test_without_the_cache_nothing_is_said_and_all_is_right(saved, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        policy = make_policy(saved(name), prefix_cache=False)
    assert distance(policy, saved(name)) < 1e-4


def forgets_rows_that_start_anew(layer, keys, values, update):
    new = layer.plan.rows is not None
    return (keys, values) if new else update(keys, values)


def keeps_one_step_alone_wrong(layer, keys, values, update):
    """Rows of one length that grow side by side are written a slot too early."""
    plan = layer.plan
    if plan.start and plan.rows is None:
        layer.plan = replace(plan, start=plan.start - 1, length=plan.length - 1)
    return update(keys, values)


def mixes_rows_of_different_lengths(layer, keys, values, update):
    ragged = layer.plan.positions is not None
    return update(keys.flip(0), values) if ragged else update(keys, values)


def stops_at_the_window(layer, keys, values, update):
    """Holds no more than nine tokens, as a cache of windows would."""
    keys, values = update(keys, values)
    return (keys, values) if keys.shape[2] < 9 else (keys.roll(1, 2), values)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (forgets_rows_that_start_anew, "llama"),
        (keeps_one_step_alone_wrong, "llama"),
        (mixes_rows_of_different_lengths, "gpt2"),
        (stops_at_the_window, "mistral"),
    ],
)
def test_every_way_of_decoding_is_asked_about(saved, monkeypatch, fault, name):
    """Faults that show in one of the ways alone in which rows are read and written."""
    update = _Layer.update
    monkeypatch.setattr(
        _Layer,
        "update",
        lambda layer, keys, values, *_, **__: fault(layer, keys, values, partial(update, layer)),
    )
    with pytest.raises(ValueError, match=f"does not fit models of type '{name}'"):
        make_policy(saved(name), prefix_cache=True)


def positions_from_the_longest_row(forward):
    return lambda trunk, tokens, positions=None, attention_mask=None: forward(
        trunk, tokens, None, attention_mask
    )


def no_mask(_):
    return lambda trunk, positions, length: None


def no_window(_):
    return lambda trunk, positions, length: (torch.arange(length) <= positions[:, None]).long()


@pytest.mark.parametrize(
    ("method", "fault", "name"),
    [
        ("_forward", positions_from_the_longest_row, "llama"),
        ("_ragged_mask", no_mask, "gpt2"),
        ("_ragged_mask", no_window, "mistral"),
    ],
)
def test_positions_and_masks_are_asked_about(saved, monkeypatch, method, fault, name):
    monkeypatch.setattr(Trunk, method, fault(getattr(Trunk, method)))
    with pytest.raises(ValueError, match=f"does not fit models of type '{name}'"):
        make_policy(saved(name), prefix_cache=True)


@pytest.mark.parametrize("value", ["always", None, 1, "true"])
def test_another_word_is_refused(saved, value):
    with pytest.raises(ValueError, match=r"prefix_cache=.* must be one of 'auto', True, False"):
        make_policy(saved("mistral"), prefix_cache=value)


@pytest.mark.parametrize("name", ["xlnet", "cpmant"])
def test_a_model_that_looks_ahead_is_refused(saved, name):
    with pytest.raises(ValueError, match="depends on the tokens behind it"):
        make_policy(saved(name))


def test_a_window_too_wide_to_cross_at_construction_is_crossed_when_a_row_gets_there(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(checks, "_MULTIPLICATIONS", 0)  # reaches to 16
    directory = str(tmp_path)
    tiny_model("gpt_neo", window_size=18).save_pretrained(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        policy = make_policy(directory)  # short rows are right
    assert policy._cache_check.passed
    with pytest.warns(UserWarning, match="'gpt_neo'"):
        assert distance(policy, directory) < 1e-4
    demanded = make_policy(directory, prefix_cache=True)
    with pytest.raises(ValueError, match="'gpt_neo'"):
        distance(demanded, directory)


@pytest.mark.parametrize(("window", "later"), [(15, None), (16, None), (17, 17)])
def test_a_window_within_reach_is_crossed_at_construction(window, later, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_MULTIPLICATIONS", 0)  # reaches to 16
    crossed, play = [], checks._play
    monkeypatch.setattr(
        checks, "_play", lambda n, window, capacity: crossed.append(window) or play(n, 2, capacity)
    )
    tiny_model("mistral", sliding_window=window).save_pretrained(tmp_path)
    policy = make_policy(str(tmp_path))
    assert crossed == [window if later is None else 2]
    assert policy._cache_check._next_window == later


@pytest.mark.parametrize(
    ("size", "reach"), [(0, 10**9), (10**3, 10**6), (10**7, 100), (5 * 10**7, 20), (10**9, 16)]
)
def test_the_check_reaches_as_far_as_a_fraction_of_a_second_does(size, reach, monkeypatch):
    """Five multiplications of each parameter for a token, at least sixteen tokens."""
    asked = []
    monkeypatch.setattr(CacheCheck, "_ask", lambda self, device, reach: asked.append(reach))
    trunk = SimpleNamespace(decoder=torch.nn.Linear(size, 1, bias=False, device="meta"))
    CacheCheck("any", trunk, torch.nn.Identity(), 8, "auto", torch.device("cpu"))
    assert asked == [reach]


def test_log_probabilities_as_far_apart_as_the_tolerance_are_borne(saved, monkeypatch):
    monkeypatch.setattr(CacheCheck, "_distance", lambda *_: (0.5, 0.5))
    assert make_policy(saved("llama"), prefix_cache=True)._cache_check.passed
    make_policy(saved("llama"), prefix_cache=False)
    monkeypatch.setattr(CacheCheck, "_distance", lambda *_: (0.51, 0.5))
    with pytest.raises(ValueError, match=r"tolerance 5e-01"):
        make_policy(saved("llama"), prefix_cache=False)


def test_nobody_decodes_while_another_thread_asks(tmp_path, monkeypatch):
    """A second thread that gets to the window meanwhile waits for the answer; it is said once."""
    monkeypatch.setattr(checks, "_MULTIPLICATIONS", 0)
    directory = str(tmp_path)
    tiny_model("gpt_neo", window_size=18).save_pretrained(directory)
    plain = AutoModelForCausalLM.from_pretrained(directory).eval()
    policy = make_policy(directory)
    found = []

    def go_beyond_the_window() -> None:
        rows = [[5] * 24, [7] * 9]
        for token in (3, 4):
            with torch.no_grad():
                logits = policy.get_distribution(observe(rows, LENGTH)).distribution.logits
            for row, log_probs in zip(rows, logits.log_softmax(-1), strict=True):
                found.append(float((log_probs - naive_log_probs(plain, row)).abs().max()))
            rows = [[*row, token] for row in rows]

    second = Thread(target=go_beyond_the_window)
    own = CacheCheck._trouble_in_decoding

    def ask(*args):
        if second.ident is None:
            second.start()
            second.join(timeout=1)  # without end, if it waits as it should
        return own(*args)

    monkeypatch.setattr(CacheCheck, "_trouble_in_decoding", ask)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        go_beyond_the_window()
        second.join()
    assert len(found) == 8
    assert max(found) < 1e-4
    assert ["prefix cache" in str(warning.message) for warning in caught].count(True) == 1


def test_the_check_draws_nothing(saved):
    """Runs have the same random numbers with and without it."""
    states = []
    for prefix_cache in ("auto", False):
        torch.manual_seed(0)
        make_policy(saved("mistral"), prefix_cache=prefix_cache)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_the_check_leaves_nothing_in_the_cache(saved):
    policy = make_policy(saved("mistral"))
    assert policy.actor_trunk._cache is None


@pytest.mark.parametrize("length", range(1, 12))
def test_observations_of_every_length_can_be_asked_about(saved, length):
    rows = list(checks._play(48, window=6, capacity=length))
    assert rows
    assert max(len(row) for step in rows for row in step) <= length
    assert LENGTH > 12


def test_every_window_that_a_configuration_names_is_known():
    assert windows(tiny_model("mistral").config) == [6]
    assert 6 in windows(tiny_model("gpt_neo").config)
    assert windows(tiny_model("llama").config) == []
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [2.0] * 4,
        "original_max_position_embeddings": 12,
    }
    assert windows(tiny_model("llama", rope_parameters=rope).config) == [12]


def test_positions_that_depend_on_the_longest_row_are_refused(tmp_path):
    """Some models stretch all positions of a batch once one row is long."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 12,
    }
    tiny_model("llama", rope_parameters=rope).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"rows beside it.*fewer than 12 tokens"):
        make_policy(str(tmp_path))
    tiny_model(
        "llama", rope_parameters=rope | {"original_max_position_embeddings": LENGTH}
    ).save_pretrained(tmp_path)
    assert distance(make_policy(str(tmp_path)), tmp_path) < 1e-4


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_rows_that_show_in_others_behind_their_first_tokens_are_refused(saved, first, monkeypatch):
    forward = LlamaModel.forward

    def mixing(self, *args, **kwargs):
        found = forward(self, *args, **kwargs)
        hidden = found.last_hidden_state
        hidden[:, first:] += hidden[:, first:].mean(dim=0, keepdim=True)
        return found

    monkeypatch.setattr(LlamaModel, "forward", mixing)
    with pytest.raises(ValueError, match="or on the rows beside it"):
        make_policy(saved("llama"), prefix_cache=False)


def test_on_another_device_it_is_asked_again(saved, monkeypatch):
    """There is one device here: the check is made to believe that it was asked on another."""
    policy = make_policy(saved("bloom"))
    check, asked = policy._cache_check, []
    monkeypatch.setattr(check, "_ask", lambda device, reach: asked.append((device, reach)))
    lengths = torch.tensor([3, 2])
    assert check.before(lengths)
    assert not asked
    check._device = torch.device("meta")
    assert check.before(lengths)
    assert asked == [(lengths.device, LENGTH)]
