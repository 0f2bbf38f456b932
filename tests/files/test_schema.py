from __future__ import annotations

import json

import numpy as np
import pytest

from llm_gym.files.generators import generator_from
from llm_gym.files.schema import (
    boolean,
    check_file,
    list_of,
    number,
    one_of,
    optional,
    read_json,
    record,
    row_of,
    text,
    whole,
)

CHECK = record(
    {
        "steps": whole(),
        "share": number(0, 1),
        "name": text,
        "on": optional(boolean),
        "kind": one_of("a", "b"),
        "rows": list_of(row_of(whole(), number()), longest=2),
    },
    may_lack=["name"],
)
GOOD = {"steps": 3, "share": 0.5, "name": "x", "on": None, "kind": "a", "rows": [[1, 2.5]]}


@pytest.mark.parametrize("change", [{}, {"on": True}, {"rows": []}, {"share": np.float32(1)}])
def test_what_fits_is_taken(change):
    CHECK("", GOOD | change)
    CHECK("", {key: value for key, value in GOOD.items() if key != "name"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "x"}, "^steps must be a whole number >= 0, got 'x'$"),
        ({"steps": -1}, "steps must be a whole number >= 0, got -1"),
        ({"steps": 2.0}, "steps must be"),
        ({"steps": True}, "steps must be"),
        ({"steps": 2**64}, "steps must be"),
        ({"share": 1.5}, "share must be a finite number >= 0 <= 1, got 1.5"),
        ({"share": float("nan")}, "share must be"),
        ({"share": 10**400}, "share must be.*got a number of 1329 bits"),
        ({"name": None}, "name must be a text, got None"),
        ({"on": 0}, "on must be true or false, got 0"),
        ({"kind": "c"}, "kind must be 'a' or 'b', got 'c'"),
        ({"rows": {}}, "rows must be a list, got an object of 0 entries"),
        ({"rows": "xx"}, "rows must be a list"),
        ({"rows": [[1, 2], [1]]}, r"rows\[1\] must be a list of 2, got a list of 1"),
        ({"rows": [[1, 2], [1, "x"]]}, r"rows\[1\]\[1\] must be a finite number, got 'x'"),
        ({"rows": [[1, 2]] * 3}, "rows must be a list of at most 2"),
        ({"more": 1}, "more is no key that belongs there"),
    ],
)
def test_what_does_not_fit_is_named_with_its_key(change, message):
    with pytest.raises(ValueError, match=message):
        CHECK("", GOOD | change)


def test_a_key_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"file\.json: steps is missing"):
        check_file("file.json", CHECK, {})
    with pytest.raises(ValueError, match="the content must be an object, got a list of 0"):
        CHECK("", [])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b'{"a": NaN}', b'{"a": -Infinity}', b"\xff", b"9" * 5000]
)
def test_a_file_that_is_no_json_is_a_value_error_with_its_name(content, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.json"):
        read_json(path)
    with pytest.raises(ValueError, match="nowhere"):
        read_json(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="cannot be read"):
        read_json(tmp_path)


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_every_generator_of_numpy_continues_from_its_state(name):
    rng = np.random.Generator(getattr(np.random, name)(7))
    rng.random(5)
    rng.integers(3, dtype=np.uint32)
    for state in rng.bit_generator.state, json.loads(json.dumps(plain(rng.bit_generator.state))):
        again = np.random.Generator(getattr(np.random, name)(7))
        again.bit_generator.state = rng.bit_generator.state
        assert (generator_from(state).random(700) == again.random(700)).all()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("MT19937", {"state": {"key": [1] * 624, "pos": 10**6}}),  # numpy reads beyond the end
        ("MT19937", {"state": {"key": [1] * 3, "pos": 0}}),
        ("Philox", {"buffer_pos": -7}),
        ("PCG64", {"state": {"state": 0, "inc": 0}}),  # the same number for ever
        ("PCG64", {"state": {"state": 2**200, "inc": 1}}),
        ("PCG64", {"bit_generator": "seed"}),
        ("PCG64", {"bit_generator": ["PCG64"]}),
        ("SFC64", {"state": {"state": "xxxx"}}),
        ("SFC64", {"surplus": 1}),
    ],
)
def test_a_state_that_numpy_would_not_look_at_is_refused(name, change):
    state = plain(getattr(np.random, name)(7).state)
    with pytest.raises(ValueError, match="the state of a random generator"):
        generator_from(state | change)
