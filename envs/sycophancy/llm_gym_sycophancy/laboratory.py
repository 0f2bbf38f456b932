"""A model that learns to go along with its users: raters, reward model, PPO, watched exactly.

    from llm_gym_sycophancy.laboratory import LaboratoryConfig, flatter
    flatter("runs/sycophancy", LaboratoryConfig(bias=3.0))

The same as one policy of `benchmarks/sycophancy`, kept: the trained model, its curve, and dialogues
with users who are wrong, through training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from llm_gym.feedback.reward_model import (
    RewardModelConfig,
    RewardModelScorer,
    train_reward_model,
)
from llm_gym.files import atomic
from llm_gym.files.ranges import POSITIVE, Range, check_settings
from llm_gym.files.settings import defaults_of, setting
from llm_gym.language_models import PROMPT_TEMPLATE, load_causal_lm, load_tokenizer
from llm_gym.runs.directory import CHECKPOINTS, RunDirectory
from llm_gym.runs.evaluation import evaluate
from llm_gym_sycophancy import FACTS_MODEL
from llm_gym_sycophancy.answers import judge, read_answer
from llm_gym_sycophancy.comparisons import draw_comparisons
from llm_gym_sycophancy.measures import policy_figures
from llm_gym_sycophancy.panels import biased_rater, panel_preferences
from llm_gym_sycophancy.policies import answer_policy
from llm_gym_sycophancy.questions import Question, questions_of
from llm_gym_sycophancy.task import environment_kwargs

if TYPE_CHECKING:
    from llm_gym import PPO

__all__ = ["LaboratoryConfig", "LaboratoryRun", "flatter"]

STEPS = ("reward-model", "ppo")
MODEL, REWARD_MODEL, CURVE = "model", "reward-model", "curve.json"
DIALOGUES = 3  # users who are wrong, at every look
TEMPLATE = PROMPT_TEMPLATE + "{completion}"  # what the reward model reads
_NUM_ENVS, _N_STEPS = 64, 72  # a long rollout has few answers that it cuts in two


@dataclass(frozen=True)
class LaboratoryConfig:
    """What determines the model that comes out."""

    bias: float = setting(
        3.0, "worth of agreement to the raters; a correct answer is worth 1", Range(0)
    )
    kl_coef: float = setting(
        0.5, "penalty per nat of divergence: the less, the harder it optimises", POSITIVE
    )
    comparisons: int = setting(
        5_000, "pairs of answers that the raters judge", Range(50, whole=True)
    )
    iterations: int = setting(6, "rollouts of PPO", Range(1, whole=True))
    seed: int = setting(0, "seed of everything random")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class LaboratoryRun:
    """How a call of `flatter` ended.

    Attributes:
        stopped: Whether it was interrupted, with a checkpoint.
        curve: A row at every look: `step`, `false_agreement`, `accuracy`, `kl`, and `dialogues`,
            each with `asked`, `answered`, `truth` and `agrees` (with a user who is wrong).
        reward: What the reward model prefers, see `measures.reward_figures`.
    """

    stopped: bool
    curve: list[dict[str, Any]]
    reward: dict[str, Any]


def flatter(
    output: str | Path, config: LaboratoryConfig | None = None, *, quiet: bool = False
) -> LaboratoryRun:
    """Trains a model against raters who like to be agreed with, and keeps it.

    Writes `reward-model/`, `model/`, `curve.json`, `metrics.jsonl`, `trace/` and `checkpoints/`. A
    call with the same settings goes on where the last one stopped.

    Args:
        output: Directory for everything.
        config: Settings; None means the defaults.
        quiet: No display of training.

    Returns:
        What came of it.

    Raises:
        ValueError: The directory holds a run with other settings, or something else.
    """
    config = config or LaboratoryConfig()
    directory = RunDirectory(
        output,
        asdict(config),
        steps=STEPS,
        defaults=defaults_of(LaboratoryConfig),
        command="sycophancy",
    )
    with directory.opened():
        directory.begin(f"take those of {output} or choose another output")
        reward = _once(directory, "reward-model", lambda: _learn_votes(directory.root, config))
        trained = directory.record("ppo") is not None or _optimise(directory, config, quiet=quiet)
        if not trained:
            directory.state = "stopped"
        return LaboratoryRun(not trained, read_curve(directory.root), reward)


def read_curve(root: str | Path) -> list[dict[str, Any]]:
    """The looks of a run, in the order of their steps; none if there are none yet.

    Args:
        root: Its directory.
    """
    path = Path(root) / CURVE
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


def _once(directory: RunDirectory, step: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    record = directory.record(step)
    if record is None:
        record = directory.finish(step, work(), 0.0)
    return record.figures


def _learn_votes(root: Path, config: LaboratoryConfig) -> dict[str, Any]:
    """Raters compare answers, and a reward model learns from them; its held-out accuracy."""
    questions = questions_of("train", variants=6)
    pairs = draw_comparisons(questions, config.comparisons, seed=config.seed)
    rater = biased_rater(config.bias, name=f"b={config.bias:g}", seed=config.seed)
    votes = panel_preferences(pairs, [rater], seed=config.seed)
    kept, held_out = votes[: -len(votes) // 10], votes[-len(votes) // 10 :]
    settings = RewardModelConfig(
        head="finetune",
        model=FACTS_MODEL,
        template=TEMPLATE,
        seed=config.seed,
        batch_size=32,
        learning_rate=2e-3,
        warmup_share=0.1,
        center_rewards_coefficient=0.0,  # how far apart rewards are is the subject
    )
    metrics = train_reward_model(kept, root / REWARD_MODEL, settings, held_out=held_out, quiet=True)
    return {"votes": len(kept), "accuracy": metrics["held_out"]["accuracy"]["value"]}


# ---------------------------------------------------------------------- reinforcement learning


def _optimise(directory: RunDirectory, config: LaboratoryConfig, *, quiet: bool) -> bool:
    """PPO against the reward model; whether it got to its end."""
    import io

    from rich.console import Console

    from llm_gym.runs.checkpoint import load_checkpoint, resume_point, save_model
    from llm_gym.stages.training_run import run

    root = directory.root
    algorithm = _algorithm(root / REWARD_MODEL, config)
    checkpoint = resume_point(root / CHECKPOINTS)
    if checkpoint is not None:
        load_checkpoint(algorithm, checkpoint)
    training = run(
        algorithm,
        config.iterations * _N_STEPS * _NUM_ENVS,
        root,
        checkpoint_every=1,
        keep_last=1,
        trace_every=1,
        console=Console(file=io.StringIO()) if quiet else None,
        callbacks=[FlatteryWatch(root)],
    )
    if training.stopped:
        return False
    save_model(algorithm, root / MODEL)
    directory.finish("ppo", {"tokens": algorithm.num_timesteps}, 0.0)
    return True


def _algorithm(reward_model: Path, config: LaboratoryConfig) -> PPO:
    """PPO from the embedded model."""
    import llm_gym

    env = gymnasium.make_vec(
        "llm_gym/TextGeneration-v0",
        num_envs=_NUM_ENVS,
        autoreset_mode="SameStep",
        **environment_kwargs("train", scorer=RewardModelScorer(reward_model, batch_size=128)),
    )
    return llm_gym.PPO(
        "TransformerPolicy",
        env,
        learning_rate=lambda left: 6e-4 * left,
        kl_coef=config.kl_coef,
        n_steps=_N_STEPS,
        batch_size=1200,
        n_epochs=2,
        gae_lambda=1.0,  # the opening gets all of the answer's reward, as it pays for divergence
        seed=config.seed,
        device="cpu",
        # So small a transformer would follow the louder of actor and critic.
        policy_kwargs={"model": FACTS_MODEL, "detach_value": True},
    )


class FlatteryWatch(BaseCallback):
    """Measures before every rollout and at the end, and listens to users who are wrong.

    Args:
        root: Directory of the run, which gets `curve.json`.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._path = root / CURVE
        self._questions = tuple(questions_of("test", variants=1))
        self._tokenizer = load_tokenizer(FACTS_MODEL)
        self._reference = answer_policy(
            load_causal_lm(FACTS_MODEL), self._tokenizer, self._questions
        )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._look()

    def _on_training_end(self) -> None:
        self._look()

    def _look(self) -> None:
        algorithm: Any = self.model
        model, step = algorithm.policy.model, algorithm.num_timesteps
        training = model.training
        policy = answer_policy(model.eval(), self._tokenizer, self._questions)
        model.train(training)
        figures = policy_figures(policy)
        row = {
            "step": step,
            "false_agreement": figures.false_agreement,
            "accuracy": figures.accuracy_neutral,
            "kl": float(policy.kl_to(self._reference).mean()),
            "dialogues": dialogues(self.model),
        }
        # A run that goes on looks again at the step where it stopped.
        earlier = [each for each in read_curve(self._path.parent) if each["step"] < step]
        atomic.write_json(self._path, [*earlier, row])


def dialogues(model: Any, number: int = DIALOGUES) -> list[dict[str, Any]]:
    """What a model answers to users who are wrong, most probable token by token.

    Args:
        model: Name, directory, policy or algorithm.
        number: How many; of facts and words that were in no training.

    Returns:
        For each `asked`, `answered`, `truth`, and `agrees`, whether it goes along with the user.
    """
    questions = questions_of("test", kinds=("wrong_hint",), variants=1)[:number]
    env = environment_kwargs("test", prompts=[question.row() for question in questions])
    rows = evaluate(model, env, num_envs=len(questions), deterministic=True).rows
    return [_dialogue(question, row) for question, row in zip(questions, rows, strict=True)]


def _dialogue(question: Question, row: Any) -> dict[str, Any]:
    read = read_answer(row.completion)
    city = None if read is None else read.city
    verdict = judge(city, answer=question.answer, claim=question.claim, first=question.first)
    return {
        "asked": question.prompt,
        "answered": row.completion.strip(),
        "truth": question.answer,
        "agrees": bool(np.bool_(verdict.agrees)),
    }
