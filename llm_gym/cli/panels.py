"""The groups in which a command's help shows the settings of a run."""

from __future__ import annotations

_NAMES = {
    "The task": "env scorer prompts eval_prompts prompt_column text pairs bad_rows too_long raters "
    "start_from",
    "The model": "model reference vocab_size context width layers heads weights dropout template "
    "max_length",
    "Prompts and answers": "prompt_template add_special_tokens max_prompt_tokens max_new_tokens "
    "min_new_tokens eos_token_id stop_strings on_max_length missing_eos_penalty group_size "
    "temperature top_k top_p deterministic prefix_cache num_envs max_prompts train_prompts "
    "held_out_prompts documents generated_pairs praise_share",
    "Comparisons and votes": "pairs_per_prompt simulated_raters votes_per_comparison enough_votes "
    "true_rater rater_noise rater_lapse length_bias flattery_bias contradictions margin_column "
    "weight_column",
    "Learning": "algorithm total_tokens n_steps steps epochs n_epochs batch_size learning_rate "
    "anneal_learning_rate warmup_share final_share weight_decay max_grad_norm adam_epsilon "
    "mixed_precision held_out_share",
    "The objective": "gamma gae_lambda vf_coef ent_coef clip_range kl_coef kl_target beta loss "
    "label_smoothing margin center_rewards_coefficient",
    "The run": "seed device checkpoint_every keep_last look_every shown_prompts",
}
_PANELS = {name: panel for panel, names in _NAMES.items() for name in names.split()}
_PREFIXES = {"pretrain_": "Pre-training", "sft_": "Fine-tuning", "reward_": "The reward model"}


def panel_of(name: str) -> str | None:
    """The group of a setting, None for one that belongs to the command itself.

    Args:
        name: Of the field of a dataclass of settings.
    """
    for prefix, panel in _PREFIXES.items():
        if name.startswith(prefix):
            return panel
    return _PANELS.get(name)
