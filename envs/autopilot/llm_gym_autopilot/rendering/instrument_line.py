"""The instruments as one line of text, for people at a terminal and for language models."""

from __future__ import annotations

from llm_gym_autopilot.rendering.frame import CockpitFrame

__all__ = ["instrument_line"]


def instrument_line(frame: CockpitFrame) -> str:
    """Reads the instruments aloud: every value with its name, unit and, if it has one, its target.

    Args:
        frame: What to read.

    Returns:
        One line without a line end, such as `t 12.4 s | altitude 1503 m (target 1580, error +77) |
        airspeed 53.2 m/s (target 55.0, error +1.8) | climb +1.2 m/s | ...`. Errors are target minus
        actual; a positive elevator angle pushes the nose down.
    """
    now = frame.telemetry
    parts = [
        f"t {frame.time_s:.1f} s",
        f"altitude {now.altitude_m:.0f} m "
        f"(target {now.target_altitude_m:.0f}, error {now.altitude_error_m:+.0f})",
        f"airspeed {now.airspeed_mps:.1f} m/s "
        f"(target {now.target_airspeed_mps:.1f}, error {now.airspeed_error_mps:+.1f})",
        f"climb {now.climb_mps:+.1f} m/s",
        f"pitch {now.pitch_deg:+.1f} deg",
        f"angle of attack {now.alpha_deg:+.1f} deg",
        f"pitch rate {now.pitch_rate_dps:+.1f} deg/s",
        f"load factor {now.load_factor:.2f}",
        f"elevator {now.elevator_deg:+.1f} deg",
        f"throttle {100 * now.throttle:.0f} % (power {100 * now.power:.0f} %)",
        f"gust {now.gust_mps:+.1f} m/s up, {now.gust_longitudinal_mps:+.1f} m/s forward",
        f"turbulence {frame.turbulence}",
    ]
    if frame.reward is not None:
        parts.append(f"reward {frame.reward:.2f}")
    if frame.cause is not None:
        parts.append("ended by " + frame.cause.replace("_", " "))
    return " | ".join(parts)
