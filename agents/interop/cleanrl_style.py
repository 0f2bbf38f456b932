"""PPO in one file, in the manner of CleanRL: no Stable-Baselines3 loop, the same policy and buffer.

How this differs from CleanRL's `ppo.py`: the agent is a language model with two heads, gamma is 1,
and a minibatch is made of whole answers, because one pass over an answer gives the distributions
at all of its tokens. Nothing is glue: the policy is a `torch.nn.Module`, the buffer an object with
`add`, `compute_returns_and_advantage` and `get`. A test holds its updates to those of
Stable-Baselines3's PPO.

    python agents/interop/cleanrl_style.py
    python agents/interop/cleanrl_style.py --total-tokens 200000 --num-envs 32 --max-new-tokens 80
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from shared import Config, Meter, make_policy, parse_config
from torch.nn import functional as F

import llm_gym
from llm_gym.files.settings import setting


@dataclass(frozen=True)
class CleanConfig(Config):
    """What this script can be told."""

    num_minibatches: int = setting(2, "minibatches of each pass")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    config = parse_config(__doc__, argv, CleanConfig)
    torch.manual_seed(config.seed)
    clip, vf_coef, max_grad_norm = 0.2, 0.5, 1.0

    # Environment, agent, storage
    envs = gym.make_vec(
        config.env,
        num_envs=config.num_envs,
        autoreset_mode="SameStep",
        max_new_tokens=config.max_new_tokens,
    )
    agent = make_policy(config, envs.single_observation_space, envs.single_action_space)
    optimizer = torch.optim.Adam(agent.parameters(), lr=config.learning_rate, eps=1e-5)
    num_steps = config.max_new_tokens
    storage = llm_gym.EpisodeBuffer(
        num_steps,
        envs.single_observation_space,
        envs.single_action_space,
        device="cpu",
        gamma=1.0,
        gae_lambda=0.95,
        n_envs=config.num_envs,
        seed=config.seed,
    )
    meter = Meter(agent, config.num_envs)
    tokens = config.num_envs * num_steps  # of a rollout

    obs, _ = envs.reset(seed=config.seed)
    done = np.ones(config.num_envs, dtype=bool)
    for iteration in range(1, max(config.total_tokens // tokens, 1) + 1):
        scores: list[float] = []
        with meter.measure("rollout", tokens), torch.no_grad():
            storage.reset()
            for _ in range(num_steps):
                observed = {name: torch.from_numpy(array) for name, array in obs.items()}
                action, value, logprob = agent(observed)
                next_obs, reward, terminated, truncated, infos = envs.step(action.numpy())
                storage.add(obs, action.numpy(), reward, done, value, logprob)
                obs, done = next_obs, terminated | truncated
                if "final_info" in infos:
                    final = infos["final_info"]
                    scores += final["score"][final["_score"]].tolist()
            observed = {name: torch.from_numpy(array) for name, array in obs.items()}
            storage.compute_returns_and_advantage(agent.predict_values(observed), done)

        with meter.measure("update", tokens * config.n_epochs):
            ratios: list[torch.Tensor] = []
            for _ in range(config.n_epochs):
                for batch in storage.get(batch_size=tokens // config.num_minibatches):
                    new_value, new_logprob, _ = agent.evaluate_actions(
                        batch.observations, batch.actions
                    )
                    ratio = (new_logprob - batch.old_log_prob).exp()
                    ratios.append(ratio.detach())
                    advantage = batch.advantages
                    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                    pg_loss = torch.max(
                        -advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)
                    ).mean()
                    v_loss = F.mse_loss(new_value.flatten(), batch.returns)
                    loss = pg_loss + vf_coef * v_loss
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(agent.parameters(), max_grad_norm)
                    optimizer.step()
        off = float((ratios[0] - 1).abs().max())
        mean = float(np.mean(scores)) if scores else float("nan")
        print(f"iteration {iteration}: score {mean:.2f}, first ratio off 1 by {off:.1e}")
    print(meter.report("CleanRL-style"))
    envs.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
