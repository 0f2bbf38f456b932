from __future__ import annotations

import threading

import numpy as np
import pytest

from llm_gym.feedback.labelling.human_scorer import HumanScorer
from llm_gym.scorers import LengthScorer, Scorer, ScorerError
from tests.feedback.labelling.test_server import HOST, Page

PROMPTS = ["Write.", "Write.", "Ask."]
ANSWERS = ["Hello", "Hello you", "Hi"]


class Rater:
    """A person by script: a score for each text, and the list of what was asked."""

    def __init__(self, verdicts):
        self.verdicts = dict(verdicts)
        self.asked = []

    def __call__(self, question):
        self.asked.append(question)
        return self.verdicts[question.answers[0]]


@pytest.fixture
def make(tmp_path):
    scorers = []

    def new(ask, name="book.db", **options):
        scorers.append(HumanScorer(tmp_path / name, ask, **options))
        return scorers[-1]

    yield new
    for scorer in scorers:
        scorer.close()


@pytest.fixture
def rater():
    return Rater({"Hello": 40, "Hello you": 70.5, "Hi": 2})


# ------------------------------------------------------------------ scores


def test_it_is_a_scorer_with_the_persons_scores(make, rater):
    scorer = make(rater)
    assert isinstance(scorer, Scorer)
    scores = scorer.score(PROMPTS, ANSWERS)
    assert scores.values.tolist() == [40, 70.5, 2]
    assert scores.parts["human"].tolist() == [1, 1, 1]
    assert [(question.prompt, question.answers) for question in rater.asked] == [
        ("Write.", ("Hello",)),
        ("Write.", ("Hello you",)),
        ("Ask.", ("Hi",)),
    ]
    assert scorer(PROMPTS, ANSWERS) == [40, 70.5, 2]  # the plain protocol, and TRL's


def test_nobody_is_asked_twice(make, rater):
    scorer = make(rater)
    assert scorer(["Write."] * 3, ["Hello"] * 3) == [40, 40, 40]
    assert scorer(PROMPTS, ANSWERS) == [40, 70.5, 2]
    assert len(rater.asked) == 3
    scorer(["Another prompt."], ["Hello"])
    assert len(rater.asked) == 4
    scorer.close()
    again = make(Rater({}))  # a run that was resumed
    assert again(PROMPTS, ANSWERS) == [40, 70.5, 2]


def test_it_scores_episodes_of_an_environment(make, tiny_dir):
    import llm_gym
    from llm_gym.testing.tiny import tiny_tokenizer

    scorer = make(lambda question: 10 * len(question.answers[0].split()))
    env = llm_gym.TextGenerationVectorEnv(
        num_envs=2, tokenizer=tiny_tokenizer(), prompts=["w1 w2"], scorer=scorer, max_new_tokens=3
    )
    env.reset(seed=0)
    env.step(np.array([5, 5]))
    env.step(np.array([6, 1]))  # 1 is EOS: the second row ends with one word
    _, rewards, *_ = env.step(np.array([7, 7]))
    assert rewards[0] == 30
    assert scorer.book.tally().answers == 2
    env.close()


# ------------------------------------------------------------------ comparisons with a baseline


def test_comparison_with_a_column(make):
    questions = []

    def prefers_the_shorter(question):
        questions.append(question)
        left, right = question.answers
        return "tie" if len(left) == len(right) else "left" if len(left) < len(right) else "right"

    scorer = make(prefers_the_shorter, baseline="reference")
    answers = ["aa", "aaaa", "bbb", "same"]
    scores = scorer.score(["p"] * 4, answers, {"reference": ["xxx", "xxx", "xxx", "same"]})
    assert scores.values.tolist() == [100, 0, 50, 50]
    assert scores.parts["human"].tolist() == [1, 1, 1, 0]  # nobody need be asked about the last
    assert all(question.kind == "comparison" for question in questions)
    assert len(questions) == 3


def test_the_order_is_random_and_the_side_does_not_matter(make):
    shown_first = []

    def prefers_the_model(question):
        shown_first.append(question.shown_first)
        return "left" if question.answers[0].startswith("model") else "right"

    scorer = make(prefers_the_model, baseline=lambda prompts: ["baseline"] * len(prompts))
    assert scorer(["p"] * 40, [f"model {i}" for i in range(40)]) == [100] * 40
    assert 8 <= sum(shown_first) <= 32  # mean 20, standard deviation 3.2


def test_another_baseline_is_another_question(make):
    scorer = make(lambda question: "tie", baseline="b")
    for baseline in ("x", "y", "x"):
        scorer.score(["p"], ["c"], {"b": [baseline]})
    assert scorer.book.tally().answers == 2


@pytest.mark.parametrize("baseline", [lambda prompts: ["one"], lambda prompts: [1, 2], "missing"])
def test_bad_baselines(make, baseline):
    with pytest.raises(ScorerError, match="baseline"):
        make(lambda question: "tie", baseline=baseline).score(
            ["p", "q"], ["a", "b"], {"there": [1, 2]}
        )


# ------------------------------------------------------------------ budget, silence, skips


def test_after_the_budget_comes_the_mean_of_what_was_said(make, rater):
    scorer = make(rater, budget=2)
    scores = scorer.score(PROMPTS, ANSWERS)
    assert scores.values.tolist() == [40, 70.5, 55.25]
    assert scores.parts["human"].tolist() == [1, 1, 0]
    assert scorer(PROMPTS, ANSWERS) == [40, 70.5, 55.25]
    assert len(rater.asked) == 2


def test_the_budget_counts_answers_of_earlier_runs(make, rater):
    make(rater, budget=2)(PROMPTS[:1], ANSWERS[:1])
    resumed = make(rater, budget=2)
    assert resumed(PROMPTS, ANSWERS) == [40, 70.5, 55.25]
    assert len(rater.asked) == 2


def test_after_the_budget_comes_a_scorer(make, rater):
    seen = []

    def fallback(prompts, completions, topic):
        seen.append((prompts, completions, topic))
        return [99.0] * len(prompts)

    scorer = make(rater, budget=1, after_budget=fallback)
    scores = scorer.score(PROMPTS, ANSWERS, {"topic": ["a", "b", "c"]})
    assert scores.values.tolist() == [40, 99, 99]
    assert seen == [(["Write.", "Ask."], ["Hello you", "Hi"], ["b", "c"])]


def test_after_the_budget_comes_an_error(make, rater):
    scorer = make(rater, budget=2, after_budget="raise")
    with pytest.raises(ScorerError, match=r"spent its budget of 2 answers.*row 2 of 3") as caught:
        scorer(PROMPTS, ANSWERS)
    assert caught.value.completion == "Hi"
    assert scorer.book.tally().answers == 2  # what was said is kept


def test_silence_and_skips(make):
    verdicts = iter([80, "skip", None])
    scorer = make(lambda question: next(verdicts), on_timeout=LengthScorer(2))
    # The second is skipped; at the third nobody answers, so the fourth is not asked.
    scores = scorer.score(["p"] * 4, ["a", "a b", "b b", "c c"])
    assert scores.parts["human"].tolist() == [1, 0, 0, 0]
    assert scores.values.tolist() == [80, 1, 1, 1]
    assert list(verdicts) == []


def test_what_was_skipped_is_not_asked_again_but_what_nobody_saw_is(make):
    verdicts = {"a": "skip", "b": None}
    rater = Rater(verdicts)
    scorer = make(rater)
    assert scorer(["p"] * 2, ["a", "b"]) == [50, 50]  # no scores yet: the middle
    rater.verdicts["b"] = 90
    assert scorer(["p"] * 2, ["a", "b"]) == [90, 90]  # skipped: the mean
    assert [question.answers[0] for question in rater.asked] == ["a", "b", "b"]


def test_silence_can_be_an_error(make):
    scorer = make(lambda question: None, on_timeout="raise")
    with pytest.raises(ScorerError, match="got no answer from a person"):
        scorer(["p"], ["c"])


def test_a_budget_of_nothing_asks_nobody(make):
    assert make(Rater({}), budget=0)(["p"], ["c"]) == [50]


@pytest.mark.parametrize("verdict", [101, -1, float("nan"), "left", "better", True])
def test_a_rater_that_answers_nonsense_is_an_error(make, verdict):
    with pytest.raises(ScorerError, match="human"):
        make(lambda question: verdict)(["p"], ["c"])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"budget": -1}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": "soon"}, TypeError),
        ({"after_budget": "guess"}, ValueError),
        ({"on_timeout": 50}, TypeError),
        ({"rater": "\u202e"}, ValueError),
        ({"ask": "phone"}, ValueError),
    ],
)
def test_bad_options(tmp_path, options, error):
    name = next(iter(options))
    with pytest.raises(error, match="scorer" if options == {"on_timeout": 50} else name):
        HumanScorer(tmp_path / "book.db", **options)


# ------------------------------------------------------------------ through the page


@pytest.fixture
def on_page(make, monkeypatch):
    """A scorer that asks on the page, and a `Page` that talks to its application."""
    import llm_gym.feedback.labelling.server as server

    apps = []
    monkeypatch.setattr(server, "BackgroundServer", _NoServer)
    monkeypatch.setattr(server, "create_app", lambda desk, **options: apps.append(desk) or "app")

    def start(**options):
        scorer = make("page", **options)
        asker = scorer._find_asker()
        monkeypatch.undo()
        return scorer, Page(apps[0]), asker

    return start


class _NoServer:
    def __init__(self, app, listener):
        listener.close()
        self.url = f"http://{HOST}/"

    def close(self):
        pass


def score_in_thread(scorer, prompts, answers):
    """The training run's side: it waits in `score` while people answer."""
    result = {}
    thread = threading.Thread(
        target=lambda: result.update(scores=scorer(prompts, answers)), daemon=True
    )
    thread.start()

    def finish():
        thread.join(timeout=30)
        assert not thread.is_alive()
        return result["scores"]

    return finish


def wait_for_question(page):
    for _ in range(2000):
        if (question := page.next()) is not None:
            return question
        threading.Event().wait(0.005)
    raise AssertionError("no question came")


def test_people_answer_on_the_page(on_page):
    scorer, page, _ = on_page()
    assert page.next() is None
    finish = score_in_thread(scorer, PROMPTS, ANSWERS)
    question = wait_for_question(page)
    assert question["kind"] == "score"
    assert question["answers"] == [[["Hello", False]]]
    answer = page.vote(question, 30, key="key number 1").json()
    assert answer["summary"]["live"]
    assert answer["question"]["answers"] == [[["Hello you", False]]]  # no waiting within a batch
    answer = page.vote(answer["question"], 60.5, key="key number 2").json()
    assert page.vote(answer["question"], 0, key="key number 3").json()["question"] is None
    assert finish() == [30, 60.5, 0]


def test_the_first_of_two_raters_counts_and_a_repetition_does_no_harm(on_page):
    scorer, ada, asker = on_page()
    bob = Page(asker._desk, "Bob")
    finish = score_in_thread(scorer, ["p"], ["c"])
    question = wait_for_question(ada)
    assert bob.next() == question
    assert ada.vote(question, 30, key="key of Ada").status_code == 200
    assert ada.vote(question, 30, key="key of Ada").status_code == 200
    late = bob.vote(question, 90, key="key of Bob")
    assert (late.status_code, "answered by somebody else" in late.text) == (409, True)
    assert finish() == [30]


def test_an_answer_after_the_time_out_counts_the_next_time(on_page):
    scorer, page, _ = on_page(timeout=0.5)
    finish = score_in_thread(scorer, ["p", "p"], ["c", "d"])
    question = wait_for_question(page)
    assert finish() == [50, 50]
    assert page.next() is None
    assert page.vote(question, 90).status_code == 200
    assert scorer.book.tally().answers == 1
    assert scorer(["p"], ["c"]) == [90]


def test_replies_that_do_not_fit_the_question_are_refused(on_page):
    scorer, page, _ = on_page()
    finish = score_in_thread(scorer, ["p"], ["c"])
    question = wait_for_question(page)
    assert page.vote(question, "left").status_code == 409
    assert page.vote(question, 120).status_code == 400
    assert page.vote(question, 50, fingerprint="0" * 16).status_code == 404
    assert page.vote(question, 50, question_id=9).status_code == 404
    assert page.post("undo", vote_id=1).json()["question"] == question
    assert page.vote(question, "skip").status_code == 200
    assert finish() == [50]


def test_budget_and_effort_on_the_page(on_page):
    scorer, page, _ = on_page(budget=3)
    finish = score_in_thread(scorer, ["p"] * 2, ["c", "d"])
    question = wait_for_question(page)
    summary = page.vote(question, 40, seconds=36.0).json()["summary"]
    assert (summary["done"], summary["total"], summary["seconds_left"]) == (1, 3, 72.0)
    assert summary["notes"] == [
        "1 answer so far: 36 s of people's time",
        "One small training run wants 2,326 judgements: 23.3 hours at this pace",
    ]
    page.vote(wait_for_question(page), 40, key="key number 2", seconds=24.0)
    finish()
    assert scorer.effort().hours == 60 / 3600
    run = scorer.effort(1200)
    assert (run.hours, run.votes_measured) == (10.0, 2)


def test_effort_is_assumed_before_it_is_measured(make, rater):
    effort = make(rater).effort(120)
    assert (effort.hours, effort.votes_measured) == (1.0, 0)


def test_the_real_server_says_where_it_is_and_stops(make, capsys):
    import urllib.request

    scorer = make("page", timeout=0.05)
    assert scorer.url is None
    assert scorer(["p"], ["c"]) == [50]
    assert f"waits for a person's judgement at {scorer.url}" in capsys.readouterr().err
    with urllib.request.urlopen(scorer.url) as page:
        assert b"Which answer is better?" in page.read()
    scorer.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(scorer.url, timeout=2)
    scorer.close()


def test_serving_leaves_the_programs_logging_alone(make):
    import logging

    class Handler(logging.NullHandler):
        closed = False

        def close(self):
            self.closed = True
            super().close()

    handler = Handler()
    scorer = make("page", timeout=0.05)
    scorer(["p"], ["c"])
    scorer.close()
    assert not handler.closed


# ------------------------------------------------------------------ in the terminal


def test_people_answer_in_the_terminal(tmp_path):
    import sys

    from tests.feedback.labelling.pseudo_terminal import Terminal

    code = (
        "import sys; from llm_gym.feedback.labelling import HumanScorer\n"
        "scorer = HumanScorer(sys.argv[1], 'terminal')\n"
        "print('scores', scorer(['p', 'p', 'p'], ['good', 'bad', 'odd']))\n"
        "scorer(['p'], ['more'])"
    )
    program = Terminal(sys.executable, "-c", code, str(tmp_path / "book.db"))
    try:
        for answer, keys in (("good", "90\r"), ("bad", "7\x7f12\r"), ("odd", "s")):
            program.wait_for(rf"{answer}[\s\S]*q quit")
            program.type(keys)
        program.wait_for(r"scores \[90.0, 12.0, 51.0\]")
        program.wait_for(r"more[\s\S]*q quit")
        program.type("q")
        program.wait_for("KeyboardInterrupt")  # the run's own way of stopping with a checkpoint
        assert program.process.wait(timeout=30) != 0
    finally:
        program.close()
