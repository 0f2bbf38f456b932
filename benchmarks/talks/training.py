"""One run: a small transformer learns a game, and is judged by the game's own figures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from llm_gym_known_optimum import evaluate_talk, exploitability, solve, word_probabilities
from llm_gym_known_optimum.talks.kuhn import PLACES, KuhnPoker, strategy_from
from llm_gym_known_optimum.talks.talk import Outcome, Talk
from llm_gym_known_optimum.talks.values import Shares
from stable_baselines3.common.callbacks import BaseCallback
from transformers import LlamaConfig, LlamaForCausalLM

import llm_gym
from benchmarks.talks.settings import MODEL, Recipe


class SelfPlay(BaseCallback):
    """Plays the agent against itself, with a reference that follows it.

    The opponent is the agent as it is at the beginning of each rollout. Against that alone play
    goes in circles; a penalty for leaving a reference (`kl_coef`) damps them, and where the
    reference is the fixed one that training began with, the penalty also keeps play from the
    equilibrium. So the reference's weights go a share of the way to the policy's before each
    rollout: the magnet of magnetic mirror descent (Sokota et al., arXiv 2206.05825), moved.

    Args:
        talk: The game, whose opponent is changed.
        reference_pace: Share of the way.
    """

    def __init__(self, talk: KuhnPoker, reference_pace: float = 0.0) -> None:
        super().__init__()
        self._talk, self._pace = talk, reference_pace
        self._seen = list[dict[tuple[int, str], float]]()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._seen.append(
            strategy_from(self._talk, word_probabilities(self.model.policy, self._talk))
        )
        self._talk.opponent = self._seen[-1]
        if (reference := self.model.reference) is not None:
            with torch.no_grad():
                pairs = zip(
                    reference.model.parameters(), self.model.policy.model.parameters(), strict=True
                )
                for followed, weights in pairs:
                    followed.lerp_(weights, self._pace)

    def mean(self) -> dict[tuple[int, str], float]:
        """The mean of the later half of all strategies.

        A place counts as often as the agent's own words lead there, because it is the mean of
        strategies of whole games that is meant.
        """
        seen = self._seen[len(self._seen) // 2 :]
        found = {}
        for card, said in PLACES:
            reached = [1 - one[card, ""] if said == "pb" else 1.0 for one in seen]
            bets = [one[card, said] for one in seen]
            found[card, said] = float(np.average(bets, weights=np.maximum(reached, 1e-12)))
        return found


def make_model(
    talk: Talk, seed: int, directory: Path, of_model: Mapping[str, Any] | None = None
) -> str:
    """Saves a random transformer for a game, with the game's tokenizer."""
    torch.manual_seed(seed)
    ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    shape = MODEL | dict(of_model or {})
    config = LlamaConfig(vocab_size=len(talk.vocabulary), **shape, **ends)
    LlamaForCausalLM(config).save_pretrained(directory)
    talk.tokenizer().save_pretrained(directory)
    return str(directory)


def bonus_of(recipe: Recipe) -> float | Callable[[float], float]:
    """The weight of the entropy bonus, by the share of training that remains if it falls."""
    if (end := recipe.without_bonus) is None:
        return recipe.ent_coef
    return lambda left: recipe.ent_coef * max(0.0, (left - end) / (1 - end)) ** recipe.bonus_power


def train(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Trains and judges.

    Returns:
        `cpu_seconds` of training and `figures`.
    """
    env = gym.make_vec(
        f"llm_gym/{recipe.game}-v0",
        num_envs=recipe.rows,
        autoreset_mode="SameStep",
        group_size=recipe.group_size,
        **recipe.of_game,
    )
    talk = env.unwrapped.talk
    callback = SelfPlay(talk, recipe.reference_pace) if recipe.self_play else None
    with tempfile.TemporaryDirectory() as directory:
        model = getattr(llm_gym, recipe.algorithm)(
            "TransformerPolicy",
            env,
            learning_rate=lambda left: recipe.learning_rate * left,
            ent_coef=bonus_of(recipe),
            seed=seed,
            device="cpu",
            policy_kwargs={"model": make_model(talk, seed, Path(directory), recipe.of_model)},
            **recipe.options,
        )
        started = time.process_time()
        model.learn(recipe.tokens, callback=callback)
    seconds = time.process_time() - started
    if callback is not None:
        return {"cpu_seconds": seconds, "figures": of_strategy(talk, model.policy, callback.mean())}
    figures = of_policy(talk, model.policy, recipe.least_reach)
    return {"cpu_seconds": seconds, "figures": figures}


def of_strategy(
    talk: KuhnPoker, policy: Any, mean: dict[tuple[int, str], float]
) -> dict[str, float]:
    """Exploitability of the policy as it ended, and of the mean of what it was."""
    last = strategy_from(talk, word_probabilities(policy, talk))
    return {"exploitability": exploitability(mean), "exploitability_last": exploitability(last)}


def of_policy(talk: Talk, policy: Any, least_reach: float) -> dict[str, float]:
    """Exact figures of the policy as it samples, and of the likeliest word in each turn."""
    shares, best = word_probabilities(policy, talk), solve(talk)
    quick = solve(talk, turn_gamma=0.99)  # of policies that are paid the same the quickest
    figures = {"optimum": best.value, "optimal_turns": quick.turns}
    for name, of_words in (("sampled", shares), ("greedy", greedy(shares))):
        found = evaluate_talk(talk, of_words, least_reach=least_reach)
        figures |= {
            f"{name}_low": float(found.low),
            f"{name}_high": float(found.high),
            f"{name}_turns_low": float(found.turns_low),
            f"{name}_turns_high": float(found.turns_high),
        }
    return figures | {"sampled_turns_played": turns_played(talk, shares)}


def turns_played(talk: Talk, shares: Shares, games: int = 8192) -> float:
    """Mean turns of games: an estimate, where bounds are wide.

    Args:
        talk: The game.
        shares: The policy.
        games: How many; always the same draws.
    """
    rng = np.random.default_rng(0)

    def drawn(outcomes: Sequence[Outcome]) -> Outcome:
        return outcomes[rng.choice(len(outcomes), p=[one.probability for one in outcomes])]

    begun = [drawn(talk.beginnings()) for _ in range(games)]
    live = [(talk.ids(one.text), one.state) for one in begun]
    turns = 0
    for _ in range(talk.max_turns):
        if not live:
            break
        turns += len(live)
        below = shares([tokens for tokens, _ in live]).cumsum(1)  # (B, V)
        said = (below < rng.random((len(live), 1)) * below[:, -1:]).sum(1)
        following = []
        for (tokens, state), token in zip(live, said.tolist(), strict=True):
            is_own = token < len(talk.words)
            answers = talk.outcomes(state, talk.words[token]) if is_own else [talk.void(state)]
            answer = drawn(answers)
            if answer.state is not None:
                following.append(((*tokens, token, *talk.ids(answer.text)), answer.state))
        live = following
    return turns / games


def greedy(shares: Shares) -> Shares:
    """The policy that always says the likeliest word."""

    def likeliest(conversations: Sequence[tuple[int, ...]]) -> Any:
        found = shares(conversations)
        return np.eye(found.shape[1])[found.argmax(1)]

    return likeliest
