"""The groups in which a command's help shows the settings of a run."""

from __future__ import annotations

_NAMES = {
    "The task": "env world world_kwargs scorer prompts eval_prompts prompt_column text pairs "
    "bad_rows too_long raters start_from",
    "The model": "model dtype attn_implementation mixed_precision shared_prompts vocab_size "
    "context width layers heads weights dropout template max_length "
    "lora_rank lora_alpha lora_target_modules",
    "Prompts and answers": "system prompt_template add_special_tokens max_prompt_tokens "
    "max_new_tokens min_new_tokens eos_token_id stop_strings on_max_length missing_eos_penalty "
    "scorer_time_limit max_turn_tokens max_turns turns_in_context context_length turn_template "
    "world_time_limit on_world_error eval_conversations num_envs max_prompts train_prompts "
    "held_out_prompts documents generated_pairs praise_share",
    "Sampling": "temperature top_k top_p deterministic prefix_cache",
    "Comparisons and votes": "pairs_per_prompt simulated_raters votes_per_comparison enough_votes "
    "true_rater rater_noise rater_lapse length_bias flattery_bias contradictions margin_column "
    "weight_column",
    "Learning": "algorithm group_size total_tokens n_steps answers_per_rollout steps epochs "
    "n_epochs batch_size keep_groups micro_batch_size gradient_checkpointing learning_rate "
    "anneal_learning_rate warmup_share final_share weight_decay max_grad_norm adam_epsilon "
    "held_out_share",
    "The objective": "gamma turn_gamma gae_lambda vf_coef ent_coef clip_range clip_range_high beta "
    "loss label_smoothing margin center_rewards_coefficient advantage ratio aggregation "
    "aggregation_constant critic critic_start critic_gae_lambda length_adaptive_alpha "
    "critic_warmup normalize_advantage reward_scaling recompute_log_probs",
    "Staying close to a reference": "kl_coef kl_target kl_horizon kl_in kl_estimator reference "
    "reference_weights",
    "Of single algorithms": "clip_range_vf target_kl baseline_decay mask_top_p mask_interval "
    "top_share threshold sample_once labels label_scale online cg_max_steps n_critic_updates",
    "The run": "seed device checkpoint_every keep_last eval_every keep_best look_every "
    "shown_prompts trace_every wandb mlflow",
}
_PANELS = {name: panel for panel, names in _NAMES.items() for name in names.split()}
_PREFIXES = {"pretrain_": "Pre-training", "sft_": "Fine-tuning", "reward_": "The reward model"}


def panel_of(name: str) -> str | None:
    """The group of a setting, None for one that belongs to the command itself.

    Args:
        name: Of the field of a dataclass of settings.
    """
    if name in _PANELS:
        return _PANELS[name]
    return next((panel for prefix, panel in _PREFIXES.items() if name.startswith(prefix)), None)
