"""The tuner: the same episodes for all candidates, better numbers, the same by the same seed."""

from dataclasses import fields

import numpy as np
import pytest
from llm_gym_autopilot.pilots import PIDPilot, tuning
from llm_gym_autopilot.pilots.tuning import SEARCHES, fly_candidates, main, tune
from llm_gym_autopilot.single import AutopilotEnv

SMALL = {"candidates": 16, "episodes": 4, "generations": 3}


def test_candidates_fly_what_the_single_environment_flies_by_the_same_seeds():
    gains = np.array([0.2, 0.6])
    both = PIDPilot(altitude_p=np.repeat(gains, 2))
    returns = fly_candidates(both, 2, 2, "moderate", seed=40)
    for gain, mean in zip(gains, returns, strict=True):
        pilot, totals = PIDPilot(altitude_p=gain), []
        for seed in (40, 41):
            env = AutopilotEnv(turbulence="moderate")
            observation, _ = env.reset(seed=seed)
            state, total = None, 0.0
            for _ in range(300):
                action, state = pilot.predict(observation, state)
                observation, reward, *_ = env.step(action)
                total += reward
            totals.append(total)
        assert mean == pytest.approx(np.mean(totals), abs=1e-4)


def test_a_crashed_candidate_earns_nothing_more():
    dive = PIDPilot(altitude_p=0.0, climb_p=0.0, climb_i=0.0, pitch_p=-3.0, pitch_d=-3.0)
    assert fly_candidates(dive, 1, 4, "none", seed=0)[0] < 60.0


@pytest.mark.parametrize("name", ["pid", "rule", "lqr"])
def test_a_bad_start_gets_better(name):
    start = {"pid": {"altitude_p": 0.05}, "rule": {"error_throttle": 0.01}}.get(name)
    tuned = tune(name, start=start, seed=1, **SMALL)
    assert tuned.score > tuned.start_score + 5.0
    assert tuned.episodes == 16 * 4 * 3
    assert [generation.number for generation in tuned.generations] == [1, 2, 3]
    assert all(generation.best >= generation.centre for generation in tuned.generations)


def test_a_search_repeats_itself_by_its_seed():
    first, again, reseeded = (tune("pid", seed=seed, **SMALL) for seed in (3, 3, 4))
    assert first.numbers == again.numbers
    assert first.score == again.score
    assert first.numbers != reseeded.numbers
    assert first.pilot == PIDPilot(**first.numbers)


def test_no_episode_is_flown_by_two_generations_nor_by_the_search_and_its_judge(monkeypatch):
    flown = []

    def fly(pilot, candidates, episodes, turbulence, seed):
        flown.append(range(seed, seed + episodes))
        return np.arange(candidates, dtype=float)

    monkeypatch.setattr(tuning, "fly_candidates", fly)
    tune("pid", seed=5, **SMALL)
    assert [len(seeds) for seeds in flown] == [4, 4, 4, 16]
    assert len(set().union(*flown)) == 4 + 4 + 4 + 16


@pytest.mark.parametrize("name", list(SEARCHES))
def test_what_is_shipped_is_better_than_where_the_search_begins(name):
    search = SEARCHES[name]

    def score(pilot):
        changes = {
            field.name: np.full(32, getattr(pilot, field.name))
            for field in fields(pilot)
            if isinstance(getattr(pilot, field.name), float)
        }
        changes.pop("altitude", None)
        return fly_candidates(
            type(pilot)(**{**vars(pilot), **changes}), 1, 32, "mixed", seed=900_000
        )[0]

    assert score(search.build()) > score(search.build(**search.start)) + 10.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "autopilot"}, "name='autopilot' must be one of rule, pid, lqr"),
        ({"name": "pid", "turbulence": "severe"}, "severe turbulence is kept for testing"),
        ({"name": "pid", "candidates": 3}, "candidates must be at least 16, got 3"),
        ({"name": "pid", "episodes": 0}, "episodes must be at least 1, got 0"),
        ({"name": "pid", "start": {"gain": 1.0}}, "'gain', which is none of altitude_p"),
        ({"name": "pid", "start": {"climb_p": 0.0}}, "'climb_p']=0.0 must be positive"),
    ],
)
def test_searches_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tune(**arguments)


def test_the_command_prints_numbers_to_fly_with(capsys):
    options = [f"--{key}={value}" for key, value in SMALL.items()]
    assert main(["pid", "--seed", "3", *options]) == 0
    printed = capsys.readouterr().out
    assert "192 episodes in" in printed
    pilot = eval(printed.splitlines()[-1], {"PIDPilot": PIDPilot})
    assert pilot == tune("pid", seed=3, **SMALL).pilot


def test_the_command_says_what_is_wrong_in_one_line(capsys):
    with pytest.raises(SystemExit):
        main(["pid", "--candidates", "3"])
    assert "candidates must be at least 16, got 3" in capsys.readouterr().err
