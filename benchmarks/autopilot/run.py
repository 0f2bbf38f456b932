"""Who flies best, does it hold in JSBSim, and what does a step cost?

Three parts, each kept in the output folder when it is done and not measured again; so an
interrupted run goes on where it stopped, trained agents included. Delete `part-NAME.json` to
measure a part anew.

- agents: PPO, SAC and DQN, trained here, beside PID, LQR and rules: return, success, how fast and
  how calmly, at every level of turbulence. Severe turbulence is in nobody's training.
- gap: the same pilots in the fast environment and, without more training, in JSBSim.
- speed: steps per CPU second beside CartPole's and JSBSim's, in turns in one process.

    python benchmarks/autopilot/run.py --quick --output runs/autopilot
    python benchmarks/autopilot/run.py --output runs/autopilot
    python benchmarks/autopilot/run.py --only speed --output runs/autopilot
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.autopilot import flight
from benchmarks.autopilot.entries import PARTS
from benchmarks.autopilot.gap import measure_gap
from benchmarks.autopilot.pilots import measure_agents
from benchmarks.autopilot.tables import print_tables
from benchmarks.common import record
from llm_gym.files.atomic import write_json


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        quick: Short trainings and few episodes.
        episodes: Flown by each pilot at each level.
        gap_episodes: The same in JSBSim, where an episode takes longer.
        rounds: Turns of each environment in part "speed".
        turn_seconds: CPU seconds of a turn.
    """

    quick: bool
    episodes: int
    gap_episodes: int
    rounds: int
    turn_seconds: float


QUICK = Settings(quick=True, episodes=100, gap_episodes=5, rounds=5, turn_seconds=0.1)
FULL = Settings(quick=False, episodes=300, gap_episodes=60, rounds=15, turn_seconds=0.4)


def parse(arguments: list[str] | None = None) -> tuple[Settings, tuple[str, ...], Path]:
    """Settings, parts and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="about 5 minutes on 2 cores")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args(arguments)
    return QUICK if options.quick else FULL, tuple(options.only or PARTS), options.output


def measure(part: str, settings: Settings, output: Path) -> dict[str, Any]:
    """Measures one part."""
    if part == "agents":
        agents = measure_agents(output, quick=settings.quick, episodes=settings.episodes, say=say)
        agents["flights"] = {pilot: flight.fly(pilot) for pilot in flight.PILOTS}
        return agents
    if part == "gap":
        return measure_gap(episodes=settings.gap_episodes, say=say)
    from benchmarks.autopilot.speed import measure_speed

    return measure_speed(rounds=settings.rounds, seconds=settings.turn_seconds, say=say)


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def finished(part: str, settings: Settings, output: Path) -> dict[str, Any] | None:
    """A part that an earlier run finished with the same settings."""
    path = output / f"part-{part}.json"
    if not path.is_file():
        return None
    result = json.loads(path.read_text(encoding="utf-8"))
    return result if result["settings"] == asdict(settings) else None


def draw(results: dict[str, Any], output: Path) -> list[str]:
    """Draws what was measured; returns the names of the files."""
    from benchmarks.autopilot import figures

    pictures = {
        "learning.png": ("agents", figures.draw_learning),
        "agents.png": ("agents", figures.draw_agents),
        "flight.png": ("agents", lambda part, path: figures.draw_flight(part["flights"], path)),
        "gap.png": ("gap", figures.draw_gap),
        "speed.png": ("speed", figures.draw_speed),
    }
    drawn = []
    for name, (part, picture) in pictures.items():
        if part in results and (part != "gap" or "rows" in results[part]):
            picture(results[part], output / name)
            drawn.append(name)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, write `results.json` and the pictures."""
    settings, parts, output = parse(arguments)
    results = record(asdict(settings))
    for part in PARTS:
        kept = finished(part, settings, output)
        if kept is None and part in parts:
            kept = record(asdict(settings))
            kept["result"] = measure(part, settings, output)
            write_json(output / f"part-{part}.json", kept)
        elif kept is not None:
            say(f"{part}: kept from {kept['started']}")
        if kept is not None:
            results[part] = kept["result"]
    write_json(output / "results.json", results)
    drawn = draw(results, output)
    print_tables(results)
    print(f"wrote {', '.join(['results.json', *drawn])} to {output}")


if __name__ == "__main__":
    main()
