"""Rollouts of whole episodes: no answer is cut in two, none is read twice.

Without a critic nothing says what the rest of an unfinished answer would have been worth. Dropping
the answers that a rollout's end cuts in two would drop long ones more often than short ones, and
teach the policy to be brief. So a rollout here begins with a fresh prompt in every row, every row
plays *one* answer to its end, and all of them count, however long. Whether an answer is in the
rollout does not depend on the answer. With a critic nothing needs to be guessed of an answer's
rest, and no pass goes over the first half of an answer that was learnt from before.

Rows that have finished are left out of the policy's passes until the last one ends, which also
ends the rollout; the environment is fed a token for them that goes nowhere (no episode ends by it,
no scorer is called for it, no prompt is used up). `rollout/idle_fraction` is the share of such
places among the rollout's steps times rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from llm_gym.learning.advantages import monte_carlo_returns
from llm_gym.learning.vec_env import GymVecEnv
from llm_gym.policy.packed_weights import packed_weights

if TYPE_CHECKING:
    from llm_gym.learning.base import AnswerLearner

Observations = dict[str, NDArray[Any]]


class Rounds:
    """Collects rollouts of one whole episode a row, or of several rounds of them.

    Args:
        env: The environment.
        n_steps: Steps per environment and rollout.
        longest: Steps that every episode needs at most.
        group_size: Rows `k*G .. k*G + G-1` answer the same prompt.
        learner: What needs whole episodes, for messages.
        critic: Whether there are values to bootstrap truncated answers with.
        greedy_first: Whether the first row of each group takes the most probable tokens; these rows
            are baselines, and are not learnt from.

    Attributes:
        greedy_rows: bool `(N,)`, these rows; `None` if there are none.
        greedy_scores: float `(rounds, n_groups)`, what the last rollout's were worth, in the
            units of the rewards that are learnt from.

    Raises:
        ValueError: If a rollout has no room for whole rounds, or the environment leaves answers
            without a score.
    """

    def __init__(
        self,
        env: VecEnv,
        n_steps: int,
        longest: int,
        *,
        group_size: int,
        learner: str,
        critic: bool = False,
        greedy_first: bool = False,
    ) -> None:
        if n_steps < longest or n_steps % longest:
            raise ValueError(
                f"n_steps={n_steps} must be a multiple of max_new_tokens={longest}, because "
                f"{learner} needs whole episodes: leave it out, or pass {longest}"
            )
        if env.num_envs > 1 and env.has_attr("max_turn_tokens") and not env.has_attr("wait"):
            or_steps = ", or pass n_steps" if critic else ""
            raise ValueError(
                f"{learner} has rows wait for one another, which conversations can do in the "
                f"native vector form alone: make env with gymnasium.make_vec{or_steps}"
            )
        check_contexts(env, learner, "pass n_steps" if critic else "use PPO or A2C with n_steps")
        truncates = env.has_attr("on_max_length") and "truncate" in env.get_attr("on_max_length")
        if truncates and not critic:
            raise ValueError(
                "on_max_length='truncate' leaves cut-off answers without a score, which "
                f"{learner} cannot do without: make the environment with "
                "on_max_length='terminate' or 'penalise', or use an algorithm with a critic, such "
                "as PPO"
            )
        self.longest, self.group_size, self.learner = longest, group_size, learner
        self.critic = critic
        self.greedy_rows: NDArray[np.bool_] | None = None
        if greedy_first:
            self.greedy_rows = np.arange(env.num_envs) % group_size == 0
        self.greedy_scores: NDArray[np.floating] | None = None

    def collect(
        self, algorithm: AnswerLearner, env: VecEnv, callback: BaseCallback, n_rollout_steps: int
    ) -> bool:
        """Plays rounds of one episode a row; at most `n_rollout_steps` steps in all.

        `num_timesteps` counts the tokens of the episodes, not the places of rows that have ended.

        Args:
            algorithm: Its policy plays, its buffer is filled.
            env: The environment.
            callback: Told of every step.
            n_rollout_steps: A multiple of `longest`.

        Returns:
            Whether training goes on, as in Stable-Baselines3.
        """
        buffer = algorithm.episodes
        algorithm.policy.set_training_mode(False)
        buffer.reset()
        callback.on_rollout_start()
        before = algorithm.num_timesteps
        starts: list[int] = []
        last_dones: NDArray[np.bool_] | None = None
        with packed_weights(algorithm.transformer, env.num_envs, n_rollout_steps):
            for _ in range(n_rollout_steps // self.longest):
                starts.append(buffer.pos)
                last_dones = self._play_round(algorithm, env, callback)
                if last_dones is None:
                    return False
        assert last_dones is not None
        self.end(algorithm, starts, last_dones)
        tokens = algorithm.num_timesteps - before
        idle_fraction = 1 - tokens / (buffer.pos * env.num_envs)
        algorithm.rollout_statistics["idle_fraction"] = idle_fraction
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def end(
        self, algorithm: AnswerLearner, starts: list[int], last_dones: NDArray[np.bool_]
    ) -> None:
        """Leaves out what waiting and greedy rows did, and fills in the advantages.

        Args:
            algorithm: Its buffer holds the rollout.
            starts: First step of each round.
            last_dones: bool `(N,)`, whether the last step ended an episode.
        """
        buffer, greedy = algorithm.episodes, self.greedy_rows
        played = [s for s in buffer.segments() if s.start in starts]
        is_learnt_from = np.ones(buffer.n_envs, dtype=bool) if greedy is None else ~greedy
        buffer.end_rollout(last_dones, lambda s: s.start in starts and bool(is_learnt_from[s.env]))
        if greedy is not None:
            # After rewards were shaped, in whose units the returns are that this is a baseline of.
            steps = slice(0, buffer.pos)
            gamma = buffer.discounts()
            returns = monte_carlo_returns(
                buffer.rewards[steps],
                buffer.episode_starts[steps],
                gamma=gamma[steps] if isinstance(gamma, np.ndarray) else gamma,
            )
            scores = [returns[s.start, s.env] for s in played if greedy[s.env]]
            # Segments come in order of environment, then time.
            self.greedy_scores = np.array(scores).reshape(-1, len(starts)).T
        algorithm.fill_advantages(buffer, starts)

    # ------------------------------------------------------------------ one round

    def _play_round(
        self, algorithm: AnswerLearner, env: VecEnv, callback: BaseCallback
    ) -> NDArray[np.bool_] | None:
        """One episode in every row; says which ended last, or `None` if the callback stops it."""
        obs = self._fresh_episodes(algorithm, env)
        running = np.ones(env.num_envs, dtype=bool)
        episode_starts = running.copy()
        idle_token = _idle_token(env)
        rows = np.arange(env.num_envs)  # that run, in the order in which the policy has them
        # Worlds must not hear idle tokens; one row alone never waits.
        worlds = env.num_envs > 1 and env.has_attr("max_turn_tokens")
        if worlds:
            env.env_method("wait", ~running)
        while running.any():
            actions, values, log_probs = self._act(algorithm, obs, rows, idle_token)
            new_obs, rewards, dones, infos = env.step(actions)
            assert isinstance(new_obs, dict)
            algorithm._last_obs = new_obs
            dones = dones & running  # rows that wait do not end
            self._refuse_truncation(infos, dones)
            algorithm.num_timesteps += int(running.sum())
            callback.update_locals(locals())
            if not callback.on_step():
                return None
            algorithm._update_info_buffer(self._counted(infos, running), dones)
            algorithm.episodes.add(obs, actions, rewards, episode_starts, values, log_probs)
            running &= ~dones
            if worlds and dones.any():
                env.env_method("wait", ~running & running.any())
            episode_starts = dones
            # Rows that wait keep their last observation, which says nothing to the buffer.
            obs = {key: _where(running, new_obs[key], obs[key]) for key in obs}
            if dones.any() and running.any():
                kept = compacted(running[rows])
                algorithm.transformer.keep_rows(torch.from_numpy(kept))
                rows = rows[kept]
        algorithm._last_obs = self._fresh_episodes(algorithm, env)
        algorithm._last_episode_starts = np.ones(env.num_envs, dtype=bool)
        return dones

    @torch.no_grad()
    def _act(
        self,
        algorithm: AnswerLearner,
        obs: Observations,
        rows: NDArray[np.int64],
        idle_token: int,
    ) -> tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]:
        """Actions, values and log-probabilities of all rows, `(N,)`; the policy reads some alone.

        Args:
            algorithm: Its policy acts.
            obs: Of all rows.
            rows: int `(n,)`, those that the policy reads.
            idle_token: What the others do; their values and log-probabilities are zeros.
        """
        observed = obs_as_tensor({key: obs[key][rows] for key in obs}, algorithm.device)
        actions, values, log_probs = algorithm.policy(observed)
        if self.greedy_rows is not None:
            best = algorithm.policy(observed, deterministic=True)[0]
            greedy = torch.from_numpy(self.greedy_rows[rows]).to(best.device)
            actions = best.where(greedy, actions)
        n_rows = len(obs["input_ids"])
        spread = _spread(log_probs, rows, n_rows)
        support = getattr(log_probs, "support", None)
        if support is not None:
            spread.support = _spread(support, rows, n_rows)  # type: ignore[attr-defined]
        chosen = _spread(actions - idle_token, rows, n_rows) + idle_token
        return chosen.cpu().numpy(), _spread(values.flatten(), rows, n_rows), spread

    def _counted(
        self, infos: list[dict[str, Any]], running: NDArray[np.bool_]
    ) -> list[dict[str, Any]]:
        """Infos of the rows that are learnt from: neither greedy nor waiting answers count."""
        counts = running if self.greedy_rows is None else running & ~self.greedy_rows
        return [info if counted else {} for info, counted in zip(infos, counts, strict=True)]

    def _fresh_episodes(self, algorithm: AnswerLearner, env: VecEnv) -> Observations:
        """Observations of rows that are all at the first step of an episode, by group.

        Rows that waited have a new prompt and idle tokens behind it: that prompt is begun again,
        so that none is passed over. Members of a group begin the prompt of its first row.
        """
        assert isinstance(algorithm._last_obs, dict)
        leaders = np.arange(env.num_envs) // self.group_size * self.group_size
        infos = env.reset_infos
        indices = [infos[row].get("prompt_index", -1) for row in leaders]
        prompts = [info.get("prompt_index", -1) for info in infos]
        if not algorithm._last_obs["completion_mask"].any() and prompts == indices:
            return algorithm._last_obs
        if min(indices) >= 0 and _begins_again(env):
            options = [{"prompt_index": index} for index in indices]
            shared: Any = {"prompt_index": indices}
            env.set_options(shared if isinstance(env.unwrapped, GymVecEnv) else options)
        obs = env.reset()  # a stream cannot give a prompt again: the next one is drawn
        assert isinstance(obs, dict)
        return obs

    def _refuse_truncation(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_]) -> None:
        if self.critic:
            return
        if any(infos[row].get("TimeLimit.truncated") for row in np.flatnonzero(dones)):
            raise ValueError(
                "env has truncated an answer, which leaves it without a score; "
                f"{self.learner} needs episodes that terminate (no time limit around them), or use "
                "an algorithm with a critic, such as PPO"
            )


def check_contexts(env: VecEnv, learner: str, advice: str) -> None:
    """Raises `ValueError` if an episode's observations are not those of one growing text."""
    known = env.get_attr("turns_in_context") if env.has_attr("turns_in_context") else []
    limit = next((turns for turns in known if turns is not None), None)
    if limit is not None:
        raise ValueError(
            f"turns_in_context={limit} begins contexts anew within a conversation, but "
            f"{learner} reads whole ones: {advice}, or make the environment without it"
        )


def _begins_again(env: VecEnv) -> bool:
    """Whether an episode can be begun again by its `prompt_index`."""
    return env.has_attr("starts_by_seed") or None not in env.get_attr("num_prompts")


def _idle_token(env: VecEnv) -> int:
    """A token that ends no episode."""
    try:
        ends = set().union(*env.get_attr("eos_token_ids"))
    except AttributeError:
        return 0
    n_tokens = int(env.action_space.n)  # type: ignore[attr-defined]
    return next((token for token in range(n_tokens) if token not in ends), 0)


def compacted(running: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places that run, as few as possible of them elsewhere than they were.

    Args:
        running: Bool `(n,)`.

    Returns:
        int64 `(m,)`, the place that each of the first m is taken from: itself where it runs, else
        one behind them.
    """
    places = np.arange(int(running.sum()))
    behind = np.flatnonzero(running[len(places) :]) + len(places)
    places[~running[: len(places)]] = behind
    return places


def _where(rows: NDArray[np.bool_], new: NDArray[Any], old: NDArray[Any]) -> NDArray[Any]:
    return new if rows.all() else np.where(rows[:, None], new, old)


def _spread(values: torch.Tensor, rows: NDArray[np.int64], n_rows: int) -> torch.Tensor:
    """Values `(n, ...)` of some rows in their places among all, `(n_rows, ...)`; else zeros."""
    everywhere = values.new_zeros((n_rows, *values.shape[1:]))
    everywhere[torch.from_numpy(rows).to(values.device)] = values
    return everywhere
