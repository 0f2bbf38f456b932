"""A language model learns to fly by words: by imitation, then by PPO; and how well it flies.

Stages, each kept in the output folder when it is done and not done again (delete
`stage-NAME.json`, or `flights-WHO.json`, to do it anew):

- imitation: a model of half a million parameters learns a teacher's answers from random weights,
  first in the teacher's flights, then in its own.
- ppo: `llm-gym train` on `llm_gym/TextCockpit-v0`; what the command would be is printed.
- flights: everybody flies the same held-out flights, by the same words.
- jsbsim: the same words in JSBSim.
- speed: CPU milliseconds a decision takes.
- prompted: `--prompted DIR`, a model that was told in its prompt how to fly, and trained by nobody.
- adapted: the same model with a LoRA adapter that has read a few hundred of the teacher's answers.

    python benchmarks/cockpit/run.py --output runs/cockpit
    python benchmarks/cockpit/run.py --output runs/cockpit --only prompted adapted --prompted DIR
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from llm_gym_autopilot import words
from llm_gym_autopilot.evaluation import FlightEvaluation, evaluate_pilot
from llm_gym_autopilot.pilots import SpokenPilot, Translated, load_pilot
from llm_gym_autopilot.pilots.language import LanguageModel

from benchmarks.cockpit.lessons import lessons
from benchmarks.cockpit.prompted import Sparing, question
from benchmarks.cockpit.school import Lessons, agreement, dagger
from benchmarks.common import columns, mean_with_interval, record, told
from llm_gym.files.atomic import write_json

LEVELS = ("none", "light", "moderate")
CRASHES = ("ground", "stall")  # at other early ends the envelope is left
AGREEMENT_LINES = 2_000  # of the first six seconds, when most is to be done
OF_PROMPTED = ("prompted", "adapted")
STAGES = ("imitation", "ppo", "flights", "jsbsim", "speed", *OF_PROMPTED)


@dataclass(frozen=True)
class Settings:
    """Settings of a run."""

    teacher: str = "ppo"  # the shipped network: it remembers nothing, as the student does
    lesson_flights: int = 400  # the teacher's, from which the student learns first
    own_flights: int = 128  # the student's, a round
    lesson_share: float = 0.5  # of all decisions
    wildness: float = 0.1
    practice: tuple[int, ...] = (60_000, 60_000, 80_000, 80_000, 100_000)  # lessons read a round
    context: int = 32
    width: int = 128
    layers: int = 1
    learning_rate: float = 2e-3
    ppo_tokens: int = 100_000
    flights: int = 334  # a level
    jsbsim_flights: int = 5
    lora_lessons: int = 64
    seed: int = 0


QUICK = Settings(
    lesson_flights=8,
    own_flights=2,
    practice=(1_000, 500),
    width=32,
    ppo_tokens=2_000,
    flights=4,
    jsbsim_flights=1,
    lora_lessons=40,
)


def imitate(settings: Settings, output: Path) -> dict[str, Any]:
    """A model of random weights learns the teacher's answers, more and more in its own flights."""
    from benchmarks.cockpit.tokenizer import give_numbers, readings_tokenizer
    from llm_gym.language_models.generation import end_with
    from llm_gym.supervised.loop import TrainingConfig, new_gpt2, save_model

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
    end_with(model, [tokenizer.eos_token_id])
    agreed: list[float] = []

    def lessons_of(number: int) -> Lessons:
        if number == 0:
            flights, wildness, student = settings.lesson_flights, settings.wildness, None
        else:
            flights, wildness, student = settings.own_flights, 0.0, LanguageModel(imitated)
        share, seed = settings.lesson_share, settings.seed + number
        met = lessons(settings.teacher, flights, share, wildness, seed, student)
        if student is not None:
            agreed.append(agreement(student, met[:AGREEMENT_LINES]))
            say(f"round {number}: {100 * agreed[-1]:.0f} % of its first answers are the teacher's")
        return met

    config = TrainingConfig(
        batch_size=64,
        learning_rate=settings.learning_rate,
        weight_decay=0.01,
        seed=settings.seed,
    )
    imitated, rounds = output / "imitated", []
    for practised in dagger(model, tokenizer, lessons_of, settings.practice, config):
        rounds.append(practised)
        save_model(model, tokenizer, imitated, "float32")
        say(f"{practised['lessons']} lessons, loss {practised['loss']:.3f}")
    met = lessons_of(len(rounds))  # flights that nothing is learnt from
    everywhere = met[:: max(1, len(met) // AGREEMENT_LINES)]
    return {
        "parameters": model.num_parameters(),
        "tokens_a_line": len(tokenizer(words.lines_of(np.zeros((1, 11)))[0])["input_ids"]),
        "rounds": rounds,
        "agreement": agreed,
        "agreement_everywhere": agreement(LanguageModel(imitated), everywhere),
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
        n_epochs=4,
        learning_rate=2e-5,
        turn_gamma=0.95,
        gae_lambda=0.98,
        kl_coef=0.05,
        critic_warmup=20,
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


def fly(settings: Settings, output: Path, wanted: Sequence[str] | None) -> dict[str, Any]:
    """Everybody in the same flights; who has flown is kept, and does not fly again."""
    rows: dict[str, Any] = {}
    for key, (label, make) in pilots(output).items():
        path = output / f"flights-{key}.json"
        if not path.is_file() and key in (wanted or pilots(output)):
            levels, started = {}, time.process_time()
            for level in LEVELS:
                pilot = make()
                evaluation = evaluate_pilot(pilot, turbulence=level, episodes=settings.flights)
                levels[level] = figures(evaluation, pilot)
                say(f"{label}, {level}: {levels[level]['return']['mean']:.1f}")
            seconds = time.process_time() - started
            write_json(path, {"label": label, "levels": levels, "cpu_seconds": seconds})
        if path.is_file():
            rows[key] = json.loads(path.read_text(encoding="utf-8"))
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
    """CPU time that one decision takes, alone."""
    speaker = LanguageModel(output / "imitated")
    lines = [line for line, _ in lessons("pid", 4, 0.2, 0.0, seed=7)][:200]
    seconds = []
    for line in lines:
        started = time.process_time()  # others may share the core
        speaker.answer([line], None, None)
        seconds.append(time.process_time() - started)
    low, median, high = np.percentile(np.array(seconds[20:]) * 1000, [5, 50, 95]).tolist()
    return {"milliseconds": {"low": low, "median": median, "high": high}, "decisions": 180}


def fly_prompted(model: Path, flights: int = 2, every: int = 60) -> dict[str, Any]:
    """A model that was only told how to fly."""
    return fly_sparingly(
        LanguageModel(model, question=question(), max_turn_tokens=12), flights, every
    )


def fly_adapted(settings: Settings, model: Path, output: Path) -> dict[str, Any]:
    """The same model with a LoRA adapter that has read a few lessons of the teacher's flights."""
    from llm_gym.supervised.sft import SFTConfig, fine_tune

    pairs = lessons(settings.teacher, 30, settings.lora_lessons / 9_000, settings.wildness, seed=1)
    config = SFTConfig(
        prompt_template="{prompt}:",  # the model's own template has thirty tokens more
        batch_size=4,
        learning_rate=1e-3,
        lora_rank=16,
        held_out_share=0.05,
        seed=settings.seed,
    )
    rows = [{"prompt": line, "completion": answer} for line, answer in pairs]
    started = time.process_time()
    metrics = fine_tune(model, rows, output / "adapted", config, quiet=True)
    told_of = {"lessons": len(pairs), "training_cpu_seconds": time.process_time() - started}
    told_of["perplexity"] = metrics["held_out_answer_perplexity"]
    speaker = LanguageModel(output / "adapted", max_turn_tokens=12)
    return told_of | fly_sparingly(speaker, flights=2, every=30)


def fly_sparingly(speaker: LanguageModel, flights: int, every: int) -> dict[str, Any]:
    """Flights of a slow speaker, which is asked once in `every` steps."""
    sparing = Sparing(speaker, every)
    pilot = SpokenPilot(sparing)
    level = figures(evaluate_pilot(pilot, turbulence="light", episodes=flights), pilot)
    level["said"] = sparing.said[:8]
    level["asked"] = sparing.understood.tolist()
    return {"flights": flights, "every": every, "levels": {"light": level}}


def figures(evaluation: FlightEvaluation, pilot: Any) -> dict[str, Any]:
    """What is told of somebody's flights at a level."""
    understood = getattr(pilot, "understood", None)
    return {
        "return": mean_with_interval(evaluation.measures["return"]),
        "success": evaluation.means["success"]._asdict(),
        "ended_early": sum(cause is not None for cause in evaluation.causes),
        "crashed": sum(cause in CRASHES for cause in evaluation.causes),
        "causes": {
            evaluation.seed + flight: cause
            for flight, cause in enumerate(evaluation.causes)
            if cause is not None
        },
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
        rows = [
            ["", *(f"return, {level}" for level in LEVELS), "success %", "ended early", "crashed"]
        ]
        for row in results["flights"].values():
            levels = [row["levels"][level] for level in LEVELS]
            rows.append(
                [
                    row["label"],
                    *(told(level["return"], 1) for level in levels),
                    " / ".join(f"{100 * level['success']['mean']:.0f}" for level in levels),
                    f"{sum(level['ended_early'] for level in levels)} of "
                    f"{sum(level['flights'] for level in levels)}",
                    str(sum(level["crashed"] for level in levels)),
                ]
            )
        print(columns(rows))
    for row in results.get("jsbsim", {}).values():
        for level, found in row["levels"].items():
            there, difference = told(found["there"], 1), told(found["difference"], 2)
            print(f"{row['label']}, {level}: {there} in JSBSim, difference {difference}")
    for name in ("imitation", "ppo", "speed", *OF_PROMPTED):
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
    parser.add_argument(
        "--pilots", nargs="+", choices=pilots(Path()), metavar="WHO", help="who flies; default: all"
    )
    options = parser.parse_args(arguments)
    settings, output = QUICK if options.quick else Settings(), options.output
    do = {
        "imitation": lambda: imitate(settings, output),
        "ppo": lambda: reinforce(settings, output),
        "flights": lambda: fly(settings, output, options.pilots),
        "jsbsim": lambda: fly_in_jsbsim(settings, output),
        "speed": lambda: time_decisions(settings, output),
        "prompted": lambda: fly_prompted(options.prompted),
        "adapted": lambda: fly_adapted(settings, options.prompted, output),
    }
    results = record(asdict(settings))
    for stage in STAGES:
        path = output / f"stage-{stage}.json"
        wanted = stage in (options.only or STAGES) and (
            stage not in OF_PROMPTED or options.prompted
        )
        if wanted and (stage == "flights" or not path.is_file()):  # who has flown does not again
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
