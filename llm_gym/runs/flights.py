"""Flights that a training run keeps, moment by moment, and the function that reads them.

    for path in flight_files("runs/ppo"):
        look = read_flights(path)

At every look at a run that learns to fly its pilot flies the same flights: the same starts, targets
and gusts. They lie in one file, `trace/flights-000000100352.safetensors` below the run's directory,
numbered by the steps learnt until then. A file appears whole or not at all.

The format (`FORMAT`, which the metadata say). All moments of all flights stand one after the other,
`T` of them; the last moment of a flight has no action and no reward, which are NaN there.

| tensor | | |
|---|---|---|
| `lengths` | int32 `(F,)` | moments of each flight |
| `altitude_m`, `airspeed_mps`, `climb_mps`, `pitch_deg` | float32 `(T,)` | the state |
| `gust_up_mps`, `gust_forward_mps` | float32 `(T,)` | the wind's own velocity |
| `elevator_deg`, `throttle` | float32 `(T,)` | what was done in this state; throttle 0 to 1 |
| `reward` | float32 `(T,)` | what it brought |
| `value` | float32 `(T,)` | the critic's: the discounted rewards that it expects from here on |

The metadata have one entry, "flights", which is JSON: `format`, `step`, `algorithm`, `gamma` (the
discount that values are of), `step_seconds`, and `flights`: for each `name`, `seed`,
`target_altitude_m`, `target_airspeed_mps` and `cause` (why it ended early; null if it did not).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym.files import atomic
from llm_gym.files.schema import list_of, number, optional, record, text, whole
from llm_gym.runs.looks import LookFiles, Tensors

FORMAT = "llm_gym flights 1"
COLUMNS = (
    "altitude_m",
    "airspeed_mps",
    "climb_mps",
    "pitch_deg",
    "gust_up_mps",
    "gust_forward_mps",
    "elevator_deg",
    "throttle",
    "reward",
    "value",
)
"""What is known of a moment."""


@dataclass(frozen=True)
class TracedFlight:
    """One flight, moment by moment; `n` of them.

    Attributes:
        name: What tells it from the others, such as its turbulence.
        seed: Of its start, targets and gusts.
        target_altitude_m: What to fly at.
        target_airspeed_mps: What to fly at.
        cause: Why it ended early; None if it did not.
        columns: float32 `(n,)` by name, see `COLUMNS`.
    """

    name: str
    seed: int
    target_altitude_m: float
    target_airspeed_mps: float
    cause: str | None
    columns: dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class FlightLook:
    """The flights of one look.

    Attributes:
        step: Steps learnt until then.
        algorithm: Name of the algorithm's class.
        gamma: The discount that values are of.
        step_seconds: From one moment to the next.
        flights: At least one.
    """

    step: int
    algorithm: str
    gamma: float
    step_seconds: float
    flights: tuple[TracedFlight, ...]


_FLIGHT = {
    "name": text,
    "seed": whole(),
    "target_altitude_m": number(),
    "target_airspeed_mps": number(),
    "cause": optional(text),
}
_LOOK = record(
    {
        "format": text,
        "step": whole(),
        "algorithm": text,
        "gamma": number(),
        "step_seconds": number(),
        "flights": list_of(record(_FLIGHT)),
    }
)


FLIGHTS = LookFiles(
    prefix="flights",
    called="flights",
    refusal="holds no flights",
    key="flights",
    format=FORMAT,
    check=_LOOK,
)


def flight_files(directory: str | Path) -> list[Path]:
    """The looks of a run that learns to fly, oldest first; none if it keeps none.

    Args:
        directory: Of the run.
    """
    return FLIGHTS.files(directory)


def write_flights(directory: str | Path, look: FlightLook) -> Path:
    """Keeps the flights of a look, whole or not at all.

    Args:
        directory: Of the run.
        look: What was flown.

    Returns:
        The file.

    Raises:
        ValueError: A flight lacks a column, or has one of another length.
    """
    tensors: Tensors = {
        "lengths": np.array([_length(flight) for flight in look.flights], dtype=np.int32)
    }
    for name in COLUMNS:
        joined = np.concatenate([flight.columns[name] for flight in look.flights])
        tensors[name] = joined.astype(np.float32)
    flights = [{name: getattr(each, name) for name in _FLIGHT} for each in look.flights]
    path = FLIGHTS.file_of(directory, look.step)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(path, FLIGHTS.encode({**asdict(look), "flights": flights}, tensors))
    return path


def read_flights(path: str | Path) -> FlightLook:
    """Reads the flights of a look.

    Args:
        path: One of `flight_files`.

    Raises:
        ValueError: The file is damaged, or of another format.
        OSError: It cannot be read.
    """
    return FLIGHTS.decode(Path(path).read_bytes(), str(path), _look_of)


def _length(flight: TracedFlight) -> int:
    lengths = {name: len(flight.columns.get(name, ())) for name in COLUMNS}
    if len(set(lengths.values())) != 1 or not lengths[COLUMNS[0]]:
        raise ValueError(f"columns of the flight {flight.name!r} have lengths {lengths}")
    return lengths[COLUMNS[0]]


def _look_of(told: dict[str, Any], tensors: Tensors) -> FlightLook:
    ends = np.cumsum(tensors["lengths"])
    flights = told.pop("flights")
    if not len(flights) == len(ends) > 0 or any(
        tensors[name].shape != (ends[-1],) for name in COLUMNS
    ):
        raise ValueError("its flights are not as long as their columns")
    traced = tuple(
        TracedFlight(**each, columns={n: tensors[n][end - length : end] for n in COLUMNS})
        for each, length, end in zip(flights, tensors["lengths"], ends, strict=True)
    )
    return FlightLook(**told, flights=traced)
