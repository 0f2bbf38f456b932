"""`llm_gym/Autopilot-v0` and `llm_gym/AutopilotDiscrete-v0`: one aeroplane."""

from __future__ import annotations

from llm_gym_autopilot.aircraft import find_aircraft
from llm_gym_autopilot.flight_env import FlightEnv
from llm_gym_autopilot.scalar_flight import make_scalar_step
from llm_gym_autopilot.start import Start
from llm_gym_autopilot.task import STEP_SECONDS

__all__ = ["AutopilotDiscreteEnv", "AutopilotEnv", "FlightEnv"]


class AutopilotEnv(FlightEnv):
    """Fly an aeroplane to a target altitude and speed, and hold them, by stick and throttle.

    ## Description
    The Navion, a four-seater of the flight-dynamics textbooks, in the vertical plane: three degrees
    of freedom from published stability derivatives (see `llm_gym_autopilot.dynamics`), flown 5
    times a second by one Runge-Kutta step of 0.2 s. It starts near level flight somewhere between
    762 and 1981 m; the target is at most 91 m above or below and at a speed of its own. Gusts after
    Dryden disturb it.

    ## Action Space
    `Box(-1, 1, (2,), float32)`; values beyond are cut off, NaN is an error.

    | Num | Action | -1 | 1 |
    |---|---|---|---|
    | 0 | stick | nose down: elevator +0.17 rad | nose up: elevator -0.17 rad |
    | 1 | throttle | idle | full power, with a lag of 1 s |

    ## Observation Space
    `Box((11,), float32)`, cut off at the bounds; SI units are in the info.

    | Num | Observation | Divided by | Bound |
    |---|---|---|---|
    | 0 | altitude error, target minus actual | 30 m | 5 |
    | 1 | rate of climb | 6 m/s | 5 |
    | 2 | airspeed error, target minus actual | 6 m/s | 10 |
    | 3 | airspeed minus 53.6 m/s | 12 m/s | 5 |
    | 4 | angle of attack | 0.1 rad | 10 |
    | 5 | pitch rate | 0.1 rad/s | 20 |
    | 6 | pitch angle | 0.2 rad | 8 |
    | 7 | power (the lagged throttle), 2 p - 1 | 1 | 1 |
    | 8 | last elevator command | 0.1 rad | 2 |
    | 9 | last throttle command, 2 t - 1 | 1 | 1 |
    | 10 | target airspeed minus 53.6 m/s | 12 m/s | 3 |

    Entries 8 and 9 let a policy without memory work by increments.

    ## Rewards
    Between 0 and 1 a step, so that an early end is never worth it: 1 - 0.6 e_h / (e_h + 15 m) -
    0.3 e_V / (e_V + 3 m/s) - 0.1 min(1, |change of elevator| / 0.05 rad + |change of throttle| /
    0.2).

    ## Starting State
    Airspeed and target airspeed uniform in 45.7 to 61.0 m/s (150 to 200 ft/s), altitude uniform in
    762 to 1981 m, target altitude within 91 m of it; trimmed but for normal deviations of 0.03 rad
    of pitch, 0.01 rad of angle of attack and 0.02 rad/s of pitch rate. `reset(options=...)` sets
    any of them: `altitude`, `airspeed`, `target_altitude`, `target_airspeed`, `pitch`, `alpha`, `q`
    (SI, rad), `turbulence`, `trimmed=True` for no deviations, or `state` from `get_state()`.

    ## Episode End
    Terminated (`info["cause"]`) by the ground, a stall (angle of attack 1.7 degrees past that of
    maximum lift), an airspeed above 85 or below 24 m/s, a pitch angle beyond 0.8 rad, 305 m off the
    target, or a load factor outside -1.52 to 3.8. Truncated after 300 steps (60 s) by
    `gymnasium.make`'s time limit. `info["is_success"]` says whether the last 15 s were flown on
    target: within 6.1 m for 95 % and 1.5 m/s for 80 % of them (15.2 m and 3.0 m/s in turbulence).

    ## Arguments
    | Argument | Values | Default |
    |---|---|---|
    | `aircraft` | "navion" | "navion" |
    | `turbulence` | "none", "light", "moderate", "severe", or "mixed" | "mixed" |
    | `render_mode` | "human", "rgb_array", "ansi" | None |

    "mixed" draws one of "none", "light" and "moderate" an episode; "severe" is for testing.

    ## Version History
    * v0: first version.
    """

    def __init__(
        self,
        aircraft: str = "navion",
        turbulence: str = "mixed",
        render_mode: str | None = None,
        *,
        discrete: bool = False,
    ) -> None:
        table = find_aircraft(aircraft)
        super().__init__(table, table, turbulence, render_mode, discrete=discrete)
        self._step = make_scalar_step(table, STEP_SECONDS)
        self._stand = make_scalar_step(table, 0.0)  # only looks at forces

    def _start_flight(self, start: Start) -> None:
        (
            self._u, self._w, self._q, self._theta, self._altitude, self._power,
            self._load_factor, self._thrust,
        ) = self._stand(
            start.u, start.w, start.q, start.theta, start.altitude, start.power,
            start.elevator, start.throttle, self._gust_u, self._gust_w,
        )  # fmt: skip

    def _fly(self, elevator: float, throttle: float, gust_u: float, gust_w: float) -> None:
        (
            self._u, self._w, self._q, self._theta, self._altitude, self._power,
            self._load_factor, self._thrust,
        ) = self._step(
            self._u, self._w, self._q, self._theta, self._altitude, self._power,
            elevator, throttle, gust_u, gust_w,
        )  # fmt: skip


class AutopilotDiscreteEnv(AutopilotEnv):
    """Fly an aeroplane to a target altitude and speed by clicks: `llm_gym/AutopilotDiscrete-v0`.

    ## Description
    `llm_gym/Autopilot-v0` for algorithms that choose among a few actions.

    ## Action Space
    `Discrete(9)`: `3 * stick + throttle`. Each click changes the last command.

    | Value | stick | throttle |
    |---|---|---|
    | 0 | nose down: elevator +0.6 degrees | 5 % less |
    | 1 | as it is | as it is |
    | 2 | nose up: elevator -0.6 degrees | 5 % more |

    ## Observation Space, Rewards, Starting State, Episode End, Arguments
    Those of `AutopilotEnv`.

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
