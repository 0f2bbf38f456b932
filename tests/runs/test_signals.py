"""Signals that ask a run to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from llm_gym.runs.callbacks import CheckpointCallback, stop_on_signals
from llm_gym.runs.directory import RunDirectory
from llm_gym.runs.opening import OpenedDirectory

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
BOTH = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])


@pytest.fixture
def disposition():
    """Sets what a signal does for one test."""
    former = {}

    def put(signum, handler):
        former.setdefault(signum, signal.signal(signum, handler))

    yield put
    for signum, handler in former.items():
        signal.signal(signum, handler)


@BOTH
def test_a_run_that_is_told_to_end_before_or_after_learning_is_stopped(signum, tmp_path):
    run = RunDirectory(tmp_path / "run", {})

    def work():
        with run.opened():
            run.write_settings()
            os.kill(os.getpid(), signum)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert OpenedDirectory(tmp_path / "run", "train").state == "stopped"
    assert signal.getsignal(signum) == signal.SIG_DFL


@BOTH
def test_what_a_program_does_at_a_signal_stays_its_own(signum, tmp_path, disposition):
    told = []
    disposition(signum, lambda *_: told.append(signum))
    run = RunDirectory(tmp_path / "run", {})
    with run.opened():
        run.write_settings()
        os.kill(os.getpid(), signum)
    assert told == [signum]
    assert OpenedDirectory(tmp_path / "run", "train").state == "finished"


@BOTH
def test_learning_ends_with_a_checkpoint_at_either(signum, tmp_path):
    checkpoints, notes = CheckpointCallback(tmp_path), []
    with stop_on_signals(checkpoints, notes.append):
        os.kill(os.getpid(), signum)
        assert checkpoints._stop_requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signum)
    assert len(notes) == 1


def test_nohup_is_heeded(tmp_path, disposition):
    disposition(signal.SIGHUP, signal.SIG_IGN)
    checkpoints = CheckpointCallback(tmp_path)
    run = RunDirectory(tmp_path / "run", {})
    with run.opened(), stop_on_signals(checkpoints, print):
        os.kill(os.getpid(), signal.SIGHUP)
    assert not checkpoints._stop_requested


PROGRAM = """
import fcntl, sys, termios, time
from llm_gym.runs.signals import handled

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
told = []
with handled(told.append):
    print("ready", flush=True)
    while not told:
        time.sleep(0.01)
    print("a line that nobody reads", flush=True)
open(sys.argv[1], "w").write("went on")
"""


def test_a_closed_terminal_is_no_error_for_what_is_still_said(tmp_path):
    leader, follower = os.openpty()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "end")],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    assert b"ready" in os.read(leader, 100)
    os.close(leader)
    assert program.wait(timeout=60) == 0
    assert (tmp_path / "end").read_text() == "went on"
