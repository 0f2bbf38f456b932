"""A time limit ends a scorer whatever it is doing, and says which row it was."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import gymnasium as gym
import numpy as np
import pytest

import llm_gym
from llm_gym.scorers import ScorerError, ScorerSignatureError, Scores, WeightedSum, as_scorer
from llm_gym.scorers.worker import TimeLimitError, Worker, WorkerDiedError
from tests.products import sampled
from tests.text.helpers import EOS, arguments, word

LIMIT = 0.5  # seconds; what is not to be stopped takes milliseconds


def nested_power(prompts, completions):
    """What `eval` does with "9**9**9**9": one instruction that never ends."""
    nine = 9
    return [float(nine**nine**nine**nine if "hang" in text else len(text)) for text in completions]


def loop(prompts, completions):
    while any("hang" in text for text in completions):
        pass
    return [1.0] * len(completions)


def stubborn(prompts, completions):
    """Catches whatever is raised at it, and ignores signals."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while any("hang" in text for text in completions):
        with suppress(BaseException):
            time.sleep(10)
    return [1.0] * len(completions)


def grandchild(prompts, completions):
    if "hang" in completions[0]:
        subprocess.run(["sleep", "60"], check=True)
    return [1.0] * len(completions)


ENDLESS = [nested_power, loop, stubborn, grandchild]


@pytest.mark.parametrize("scorer", sampled(ENDLESS, nested_power, stubborn, grandchild))
def test_it_ends_a_scorer_that_never_returns(scorer):
    limited = as_scorer(scorer, time_limit=LIMIT)
    assert limited(["p"], ["x"]) == [1.0]
    for _ in range(2):  # the process is started again
        start = time.monotonic()
        with pytest.raises(
            ScorerError,
            match=rf"{scorer.__name__!r} took longer than its time limit "
            r"of 0.5 s .*row 0 of 1: prompt 'p', completion 'hang'",
        ):
            limited(["p"], ["hang"])
        assert time.monotonic() - start < 20
        assert limited(["p"], ["x"]) == [1.0]


def test_the_row_at_fault_is_named():
    limited = as_scorer(nested_power, time_limit=LIMIT)
    with pytest.raises(ScorerError, match="row 2 of 4: prompt 'r', completion 'hang'") as caught:
        limited(["p", "q", "r", "s"], ["a", "b", "hang", "hang"])
    assert (caught.value.scorer, caught.value.completion) == ("nested_power", "hang")


def test_rows_that_take_too_long_may_get_a_score():
    limited = as_scorer(nested_power, time_limit=LIMIT, on_timeout=-1.0)
    scores = limited.score(["p"] * 3, ["aa", "hang", "bbb"])
    assert scores.values.tolist() == [2.0, -1.0, 3.0]
    assert scores.parts["timed_out"].tolist() == [0.0, 1.0, 0.0]
    assert limited.score(["p"], ["aa"]).parts["timed_out"].tolist() == [0.0]


def test_it_scores_as_the_scorer_does():
    def judged(prompts, completions, answer, completion_ids, trainer_state, **kwargs):
        right = [float(a in c) for a, c in zip(answer, completions, strict=True)]
        return Scores(
            right, {"ids": [len(i) for i in completion_ids], "state": [trainer_state] * 2}
        )

    called = {"answer": ["4", "5"], "completion_ids": [[1], [2, 3]], "trainer_state": 7.0}
    for scorer in (as_scorer(judged), WeightedSum({"a": (judged, 2.0), "b": ("length:3", 1.0)})):
        limited = as_scorer(scorer, time_limit=60)
        rows = (["p", "q"], ["4", "4 it is"])
        assert limited(*rows, **called) == scorer(*rows, **called)
        assert limited.name == scorer.name


def test_none_stays_none():
    def picky(prompts, completions):
        return [None if text == "x" else 2.0 for text in completions]

    limited = as_scorer(picky, time_limit=60)
    total = WeightedSum({"picky": (limited, 1.0), "brief": (lambda p, c: [1.0] * len(c), 1.0)})
    assert total(["p", "q"], ["x", "y"]) == [1.0, 3.0]
    with pytest.raises(ScorerError, match="no other scorer judges it"):
        limited(["p"], ["x"])


def test_errors_are_those_of_the_scorer():
    def broken(prompts, completions, answer=None):
        raise KeyError("lost")

    with pytest.raises(ScorerError, match=r"'broken' raised KeyError: 'lost' .*prompt 'p'"):
        as_scorer(broken, time_limit=60)(["p"], ["c"])

    def needs(prompts, completions, answer):
        return [1.0]

    with pytest.raises(ScorerSignatureError, match="requires 'answer'"):
        as_scorer(needs, time_limit=60)(["p"], ["c"])


def test_a_scorer_that_kills_its_process_is_an_error_of_that_row():
    def fatal(prompts, completions):
        if "die" in completions:
            os.kill(os.getpid(), signal.SIGKILL)
        return [1.0] * len(completions)

    limited = as_scorer(fatal, time_limit=60, on_timeout=0.0)
    with pytest.raises(ScorerError, match=r"'fatal' .*has died .*row 1 of 2: .*'die'"):
        limited(["p", "q"], ["x", "die"])
    assert limited(["p"], ["x"]) == [1.0]


def test_a_batch_that_is_only_long_is_scored_all_the_same():
    def slow(prompts, completions):
        time.sleep(0.2 * len(completions))
        return [float(len(text)) for text in completions]

    limited = as_scorer(slow, time_limit=0.5)
    with pytest.warns(UserWarning, match=r"'slow' took longer .* 0.5 s for a batch of 4, though"):
        assert limited(["p"] * 4, ["a", "bb", "ccc", ""]) == [1.0, 2.0, 3.0, 0.0]


def test_what_a_scorer_remembers_stays_with_it():
    calls = []

    def counting(prompts, completions):
        calls.append(1)
        return [float(len(calls))] * len(completions)

    limited = as_scorer(counting, time_limit=60)
    assert [limited(["p"], ["c"])[0] for _ in range(3)] == [1.0, 2.0, 3.0]
    assert calls == []


def test_what_a_scorer_prints_hurts_nobody(capfd):
    def loud(prompts, completions):
        print("scoring")
        return [1.0]

    assert as_scorer(loud, time_limit=60)(["p"], ["c"]) == [1.0]
    assert "scoring" in capfd.readouterr().out


@pytest.mark.parametrize("again", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_have_processes_of_their_own(again):
    limited = as_scorer(nested_power, time_limit=LIMIT)
    assert limited(["p"], ["abc"]) == [3.0]
    assert again(limited)(["p"], ["abcd"]) == [4.0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"time_limit": 0}, ValueError, "time_limit=0.0 must be a number above 0"),
        ({"time_limit": 1e12}, ValueError, "at most 1000000"),
        ({"time_limit": "1"}, TypeError, "time_limit must be a number"),
        ({"time_limit": float("inf")}, ValueError, "time_limit must be finite"),
        ({"time_limit": 1, "on_timeout": "skip"}, ValueError, "on_timeout must be 'raise' or"),
        ({"time_limit": 1, "on_timeout": float("nan")}, ValueError, "on_timeout must be finite"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        as_scorer(nested_power, **options)


def test_a_scorer_that_cannot_be_sent_is_refused_at_once():
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"scorer 'f' cannot be sent to another process: TypeError"):
        as_scorer(lambda p, c: [lock.locked()], name="f", time_limit=1)


def test_an_environment_has_a_time_limit_for_its_scorer():
    def hangs_on_w1(prompts, completions):
        return nested_power(prompts, ["hang" if "w1" in text else text for text in completions])

    settings = arguments(scorer=hangs_on_w1, scorer_time_limit=LIMIT)
    env = gym.make("llm_gym/TextGeneration-v0", **settings)
    env.reset(seed=0)
    env.step(word(1))
    with pytest.raises(ScorerError, match=r"took longer than its time limit of 0.5 s .*'w1'"):
        env.step(EOS)
    vector = llm_gym.TextGenerationVectorEnv(
        **settings, num_envs=3, on_scorer_error="penalise", scorer_error_penalty=-7.0
    )
    vector.reset(seed=0)
    vector.step(np.array([word(1), word(2), word(3)]))
    _, rewards, terminated, _, infos = vector.step(np.full(3, EOS))
    assert rewards.tolist() == [-7.0, 2.0, 2.0]
    assert terminated.all()
    assert "time limit" in infos["scorer_error"][0]


class TestWorker:
    def test_it_survives_a_fork_of_its_owner(self):
        worker = Worker(len)
        assert worker.call("abc", time_limit=60) == 3
        pid = os.fork()
        if pid == 0:
            os._exit(0 if worker.call("abcd", time_limit=60) == 4 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert worker.call("ab", time_limit=60) == 2

    def test_exceptions_come_through(self):
        with pytest.raises(ZeroDivisionError):
            Worker(lambda: 1 / 0).call(time_limit=60)

        class Odd(Exception):
            def __init__(self, one, two):
                super().__init__(f"{one} and {two}")

        def odd():
            raise Odd(1, 2)

        with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
            Worker(odd).call(time_limit=60)

    def test_a_function_that_exits_is_an_error(self):
        worker = Worker(sys.exit)
        with pytest.raises(WorkerDiedError):
            worker.call(0, time_limit=60)

    def test_what_cannot_be_unpickled_there_is_an_error(self):
        class Trap:
            def __reduce__(self):
                return eval, ("1 / 0",)

        with pytest.raises(RuntimeError, match="cannot be unpickled: ZeroDivisionError"):
            Worker(Trap()).call(time_limit=60)

    def test_time_outs_are_told_from_errors_of_the_function(self):
        def late():
            raise TimeoutError("of its own")

        with pytest.raises(TimeoutError, match="of its own"):
            Worker(late).call(time_limit=60)
        with pytest.raises(TimeLimitError):
            Worker(time.sleep).call(60, time_limit=0.1)

    def test_nothing_is_left_when_the_caller_is_killed(self, tmp_path):
        """Not even a call that never ends, of a caller that had no time to tidy up."""
        pid_file = tmp_path / "pid"
        code = f"""
import os, pathlib
from llm_gym.scorers.worker import Worker
def hang():
    pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))
    while True: pass
Worker(hang).call(time_limit=600)
"""
        caller = subprocess.Popen([sys.executable, "-c", code])
        _wait_for(lambda: pid_file.exists() and pid_file.read_text())
        worker = int(pid_file.read_text())
        assert _runs(worker)
        caller.kill()
        caller.wait()
        _wait_for(lambda: not _runs(worker))


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
