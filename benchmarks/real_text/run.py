"""From a text file to a model that pleases a scorer: pre-training, then PPO, on real text.

A part of the text is held out first. A small model is trained from scratch on the rest; prompts
are cut from the held-out part, some to train on by PPO and others to measure on, which the model
never trains on. A scorer of your own is a plain function in a file:

    def score(prompts, completions):
        return [float(len(completion)) for completion in completions]

    python benchmarks/real_text/run.py --data tinyshakespeare/input.txt --output runs/shakespeare
    python benchmarks/real_text/run.py --data politeness/wikipedia.jsonl --output runs/requests
    python benchmarks/real_text/run.py --data my.txt --scorer my_scorer.py:score --output runs/mine
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.common import mean_with_interval, record
from benchmarks.real_text.prompts import cut_prompts, split_prompts
from llm_gym.files.atomic import write_json

if TYPE_CHECKING:
    from llm_gym import PPO
    from llm_gym.runs.callbacks import History
    from llm_gym.runs.evaluation import Evaluation

# By the kind of file, where --scorer is not given.
DEFAULT_SCORERS = {".jsonl": "courtesy", "": "warmth"}


@dataclass(frozen=True)
class Settings:
    """What to do; the command line offers those that are worth changing."""

    data: str = ""  # .txt (one document), or rows with "text" (.jsonl, .csv ...)
    scorer: str = ""  # path.py:function, or a name as in `llm-gym train --scorer`
    seed: int = 0
    held_out_share: float = 0.2  # of the text
    prompt_words: int = 8
    max_prompt_tokens: int = 48  # of longer prompts the last tokens are kept
    max_new_tokens: int = 40
    pretrain_steps: int = 1000
    iterations: int = 60  # of PPO, each of `episodes` completions
    episodes: int = 64
    learning_rate: float = 3e-4
    kl_coef: float = 0.02  # per nat; the scorer's best is 1 an answer
    vf_coef: float = 0.1  # of PPO, as by default
    measured_prompts: int = 256
    shown: int = 4  # samples before and after
    device: str = "cpu"

    def quick(self) -> Settings:
        """A look at whether it works, in about a minute."""
        return replace(self, pretrain_steps=60, iterations=6, episodes=32, measured_prompts=64)


def parse(arguments: list[str] | None = None) -> tuple[Settings, Path]:
    """Settings and output folder from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--scorer", metavar="PATH.py:FUNCTION")
    parser.add_argument("--quick", action="store_true", help="about a minute, learns little")
    defaults = Settings()
    for name in ("seed", "prompt_words", "max_new_tokens", "pretrain_steps", "iterations"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"({default})")
    for name in ("kl_coef", "vf_coef"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help=f"({default})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = vars(parser.parse_args(arguments))
    data, output, quick = options.pop("data"), options.pop("output"), options.pop("quick")
    if not data.is_file():
        parser.error(f"--data {data}: there is no such file")
    settings = defaults.quick() if quick else defaults
    chosen = {name: value for name, value in options.items() if value is not None}
    if "scorer" not in chosen:
        function = DEFAULT_SCORERS.get(data.suffix, DEFAULT_SCORERS[""])
        chosen["scorer"] = f"{Path(__file__).with_name('scorers.py')}:{function}"
    return replace(settings, data=str(data), **chosen), output


def pretrain_on(settings: Settings, documents: list[str], held_out: list[str], model: Path) -> Any:
    """Trains tokenizer and model from scratch; returns the metrics of pre-training."""
    from llm_gym.supervised.pretrain import PretrainConfig, pretrain

    config = PretrainConfig(
        steps=settings.pretrain_steps,
        seed=settings.seed,
        context=max(192, settings.max_prompt_tokens + settings.max_new_tokens),
        device=settings.device,
    )
    return pretrain(documents, model, config, held_out=held_out)


def environment_kwargs(settings: Settings, model: Path, prompts: list[str]) -> dict[str, Any]:
    """Arguments of the text environment, for training and for measuring alike."""
    from llm_gym.language_models.loading import load_tokenizer
    from llm_gym.scorers.by_name import scorer_from_name

    return {
        "tokenizer": load_tokenizer(str(model)),
        "prompts": prompts,
        "scorer": scorer_from_name(settings.scorer),
        "max_prompt_tokens": settings.max_prompt_tokens,
        "too_long": "truncate",
        "max_new_tokens": settings.max_new_tokens,
    }


def train_by_ppo(
    settings: Settings, model: Path, prompts: list[str], output: Path
) -> tuple[PPO, History]:
    """Trains the model on the prompts; returns the algorithm and its curves.

    Raises:
        SystemExit: Training was interrupted; there is nothing to compare then.
    """
    import gymnasium as gym

    import llm_gym
    from llm_gym.stages.training_run import run

    environment = gym.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=settings.episodes,
        autoreset_mode="SameStep",
        **environment_kwargs(settings, model, prompts),
    )
    algorithm = llm_gym.PPO(
        "TransformerPolicy",
        environment,
        batch_size=settings.episodes * settings.max_new_tokens // 4,
        learning_rate=settings.learning_rate,
        kl_coef=settings.kl_coef,
        vf_coef=settings.vf_coef,
        policy_kwargs={"model": str(model)},
        seed=settings.seed,
        device=settings.device,
    )
    tokens = settings.iterations * settings.episodes * settings.max_new_tokens
    training = run(algorithm, tokens, output, checkpoint_every=settings.iterations, keep_last=1)
    if training.stopped:
        raise SystemExit("interrupted: there is no result; run the same command again")
    return algorithm, training.history


def compare(
    algorithm: PPO, model: Path, before: Evaluation, after: Evaluation
) -> dict[str, dict[str, float]]:
    """Score before, after and their difference by prompt, with intervals; perplexity and KL."""
    from llm_gym.language_models.loading import load_causal_lm
    from llm_gym.runs.evaluation import perplexity_under, sequence_kl

    start = load_causal_lm(model).to(algorithm.device)
    scores = [[row.score for row in evaluation.rows] for evaluation in (before, after)]
    gains = [new - old for old, new in zip(*scores, strict=True)]
    perplexities = [perplexity_under(start, evaluation.rows) for evaluation in (before, after)]
    return {
        "score_before": mean_with_interval(scores[0]),
        "score_after": mean_with_interval(scores[1]),
        "score_gain": mean_with_interval(gains),
        "perplexity_of_answers": {
            "before": perplexities[0],
            "after": perplexities[1],
            "ratio": perplexities[1] / perplexities[0],
        },
        "kl_nats_per_answer": {
            "mean": sequence_kl(algorithm.policy.model, start, after.rows),
        },
    }


def samples_of(before: Evaluation, after: Evaluation, count: int) -> list[dict[str, Any]]:
    """The first `count` measured prompts with the answers before and after."""
    pairs = zip(before.rows[:count], after.rows[:count], strict=True)
    return [
        {
            "prompt": old.prompt,
            "before": old.completion,
            "score_before": old.score,
            "after": new.completion,
            "score_after": new.score,
        }
        for old, new in pairs
    ]


def print_results(results: dict[str, Any]) -> None:
    """The figures as a table, then the samples."""
    figures, pretraining = results["figures"], results["pretraining"]
    print(
        f"pre-training: held-out perplexity {pretraining['held_out_perplexity_before']:.0f} -> "
        f"{pretraining['held_out_perplexity']:.1f} per token, "
        f"{pretraining['held_out_bits_per_byte']:.2f} bits per byte"
    )
    for name in ("score_before", "score_after", "score_gain"):
        row = figures[name]
        print(f"{name:>13}: {row['mean']:.3f} (95 %: {row['low']:.3f} to {row['high']:.3f})")
    perplexity = figures["perplexity_of_answers"]
    print(
        f"perplexity of the answers under the pre-trained model: {perplexity['before']:.1f} -> "
        f"{perplexity['after']:.1f}; KL {figures['kl_nats_per_answer']['mean']:.1f} nats an answer"
    )
    for sample in results["samples"]:
        print(f"\nprompt: {sample['prompt']!r}")
        for moment in ("before", "after"):
            print(f"  {moment:>6} ({sample[f'score_{moment}']:.2f}): {sample[moment]!r}")


def draw(results: dict[str, Any], history: History, path: Path) -> None:
    """Score and KL in training, and the score before and after on held-out prompts."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    for axis, key, label in (
        (axes[0], "rollout/ep_rew_mean", "score in training"),
        (axes[1], "rollout/kl_per_sequence", "KL to the pre-trained model, nats an answer"),
    ):
        axis.plot(*history.curve(key))
        axis.set(xlabel="tokens", title=label)
    rows = [results["figures"][f"score_{moment}"] for moment in ("before", "after")]
    below = [row["mean"] - row["low"] for row in rows]
    above = [row["high"] - row["mean"] for row in rows]
    axes[2].bar(["before", "after"], [row["mean"] for row in rows], yerr=[below, above], capsize=6)
    axes[2].set(title="score on held-out prompts, 95 %")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Pre-train, train, compare, print, write `results.json` and `real_text.png`."""
    settings, output = parse()
    from llm_gym.runs.evaluation import evaluate
    from llm_gym.supervised.pretrain import read_documents, split_held_out

    results = record(asdict(settings))
    model = output / "pretrained"
    documents = read_documents(settings.data)
    documents, held_out = split_held_out(documents, settings.held_out_share, settings.seed)
    prompts = cut_prompts(held_out, settings.prompt_words)
    for_training, for_measuring = split_prompts(prompts, settings.measured_prompts, settings.seed)
    results["prompts"] = {"training": len(for_training), "measuring": len(for_measuring)}
    results["pretraining"] = pretrain_on(settings, documents, held_out, model)
    measuring = environment_kwargs(settings, model, for_measuring)
    before = evaluate(str(model), measuring, seed=settings.seed, device=settings.device)
    algorithm, history = train_by_ppo(settings, model, for_training, output / "ppo")
    after = evaluate(algorithm, measuring, seed=settings.seed)
    results["figures"] = compare(algorithm, model, before, after)
    results["samples"] = samples_of(before, after, settings.shown)
    write_json(output / "results.json", results)
    draw(results, history, output / "real_text.png")
    print_results(results)
    print(f"\nwrote {output / 'results.json'} and {output / 'real_text.png'}")


if __name__ == "__main__":
    main()
