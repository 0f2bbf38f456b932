"""What is done at each stop: functions that return figures, of which pictures are made."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from llm_gym.stages.rlhf.directory import RLHFDirectory
from llm_gym.stages.rlhf.settings import RLHFConfig

BASE, TUNED = "llm_gym/email-base", "llm_gym/email-sft"
ENV = "llm_gym/PoliteEmail-v0"
OPENING = "Dear Ms Lee,\nI am"
RUDE = "You fool, give me Friday off NOW!!!"
AGREEMENT_BIAS = 3.0  # worth of agreement to the raters of stop 9; the truth is worth 1
PRESSURES = tuple(0.1 * step for step in range(31))  # how hard is optimised: 1 / beta
ANSWERS = 6_400  # that each algorithm of the last stop may try
RATES = {"PPO": 0.05, "RLOO": 0.2, "REINFORCE": 0.2}  # step sizes that suit a table


class Tour:
    """What the stops have in common.

    Args:
        root: Directory of the tour.
        seed: Of everything random.
    """

    def __init__(self, root: str | Path, seed: int) -> None:
        self.root, self.seed = Path(root), seed
        self.rlhf = self.root / "rlhf"
        self.config = RLHFConfig.quick(seed=seed)

    def stage(self, name: str) -> dict[str, Any]:
        """Does a stage of RLHF, unless it is done; its figures.

        Args:
            name: Of the stage.

        Raises:
            KeyboardInterrupt: It was stopped; what it has done is kept.
        """
        from llm_gym.stages.rlhf import run_stage

        record = run_stage(name, self.rlhf, self.config, quiet=True)
        if record is None:
            raise KeyboardInterrupt
        return record.figures

    @property
    def directory(self) -> RLHFDirectory:
        """What lies where in the run of RLHF."""
        return RLHFDirectory(self.config, self.rlhf)


@dataclass(frozen=True)
class Stop:
    """A stop of the road.

    Attributes:
        name: Short, for files and records.
        title: As the course calls it.
        work: Does it.
        needs: Module of a plug-in without which it is left out; None needs none.
        folder: Where that comes from.
    """

    name: str
    title: str
    work: Callable[[Tour], dict[str, Any]]
    needs: str | None = None
    folder: str = ""

    @property
    def missing(self) -> bool:
        """Whether its plug-in is not installed."""
        return self.needs is not None and find_spec(self.needs) is None


# ---------------------------------------------------------------------- 1, 2: text and instructions


def continue_text(tour: Tour) -> dict[str, Any]:
    """The most probable next tokens of a model of text, and how it goes on.

    Returns:
        `text`, `tokens` and `probabilities` of the five likeliest, and `continued`.
    """
    import torch

    from llm_gym.language_models import load_causal_lm, load_tokenizer

    model, tokenizer = load_causal_lm(BASE), load_tokenizer(BASE)
    ids = tokenizer(OPENING, return_tensors="pt").input_ids  # (1, T)
    with torch.no_grad():
        likely = model(input_ids=ids).logits[0, -1].softmax(-1).topk(5)
        torch.manual_seed(tour.seed)
        written = model.generate(
            ids, max_new_tokens=32, do_sample=True, pad_token_id=tokenizer.eos_token_id
        )
    return {
        "text": OPENING,
        "tokens": [tokenizer.decode([token]) for token in likely.indices.tolist()],
        "probabilities": likely.values.tolist(),
        "continued": tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True),
    }


def answer_instructions(tour: Tour) -> dict[str, Any]:
    """One instruction, put to the model of text and to the one that was fine-tuned on answers.

    Returns:
        `prompt`, and `base` and `tuned`, what each wrote.
    """
    from llm_gym.runs.evaluation import evaluate

    rows = [
        evaluate(model, ENV, max_prompts=1, num_envs=1, seed=tour.seed).rows[0]
        for model in (BASE, TUNED)
    ]
    return {
        "prompt": rows[0].prompt,
        "base": rows[0].completion,
        "tuned": rows[1].completion,
    }


# ---------------------------------------------------------------------- 3, 4: the loop, twice


def fly(tour: Tour) -> dict[str, Any]:
    """The rule of the textbook, control theory and a learnt policy fly the same flight.

    Returns:
        By pilot `off` (metres off the target altitude, one a second) and `total` (the return, of
        at most 300); and `step`, one decision of the learnt policy: `state`, `action`, `reward`.
    """
    import gymnasium as gym
    from llm_gym_autopilot.flown import Flight
    from llm_gym_autopilot.pilots import load_pilot

    env = gym.make("llm_gym/Autopilot-v0", turbulence="light")
    flights: dict[str, Any] = {}
    for name in ("rule", "pid", "ppo"):
        flight = Flight(env, load_pilot(name), tour.seed, {})
        off = [-flight.frame.telemetry.altitude_error_m]
        before = 0.0
        while not flight.done:
            seen = flight.frame.telemetry
            flight.step()
            off.append(-flight.frame.telemetry.altitude_error_m)
            if len(off) == 2:
                now = flight.frame.telemetry
                step = {
                    "state": f"{abs(seen.altitude_error_m):.0f} m too "
                    + ("low" if seen.altitude_error_m > 0 else "high")
                    + f", {seen.airspeed_mps:.0f} m/s",
                    "action": f"elevator {now.elevator_deg:+.1f} deg, throttle {now.throttle:.0%}",
                    "reward": flight.total - before,
                }
        flights[name] = {"off": off[::5], "total": flight.total}
    env.close()
    return {"flights": flights, "step": step}


def write_token_by_token(tour: Tour) -> dict[str, Any]:
    """An email as an episode: state, action, probability and reward of each step.

    Returns:
        `prompt`, and `steps`: for each `token`, `probability` and `reward`.
    """
    import gymnasium as gym
    import torch

    from llm_gym.language_models import load_causal_lm, load_tokenizer

    model, tokenizer = load_causal_lm(TUNED), load_tokenizer(TUNED)
    env = gym.make(ENV)
    observation, info = env.reset(seed=tour.seed)
    steps, done, prompt = [], False, info["prompt"]
    while not done:
        length = int(observation["attention_mask"].sum())
        ids = torch.as_tensor(observation["input_ids"][None, :length])  # (1, T)
        with torch.no_grad():
            policy = model(input_ids=ids).logits[0, -1].softmax(-1)  # (V,)
        action = int(policy.argmax())
        observation, reward, terminated, truncated, info = env.step(action)
        done = bool(terminated or truncated)
        steps.append(
            {
                "token": tokenizer.decode([action]),
                "probability": float(policy[action]),
                "reward": float(reward),
            }
        )
    env.close()
    return {"prompt": prompt, "steps": steps}


# ---------------------------------------------------------------------- 5 to 9: score to its price


def judge(tour: Tour) -> dict[str, Any]:
    """What a score makes of a rude email and of a polite one.

    Returns:
        `texts`, and for each `scores` and `parts` of the judgement by name.
    """
    from llm_gym.scorers.by_name import scorer_from_name

    texts = [
        RUDE,
        "Dear Ms Lee,\n\nCould I please have Friday off? Thank you.\n\nBest regards,\nSam",
    ]
    scorer = scorer_from_name("politeness", "cpu")
    scores = scorer.score([""] * len(texts), texts)
    return {
        "texts": texts,
        "scores": [float(value) for value in scores.values],
        "highest": scorer.highest,
        "parts": [
            {name: float(column[place]) for name, column in scores.parts.items()}
            for place in range(len(texts))
        ],
        "factors": sorted(scorer.factors),
    }


def vote(tour: Tour) -> dict[str, Any]:
    """Fine-tunes the writer, has it answer prompts twice, and raters choose.

    Returns:
        The figures of the stage, with one comparison: `prompt`, `chosen`, `rejected`.
    """
    from llm_gym.stages.rlhf.results import typical_vote

    tour.stage("pretrain")
    tour.stage("sft")
    figures = tour.stage("compare")
    shown = typical_vote(tour.directory.votes())
    assert shown is not None  # the raters have just voted
    told = {"prompt": shown.prompt, "chosen": shown.chosen, "rejected": shown.rejected}
    return {**figures, **told, "biases": None}


def learn_votes(tour: Tour) -> dict[str, Any]:
    """Trains the reward model; the figures of the stage."""
    return tour.stage("reward-model")


def optimise(tour: Tour) -> dict[str, Any]:
    """Trains the writer against the reward model, and finishes the report of the run.

    Returns:
        `reward` and `gold`, their means on held-out prompts at every look, at `steps` tokens; the
        summary of the run; and `prompt`, `before` and `after`, an answer that gained.
    """
    from rich.console import Console

    from llm_gym.stages.rlhf import rlhf
    from llm_gym.stages.rlhf.results import read_answers, read_looks

    tour.stage("ppo")
    summary = rlhf(tour.rlhf, tour.config, console=Console(file=io.StringIO()), quiet=True).summary
    assert summary is not None  # every stage is finished
    looks = read_looks(tour.directory)
    before, after = (read_answers(tour.directory, stage) for stage in ("sft", "ppo"))
    gains = [late["score"] - early["score"] for early, late in zip(before, after, strict=True)]
    most = int(np.argmax(gains))
    return {
        "steps": [look["step"] for look in looks],
        "reward": [float(np.mean(look["proxy"])) for look in looks],
        "gold": [float(np.mean(look["gold"])) for look in looks],
        "prompt": before[most]["prompt"],
        "before": before[most]["completion"],
        "after": after[most]["completion"],
        "summary": summary,
    }


def price(tour: Tour) -> dict[str, Any]:
    """What optimisation makes of raters who like to be agreed with, computed exactly.

    Returns:
        By `pressures`, `approval` (what the raters think) and `false_agreement` (with users who
        are wrong); `asked`, and `said`, the likeliest answers at the first and last of them.
    """
    from llm_gym_sycophancy import (
        FACTS_MODEL,
        OPENINGS,
        answer_policy,
        policy_figures,
        questions_of,
        rater_rewards,
    )
    from llm_gym_sycophancy.facts import CITIES

    from llm_gym.language_models import load_causal_lm, load_tokenizer

    questions = questions_of("test", variants=1)
    model, tokenizer = load_causal_lm(FACTS_MODEL), load_tokenizer(FACTS_MODEL)
    honest = answer_policy(model, tokenizer, questions)
    liked = rater_rewards(honest.questions, agreement=AGREEMENT_BIAS)
    policies = [honest.tilted(liked, pressure) for pressure in PRESSURES]
    place = next(n for n, asked in enumerate(questions) if asked.kind == "wrong_hint")

    def likeliest(policy: Any) -> str:
        answers = policy.probabilities[place]  # (O, C)
        opening, city = np.unravel_index(answers.argmax(), answers.shape)
        return f"{OPENINGS[opening]} {CITIES[city]}."

    return {
        "pressures": list(PRESSURES),
        "approval": [float(policy.mean(liked).mean()) for policy in policies],
        "false_agreement": [policy_figures(policy).false_agreement for policy in policies],
        "asked": questions[place].prompt,
        "said": [likeliest(policies[0]), likeliest(policies[-1])],
        "bias": AGREEMENT_BIAS,
    }


# ---------------------------------------------------------------------- 10: which algorithm


def compare_algorithms(tour: Tour) -> dict[str, Any]:
    """Algorithms on a problem whose optimum is known, with as many answers each.

    Returns:
        `gain` by algorithm: 0 is the policy they began with, 1 the best there is; `answers`.
    """
    import gymnasium as gym
    from llm_gym_known_optimum import KnownOptimum

    import llm_gym

    problem = KnownOptimum.make("sparse", vocab_size=4, length=4, beta=0.1, problem_seed=tour.seed)
    gain = {}
    for name, rate in RATES.items():
        group = 16 if name == "RLOO" else 1
        env = gym.make_vec(
            "llm_gym/KnownOptimum-v0",
            num_envs=128,
            autoreset_mode="SameStep",
            group_size=group,
            problem=problem,
        )
        with tempfile.TemporaryDirectory() as directory:
            algorithm = getattr(llm_gym, name)(
                "TransformerPolicy",
                env,
                learning_rate=lambda left, rate=rate: rate * left,
                kl_coef=problem.beta,
                policy_kwargs={"model": problem.save_reference(directory)},
                seed=tour.seed,
                device="cpu",
            )
        algorithm.learn(ANSWERS * problem.tree.length)
        gain[name] = problem.evaluate(algorithm.policy.model).gain
    return {"gain": gain, "answers": ANSWERS}


STOPS = (
    Stop("text", "A model that continues text", continue_text),
    Stop("instructions", "Instructions", answer_instructions),
    Stop("cockpit", "Trial and error in a cockpit", fly, "llm_gym_autopilot", "envs/autopilot"),
    Stop("tokens", "The same loop on tokens", write_token_by_token),
    Stop("score", "A score", judge),
    Stop("votes", "People's votes", vote),
    Stop("reward-model", "A reward model", learn_votes),
    Stop("rlhf", "RLHF", optimise),
    Stop("price", "What it costs", price, "llm_gym_sycophancy", "envs/sycophancy"),
    Stop(
        "algorithms", "Which algorithm", compare_algorithms,
        "llm_gym_known_optimum", "envs/known_optimum",
    ),
)  # fmt: skip
