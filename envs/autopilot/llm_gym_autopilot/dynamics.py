"""Equations of motion in the vertical plane: the obvious form, which the fast forms must equal.

Body axes with their origin in the centre of gravity, x forward and z down. The state of an
aeroplane is `(u, w, q, theta, h, p)`: inertial velocity along x and z [m/s], pitch rate [rad/s],
pitch angle [rad], altitude above sea level [m] and the engine's power as a share of the largest [0
to 1]. With the air-relative velocity `(ua, wa) = (u - gust_u, w - gust_w)`, airspeed `V` and angle
of attack `alpha`,

    du/dt = X/m + T/m - g sin(theta) - q w
    dw/dt = Z/m       + g cos(theta) + q u
    dq/dt = M / I_y,    dtheta/dt = q,    dh/dt = u sin(theta) - w cos(theta)
    dp/dt = (throttle - p) / lag

(Nelson, *Flight Stability and Automatic Control*, chapter 3, the longitudinal three of the six
equations of rigid-body motion). Lift, drag and moment are

    CL = min(CL0 + CL_alpha alpha, CL_max + s (alpha - alpha_s)) + CL_de de + CL_q q c/2V
    CD = CD_min + K CL_wing^2 + d max(alpha - alpha_s, 0)
    Cm = Cm_alpha alpha + (Cm_q q + Cm_alphadot dalpha/dt) c/2V + Cm_de de

where `CL_wing` is the first term of CL. The thrust `T = p eta P (1.132 sigma - 0.132) / sqrt(V^2 +
V0^2)` is ours, with the loss of power at altitude of Gagg and Ferrar (SAE, 1934).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm_gym_autopilot.aircraft import GRAVITY, SEA_LEVEL_DENSITY, Aircraft

__all__ = [
    "DENSITY_COEFFICIENTS",
    "density_ratio",
    "derivatives",
    "rk4_step",
    "standard_density_ratio",
    "thrust_per_power",
]

Array = NDArray[np.floating[Any]]


def standard_density_ratio(altitude: float | Array) -> Any:
    """Density of the International Standard Atmosphere as a share of that at sea level.

    Args:
        altitude: Geopotential altitude in the troposphere, m.

    Returns:
        The ratio (ISO 2533: a lapse rate of 6.5 K per km).
    """
    return (1.0 - 0.0065 * np.asarray(altitude) / 288.15) ** 4.2558797


def _fit_density() -> tuple[float, ...]:
    """Cubic through the standard atmosphere where we fly; a power costs more than all the rest."""
    low, high = -200.0, 4000.0
    nodes = np.polynomial.chebyshev.chebpts1(24)
    altitudes = low + (high - low) * (nodes + 1) / 2
    fit = np.polynomial.Polynomial.fit(altitudes, standard_density_ratio(altitudes), deg=3)
    return tuple(float(c) for c in fit.convert().coef)


DENSITY_COEFFICIENTS = _fit_density()


def density_ratio(altitude: Any) -> Any:
    """Density ratio as flown: the standard atmosphere to 3e-6 between -200 and 4000 m.

    Args:
        altitude: m, any shape.

    Returns:
        The ratio, of the same shape.
    """
    c0, c1, c2, c3 = DENSITY_COEFFICIENTS
    return c0 + altitude * (c1 + altitude * (c2 + altitude * c3))


def thrust_per_power(aircraft: Aircraft, airspeed: Any, altitude: Any) -> Any:
    """Thrust at full power, N.

    Args:
        aircraft: The aeroplane.
        airspeed: m/s, any shape.
        altitude: m, same shape.

    Returns:
        Thrust, of that shape.
    """
    available = aircraft.power * (1.132 * density_ratio(altitude) - 0.132)
    return (
        aircraft.propeller_efficiency
        * available
        / np.sqrt(airspeed**2 + aircraft.thrust_airspeed**2)
    )


def derivatives(
    aircraft: Aircraft,
    state: Array,
    elevator: Any,
    throttle: Any,
    gust_u: Any = 0.0,
    gust_w: Any = 0.0,
) -> Array:
    """Time derivative of the state.

    Args:
        aircraft: The aeroplane.
        state: `(6, ...)`: u, w, q, theta, h, p.
        elevator: rad, trailing edge down positive.
        throttle: 0 to 1.
        gust_u: Velocity of the air along x, m/s.
        gust_w: Velocity of the air along z, m/s.

    Returns:
        `(6, ...)`, per second.
    """
    u, w, q, theta, h, power = state
    ua, wa = u - gust_u, w - gust_w
    airspeed = np.sqrt(ua**2 + wa**2)
    alpha = np.arctan2(wa, ua)
    pressure_area = 0.5 * SEA_LEVEL_DENSITY * aircraft.wing_area * density_ratio(h) * airspeed**2
    rate = aircraft.chord / (2 * airspeed)

    past_stall = alpha - aircraft.stall_alpha
    lift_wing = np.minimum(
        aircraft.lift_zero + aircraft.lift_alpha * alpha,
        aircraft.maximum_lift + aircraft.post_stall_lift * past_stall,
    )
    lift = lift_wing + aircraft.lift_elevator * elevator + aircraft.lift_pitch_rate * q * rate
    drag = (
        aircraft.drag_minimum
        + aircraft.drag_induced * lift_wing**2
        + aircraft.post_stall_drag * np.maximum(past_stall, 0.0)
    )
    cos_alpha, sin_alpha = ua / airspeed, wa / airspeed
    force_x = pressure_area * (lift * sin_alpha - drag * cos_alpha)
    force_z = -pressure_area * (lift * cos_alpha + drag * sin_alpha)
    force_x = force_x + power * thrust_per_power(aircraft, airspeed, h)

    du = force_x / aircraft.mass - GRAVITY * np.sin(theta) - q * w
    dw = force_z / aircraft.mass + GRAVITY * np.cos(theta) + q * u
    alpha_rate = (ua * dw - wa * du) / airspeed**2
    moment = (
        aircraft.moment_alpha * alpha
        + (aircraft.moment_pitch_rate * q + aircraft.moment_alpha_rate * alpha_rate) * rate
        + aircraft.moment_elevator * elevator
    )
    dq = pressure_area * aircraft.chord * moment / aircraft.pitch_inertia
    dh = u * np.sin(theta) - w * np.cos(theta)
    dp = (throttle - power) / aircraft.power_lag
    return np.stack(np.broadcast_arrays(du, dw, dq, q, dh, dp))


def rk4_step(
    aircraft: Aircraft,
    state: Array,
    elevator: Any,
    throttle: Any,
    gust_u: Any = 0.0,
    gust_w: Any = 0.0,
    dt: float = 0.2,
) -> Array:
    """One step of the classical Runge-Kutta method of order 4, inputs held.

    The power follows its exponential exactly; the other five are integrated along it.

    Args:
        aircraft: The aeroplane.
        state: `(6, ...)`: u, w, q, theta, h, p.
        elevator: rad, trailing edge down positive.
        throttle: 0 to 1.
        gust_u: Velocity of the air along x, m/s.
        gust_w: Velocity of the air along z, m/s.
        dt: Length of the step, s.

    Returns:
        `(6, ...)`, the state `dt` later.
    """

    def slope(moved: Array, power: Any) -> Array:
        full = np.concatenate([moved[:5], np.broadcast_to(power, state.shape[1:])[None]])
        return derivatives(aircraft, full, elevator, throttle, gust_u, gust_w)

    lag = state[5] - throttle
    middle = throttle + lag * np.exp(-dt / 2 / aircraft.power_lag)
    end = throttle + lag * np.exp(-dt / aircraft.power_lag)
    k1 = slope(state, state[5])
    k2 = slope(state + dt / 2 * k1, middle)
    k3 = slope(state + dt / 2 * k2, middle)
    k4 = slope(state + dt * k3, end)
    new = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.concatenate([new[:5], np.broadcast_to(end, state.shape[1:])[None]])
