"""One step of one aeroplane in Python floats: for a single aeroplane ten times as fast as NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

from llm_gym_autopilot.aircraft import GRAVITY, SEA_LEVEL_DENSITY, Aircraft
from llm_gym_autopilot.dynamics import DENSITY_COEFFICIENTS

__all__ = ["ScalarStep", "make_scalar_step"]


ScalarStep = Callable[
    [float, float, float, float, float, float, float, float, float, float],
    tuple[float, float, float, float, float, float, float, float],
]


def make_scalar_step(aircraft: Aircraft, dt: float) -> ScalarStep:
    """Makes the function that flies one step; equal to `dynamics.rk4_step`.

    Args:
        aircraft: The aeroplane; its numbers become constants of the function.
        dt: Length of a step, s.

    Returns:
        `step(u, w, q, theta, altitude, power, elevator, throttle, gust_u, gust_w)`, whose result is
        the new u, w, q, theta, altitude and power, then the load factor (force along -z without
        gravity, in weights) and the thrust [N], both as the last stage of the step sees them.
    """
    sqrt, atan2, sin, cos = math.sqrt, math.atan2, math.sin, math.cos
    a = aircraft
    d0, d1, d2, d3 = DENSITY_COEFFICIENTS
    pressure = 0.5 * SEA_LEVEL_DENSITY * a.wing_area / a.mass
    half_chord = a.chord / 2
    cl0, cla, clq, clde = a.lift_zero, a.lift_alpha, a.lift_pitch_rate, a.lift_elevator
    cd0, induced = a.drag_minimum, a.drag_induced
    cma, cmr, cmq, cmde = (
        a.moment_alpha, a.moment_alpha_rate, a.moment_pitch_rate, a.moment_elevator,
    )  # fmt: skip
    stall, stall_lift, stall_drag = a.stall_alpha, a.post_stall_lift, a.post_stall_drag
    top_lift = a.maximum_lift
    inertia = a.mass * a.chord / a.pitch_inertia
    push, v0_squared = a.propeller_efficiency * a.power / a.mass, a.thrust_airspeed**2
    keep_half, keep_full = math.exp(-dt / 2 / a.power_lag), math.exp(-dt / a.power_lag)
    half, sixth, mass, g = dt / 2, dt / 6, a.mass, GRAVITY

    def slope(
        u: float, w: float, q: float, theta: float, h: float, power: float,
        lift_elevator: float, moment_elevator: float, gust_u: float, gust_w: float,
    ) -> tuple[float, float, float, float, float, float]:  # fmt: skip
        """Rates of u, w, q and h; force along -z and thrust, per mass, for the instruments."""
        ua, wa = u - gust_u, w - gust_w
        speed2 = ua * ua + wa * wa
        speed = sqrt(speed2)
        alpha = atan2(wa, ua)
        sigma = d0 + h * (d1 + h * (d2 + h * d3))
        scale = pressure * sigma * speed
        rate = half_chord / speed
        wing = cl0 + cla * alpha
        drag = cd0
        if alpha > stall:
            past = alpha - stall
            wing = top_lift + stall_lift * past
            drag += stall_drag * past
        drag += induced * wing * wing
        turn = q * rate
        lift = wing + lift_elevator + clq * turn
        thrust = push * power * (1.132 * sigma - 0.132) / sqrt(speed2 + v0_squared)
        lift_z = scale * (lift * ua + drag * wa)
        sin_theta, cos_theta = sin(theta), cos(theta)
        du = scale * (lift * wa - drag * ua) + thrust - g * sin_theta - q * w
        dw = g * cos_theta - lift_z + q * u
        alpha_rate = (ua * dw - wa * du) / speed2
        moment = cma * alpha + cmq * turn + cmr * alpha_rate * rate + moment_elevator
        dq = scale * speed * inertia * moment
        return du, dw, dq, u * sin_theta - w * cos_theta, lift_z, thrust

    def step(
        u: float, w: float, q: float, theta: float, h: float, power: float,
        elevator: float, throttle: float, gust_u: float, gust_w: float,
    ) -> tuple[float, float, float, float, float, float, float, float]:  # fmt: skip
        lag = power - throttle
        middle, end = throttle + lag * keep_half, throttle + lag * keep_full
        lift, moment = clde * elevator, cmde * elevator
        du1, dw1, dq1, dh1, _, _ = slope(u, w, q, theta, h, power, lift, moment, gust_u, gust_w)
        q2 = q + half * dq1
        du2, dw2, dq2, dh2, _, _ = slope(
            u + half * du1, w + half * dw1, q2, theta + half * q, h + half * dh1,
            middle, lift, moment, gust_u, gust_w,
        )  # fmt: skip
        q3 = q + half * dq2
        du3, dw3, dq3, dh3, _, _ = slope(
            u + half * du2, w + half * dw2, q3, theta + half * q2, h + half * dh2,
            middle, lift, moment, gust_u, gust_w,
        )  # fmt: skip
        q4 = q + dt * dq3
        du4, dw4, dq4, dh4, lift_z, thrust = slope(
            u + dt * du3, w + dt * dw3, q4, theta + dt * q3, h + dt * dh3,
            end, lift, moment, gust_u, gust_w,
        )  # fmt: skip
        return (
            u + sixth * (du1 + 2 * (du2 + du3) + du4),
            w + sixth * (dw1 + 2 * (dw2 + dw3) + dw4),
            q + sixth * (dq1 + 2 * (dq2 + dq3) + dq4),
            theta + sixth * (q + 2 * (q2 + q3) + q4),
            h + sixth * (dh1 + 2 * (dh2 + dh3) + dh4),
            end,
            lift_z / g,
            thrust * mass,
        )

    return step
