"""One world: what its words are, training by stock PPO, and the figures before and after."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import llm_gym
from benchmarks.common import mean_with_interval
from benchmarks.worlds.players import PLAYERS
from benchmarks.worlds.recipes import Recipe
from benchmarks.worlds.words import word_tokenizer
from llm_gym.turns.worlds import world_maker

MODEL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
"""Of the LLaMA that learns, from random weights."""


@dataclass(frozen=True)
class Settings:
    """What is the same for all worlds."""

    rows: int = 64
    batch_size: int = 256
    n_epochs: int = 4
    heard: int = 64  # conversations of random answers, whose words are the vocabulary
    evaluated: int = 256  # conversations, those of the seeds 0, 1, ...
    first_heard: int = 1_000_000  # seed of the first conversation that is heard
    seed: int = 0


class Noted:
    """A world that notes how its conversations begin.

    Args:
        world: The world.
        starts: Where seeds and first texts are noted.
    """

    def __init__(self, world: Any, starts: dict[int, str]) -> None:
        self._world, self._starts = world, starts

    def reset(self, *, seed: int) -> tuple[str, dict[str, Any]]:
        told = self._world.reset(seed=seed)
        text, info = told if isinstance(told, tuple) else (told, {})
        self._starts[seed] = text
        return text, info

    def step(self, text: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return self._world.step(text)


def maker(world: str, recipe: Recipe, *, held_out: bool) -> Callable[[], Any]:
    """What makes the world, for training or for evaluation."""
    kwargs = recipe.world_kwargs | (recipe.held_out if held_out else {})
    if recipe.player:
        kwargs = kwargs | {"opponent": PLAYERS[recipe.player]}
    return world_maker(world, 2, kwargs)


def played(
    world: Any, seeds: Iterable[int], say: Callable[[random.Random], str], max_turns: int
) -> tuple[list[float], list[list[str]]]:
    """Returns, and what the world says, where a player's words do not depend on what it hears."""
    returns, said = [], []
    for seed in seeds:
        told = world.reset(seed=seed)
        texts, total = [told[0] if isinstance(told, tuple) else told], 0.0
        # Not from the seed itself: games draw their secrets from that, in the same way.
        own = random.Random(f"a player's {seed}")  # noqa: S311
        for _ in range(max_turns):
            text, reward, terminated, truncated, _ = world.step(say(own))
            texts.append(text)
            total += reward
            if terminated or truncated:
                break
        returns.append(total)
        said.append(texts)
    return returns, said


def saved_model(directory: Path, tokenizer: Any, recipe: Recipe, seed: int) -> str:
    """A random transformer for the tokenizer."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=recipe.context_length,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **MODEL,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)


def learnt(world: str, recipe: Recipe, settings: Settings, directory: Path) -> dict[str, Any]:
    """Trains a random model on a world, and evaluates it on conversations that are kept from it.

    Args:
        world: Name of the world.
        recipe: How it is learnt.
        settings: What is the same for all worlds.
        directory: Where the model goes.

    Returns:
        Returns of the same conversations `before` and `after` training, of `random` answers of the
        list and of the one answer that did best elsewhere (`constant`, its text in `answer`), each
        with interval, and the `gain` (paired). Of the conversations that were evaluated the share
        that begin as none did in training (`new`), tokens, and CPU seconds of training.
    """
    trained_on: dict[int, str] = {}
    seen: dict[int, str] = {}
    make, held_out = (maker(world, recipe, held_out=test) for test in (False, True))
    heard = range(settings.first_heard, settings.first_heard + settings.heard)
    any_answer = partial(one_of, recipe.answers)
    _, said = played(make(), heard, any_answer, recipe.max_turns)
    tokenizer = word_tokenizer(
        said, recipe.answers, most_words=recipe.most_words, spelt=recipe.spelt
    )
    model = saved_model(directory, tokenizer, recipe, settings.seed)
    shape = {
        "tokenizer": model,
        "max_turn_tokens": recipe.max_turn_tokens,
        "max_turns": recipe.max_turns,
        "turns_in_context": recipe.turns_in_context,
        "context_length": recipe.context_length,
        "on_max_length": "terminate",
        "world_time_limit": None,
    }
    env = gym.make_vec(
        "llm_gym/Turns-v0",
        num_envs=settings.rows,
        autoreset_mode="SameStep",
        world=lambda: Noted(make(), trained_on),
        **shape,
    )
    ppo = _ppo(env, recipe, settings, model)
    evaluate = partial(
        llm_gym.evaluate,
        ppo,
        "llm_gym/Turns-v0",
        env_kwargs={"world": lambda: Noted(held_out(), seen), **shape},
        max_prompts=settings.evaluated,
        num_envs=settings.rows,
        seed=settings.seed,
    )
    before = [row.score for row in evaluate().rows]
    started = time.process_time()
    ppo.learn(recipe.tokens)
    seconds = time.process_time() - started
    after = evaluate()
    seeds = [row.prompt_index for row in after.rows]
    scores = [row.score for row in after.rows]
    answer, constant = _best_constant(make, held_out, recipe, heard[: settings.heard // 2], seeds)
    random_ones, _ = played(held_out(), seeds, any_answer, recipe.max_turns)
    starts = set(trained_on.values())
    return {
        "before": mean_with_interval(before),
        "after": mean_with_interval(scores),
        "gain": mean_with_interval(np.subtract(scores, before)),
        "random": mean_with_interval(random_ones),
        "constant": mean_with_interval(constant),
        "answer": answer,
        "new": float(np.mean([text not in starts for text in seen.values()])),
        "seeds_shared": len(trained_on.keys() & seen.keys()),
        "tokens": ppo.num_timesteps,
        "vocabulary": len(tokenizer),
        "cpu_seconds": seconds,
        "last": [message["content"] for message in after.rows[0].messages[-2:]],
    }


def _ppo(env: Any, recipe: Recipe, settings: Settings, model: str) -> stable_baselines3.PPO:
    """Stable-Baselines3's own, with the policy and the buffer of this library."""
    return stable_baselines3.PPO(
        "TransformerPolicy",
        llm_gym.GymVecEnv(env),
        learning_rate=lambda left: recipe.learning_rate * left,
        n_steps=recipe.n_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.n_epochs,
        gamma=1.0,
        ent_coef=recipe.ent_coef,
        rollout_buffer_class=llm_gym.EpisodeBuffer,
        policy_kwargs={"model": model},
        seed=settings.seed,
        device="cpu",
    )


def one_of(answers: Sequence[str], own: random.Random) -> str:
    """Any of the answers."""
    return own.choice(answers)


def _best_constant(
    make: Callable[[], Any],
    held_out: Callable[[], Any],
    recipe: Recipe,
    heard: Iterable[int],
    seeds: Iterable[int],
) -> tuple[str, list[float]]:
    """The answer that is worth most where it is said always, and what it is worth elsewhere."""

    def always(answer: str) -> Callable[[random.Random], str]:
        return lambda _: answer

    heard = list(heard)
    worth = {
        answer: np.mean(played(make(), heard, always(answer), recipe.max_turns)[0])
        for answer in recipe.answers
    }
    best = max(worth, key=lambda answer: worth[answer])
    returns, _ = played(held_out(), seeds, always(best), recipe.max_turns)
    return best, returns
