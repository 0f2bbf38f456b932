"""Rollouts of whole episodes: what an algorithm without a critic can learn from without bias.

Without a critic nothing says what the rest of an unfinished answer would have been worth. Dropping
the answers that a rollout's end cuts in two would drop long ones more often than short ones, and
teach the policy to be brief. So a rollout here begins with a fresh prompt in every row, every row
plays *one* answer to its end, and all of them count, however long. Whether an answer is in the
rollout does not depend on the answer.

The price: rows that finish early wait for the last. They are fed a token that goes nowhere (no
episode ends by it, no scorer is called for it, no prompt is used up) until the last row ends, which
also ends the rollout. `rollout/idle_fraction` is the share of such tokens among all decoded ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.learning.buffer import EpisodeBuffer
from llm_gym.learning.choices import check_every_answer_is_scored
from llm_gym.learning.penalised import PenalisedRewards
from llm_gym.learning.vec_env import GymVecEnv

Observations = dict[str, NDArray[Any]]


class WholeEpisodes(PenalisedRewards):
    """Collects rollouts of one whole episode a row, or of several rounds of them.

    Attributes:
        whole_episodes: Whether to; if not, rollouts are Stable-Baselines3's.
        group_size: Rows `k*G .. k*G + G-1` answer the same prompt.
        greedy_rows: bool `(N,)`, rows that take the most probable token; they are baselines, and
            are not learnt from.
        greedy_scores: float `(rounds, n_groups)`, what greedy answers were worth.
    """

    whole_episodes = True
    group_size = 1
    greedy_rows: NDArray[np.bool_] | None = None
    greedy_scores: NDArray[np.floating] | None = None

    advantage: str  # the name of the choice, for messages

    def _setup_model(self) -> None:
        if self.env is not None and self.whole_episodes:
            check_every_answer_is_scored(type(self).__name__, self.advantage, self.env)
        super()._setup_model()

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: RolloutBuffer,
        n_rollout_steps: int,
    ) -> bool:
        """Plays rounds of one episode a row; at most `n_rollout_steps` steps in all.

        `num_timesteps` counts the tokens of the episodes, not those of waiting rows.
        """
        if not self.whole_episodes:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        assert isinstance(rollout_buffer, EpisodeBuffer)
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        before = self.num_timesteps
        starts: list[int] = []
        last_dones: NDArray[np.bool_] | None = None
        for _ in range(n_rollout_steps // self.longest_episode):
            starts.append(rollout_buffer.pos)
            last_dones = self._play_round(env, callback, rollout_buffer)
            if last_dones is None:
                return False
        self._end_rollout(rollout_buffer, starts, last_dones)
        tokens = self.num_timesteps - before
        self.rollout_statistics["idle_fraction"] = 1 - tokens / (rollout_buffer.pos * env.num_envs)
        callback.update_locals(locals())
        callback.on_rollout_end()
        self._log_rollout()
        return True

    @property
    def longest_episode(self) -> int:
        """Steps that every episode needs at most."""
        raise NotImplementedError

    def _end_rollout(
        self, buffer: EpisodeBuffer, starts: list[int], last_dones: NDArray[np.bool_] | None
    ) -> None:
        """Leaves out what waiting and greedy rows did, and fills in the advantages."""
        greedy = np.zeros(buffer.n_envs, bool) if self.greedy_rows is None else self.greedy_rows
        if self.greedy_rows is not None:
            played = [s for s in buffer.segments() if s.start in starts and greedy[s.env]]
            scores = [buffer.rewards[s.start : s.stop, s.env].sum() for s in played]
            # Segments come in order of environment, then time.
            self.greedy_scores = np.array(scores).reshape(-1, len(starts)).T
        assert last_dones is not None
        buffer.end_rollout(last_dones, lambda s: s.start in starts and not greedy[s.env])
        self.fill_advantages(buffer, starts)

    def fill_advantages(self, buffer: EpisodeBuffer, starts: list[int]) -> None:
        """Writes `buffer.advantages` of the rollout's episodes, all of them complete.

        Args:
            buffer: The finished rollout, penalties already in its rewards.
            starts: First step of each round.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ one round

    def _play_round(
        self, env: VecEnv, callback: BaseCallback, buffer: EpisodeBuffer
    ) -> NDArray[np.bool_] | None:
        """One episode in every row; says which ended last, or `None` if the callback stops it."""
        obs = self._fresh_episodes(env)
        running = np.ones(env.num_envs, dtype=bool)
        episode_starts = running.copy()
        idle_token = _idle_token(env)
        while running.any():
            actions, values, log_probs = self._act(obs)
            new_obs, rewards, dones, infos = env.step(np.where(running, actions, idle_token))
            assert isinstance(new_obs, dict)
            self._last_obs = new_obs
            dones = dones & running  # waiting rows do not end
            self._refuse_truncation(infos, dones)
            self.num_timesteps += int(running.sum())
            callback.update_locals(locals())
            if not callback.on_step():
                return None
            self._update_info_buffer(self._counted(infos), dones)
            buffer.add(obs, actions, rewards, episode_starts, values, log_probs)
            running &= ~dones
            episode_starts = dones
            # A waiting row keeps its last observation, which costs the policy no prompt to read.
            obs = {key: _where(running, new_obs[key], obs[key]) for key in obs}
        self._last_obs = self._fresh_episodes(env)
        self._last_episode_starts = np.ones(env.num_envs, dtype=bool)
        return dones

    @torch.no_grad()
    def _act(self, obs: Observations) -> tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]:
        observed = obs_as_tensor(obs, self.device)
        actions, values, log_probs = self.policy(observed)
        if self.greedy_rows is not None:
            best = self.policy(observed, deterministic=True)[0]
            actions = best.where(torch.from_numpy(self.greedy_rows).to(best.device), actions)
        return actions.cpu().numpy(), values, log_probs

    def _counted(self, infos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Infos of the rows that are learnt from, so that greedy answers are in no mean."""
        if self.greedy_rows is None:
            return infos
        return [
            {} if greedy else info for info, greedy in zip(infos, self.greedy_rows, strict=True)
        ]

    def _fresh_episodes(self, env: VecEnv) -> Observations:
        """Observations of rows that are all at the first step of an episode, by group.

        Rows that waited have a new prompt and idle tokens behind it: that prompt is begun again,
        so that none is passed over. Members of a group begin the prompt of its first row.
        """
        assert isinstance(self._last_obs, dict)
        leaders = np.arange(env.num_envs) // self.group_size * self.group_size
        infos = env.reset_infos
        indices = [infos[row].get("prompt_index", -1) for row in leaders]
        own = [info.get("prompt_index", -1) for info in infos]
        if not self._last_obs["completion_mask"].any() and own == indices:
            return self._last_obs
        if min(indices) >= 0 and env.get_attr("num_prompts")[0] is not None:
            options = [{"prompt_index": index} for index in indices]
            shared: Any = {"prompt_index": indices}
            env.set_options(shared if isinstance(env.unwrapped, GymVecEnv) else options)
        obs = env.reset()  # a stream cannot give a prompt again: the next one is drawn
        assert isinstance(obs, dict)
        return obs

    def _refuse_truncation(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_]) -> None:
        if any(infos[row].get("TimeLimit.truncated") for row in np.flatnonzero(dones)):
            raise ValueError(
                "env has truncated an answer, which leaves it without a score; "
                f"{type(self).__name__} (advantage={self.advantage!r}) needs episodes that "
                "terminate (no time limit around them), or use an algorithm with a critic, such as "
                "PPO"
            )


def _idle_token(env: VecEnv) -> int:
    """A token that ends no episode."""
    try:
        ends = set(env.get_attr("eos_token_ids")[0])
    except AttributeError:
        return 0
    n_tokens = int(env.action_space.n)  # type: ignore[attr-defined]
    return next((token for token in range(n_tokens) if token not in ends), 0)


def _where(rows: NDArray[np.bool_], new: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
    return new if rows.all() else np.where(rows[:, None], new, old)
