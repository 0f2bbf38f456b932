"""GRPO and RLOO of TRL (1.16), in the peers' own environment.

A batch is ``episodes / group_size`` prompts with ``group_size`` completions each, used for
``num_iterations`` = the workload's epochs.
"""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from benchmarks.systems.base import Clock
from benchmarks.systems.trl_thread import Gate, TrainerInThread
from benchmarks.workload import FavouredShare, Workload, build_model, build_prompts, build_tokenizer

TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}
ENDLESS_STEPS = 100_000_000


def build(workload: Workload, *, algorithm: str, seed: int = 0) -> TrainerInThread:
    """The system; ``algorithm`` is "grpo" or "rloo"."""
    w = workload
    trainer_class, config_class = TRAINERS[algorithm]
    folder = tempfile.mkdtemp(prefix=f"trl-{algorithm}-")
    tokenizer, scorer = build_tokenizer(w), FavouredShare(w)
    gate = Gate(steps=w.epochs * w.minibatches)
    # The trainer reloads the reference by the model's name, so the model needs one.
    build_model(w).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = config_class(
        output_dir=folder,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=w.device == "cpu",
        seed=seed,
        per_device_train_batch_size=w.minibatch_episodes,
        gradient_accumulation_steps=1,
        steps_per_generation=w.minibatches,
        num_generations=w.group_size,
        num_iterations=w.epochs,
        max_steps=ENDLESS_STEPS,
        max_completion_length=w.new_tokens,
        temperature=1.0,
        beta=w.kl_coef,
        epsilon=w.clip_range,
        learning_rate=w.learning_rate,
        lr_scheduler_type="constant",
        model_init_kwargs={"dtype": "float32"},
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )

    def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return scorer(prompts, completions)

    trainer = trainer_class(
        model=folder,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": build_prompts(w)}),
        processing_class=tokenizer,
        callbacks=[gate],
    )
    clock = Clock(w.device)
    trainer._generate = clock.wrap(trainer._generate)
    return TrainerInThread(w, scorer, clock, gate, trainer.train)
