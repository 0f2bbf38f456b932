"""The alarm in real, tiny training runs, with scripted and with measured scores."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import Logger
from transformers import AutoModelForCausalLM

import llm_gym
from llm_gym.feedback.diagnostics import (
    GoldProxy,
    HeldOutMeasure,
    OveroptimisationAlarm,
    OveroptimisationWarning,
)
from llm_gym.scorers import ScorerError
from tests.feedback.diagnostics.test_gold_proxy import (
    TOKENS,
    broken,
    count_w2,
    run,
    same_parameters,
)
from tests.tiny_runs import count_w1, tiny_env, tiny_ppo

HELD_OUT = [f"w{i} w{j}" for i in range(10, 14) for j in range(10, 13)]
UNITS = 64


class Script:
    """Gold and proxy by look; the spread over prompts is the same at every look."""

    def __init__(self, golds, proxies=None):
        self.golds = list(golds)
        self.proxies = list(range(len(self.golds)) if proxies is None else proxies)
        self.calls = 0
        self.noise = np.random.default_rng(0)

    def __call__(self, algorithm):
        at, self.calls = self.calls, self.calls + 1
        gold = self.golds[at] + self.noise.normal(0, 0.5, UNITS)
        return gold, np.full(UNITS, float(self.proxies[at]))


def learn(model, alarm, rollouts):
    algorithm = tiny_ppo(model, n_steps=8, batch_size=16)
    algorithm.set_logger(Logger(None, []))
    return algorithm.learn(TOKENS * rollouts, callback=alarm)


TURN = [0.0, 1.0, 2.0, 3.0, 1.5, 0.0, -2.0]


def test_it_stops_soon_after_the_turn_and_keeps_the_best_model(tiny_dir, tmp_path):
    script = Script(TURN)
    alarm = OveroptimisationAlarm(script, every=1, action="stop", directory=tmp_path)
    with pytest.warns(OveroptimisationWarning) as caught:
        algorithm = learn(tiny_dir(), alarm, 6)
    assert alarm.stopped
    assert script.calls == 5  # looks 0 to 4: the first below the peak
    # The stop takes effect at the first step of the rollout that would have followed.
    assert 4 * TOKENS <= algorithm.num_timesteps < 5 * TOKENS
    [rung] = alarm.alarms
    assert str(caught[0].message) == rung.message
    for said in (
        "gold fell from",
        f"at step {3 * TOKENS}",
        "proxy rose from 3 to 4",
        "64 held-out",
    ):
        assert said in rung.message
    figures = json.loads((tmp_path / "best.json").read_text())
    assert figures["step"] == 3 * TOKENS
    assert figures["gold"] == pytest.approx(3.0, abs=0.3)
    AutoModelForCausalLM.from_pretrained(tmp_path / "best")


def test_the_kept_model_is_the_one_that_was_measured(tiny_dir, tmp_path):
    weights = {}

    class Remember(Script):
        def __call__(self, algorithm):
            name = self.calls
            weights[name] = algorithm.policy.model.get_output_embeddings().weight.clone()
            return super().__call__(algorithm)

    alarm = OveroptimisationAlarm(Remember([0.0, 2.0, 1.9, 1.8]), every=1, directory=tmp_path)
    learn(tiny_dir(), alarm, 3)
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "best").get_output_embeddings().weight
    assert torch.equal(kept, weights[1])
    assert not torch.equal(kept, weights[2])


def test_a_warning_goes_on_rings_once_a_turn_and_is_armed_by_a_new_best(tiny_dir):
    script = Script([0.0, 3.0, 1.0, 1.0, 5.0, 1.0, 0.0])
    alarm = OveroptimisationAlarm(script, every=1)
    with pytest.warns(OveroptimisationWarning, match="no model was kept"):
        learn(tiny_dir(), alarm, 6)
    assert [rung.step for rung in alarm.alarms] == [2 * TOKENS, 5 * TOKENS]
    assert not alarm.stopped
    assert alarm.best.step == 4 * TOKENS
    assert script.calls == 7  # at the start, after each of six iterations


def test_a_rise_and_a_plateau_are_quiet(tiny_dir):
    for golds in (np.arange(7.0), np.zeros(7)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", OveroptimisationWarning)
            alarm = OveroptimisationAlarm(Script(golds), every=1)
            learn(tiny_dir(), alarm, 6)
        assert alarm.alarms == []
        assert len(alarm.looks) == 7


def test_it_looks_every_so_often_and_at_the_end(tiny_dir):
    alarm = OveroptimisationAlarm(Script(np.arange(9.0)), every=2)
    learn(tiny_dir(), alarm, 5)
    assert [look.step for look in alarm.looks] == [0, 2 * TOKENS, 4 * TOKENS, 5 * TOKENS]


def test_a_resumed_run_remembers_its_looks(tiny_dir, tmp_path):
    algorithm = learn(
        tiny_dir(), OveroptimisationAlarm(Script(TURN[:4]), every=1, directory=tmp_path), 3
    )
    later = OveroptimisationAlarm(Script(TURN[4:], [4, 5, 6]), every=1, directory=tmp_path)
    with pytest.warns(OveroptimisationWarning, match=f"at step {3 * TOKENS}"):
        algorithm.learn(2 * TOKENS, callback=later, reset_num_timesteps=False)
    assert [look.step for look in later.looks] == [TOKENS * i for i in range(6)]
    assert [rung.step for rung in later.alarms] == [4 * TOKENS]


@pytest.mark.parametrize("algorithm", ["PPO", "RLOO"])
def test_a_resumed_run_looks_when_a_whole_one_does(algorithm, tiny_dir, tmp_path):
    """RLOO's rollouts are whole answers, which have fewer tokens than rows times steps."""

    def looks(*ends):
        if algorithm == "PPO":  # two epochs a rollout
            model = tiny_ppo(tiny_dir(), n_steps=8, batch_size=16)
        else:
            policy = {"model": tiny_dir()}
            env = tiny_env(tiny_dir(), group_size=2)
            model = llm_gym.RLOO("TransformerPolicy", env, seed=0, policy_kwargs=policy)
        model.set_logger(Logger(None, []))
        directory = tmp_path / str(len(ends))
        for end in ends:
            alarm = OveroptimisationAlarm(Script([0.0] * 30), every=3, directory=directory)
            left = end - model.num_timesteps
            model.learn(left, callback=alarm, reset_num_timesteps=False)
        return {look.step for look in alarm.looks}

    whole = looks(12 * TOKENS)
    assert len(whole) > 4
    assert whole <= looks(7 * TOKENS, 12 * TOKENS)  # which has one more, at the end of the first


def test_a_foreign_file_of_looks_is_refused(tiny_dir, tmp_path):
    (tmp_path / "looks.jsonl").write_text('{"step": 0}\n')
    algorithm = learn(tiny_dir(), None, 1)
    alarm = OveroptimisationAlarm(Script([0.0]), directory=tmp_path)
    with pytest.raises(ValueError, match=r"looks.jsonl: line 1"):
        algorithm.learn(TOKENS, callback=alarm, reset_num_timesteps=False)


# ------------------------------------------------------------------ where scores come from


def held_out(model, proxy=count_w1, gold=count_w2, **kwargs):
    env = {"tokenizer": model, "prompts": HELD_OUT, "max_new_tokens": 8}
    return HeldOutMeasure(env, proxy, gold, num_envs=5, **kwargs)


def test_held_out_scores_are_those_of_the_answers(tiny_dir):
    """Against evaluate() itself, once paid by the proxy and once by gold."""
    algorithm = tiny_ppo(tiny_dir())
    scores = held_out(tiny_dir())(algorithm)
    for scorer, measured in ((count_w1, scores.proxy), (count_w2, scores.gold)):
        env = {"tokenizer": tiny_dir(), "prompts": HELD_OUT, "max_new_tokens": 8, "scorer": scorer}
        rows = llm_gym.evaluate(algorithm, env, num_envs=5).rows
        assert measured.tolist() == [row.score for row in rows]
    assert scores.gold.std() > 0


def test_looking_changes_nothing(tiny_dir):
    plain = run(tiny_dir(), count_w1)
    alarm = OveroptimisationAlarm(held_out(tiny_dir()), every=1)
    assert same_parameters(plain, run(tiny_dir(), count_w1, alarm))
    assert [len(look.gold) for look in alarm.looks] == [len(HELD_OUT)] * 4


def test_a_look_that_fails_costs_a_look_and_not_the_run(tiny_dir):
    with pytest.raises(ScorerError, match="abandoned"):
        held_out(tiny_dir(), gold=broken)(tiny_ppo(tiny_dir()))
    alarm = OveroptimisationAlarm(held_out(tiny_dir(), gold=broken), every=1)
    with pytest.warns(OveroptimisationWarning, match="no look at step"):
        algorithm = learn(tiny_dir(), alarm, 1)
    assert algorithm.num_timesteps == TOKENS
    assert alarm.looks == []


def test_recorded_gold_is_that_of_the_rollouts(tiny_dir):
    """Gold that falls while the proxy rises, by the clock of the scorer's calls."""
    calls = {"proxy": 0, "gold": 0}

    def rising(prompts, completions):
        calls["proxy"] += 1
        return [float(calls["proxy"])] * len(completions)

    def turning(prompts, completions):
        calls["gold"] += 1
        spread = np.linspace(-0.1, 0.1, len(completions))
        return (-abs(calls["gold"] - 3) + spread).tolist()

    model = tiny_dir()
    env = tiny_env(model, num_envs=16, scorer=GoldProxy(rising, turning), eos_token_id=())
    algorithm = llm_gym.PPO(
        "TransformerPolicy", env, n_steps=8, seed=0, device="cpu", policy_kwargs={"model": model}
    )
    algorithm.set_logger(Logger(None, []))
    alarm = OveroptimisationAlarm(every=1, action="stop")
    with pytest.warns(OveroptimisationWarning, match="16 episodes of a rollout"):
        algorithm.learn(16 * 8 * 6, callback=alarm)
    assert [look.gold_mean for look in alarm.looks] == pytest.approx([-2, -1, 0, -1])
    assert alarm.looks[1].kl is not None


def test_a_rollout_without_gold_is_no_look(tiny_dir):
    alarm = OveroptimisationAlarm(every=1)
    with pytest.warns(OveroptimisationWarning, match="is the scorer a GoldProxy"):
        run(tiny_dir(), count_w1, alarm, rollouts=1)
    assert alarm.looks == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"every": 0}, "every=0"),
        ({"action": "shout"}, "action='shout'"),
        ({"level": 0.0}, "level=0.0"),
        ({"planned_looks": 0}, "planned_looks=0"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        OveroptimisationAlarm(**kwargs)
