"""GoldProxy: seen everywhere, felt nowhere. The callback and its pictures."""

from __future__ import annotations

import json
import math

import pytest
import torch
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

import llm_gym
from llm_gym.feedback.diagnostics import GoldProxy, GoldProxyCallback
from llm_gym.runs.callbacks import History
from llm_gym.scorers import WeightedSum
from tests.tiny_runs import count_w1, tiny_env

WHOLE = {"n_steps": 8, "batch_size": 16}  # rollouts of whole episodes of the tiny environment
TOKENS = 4 * 8


def count_w2(prompts, completions):
    return [float(completion.split().count("w2")) for completion in completions]


def broken(prompts, completions):
    raise RuntimeError("the gold standard was abandoned")


def ppo(model, scorer, env=None, **overrides):
    """Whole: environment and weights are seeded together, so that runs can be compared."""
    settings = {"learning_rate": 1e-3, "n_epochs": 2, "kl_coef": 0.1, "seed": 3, "device": "cpu"}
    return llm_gym.PPO(
        "TransformerPolicy",
        tiny_env(model, scorer=scorer, **(env or {})),
        policy_kwargs={"model": model},
        **{**WHOLE, **settings, **overrides},
    )


def run(model, scorer, callback=None, rollouts=3, **overrides):
    algorithm = ppo(model, scorer, **overrides)
    algorithm.set_logger(Logger(None, []))
    return algorithm.learn(TOKENS * rollouts, callback=callback)


def same_parameters(first, second):
    ours, theirs = first.policy.state_dict(), second.policy.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_value_is_the_proxys_and_both_are_parts():
    nested = WeightedSum({"w1": (count_w1, 2.0)})
    scores = GoldProxy(nested, count_w2).score(["p", "p"], ["w1 w2", "w2 w2"])
    assert scores.values.tolist() == [2.0, 0.0]
    parts = {name: values.tolist() for name, values in scores.parts.items()}
    assert parts == {"proxy": [2.0, 0.0], "proxy/w1": [1.0, 0.0], "gold": [1.0, 2.0]}


def test_training_is_the_same_with_gold_without_it_and_with_one_that_fails(tiny_dir):
    plain = run(tiny_dir(), count_w1)
    measured = run(tiny_dir(), GoldProxy(count_w1, count_w2), GoldProxyCallback())
    with pytest.warns(UserWarning, match="training goes on"):
        failing = run(tiny_dir(), GoldProxy(count_w1, broken), GoldProxyCallback())
    assert same_parameters(plain, measured)
    assert same_parameters(plain, failing)
    # The comparison can fail: paid for gold instead, the parameters are others.
    assert not same_parameters(plain, run(tiny_dir(), GoldProxy(count_w2, count_w1)))


def test_a_failing_gold_scorer_costs_no_episode_its_reward():
    env = tiny_env_single(GoldProxy(count_w1, broken), on_scorer_error="penalise")
    with pytest.warns(UserWarning, match="gold standard was abandoned"):
        info = play(env)
    assert info["score"] == info["score_parts"]["proxy"]
    assert "gold" not in info["score_parts"]
    assert "scorer_error" not in info
    scorer = GoldProxy(count_w1, broken)
    with pytest.warns(UserWarning, match="training goes on"):
        scorer(["p"], ["w1"])
    scorer(["p"], ["w1"])  # warns once only
    assert scorer.gold_failures == 2
    assert "abandoned" in scorer.last_gold_error


def test_a_gold_scorer_cannot_spoil_the_columns_of_the_proxy():
    def vandal(prompts, completions, answer):
        answer.clear()
        return [0.0] * len(completions)

    def right(prompts, completions, answer):
        return [float(text == expected) for text, expected in zip(completions, answer, strict=True)]

    assert GoldProxy(right, vandal)(["p"], ["x"], answer=["x"]) == [1.0]


def test_a_gold_scorer_that_needs_a_missing_column_is_a_mistake_to_be_told():
    def needs(prompts, completions, answer):
        return [0.0] * len(completions)

    with pytest.raises(ValueError, match="'answer', which is not a column"):
        GoldProxy(count_w1, needs)(["p"], ["x"])


def tiny_env_single(scorer, **options):
    import gymnasium as gym

    from llm_gym.testing.tiny import tiny_tokenizer

    return gym.make(
        "llm_gym/TextGeneration-v0",
        tokenizer=tiny_tokenizer(),
        prompts=["w3"],
        scorer=scorer,
        max_new_tokens=2,
        **options,
    )


def play(env):
    env.reset(seed=0)
    env.step(4)
    return env.step(4)[-1]


# ------------------------------------------------------------------ the callback


def test_rows_are_means_of_the_rollouts_episodes(tiny_dir, tmp_path):
    """Against the reward that Stable-Baselines3 logs itself, and against the reference's KL."""
    history = History()
    callback = GoldProxyCallback(tmp_path)
    scorer = GoldProxy(count_w1, count_w2)
    algorithm = ppo(tiny_dir(), scorer, env={"eos_token_id": ()}, stats_window_size=4)
    algorithm.set_logger(Logger(None, [history]))
    algorithm.learn(TOKENS * 3, callback=callback)
    assert [row["step"] for row in callback.rows] == [32, 64, 96]
    assert [row["iteration"] for row in callback.rows] == [0, 1, 2]
    assert [row["episodes"] for row in callback.rows] == [4, 4, 4]
    assert [row["length"] for row in callback.rows] == [8, 8, 8]
    assert [row["proxy"] for row in callback.rows] == history.curve("rollout/ep_rew_mean")[1]
    assert [row["kl"] for row in callback.rows] == history.curve("rollout/kl_per_sequence")[1]
    assert callback.rows[0]["kl"] == pytest.approx(0.0, abs=1e-5)
    assert 0 < callback.rows[0]["entropy"] < math.log(32)
    assert history.curve("gold_proxy/gold")[1] == [row["gold"] for row in callback.rows]
    stored = [json.loads(line) for line in (tmp_path / "gold_proxy.jsonl").read_text().splitlines()]
    assert stored == callback.rows


def test_figures_reach_tensorboard(tiny_dir, tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    writer = TensorBoardOutputFormat(str(tmp_path))
    algorithm = ppo(tiny_dir(), GoldProxy(count_w1, count_w2))
    algorithm.set_logger(Logger(None, [writer]))
    algorithm.learn(TOKENS * 2, callback=GoldProxyCallback())
    writer.close()
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    tags = {tag for tag in events.Tags()["scalars"] if tag.startswith("gold_proxy/")}
    assert {f"gold_proxy/{name}" for name in ("gold", "proxy", "kl", "length", "entropy")} <= tags


def test_a_resumed_run_continues_its_file(tiny_dir, tmp_path):
    scorer = GoldProxy(count_w1, count_w2)
    algorithm = run(tiny_dir(), scorer, GoldProxyCallback(tmp_path), rollouts=2)
    with open(tmp_path / "gold_proxy.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 999, "proxy": 1.0}\n{"step": 10')  # beyond the checkpoint, and cut off
    callback = GoldProxyCallback(tmp_path)
    algorithm.learn(TOKENS, callback=callback, reset_num_timesteps=False)
    assert [row["step"] for row in callback.rows] == [32, 64, 96]
    assert [row["iteration"] for row in callback.rows] == [0, 1, 2]
    assert len((tmp_path / "gold_proxy.jsonl").read_text().splitlines()) == 3


def test_pictures_are_made_when_training_ends(tiny_dir, tmp_path):
    run(tiny_dir(), GoldProxy(count_w1, count_w2), GoldProxyCallback(tmp_path), rollouts=4)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"gold_proxy.jsonl", "gold_proxy.html", "fits.json"} <= names
    assert json.loads((tmp_path / "fits.json").read_text())["training"]["law"] == "rl"


def test_without_a_reference_there_is_no_divergence_and_no_picture(tiny_dir, tmp_path):
    scorer = GoldProxy(count_w1, count_w2)
    callback = GoldProxyCallback(tmp_path)
    with pytest.warns(UserWarning, match="no pictures"):
        run(tiny_dir(), scorer, callback, kl_coef=0.0)
    assert all("gold" in row and "kl" not in row for row in callback.rows)
    with pytest.raises(ValueError, match=r"never there: \['kl'\]"):
        callback.curve()


def test_a_reference_without_a_penalty_gives_the_divergence(tiny_dir):
    callback = GoldProxyCallback()
    overrides = {"kl_coef": 0.0, "reference": tiny_dir()}
    run(tiny_dir(), GoldProxy(count_w1, count_w2), callback, **overrides)
    assert callback.curve().distance[0] == pytest.approx(0.0, abs=1e-2)
    assert callback.curve().gold[0] == callback.curve().proxy[0] == 0.0


def test_a_scorer_without_gold_is_named(tiny_dir):
    with pytest.raises(ValueError, match=r"scorer is GoldProxy\(proxy, gold\)"):
        run(tiny_dir(), count_w1, GoldProxyCallback())
