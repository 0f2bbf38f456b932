"""The smallest run of `rlhf` that goes through every stage."""

from __future__ import annotations

from llm_gym.stages import compare
from llm_gym.stages.rlhf import RLHFConfig

compare._CHUNK = 12  # so that there are several chunks to die between

TINY = RLHFConfig(
    documents=60,
    vocab_size=300,
    context=256,
    width=16,
    layers=1,
    heads=2,
    pretrain_steps=8,
    pretrain_batch_size=2,
    generated_pairs=40,
    sft_batch_size=8,
    train_prompts=24,
    held_out_prompts=8,
    pairs_per_prompt=1,
    max_new_tokens=8,
    true_rater="length:6",  # a tiny model writes nothing that a judge of politeness tells apart
    rater_noise=0.1,
    reward_epochs=1,
    total_tokens=3 * 8 * 8,
    num_envs=8,
    batch_size=64,
    n_epochs=1,
    checkpoint_every=1,
    look_every=1,
    shown_prompts=2,
)
