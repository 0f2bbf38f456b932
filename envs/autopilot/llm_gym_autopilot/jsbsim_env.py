"""`llm_gym/AutopilotJSBSim-v0` and `llm_gym/AutopilotJSBSimDiscrete-v0`: the task in JSBSim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium.error import ResetNeeded

from llm_gym_autopilot.aircraft import Aircraft
from llm_gym_autopilot.flight_env import FlightEnv
from llm_gym_autopilot.jsbsim_flight import Flown, JSBSimFlight
from llm_gym_autopilot.start import Start

__all__ = ["AutopilotJSBSimDiscreteEnv", "AutopilotJSBSimEnv"]

_ATTITUDE = ("pitch", "alpha", "q")


class AutopilotJSBSimEnv(FlightEnv):
    """Fly the task of `llm_gym/Autopilot-v0` in JSBSim, a flight dynamics model of engineers.

    ## Description
    What a policy learnt in the fast environment is tried here: same spaces, reward, targets and gusts
    for the same seed, another model of flight. JSBSim flies six degrees of freedom over a round,
    rotating Earth, 24 frames of 1/120 s an action; an aileron loop holds the wings level. Two
    aeroplanes:

    * "navion": JSBSim's description is written out of the table that the fast environment flies, so
      that both fly the same aeroplane and differ by the equations of motion only.
    * "c172p": the Cessna 172P that ships with JSBSim, unmodified: somebody else's model, with its own
      engine and propeller. The observation's power is the throttle behind a lag of 1 s, as the engine
      has no such quantity.

    Needs `pip install "llm-gym-autopilot[jsbsim]"`.

    ## Action Space
    `Box(-1, 1, (2,), float32)`: stick (1 is nose up, elevator -0.17 rad) and throttle (-1 is idle, 1
    full). Values beyond are cut off, NaN is an error.

    ## Observation Space
    `Box((11,), float32)`: the table of `llm_gym_autopilot.single.AutopilotEnv`.

    ## Rewards
    Between 0 and 1 a step, those of `AutopilotEnv`.

    ## Starting State
    Navion: exactly where the fast environment starts for the same seed and options. c172p: at the
    airspeed and altitude drawn or given, in JSBSim's own trim, without deviations; the options `pitch`,
    `alpha` and `q` are refused. Every episode flies in a fresh FDM and repeats to the last bit.

    `get_state()` holds the start and all inputs since; `set_state()` flies them again, which gives the
    exact state and takes as long as flying did.

    ## Episode End
    That of `AutopilotEnv`; the angle of attack of maximum lift is 0.28 rad for the c172p.

    ## Arguments
    | Argument | Values | Default |
    |---|---|---|
    | `aircraft` | "navion", "c172p" | "navion" |
    | `turbulence` | "none", "light", "moderate", "severe"; "mixed": one of the first three an episode | "mixed" |
    | `render_mode` | "human", "rgb_array", "ansi" | None |

    ## Version History
    * v0: first version.
    """  # noqa: E501 -- a table's row is one line

    def __init__(
        self,
        aircraft: str = "navion",
        turbulence: str = "mixed",
        render_mode: str | None = None,
        *,
        discrete: bool = False,
    ) -> None:
        self._flight = JSBSimFlight(aircraft)
        limits = self._flight.limits
        coefficients = limits if isinstance(limits, Aircraft) else None
        super().__init__(limits, coefficients, turbulence, render_mode, discrete=discrete)
        self._start: Start | None = None
        self._inputs: list[tuple[float, float, float, float]] = []

    def _begin(self, options: Mapping[str, Any]) -> None:
        refused = sorted(set(_ATTITUDE) & options.keys())
        if self._coefficients is None and refused:
            raise ValueError(
                f"options: aircraft={self.aircraft.name!r} starts in JSBSim's own trim; leave out "
                f"{', '.join(refused)}"
            )
        self._running = False  # a start that fails leaves no episode to go on with
        super()._begin(options)

    def _start_flight(self, start: Start) -> None:
        self._take(self._flight.start(start))
        self._elevator, self._throttle = self._flight.elevator, self._flight.throttle
        self._start, self._inputs = start, []

    def _fly(self, elevator: float, throttle: float, gust_u: float, gust_w: float) -> None:
        self._take(self._flight.advance(elevator, throttle, gust_u, gust_w))
        self._inputs.append((elevator, throttle, gust_u, gust_w))

    def _take(self, flown: Flown) -> None:
        (
            self._u, self._w, self._q, self._theta, self._altitude, self._power,
            self._load_factor, self._thrust,
        ) = flown  # fmt: skip

    def _flight_state(self) -> dict[str, Any]:
        if self._start is None:
            raise ResetNeeded("call reset() first: no flight has started yet")
        return {"start": list(self._start), "inputs": [list(controls) for controls in self._inputs]}

    def _restore_flight(self, state: Mapping[str, Any]) -> None:
        if not {"start", "inputs"} <= state.keys():
            raise ValueError(
                "state['flight'] has no start and inputs: it is not of a JSBSim flight"
            )
        start = Start(*state["start"])
        inputs = [tuple(controls) for controls in state["inputs"]]
        flown = self._flight.start(start)
        for elevator, throttle, gust_u, gust_w in inputs:
            flown = self._flight.advance(elevator, throttle, gust_u, gust_w)
        self._take(flown)
        self._start, self._inputs = start, inputs


class AutopilotJSBSimDiscreteEnv(AutopilotJSBSimEnv):
    """Fly in JSBSim by clicks: `llm_gym/AutopilotJSBSimDiscrete-v0`.

    ## Description
    `llm_gym/AutopilotJSBSim-v0` for algorithms that choose among a few actions.

    ## Action Space
    `Discrete(9)`: `3 * stick + throttle`, as in `llm_gym_autopilot.single.AutopilotDiscreteEnv`.

    ## Observation Space, Rewards, Starting State, Episode End, Arguments
    Those of `AutopilotJSBSimEnv`.

    ## Version History
    * v0: first version.
    """

    def __init__(
        self,
        aircraft: str = "navion",
        turbulence: str = "mixed",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(aircraft, turbulence, render_mode, discrete=True)
