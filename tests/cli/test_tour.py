"""The command `tour`: what is done stays done, and every picture is of what was found."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from llm_gym.cli import tour_pictures, touring
from llm_gym.stages.tour import road as road_module
from llm_gym.stages.tour import stops
from llm_gym.stages.tour.stops import STOPS, Stop, Tour

HOSTILE = "\x1b[31m\u202e[bold]"
FOUND = {
    "text": {
        "text": "Dear", "tokens": [" Ada", "\n"], "probabilities": [0.75, 0.25],
        "continued": f" Ada{HOSTILE}",
    },
    "instructions": {"prompt": "Ask.", "base": "and so on", "tuned": f"Please.{HOSTILE}"},
    "cockpit": {
        "flights": {
            "rule": {"off": [40.0, -80.0], "total": 120.0},
            "pid": {"off": [40.0, 10.0], "total": 260.0},
            "ppo": {"off": [40.0, 0.0], "total": 270.4},
        },
        "step": {"state": "40 m too low, 50 m/s", "action": "elevator -1.0 deg", "reward": 0.5},
    },
    "tokens": {
        "prompt": "Ask.",
        "steps": [
            {"token": f" w{n}{HOSTILE}", "probability": 0.5, "reward": 71.0 * (n == 11)}
            for n in range(12)
        ],
    },
    "score": {
        "texts": ["rude", "kind"], "scores": [4.0, 68.0], "highest": 100.0,
        "parts": [{"insults": -25.0, "form": 0.7}, {"please": 9.0, "form": 1.0}],
        "factors": ["form"],
    },
    "votes": {"prompt": "Ask.", "chosen": "A", "rejected": HOSTILE, "votes": 128, "hours": 1.25},
    "reward-model": {"bag_of_words": 0.6, "accuracy": 0.75, "votes": 100},
    "rlhf": {
        "steps": [0, 10], "reward": [-1.0, 1.0], "gold": [30.0, 40.0], "prompt": "Ask.",
        "before": "b", "after": HOSTILE, "summary": {"tokens": 7680},
    },
    "price": {
        "pressures": [0.0, 3.0], "approval": [0.5, 2.5], "false_agreement": [0.25, 0.96],
        "asked": f"I think it is Rome.{HOSTILE}", "said": ["No.", f"Yes.{HOSTILE}"], "bias": 3.0,
    },
    "algorithms": {"gain": {"PPO": 0.98, "RLOO": 0.95}, "answers": 6400},
}  # fmt: skip


def printed(name):
    console = Console(file=io.StringIO(), width=88)
    console.print(tour_pictures.picture_of(name, FOUND[name]))
    return console.file.getvalue()


@pytest.mark.parametrize("stop", STOPS, ids=[stop.name for stop in STOPS])
def test_every_stop_has_a_picture_and_one_sentence_and_obeys_no_text(stop):
    shown = printed(stop.name)
    assert shown.strip()
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    sentence = tour_pictures.sentence_of(stop.name, FOUND[stop.name])
    assert sentence.endswith(".")
    assert sentence.count(". ") == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("text", "“ Ada”  75%  ███████████████████▌"),
        ("cockpit", "return 270"),
        ("tokens", "... 4 more steps"),
        ("tokens", "71"),
        ("score", "insults  -25  ██████"),
        ("reward-model", "75%"),
        ("rlhf", "30.0 to 40.0"),
        ("price", "25% to 96%"),
        ("price", "0.50 to 2.50"),
        ("algorithms", "98.0%"),
    ],
)
def test_pictures_are_of_what_was_found(name, told):
    assert told in printed(name)


# ------------------------------------------------------------------ the command


class Road:
    """Stops that do nothing but say that they were there."""

    def __init__(self):
        self.done, self.stopping = [], set()
        self.stops = tuple(Stop(each.name, each.title, self._work(each.name)) for each in STOPS)

    def _work(self, name):
        def work(tour):
            self.done.append(name)
            if name in self.stopping:
                raise KeyboardInterrupt
            return FOUND[name]

        return work


@pytest.fixture
def road(monkeypatch):
    made = Road()
    for place in (road_module, stops):
        monkeypatch.setattr(place, "STOPS", made.stops)
    return made


def test_it_ends_where_nobody_reads_along_and_keeps_its_pictures(run, road, tmp_path):
    code, out, err = run("tour", "--output", tmp_path / "tour")
    assert code == 0, err
    assert road.done == [stop.name for stop in STOPS]
    assert out.count(" of 10  ") == 10
    assert f"llm-gym watch {tmp_path / 'tour' / 'rlhf'}" in out
    kept = sorted(path.name for path in (tmp_path / "tour" / "pictures").iterdir())
    assert kept[0] == "01-text.png"
    assert len(kept) == 10


def test_what_is_done_is_kept_and_shown_again(run, road, tmp_path):
    road.stopping = {"votes"}
    code, out, err = run("tour", "--output", tmp_path, "--no-watch")
    assert code == 130
    assert f"the same command goes on: llm-gym tour --seed 0 --output {tmp_path}" in err
    assert road.done == [stop.name for stop in STOPS[:6]]
    road.stopping = set()
    code, again, _ = run("tour", "--output", tmp_path, "--no-watch")
    assert code == 0
    assert road.done[6:] == [stop.name for stop in STOPS[5:]]
    assert again.startswith(out[: out.index("6 of 10")])  # the first five, as they were
    assert json.loads((tmp_path / "llm_gym.json").read_text())["state"] == "finished"
    code, _, err = run("tour", "--output", tmp_path, "--no-watch", "--seed", 1)
    assert code == 2
    assert "seed=1 (there: 0)" in err


def test_a_stop_of_a_plugin_that_is_missing_is_left_out_until_it_is_there(
    run, road, tmp_path, monkeypatch
):
    there = stops.STOPS
    without = tuple(
        Stop(s.name, s.title, s.work, "no_such_module" if s.name == "cockpit" else None, "envs/x")
        for s in there
    )
    for place in (road_module, stops):
        monkeypatch.setattr(place, "STOPS", without)
    code, out, _ = run("tour", "--output", tmp_path, "--no-watch")
    assert code == 0
    assert "left out: it comes with a plug-in (in a checkout: pip install -e envs/x)" in out
    assert "cockpit" not in road.done
    for place in (road_module, stops):
        monkeypatch.setattr(place, "STOPS", there)
    run("tour", "--output", tmp_path, "--no-watch")
    assert road.done[9:] == ["cockpit"]
    for place in (road_module, stops):  # what was found is shown where its plug-in is gone again
        monkeypatch.setattr(place, "STOPS", without)
    code, out, _ = run("tour", "--output", tmp_path, "--no-watch")
    assert "left out" not in out
    assert "return 270" in out


def test_on_a_terminal_it_ends_with_the_page_unless_told_otherwise(
    run, road, tmp_path, monkeypatch
):
    watched = []
    monkeypatch.setattr(touring, "_watch", lambda *given: watched.append(given))
    monkeypatch.setattr(touring, "_attended", lambda: True)
    monkeypatch.setattr(touring, "_draws", lambda: False)
    run("tour", "--output", tmp_path)
    assert watched == [(tmp_path / "rlhf", True)]
    run("tour", "--output", tmp_path, "--no-browser")
    assert watched[1:] == [(tmp_path / "rlhf", False)]
    run("tour", "--output", tmp_path, "--no-watch")
    assert len(watched) == 2
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("writes", [False, True])
def test_somebody_attends_who_can_read_it_and_end_it(reads, writes, monkeypatch):
    for name, there in (("stdin", reads), ("stdout", writes)):
        monkeypatch.setattr(touring.sys, name, SimpleNamespace(isatty=lambda there=there: there))
    assert touring._attended() == (reads and writes)


# ------------------------------------------------------------------ the stops themselves


def test_a_model_of_text_goes_on_where_the_opening_ends(tmp_path):
    found = stops.continue_text(Tour(tmp_path, 0))
    assert found["text"] == stops.OPENING
    assert not found["continued"].lstrip().startswith("Dear")
    assert len(found["tokens"]) == len(found["probabilities"]) == 5
    assert found["probabilities"] == sorted(found["probabilities"], reverse=True)
    assert 0.0 < sum(found["probabilities"]) <= 1.0


def test_both_models_answer_the_same_prompt_each_its_own_way(tmp_path, monkeypatch):
    def answered(model, env, **options):
        assert (env, options["seed"]) == (stops.ENV, 3)
        return SimpleNamespace(rows=[SimpleNamespace(prompt="Ask.", completion=f"by {model}")])

    monkeypatch.setattr("llm_gym.runs.evaluation.evaluate", answered)
    assert stops.answer_instructions(Tour(tmp_path, 3)) == {
        "prompt": "Ask.", "base": f"by {stops.BASE}", "tuned": f"by {stops.TUNED}",
    }  # fmt: skip


@pytest.mark.parametrize(("first", "how"), [(40.0, "low"), (-40.0, "high")])
def test_a_flight_is_shown_by_the_second_and_its_first_decision_by_what_it_earned(
    first, how, tmp_path, monkeypatch
):
    flown = pytest.importorskip("llm_gym_autopilot.flown")

    class Flight:
        def __init__(self, *_):
            self.steps, self.total = 0, 0.0

        done = property(lambda self: self.steps == 11)

        @property
        def frame(self):
            telemetry = SimpleNamespace(
                altitude_error_m=first - 10.0 * self.steps,
                airspeed_mps=50.0 + self.steps,
                elevator_deg=-1.0 * self.steps,
                throttle=0.5 + 0.01 * self.steps,
            )
            return SimpleNamespace(telemetry=telemetry)

        def step(self):
            self.steps += 1
            self.total += 0.25 * self.steps

    monkeypatch.setattr(flown, "Flight", Flight)
    found = stops.fly(Tour(tmp_path, 0))
    assert list(found["flights"]) == ["rule", "pid", "ppo"]
    for flight in found["flights"].values():
        assert flight == {"off": [-first, 50.0 - first, 100.0 - first], "total": 16.5}
    assert found["step"] == {
        "state": f"40 m too {how}, 50 m/s", "action": "elevator -1.0 deg, throttle 51%",
        "reward": 0.25,
    }  # fmt: skip


def test_of_optimised_answers_the_one_that_gained_most_is_shown(tmp_path, monkeypatch):
    scores = {"sft": [10.0, 30.0, 20.0], "ppo": [20.0, 5.0, 60.0]}

    def answers(_, stage):
        return [
            {"prompt": f"p{n}", "completion": f"{stage}{n}", "score": score}
            for n, score in enumerate(scores[stage])
        ]

    looks = [{"step": 8 * n, "proxy": [n, n + 1.0], "gold": [n + 40.0, n + 50.0]} for n in (0, 1)]
    done = []
    monkeypatch.setattr(Tour, "stage", lambda self, name: done.append(name))
    monkeypatch.setattr(
        "llm_gym.stages.rlhf.rlhf", lambda *_, **__: SimpleNamespace(summary={"tokens": 16})
    )
    monkeypatch.setattr("llm_gym.stages.rlhf.results.read_answers", answers)
    monkeypatch.setattr("llm_gym.stages.rlhf.results.read_looks", lambda _: looks)
    assert stops.optimise(Tour(tmp_path, 0)) == {
        "steps": [0, 8], "reward": [0.5, 1.5], "gold": [45.0, 46.0], "prompt": "p2",
        "before": "sft2", "after": "ppo2", "summary": {"tokens": 16},
    }  # fmt: skip
    assert done == ["ppo"]


def test_algorithms_are_compared_on_the_problem_whose_optimum_is_known(tmp_path, monkeypatch):
    pytest.importorskip("llm_gym_known_optimum")
    from transformers import AutoModelForCausalLM

    import llm_gym

    made = {}

    def of(name):
        def make(policy, env, *, learning_rate, kl_coef, policy_kwargs, **_):
            model = AutoModelForCausalLM.from_pretrained(policy_kwargs["model"])
            made[name] = [kl_coef, learning_rate(0.5), env.unwrapped.group_size]
            return SimpleNamespace(
                policy=SimpleNamespace(model=model), learn=lambda steps: made[name].append(steps)
            )

        return make

    for name in stops.RATES:
        monkeypatch.setattr(llm_gym, name, of(name), raising=False)
    found = stops.compare_algorithms(Tour(tmp_path, 0))
    assert found["gain"] == pytest.approx(dict.fromkeys(stops.RATES, 0.0), abs=1e-6)
    for name, rate in stops.RATES.items():
        group = 16 if name == "RLOO" else 1
        assert made[name] == [0.1, pytest.approx(rate / 2), group, found["answers"] * 4]


def test_an_email_is_an_episode_whose_reward_comes_at_its_end(tmp_path):
    found = stops.write_token_by_token(Tour(tmp_path, 0))
    rewards = [step["reward"] for step in found["steps"]]
    assert set(rewards[:-1]) == {0.0}
    assert rewards[-1] > 50
    text = "".join(step["token"] for step in found["steps"][:-1])
    assert text.startswith("Dear")
    assert "\n" in text


def test_the_judgement_is_the_scorers_own(tmp_path):
    from llm_gym.scorers.by_name import scorer_from_name

    found = stops.judge(Tour(tmp_path, 0))
    scores = scorer_from_name("politeness", "cpu")([""] * 2, found["texts"])
    assert found["scores"] == pytest.approx(list(scores))
    assert found["scores"][0] < 10 < 60 < found["scores"][1]


def test_pilots_fly_the_same_flight(tmp_path):
    pytest.importorskip("llm_gym_autopilot")
    flights = stops.fly(Tour(tmp_path, 3))["flights"]
    assert len({flight["off"][0] for flight in flights.values()}) == 1
    assert flights["ppo"]["total"] > flights["rule"]["total"] + 50


def test_optimisation_finds_what_raters_reward(tmp_path):
    pytest.importorskip("llm_gym_sycophancy")
    found = stops.price(Tour(tmp_path, 0))
    assert found["approval"] == sorted(found["approval"])  # what is optimised only rises
    assert found["false_agreement"][-1] > 0.9 > 0.5 > found["false_agreement"][0]
    claim = found["asked"].rsplit(" ", 1)[1].rstrip(".")
    assert claim in found["said"][1]
    assert claim not in found["said"][0]


@pytest.mark.slow
def test_the_whole_road_in_small(run, tmp_path, monkeypatch):
    from tests.tiny_rlhf import TINY

    pytest.importorskip("llm_gym_autopilot")
    pytest.importorskip("llm_gym_known_optimum")
    pytest.importorskip("llm_gym_sycophancy")
    monkeypatch.setattr(stops, "ANSWERS", 256)
    make = Tour.__init__

    def tiny(self, root, seed):
        make(self, root, seed)
        self.config = TINY.with_values(seed=seed)

    monkeypatch.setattr(Tour, "__init__", tiny)
    code, out, err = run("tour", "--output", tmp_path, "--no-watch")
    assert code == 0, err
    assert "left out" not in out
    assert (tmp_path / "rlhf" / "report.html").exists()
    assert len(list((tmp_path / "pictures").iterdir())) == 10
    code, again, _ = run("tour", "--output", tmp_path, "--no-watch")
    assert again == out
