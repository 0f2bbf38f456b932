"""The benchmark of conversations: a run in small, its arithmetic, and that it goes on."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from llm_gym_known_optimum import (
    GuessTheNumber,
    KuhnPoker,
    evaluate_talk,
    exploitability,
    word_probabilities,
)
from llm_gym_known_optimum.talks.kuhn import PLACES, strategy_from
from transformers import LlamaConfig

import llm_gym
from benchmarks.talks import run
from benchmarks.talks.settings import DISCOUNTS, MODEL, OPTIMA
from benchmarks.talks.training import SelfPlay, greedy, make_model, train, turns_played


def test_a_run_in_small_and_again(tmp_path, capsys, monkeypatch):
    few = {"batch_size": 256, "n_epochs": 1, "kl_coef": 0.0}
    recipe = replace(OPTIMA["kuhn"], options=few)
    monkeypatch.setattr(run, "RECIPES", {"kuhn": recipe})
    monkeypatch.setattr(run, "QUICK_TOKENS", 64)
    command = ["--output", str(tmp_path), "--only", "kuhn", "--seeds", "1", "--quick"]
    found = run.main(command)
    assert 0 <= found["kuhn"][0]["figures"]["exploitability"] <= 2
    assert "0 of 1" in capsys.readouterr().out
    monkeypatch.setattr(run, "train", None)  # nothing is left to do
    assert run.main(command) == found


def test_groups_learn_and_are_judged_by_exact_turns():
    recipe = replace(DISCOUNTS["RLOO"], tokens=64, rows=16)
    figures = train(recipe, seed=0)["figures"]
    assert figures["optimum"] == pytest.approx(1.0)
    assert figures["optimal_turns"] == pytest.approx(21 / 8)
    assert figures["sampled_low"] <= figures["sampled_high"]
    assert 1 <= figures["greedy_turns_low"] <= figures["greedy_turns_high"] + 1e-9 <= 8 + 1e-9


def test_a_recipe_has_the_model_it_asks_for(tmp_path):
    talk = GuessTheNumber(2)
    wide = OPTIMA["wordle"].of_model
    of_wide = LlamaConfig.from_pretrained(make_model(talk, 0, tmp_path / "wide", wide)).to_dict()
    of_usual = LlamaConfig.from_pretrained(make_model(talk, 0, tmp_path / "usual")).to_dict()
    assert (MODEL | wide).items() <= of_wide.items()
    assert MODEL.items() <= of_usual.items()
    assert of_wide != of_usual


def test_the_greedy_policy_says_the_likeliest_word():
    talk = GuessTheNumber(2, max_turns=2)

    def first(conversations):
        return np.array([[0.6, 0.3, *[0.1 / 5] * 5]] * len(conversations))

    # Halfway it hits at once; otherwise the second turn is wrong, too.
    assert evaluate_talk(talk, greedy(first)).low == pytest.approx(0.5 * 1 + 0.5 * -0.2)


def test_the_mean_of_strategies_weighs_a_place_by_who_comes_there():
    always, never = dict.fromkeys(PLACES, 1.0), dict.fromkeys(PLACES, 0.0)
    play = SelfPlay(KuhnPoker())
    play._seen = [always, always, always, never]  # the later half counts
    mean = play.mean()
    assert mean[0, ""] == mean[0, "b"] == 0.5
    assert mean[0, "pb"] == pytest.approx(0.0)  # who always bets is never raised after a pass
    assert exploitability(mean) > 0


def test_self_play_is_against_what_the_agent_is_and_the_reference_follows(tmp_path):
    env = gym.make_vec("llm_gym/KuhnPoker-v0", num_envs=2, autoreset_mode="SameStep")
    talk = env.unwrapped.talk
    kwargs = {"model": make_model(talk, 0, tmp_path)}
    model = llm_gym.PPO("TransformerPolicy", env, kl_coef=0.5, policy_kwargs=kwargs, device="cpu")
    play = SelfPlay(talk, reference_pace=0.25)
    play.init_callback(model)
    pairs = [
        (followed, weights, followed.clone(), weights.data.add_(1.0).clone())
        for followed, weights in zip(
            model.reference.model.parameters(), model.policy.model.parameters(), strict=True
        )
    ]
    play.on_rollout_start()
    for followed, weights, before, now in pairs:
        assert torch.equal(weights, now)
        assert torch.allclose(followed, before + 0.25)
        assert not followed.requires_grad
    agent = strategy_from(talk, word_probabilities(model.policy, talk))
    assert talk.opponent == pytest.approx(agent)
    assert play.mean() == pytest.approx(agent)


def test_a_share_of_what_is_lost_is_one_of_the_stake():
    figures = {"optimum": -0.04, "sampled_low": -0.52}
    assert run.share(figures, "sampled") == pytest.approx(0.5)
    assert run.share({"optimum": 0.8, "sampled_low": 0.6}, "sampled") == pytest.approx(0.75)


@pytest.mark.parametrize(("turns", "word"), [(3.5, "holds"), (2.7, "refuted")])
def test_the_verdict_follows_from_the_turns_saved(turns, word):
    def runs(value):
        return [
            {
                "seed": seed,
                "figures": {
                    "sampled_turns_low": value + seed / 1000,
                    "sampled_turns_high": value + seed / 900,
                    "sampled_turns_played": value + seed / 950 + (1 if value > 3 else 0),
                },
            }
            for seed in range(3)
        ]

    by_name = {"PPO, turn_gamma 1": runs(turns), "PPO, turn_gamma 0.9": runs(2.65)}
    assert f": {word}. " in run.verdict(by_name)
    assert run.verdict({"PPO, turn_gamma 1": runs(turns)}) is None
    others = {f"{name}, N = 20": found for name, found in by_name.items()}
    assert run.verdict(others) is None
    assert run.verdicts(by_name | others) == [
        run.verdict(by_name),
        run.verdict(others, ", N = 20"),
    ]
    assert "quick, N = 20 (" in run.verdict(others, ", N = 20")
    assert ("1.85 [" in run.verdict(others, ", N = 20")) == (turns > 3)  # as played


def test_turns_played_lie_where_all_that_can_be_said_has_them():
    talk = GuessTheNumber(3, max_turns=4, turn_cost=0.0)

    def shares(conversations):  # of the world's words, too
        likely = np.array([0.3, 0.2, 0.1, *[0.4 / 5] * 5])
        return np.array([np.roll(likely, len(tokens) // 2) for tokens in conversations])

    found = evaluate_talk(talk, shares, least_reach=0.0)
    assert found.turns_low == pytest.approx(found.turns_high)
    error = 1.5 / 8192**0.5  # of turns that deviate by 1.5 at most from 1 to 4
    assert turns_played(talk, shares) == pytest.approx(found.turns_low, abs=4 * error)


@pytest.mark.parametrize("name", [name for name in DISCOUNTS if "N = " in name])
def test_a_larger_game_differs_by_what_its_name_says(name):
    recipe, plain = DISCOUNTS[name], DISCOUNTS[f"PPO, turn_gamma 1, N = {name.split()[-1]}"]
    gamma, cost = recipe.options.get("turn_gamma"), recipe.of_game["turn_cost"]
    assert (gamma, cost) == (0.9 if "0.9" in name else None, 0.1 if "price" in name else 0.0)
    same = replace(recipe, options=plain.options, of_game=plain.of_game)
    assert same == plain
    assert recipe.of_game["numbers"] == int(name.split()[-1])
