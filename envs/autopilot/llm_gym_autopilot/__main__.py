"""Small commands around the aeroplane.

python -m llm_gym_autopilot modes --speed 54    its natural motions, next to the textbook's
python -m llm_gym_autopilot tune pid            how the shipped gains were found
python -m llm_gym_autopilot evaluate pid lqr    how well pilots fly
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from llm_gym_autopilot.aircraft import AIRCRAFT, NAVION, find_aircraft
from llm_gym_autopilot.modes import NELSON, Modes, find_modes
from llm_gym_autopilot.trim import trim

_ROW = "{:<40}{:>9}{:>9}{:>9}{:>9}{:>9}"


def modes_table(aircraft_name: str, speed: float, altitude: float) -> str:
    """Short period and phugoid, and the book's where it has them.

    Args:
        aircraft_name: A key of `AIRCRAFT`.
        speed: m/s.
        altitude: m.

    Returns:
        Lines of text.

    Raises:
        ValueError: An unknown aeroplane, or a speed at which it cannot fly level.
    """
    aircraft = find_aircraft(aircraft_name)
    if not aircraft.minimum_airspeed <= speed <= aircraft.maximum_airspeed:
        raise ValueError(
            f"--speed {speed:g} must be from {aircraft.minimum_airspeed:g} to "
            f"{aircraft.maximum_airspeed:g} m/s"
        )
    controls = trim(aircraft, speed, altitude)
    lines = [
        f"{aircraft.name} at {speed:g} m/s and {altitude:g} m: alpha {controls.alpha:.4f} rad, "
        f"elevator {controls.elevator:.4f} rad, throttle {controls.throttle:.3f}",
        "",
        _ROW.format("", "real", "imag", "omega", "zeta", "period"),
    ]
    rows = [
        ("thrust that falls with speed", find_modes(aircraft, speed, altitude)),
        ("constant thrust", find_modes(aircraft, speed, altitude, constant_thrust=True)),
    ]
    if aircraft is NAVION:
        reference = find_modes(aircraft, aircraft.reference_airspeed, constant_thrust=True)
        rows.append(("constant thrust, 53.6 m/s, sea level", reference))
        rows.append(("the same in the book (Nelson)", NELSON))
    for name in Modes._fields:
        lines.append(name.replace("_", " "))
        for label, modes in rows:
            mode = getattr(modes, name)
            numbers = (mode.real, mode.imaginary, mode.frequency, mode.damping)
            lines.append(
                _ROW.format(f"  {label}", *(f"{n:.4f}" for n in numbers), f"{mode.period:.2f} s")
            )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: Arguments; None takes the process's.

    Returns:
        Exit code.
    """
    parser = argparse.ArgumentParser(prog="python -m llm_gym_autopilot")
    commands = parser.add_subparsers(dest="command", required=True)
    modes = commands.add_parser("modes", help="natural motions of the aeroplane")
    modes.add_argument("--aircraft", default="navion", help=", ".join(AIRCRAFT))
    modes.add_argument("--speed", type=float, default=54.0, help="m/s (54)")
    modes.add_argument("--altitude", type=float, default=0.0, help="m (0)")
    commands.add_parser("tune", help="search for the gains of a pilot", add_help=False)
    commands.add_parser("evaluate", help="fly pilots and print how well", add_help=False)
    options, rest = parser.parse_known_args(argv)
    if options.command == "tune":
        from llm_gym_autopilot.pilots import tuning

        return tuning.main(rest)
    if options.command == "evaluate":
        from llm_gym_autopilot import evaluation

        return evaluation.main(rest)
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    print(modes_table(options.aircraft, options.speed, options.altitude))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"error: {error}")
