"""GRPO and RLOO of TRL (1.16), in the peers' own environment.

A batch is `episodes / group_size` prompts with `group_size` completions each, used for
`num_iterations` = the workload's epochs. GRPO's loss is the paper's (`loss_type="grpo"`: mean
over tokens, then over answers; TRL's own default, "dapo", is the same where all answers are equally
long), and its KL penalty is the paper's k3 without TRL's factor of the probability ratio.

TRL trains with positions counted from the left end of the padded prompt, while `generate` counts
them from the prompt's first token. With learned positions, prompts of unequal lengths and prompts
padded on the left, it trains a model that reads its prompts at other positions than it wrote its
answers at. `true_positions` passes the positions of generation, and is not TRL as it comes.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from benchmarks.systems.base import Clock
from benchmarks.systems.trl_ends import end_as_told
from benchmarks.systems.trl_thread import Gate, TrainerInThread
from benchmarks.tasks import Tally, build_task
from benchmarks.workload import Workload

TRAINERS = {"grpo": (GRPOTrainer, GRPOConfig), "rloo": (RLOOTrainer, RLOOConfig)}
ENDLESS_STEPS = 100_000_000


# Arguments without which the algorithm is not the paper's.
CHOICES: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo", "use_bias_correction_kl": False},
    "rloo": {},
}


def build(
    workload: Workload,
    *,
    algorithm: str,
    seed: int = 0,
    bf16: bool = False,
    true_positions: bool = False,
    lora: dict[str, Any] | None = None,
    gradient_checkpointing: bool = False,
) -> TrainerInThread:
    """The system.

    Args:
        workload: Model, task and sizes of everything.
        algorithm: "grpo" or "rloo".
        seed: Seed of everything that is drawn.
        bf16: TRL's mixed precision, which is its default.
        true_positions: See above.
        lora: Arguments of PEFT's `LoraConfig`; None trains all weights.
        gradient_checkpointing: TRL's default, which saves memory and costs time.
    """
    w = workload
    trainer_class, config_class = TRAINERS[algorithm]
    folder = tempfile.mkdtemp(prefix=f"trl-{algorithm}-")
    # The trainer reloads the reference by the model's name, so the model is a directory.
    task = build_task(w, folder)
    tally = Tally(task.score)
    gate = Gate(steps=w.epochs * w.minibatches)
    config = config_class(
        output_dir=folder,
        bf16=bf16,
        gradient_checkpointing=gradient_checkpointing,
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
        **CHOICES[algorithm],
    )

    def reward(
        prompts: list[str], completions: list[str], instruction: list[str], **_: Any
    ) -> list[float]:
        tally.forget()  # one call is one batch
        return tally(instruction, completions)

    trainer = trainer_class(
        model=task.model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": task.prompts, "instruction": task.instructions}),
        processing_class=task.tokenizer,
        callbacks=[gate],
        peft_config=None if lora is None else _lora_config(lora),
    )
    if true_positions:
        for model in (trainer.model, trainer.ref_model):
            model.transformer.register_forward_pre_hook(_count_from_the_prompt, with_kwargs=True)
    if w.is_ragged:
        end_as_told(trainer.model, w, seed)
    clock = Clock(w.device)
    trainer._generate = clock.wrap(trainer._generate)
    return TrainerInThread(w, tally, clock, gate, trainer.train)


def _lora_config(settings: dict[str, Any]) -> Any:
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **settings)


def _count_from_the_prompt(
    _: torch.nn.Module, positional: tuple[Any, ...], keywords: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positions from the mask where the caller gave none, as `generate` gives them."""
    mask = keywords.get("attention_mask")
    if keywords.get("position_ids") is None and mask is not None and mask.ndim == 2:
        keywords["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    return positional, keywords
