"""A language model learns to fly by words: by imitation, then by PPO; and how well it flies.

Stages, each kept in the output folder when it is done and not done again (delete
`stage-NAME.json` to do it anew):

- imitation: a model of half a million parameters learns a teacher's answers, from random weights.
- ppo: `llm-gym train` on `llm_gym/TextCockpit-v0`; what the command would be is printed.
- flights: everybody flies the same held-out flights, by the same words.
- jsbsim: the same words in JSBSim.
- speed: milliseconds a decision takes on one core.
- prompted: `--prompted DIR`, a model that was told in its prompt how to fly, and trained by nobody.

    python benchmarks/cockpit/run.py --output runs/cockpit
    python benchmarks/cockpit/run.py --output runs/cockpit --only prompted --prompted models/smollm2
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llm_gym_autopilot.evaluation import FlightEvaluation, evaluate_pilot
from llm_gym_autopilot.pilots import SpokenPilot, Translated, load_pilot
from llm_gym_autopilot.pilots.language import LanguageModel

from benchmarks.cockpit.lessons import lessons
from benchmarks.cockpit.prompted import Sparing, question
from benchmarks.common import columns, mean_with_interval, record, told
from llm_gym.files.atomic import write_json

LEVELS = ("none", "light", "moderate")
STAGES = ("imitation", "ppo", "flights", "jsbsim", "speed", "prompted")


@dataclass(frozen=True)
class Settings:
    """Settings of a run."""

    teacher: str = "ppo"  # the shipped network: it remembers nothing, as the student does
    lesson_flights: int = 1600
    lesson_share: float = 0.2
    wildness: float = 0.04
    context: int = 32
    width: int = 128
    layers: int = 1
    epochs: int = 1
    learning_rate: float = 3e-3
    ppo_tokens: int = 70_000
    flights: int = 334  # a level
    model_flights: int = 30  # of language models, which take longer
    jsbsim_flights: int = 5
    seed: int = 0


QUICK = Settings(
    lesson_flights=8,
    epochs=1,
    width=32,
    ppo_tokens=2_000,
    flights=4,
    model_flights=2,
    jsbsim_flights=1,
)


def imitate(settings: Settings, output: Path) -> dict[str, Any]:
    """A tokenizer and a model of random weights learn the teacher's answers."""
    from benchmarks.cockpit.tokenizer import give_numbers, readings_tokenizer
    from llm_gym.supervised.loop import new_gpt2, save_model
    from llm_gym.supervised.sft import SFTConfig, fine_tune

    pairs = lessons(
        settings.teacher,
        settings.lesson_flights,
        settings.lesson_share,
        settings.wildness,
        settings.seed,
    )
    tokenizer = readings_tokenizer(settings.context)
    model = new_gpt2(
        tokenizer,
        context=settings.context,
        width=settings.width,
        layers=settings.layers,
        heads=4,
        seed=settings.seed,
    )
    give_numbers(model, tokenizer, settings.seed)
    output.mkdir(parents=True, exist_ok=True)
    save_model(model, tokenizer, output / "random", "float32")
    config = SFTConfig(
        epochs=settings.epochs,
        batch_size=64,
        learning_rate=settings.learning_rate,
        weight_decay=0.01,
        held_out_share=0.02,
        seed=settings.seed,
    )
    rows = [{"prompt": line, "completion": answer} for line, answer in pairs]
    metrics = fine_tune(output / "random", rows, output / "imitated", config, quiet=True)
    return {
        "parameters": model.num_parameters(),
        "pairs": len(pairs),
        "tokens_a_line": len(tokenizer(pairs[0][0])["input_ids"]),
        "perplexity": metrics["held_out_answer_perplexity"],
    }


def reinforce(settings: Settings, output: Path) -> dict[str, Any]:
    """`llm-gym train` in the cockpit, from the model that imitates."""
    from llm_gym.stages.train import TrainConfig, train

    config = TrainConfig(
        model=str(output / "imitated"),
        world="llm_gym/TextCockpit-v0",
        max_turns=300,
        turns_in_context=1,
        max_turn_tokens=8,
        context_length=settings.context,
        eval_conversations=0,
        num_envs=32,
        n_steps=64,
        batch_size=512,
        n_epochs=2,
        learning_rate=5e-5,
        turn_gamma=0.95,
        gae_lambda=0.98,
        kl_coef=0.05,
        critic_warmup=12,
        clip_range=0.2,
        total_tokens=settings.ppo_tokens,
        checkpoint_every=10,
        seed=settings.seed,
    )
    run = train(output / "ppo", config, resume=(output / "ppo" / "checkpoints").exists())
    curve = run.history.curve("rollout/ep_rew_mean")
    return {"tokens": settings.ppo_tokens, "returns": [list(map(float, part)) for part in curve]}


def pilots(output: Path) -> dict[str, tuple[str, Callable[[], Any]]]:
    """Who flies: a name, and how the pilot is made."""
    imitated, trained = output / "imitated", output / "ppo" / "model"

    def by_words(name: str) -> Callable[[], Any]:
        return lambda: SpokenPilot(Translated(load_pilot(name)))

    return {
        "rule": ("the rule of the talk, by words", by_words("rule")),
        "pid-numbers": ("tuned PID, by numbers", lambda: load_pilot("pid")),
        "pid": ("tuned PID, by words", by_words("pid")),
        "mlp-numbers": ("network by PPO, by numbers", lambda: load_pilot("ppo")),
        "mlp": ("network by PPO, by words", by_words("ppo")),
        "imitated": ("language model, imitating", lambda: load_pilot(imitated)),
        "imitated-drawn": ("the same, words drawn", lambda: load_pilot(imitated, temperature=1.0)),
        "lm": ("language model, then PPO", lambda: load_pilot(trained)),
        "lm-drawn": ("the same, words drawn", lambda: load_pilot(trained, temperature=1.0)),
    }


def fly(settings: Settings, output: Path) -> dict[str, Any]:
    """Everybody in the same flights."""
    rows: dict[str, Any] = {}
    for key, (label, make) in pilots(output).items():
        speaks = key.startswith(("imitated", "lm"))
        number = settings.model_flights if speaks else settings.flights
        rows[key] = {"label": label, "levels": {}}
        for level in LEVELS:
            pilot = make()
            rows[key]["levels"][level] = figures(
                evaluate_pilot(pilot, turbulence=level, episodes=number), pilot
            )
            say(f"{label}, {level}: {rows[key]['levels'][level]['return']['mean']:.1f}")
    return rows


def fly_in_jsbsim(settings: Settings, output: Path) -> dict[str, Any]:
    """The same flights here and there."""
    found: dict[str, Any] = {}
    for key in ("pid", "imitated"):
        label, make = pilots(output)[key]
        found[key] = {"label": label, "levels": {}}
        for level in ("none", "moderate"):
            here = evaluate_pilot(make(), turbulence=level, episodes=settings.jsbsim_flights)
            there = evaluate_pilot(make(), "jsbsim", level, settings.jsbsim_flights)
            found[key]["levels"][level] = {
                "here": mean_with_interval(here.measures["return"]),
                "there": mean_with_interval(there.measures["return"]),
                "difference": mean_with_interval(
                    there.measures["return"] - here.measures["return"]
                ),
            }
    return found


def time_decisions(settings: Settings, output: Path) -> dict[str, Any]:
    """How long one decision takes, alone."""
    import numpy as np

    speaker = LanguageModel(output / "imitated")
    lines = [line for line, _ in lessons("pid", 4, 0.2, 0.0, seed=7)][:200]
    seconds = []
    for line in lines:
        started = time.perf_counter()
        speaker.answer([line], None, None)
        seconds.append(time.perf_counter() - started)
    low, median, high = np.percentile(np.array(seconds[20:]) * 1000, [5, 50, 95]).tolist()
    return {"milliseconds": {"low": low, "median": median, "high": high}, "decisions": 180}


def fly_prompted(model: Path, flights: int = 2, every: int = 60) -> dict[str, Any]:
    """A model that was only told how to fly, asked once in `every` steps."""
    found: dict[str, Any] = {"flights": flights, "every": every, "levels": {}}
    for level in ("light",):
        speaker = LanguageModel(model, question=question(), max_turn_tokens=12)
        pilot = SpokenPilot(Sparing(speaker, every))
        evaluation = evaluate_pilot(pilot, turbulence=level, episodes=flights)
        found["levels"][level] = figures(evaluation, pilot)
        found["levels"][level]["said"] = pilot.speaker.said[:8]
        found["levels"][level]["asked"] = pilot.speaker.understood.tolist()
    return found


def figures(evaluation: FlightEvaluation, pilot: Any) -> dict[str, Any]:
    """What is told of somebody's flights at a level."""
    understood = getattr(pilot, "understood", None)
    return {
        "return": mean_with_interval(evaluation.measures["return"]),
        "success": evaluation.means["success"]._asdict(),
        "ended_early": sum(cause is not None for cause in evaluation.causes),
        "causes": sorted({str(cause) for cause in evaluation.causes if cause is not None}),
        "flights": len(evaluation.causes),
        "elevator_deg": evaluation.means["elevator_deg_per_step"].mean,
        "not_understood": None
        if understood is None
        else 1 - float(understood[0]) / float(understood[1]),
    }


# ---------------------------------------------------------------------- telling


def print_tables(results: dict[str, Any]) -> None:
    """What was measured, as plain text."""
    if "flights" in results:
        rows = [["", *(f"return, {level}" for level in LEVELS), "success %", "ended early"]]
        for row in results["flights"].values():
            levels = [row["levels"][level] for level in LEVELS]
            rows.append(
                [
                    row["label"],
                    *(told(level["return"], 1) for level in levels),
                    " / ".join(f"{100 * level['success']['mean']:.0f}" for level in levels),
                    f"{sum(level['ended_early'] for level in levels)} of "
                    f"{sum(level['flights'] for level in levels)}",
                ]
            )
        print(columns(rows))
    for row in results.get("jsbsim", {}).values():
        for level, found in row["levels"].items():
            there, difference = told(found["there"], 1), told(found["difference"], 2)
            print(f"{row['label']}, {level}: {there} in JSBSim, difference {difference}")
    for name in ("imitation", "ppo", "speed", "prompted"):
        if name in results:
            print(
                f"{name}: {json.dumps({k: v for k, v in results[name].items() if k != 'returns'})}"
            )


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Goes through the stages, prints the tables and writes `results.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--only", nargs="+", choices=STAGES, metavar="STAGE")
    parser.add_argument("--prompted", type=Path, metavar="DIR", help="a model that can be told")
    options = parser.parse_args(arguments)
    settings, output = QUICK if options.quick else Settings(), options.output
    do = {
        "imitation": lambda: imitate(settings, output),
        "ppo": lambda: reinforce(settings, output),
        "flights": lambda: fly(settings, output),
        "jsbsim": lambda: fly_in_jsbsim(settings, output),
        "speed": lambda: time_decisions(settings, output),
        "prompted": lambda: fly_prompted(options.prompted),
    }
    results = record(asdict(settings))
    for stage in STAGES:
        path = output / f"stage-{stage}.json"
        wanted = stage in (options.only or STAGES) and (stage != "prompted" or options.prompted)
        if not path.is_file() and wanted:
            started = time.process_time()
            found = do[stage]()
            write_json(path, found | {"cpu_seconds": time.process_time() - started})
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8"))
            seconds = kept.pop("cpu_seconds")
            say(f"{stage}: {seconds:.0f} CPU s")
            results[stage] = kept
    write_json(output / "results.json", results)
    print_tables(results)


if __name__ == "__main__":
    main()
