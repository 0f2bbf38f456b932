"""One step of many aeroplanes: NumPy into arrays that are made once."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import GRAVITY, SEA_LEVEL_DENSITY, Aircraft
from llm_gym_autopilot.dynamics import DENSITY_COEFFICIENTS

__all__ = ["VectorFlight", "sin_cos"]

Array = NDArray[np.floating[Any]]

# NumPy calculates with an array of no dimensions twice as fast as with a Python number.
_HALF, _ONE, _TWO = np.array(0.5), np.array(1.0), np.array(2.0)


class Constants(NamedTuple):
    """What the equations need of an aeroplane, each an array without dimensions."""

    half_chord: Array
    lift_zero: Array
    lift_alpha: Array
    lift_pitch_rate: Array
    lift_elevator: Array
    drag_minimum: Array
    drag_induced: Array
    moment_alpha: Array
    moment_alpha_rate: Array
    moment_pitch_rate: Array
    moment_elevator: Array
    stall_alpha: Array
    maximum_lift: Array
    post_stall_lift: Array
    post_stall_drag: Array
    thrust_airspeed_squared: Array
    push: Array  # thrust at full power and sea level times speed, per mass
    pressure: Array  # half of the density at sea level times wing area, per mass
    moment: Array  # mass times chord over the moment of inertia
    gravity: Array
    density: tuple[Array, Array, Array, Array]
    power_lapse: tuple[Array, Array]  # Gagg and Ferrar
    zero: Array
    two: Array
    half_step: Array
    step: Array
    sixth_step: Array
    keep_half: Array  # share of the power's lag that is left after half a step
    keep: Array

    @classmethod
    def of(cls, aircraft: Aircraft, dt: float, dtype: Any) -> Constants:
        """The constants of an aeroplane for steps of `dt` seconds."""
        a = aircraft
        d0, d1, d2, d3 = (np.array(c, dtype) for c in DENSITY_COEFFICIENTS)
        numbers: dict[str, float] = {
            name: getattr(a, name) for name in cls._fields if hasattr(a, name)
        } | {
            "half_chord": a.chord / 2,
            "thrust_airspeed_squared": a.thrust_airspeed**2,
            "push": a.propeller_efficiency * a.power / a.mass,
            "pressure": 0.5 * SEA_LEVEL_DENSITY * a.wing_area / a.mass,
            "moment": a.mass * a.chord / a.pitch_inertia,
            "gravity": GRAVITY,
            "zero": 0.0,
            "two": 2.0,
            "half_step": dt / 2,
            "step": dt,
            "sixth_step": dt / 6,
            "keep_half": math.exp(-dt / 2 / a.power_lag),
            "keep": math.exp(-dt / a.power_lag),
        }
        lapse = np.array(1.132, dtype), np.array(0.132, dtype)
        arrays = {name: np.array(number, dtype) for name, number in numbers.items()}
        return cls(**arrays, density=(d0, d1, d2, d3), power_lapse=lapse)


def sin_cos(angle: Array, sin: Array, cos: Array, scratch: Array) -> None:
    """Sine and cosine of angles below pi.

    NumPy's float64 sine and cosine take six times as long as its tangent, so both come from the
    tangent of half the angle. In float32 all of them are quick.

    Args:
        angle: rad, `(N,)`.
        sin: Receives the sine.
        cos: Receives the cosine.
        scratch: Is overwritten, `(N,)`.
    """
    if angle.dtype == np.float32:
        np.sin(angle, out=sin)
        np.cos(angle, out=cos)
        return
    np.multiply(angle, _HALF, out=sin)
    np.tan(sin, out=sin)
    np.multiply(sin, sin, out=cos)
    np.add(cos, _ONE, out=scratch)
    np.divide(_TWO, scratch, out=scratch)  # 2 / (1 + tan^2)
    np.multiply(sin, scratch, out=sin)
    np.subtract(scratch, _ONE, out=cos)


class VectorFlight:
    """Flies N aeroplanes of one kind; equal to `dynamics.rk4_step`.

    It works in the caller's arrays, float64 or float32, and on them alone.

    Args:
        aircraft: The aeroplane.
        dt: Length of a step, s.
        state: h, u, w, q, theta, `(5, N)`.
        power: Share of the largest, `(N,)`.
        lift: Receives the force along -z per mass, m/s^2 `(N,)`, as the last stage of a step saw
            it.
        thrust: Receives the thrust per mass, m/s^2 `(N,)`, likewise.
    """

    def __init__(
        self, aircraft: Aircraft, dt: float, state: Array, power: Array, lift: Array, thrust: Array
    ) -> None:
        self._constants = Constants.of(aircraft, dt, power.dtype)
        self._stall_alpha = aircraft.stall_alpha
        self._state, self._power, self._lift, self._thrust = state, power, lift, thrust
        num_envs, dtype = power.size, power.dtype
        self._scratch = np.empty((16, num_envs), dtype)
        self._slope = np.empty((5, num_envs), dtype)
        self._total = np.empty((5, num_envs), dtype)
        self._moved = np.empty((5, num_envs), dtype)
        self._inputs = np.empty((4, num_envs), dtype)

    def step(self, elevator: Array, throttle: Array, gust_u: Array, gust_w: Array) -> None:
        """Flies one step.

        Args:
            elevator: rad, trailing edge down positive, `(N,)`.
            throttle: 0 to 1, `(N,)`.
            gust_u: Velocity of the air along x, m/s `(N,)`.
            gust_w: Velocity of the air along z, m/s `(N,)`.
        """
        c = self._constants
        state, power, scratch = self._state, self._power, self._scratch
        slope, total, moved = self._slope, self._total, self._moved
        lift_elevator, moment_elevator, push, lag = self._inputs
        np.multiply(elevator, c.lift_elevator, out=lift_elevator)
        np.multiply(elevator, c.moment_elevator, out=moment_elevator)
        np.subtract(power, throttle, out=lag)

        def rates(at: Array) -> None:
            self._rates(at, lift_elevator, moment_elevator, push, gust_u, gust_w, slope, scratch)

        np.multiply(power, c.push, out=push)
        rates(state)
        np.copyto(total, slope)
        np.multiply(slope, c.half_step, out=moved)
        np.add(moved, state, out=moved)

        np.multiply(lag, c.keep_half, out=push)
        np.add(push, throttle, out=push)
        np.multiply(push, c.push, out=push)
        rates(moved)
        np.multiply(slope, c.half_step, out=moved)
        np.add(moved, state, out=moved)
        np.multiply(slope, c.two, out=slope)
        np.add(total, slope, out=total)

        rates(moved)
        np.multiply(slope, c.step, out=moved)
        np.add(moved, state, out=moved)
        np.multiply(slope, c.two, out=slope)
        np.add(total, slope, out=total)

        np.multiply(lag, c.keep, out=power)
        np.add(power, throttle, out=power)
        np.multiply(power, c.push, out=push)
        rates(moved)
        np.add(total, slope, out=total)
        np.multiply(total, c.sixth_step, out=total)
        np.add(state, total, out=state)
        np.copyto(self._lift, scratch[0])
        np.copyto(self._thrust, scratch[1])

    def _rates(
        self,
        state: Array,
        lift_elevator: Array,
        moment_elevator: Array,
        push: Array,
        gust_u: Array,
        gust_w: Array,
        slope: Array,
        scratch: Array,
    ) -> None:
        """Time derivative into `slope`; force along -z and thrust, per mass, into `scratch[:2]`."""
        c = self._constants
        d0, d1, d2, d3 = c.density
        lapse, loss = c.power_lapse
        h, u, w, q, theta = state
        dh, du, dw, dq, dtheta = slope
        (
            lift_z, thrust, ua, wa, speed2, speed, alpha, sigma,
            scale, wing, drag, rate, lift, sin, cos, t,
        ) = scratch  # fmt: skip
        add, subtract, multiply, divide = np.add, np.subtract, np.multiply, np.divide

        subtract(u, gust_u, out=ua)
        subtract(w, gust_w, out=wa)
        multiply(ua, ua, out=speed2)
        multiply(wa, wa, out=t)
        add(speed2, t, out=speed2)
        np.sqrt(speed2, out=speed)
        np.arctan2(wa, ua, out=alpha)
        multiply(h, d3, out=sigma)
        add(sigma, d2, out=sigma)
        multiply(sigma, h, out=sigma)
        add(sigma, d1, out=sigma)
        multiply(sigma, h, out=sigma)
        add(sigma, d0, out=sigma)

        multiply(alpha, c.lift_alpha, out=wing)
        add(wing, c.lift_zero, out=wing)
        if float(alpha.max()) > self._stall_alpha:
            subtract(alpha, c.stall_alpha, out=t)
            multiply(t, c.post_stall_lift, out=drag)
            add(drag, c.maximum_lift, out=drag)
            np.minimum(wing, drag, out=wing)
            np.maximum(t, c.zero, out=t)
            multiply(t, c.post_stall_drag, out=t)
            multiply(wing, wing, out=drag)
            multiply(drag, c.drag_induced, out=drag)
            add(drag, t, out=drag)
        else:
            multiply(wing, wing, out=drag)
            multiply(drag, c.drag_induced, out=drag)
        add(drag, c.drag_minimum, out=drag)

        divide(c.half_chord, speed, out=rate)
        multiply(q, rate, out=dq)  # kept for the moment
        multiply(dq, c.lift_pitch_rate, out=lift)
        add(lift, wing, out=lift)
        add(lift, lift_elevator, out=lift)

        # Dynamic pressure times wing area over mass, divided by speed.
        multiply(sigma, speed, out=scale)
        multiply(scale, c.pressure, out=scale)
        multiply(lift, ua, out=lift_z)
        multiply(drag, wa, out=t)
        add(lift_z, t, out=lift_z)
        multiply(lift_z, scale, out=lift_z)
        multiply(lift, wa, out=du)
        multiply(drag, ua, out=t)
        subtract(du, t, out=du)
        multiply(du, scale, out=du)
        multiply(sigma, lapse, out=thrust)
        subtract(thrust, loss, out=thrust)
        multiply(thrust, push, out=thrust)
        add(speed2, c.thrust_airspeed_squared, out=t)
        np.sqrt(t, out=t)
        divide(thrust, t, out=thrust)
        add(du, thrust, out=du)

        sin_cos(theta, sin, cos, t)
        multiply(sin, c.gravity, out=t)
        subtract(du, t, out=du)
        multiply(q, w, out=t)
        subtract(du, t, out=du)
        multiply(cos, c.gravity, out=dw)
        subtract(dw, lift_z, out=dw)
        multiply(q, u, out=t)
        add(dw, t, out=dw)

        multiply(ua, dw, out=lift)  # rate of the angle of attack
        multiply(wa, du, out=t)
        subtract(lift, t, out=lift)
        divide(lift, speed2, out=lift)
        multiply(lift, rate, out=lift)
        multiply(lift, c.moment_alpha_rate, out=lift)
        multiply(dq, c.moment_pitch_rate, out=dq)
        add(dq, lift, out=dq)
        multiply(alpha, c.moment_alpha, out=alpha)
        add(dq, alpha, out=dq)
        add(dq, moment_elevator, out=dq)
        multiply(dq, scale, out=dq)
        multiply(dq, speed, out=dq)
        multiply(dq, c.moment, out=dq)

        np.copyto(dtheta, q)
        multiply(u, sin, out=dh)
        multiply(w, cos, out=t)
        subtract(dh, t, out=dh)
