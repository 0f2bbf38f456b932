"""The callbacks in a real, tiny training run."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from dataclasses import replace

import pytest
from rich.console import Console
from rich.live import Live
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from llm_gym.runs.callbacks import (
    CheckpointCallback,
    History,
    ProgressCallback,
    SampleCallback,
    ThroughputCallback,
    stop_on_signals,
)
from llm_gym.runs.checkpoint import load_checkpoint, read_metadata
from tests.tiny_runs import PROMPTS, ROLLOUT, count_w1, tiny_ppo


def learn(algorithm, callbacks, rollouts, *formats):
    algorithm.set_logger(Logger(None, list(formats)))
    return algorithm.learn(ROLLOUT * rollouts, callback=callbacks)


class Probe(BaseCallback):
    """Calls a function at the first step of the n-th rollout."""

    def __init__(self, rollout, function):
        super().__init__()
        self.left, self.function = rollout, function

    def _on_rollout_start(self):
        self.left -= 1

    def _on_step(self):
        if self.left == 0:
            self.left -= 1
            self.function()
        return True


def test_samples_are_the_episodes_that_ended(tiny_dir, tmp_path):
    path = tmp_path / "samples.jsonl"
    samples = SampleCallback(per_rollout=2, path=path)
    learn(tiny_ppo(tiny_dir()), samples, 3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert 2 <= len(rows) <= 6
    for row in rows:
        assert row["prompt"] in PROMPTS
        assert row["score"] == count_w1([row["prompt"]], [row["completion"]])[0]
        assert row["stop_reason"] in ("eos", "length")
        assert row["step"] in (ROLLOUT, 2 * ROLLOUT, 3 * ROLLOUT)


def test_logs_hold_what_a_person_wants_to_know(tiny_dir):
    history = History()
    learn(tiny_ppo(tiny_dir()), [ThroughputCallback(), SampleCallback()], 4, history)
    expected = {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "rollout/kl_per_sequence",
        "train/explained_variance",
        "time/tokens_per_second",
    }
    assert expected <= set().union(*history.rows)
    assert all(value > 0 for value in history.curve("time/tokens_per_second")[1])


def test_tensorboard_gets_figures_and_samples_as_text(tiny_dir, tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    writer = TensorBoardOutputFormat(str(tmp_path))
    learn(tiny_ppo(tiny_dir()), SampleCallback(), 2, writer)
    writer.close()
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert "rollout/ep_rew_mean" in events.Tags()["scalars"]
    [tag] = [tag for tag in events.Tags()["tensors"] if tag.startswith("samples/text")]
    text = events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
    assert "score" in text
    assert "answer:" in text


def test_progress_in_a_pipe_is_one_plain_line_an_iteration(tiny_dir):
    stream = io.StringIO()
    with ProgressCallback(console=Console(file=stream)) as progress:
        algorithm = tiny_ppo(tiny_dir(), n_steps=8)  # whole episodes, so that there is a KL
        algorithm.learn(3 * 32, callback=[ThroughputCallback(), progress])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("32 of 96 tokens, ")
    assert [word for word in ("score", "KL per answer", "tokens/s") if word not in lines[1]] == []
    assert "\x1b" not in stream.getvalue()


def test_progress_in_a_terminal_shows_hostile_samples_literally(tiny_dir):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    samples = SampleCallback()
    with ProgressCallback(samples, console) as progress:
        algorithm = tiny_ppo(tiny_dir())
        learn(algorithm, [samples, progress], 2)
        samples.latest[-1] = replace(
            samples.latest[-1], prompt="[bold]p[/bold]", completion="[red]x[/red] \x1b]0;title\x07"
        )
        progress.note("a note")
        console.print(progress._render())
    shown = stream.getvalue()
    for text in ("[bold]p[/bold]", "[red]x[/red] \\x1b]0;title\\x07", "answer length", "a note"):
        assert text in shown
    assert "\x1b]0;" not in shown


def test_terminal_is_given_back_when_training_fails(tiny_dir):
    console = Console(file=io.StringIO(), force_terminal=True)

    def fail():
        raise RuntimeError("scorer is gone")

    with pytest.raises(RuntimeError, match="gone"), ProgressCallback(console=console) as progress:
        learn(tiny_ppo(tiny_dir()), [progress, Probe(1, fail)], 2)
    # Rich says whether it is the first one, or raises, by its version.
    assert console.set_live(Live(console=console)) is not False


def test_checkpoints_every_few_iterations_and_at_the_end(tiny_dir, tmp_path):
    checkpoints = CheckpointCallback(tmp_path, every=2, keep_last=None)
    learn(tiny_ppo(tiny_dir()), checkpoints, 5)
    steps = [read_metadata(path)["num_timesteps"] for path in sorted(tmp_path.iterdir())]
    assert steps == [2 * ROLLOUT, 4 * ROLLOUT, 5 * ROLLOUT]
    assert not checkpoints.stopped
    assert read_metadata(checkpoints.saved)["num_timesteps"] == 5 * ROLLOUT


def test_iterations_are_counted_from_where_a_run_goes_on(tiny_dir, tmp_path):
    checkpoints = CheckpointCallback(tmp_path, every=2, keep_last=None)
    algorithm = tiny_ppo(tiny_dir())
    learn(algorithm, checkpoints, 1)
    algorithm.learn(2 * ROLLOUT, callback=checkpoints, reset_num_timesteps=False)
    steps = [read_metadata(path)["num_timesteps"] for path in sorted(tmp_path.iterdir())]
    assert steps == [ROLLOUT, 3 * ROLLOUT]


class Fails(BaseCallback):
    """Fails at the start of a rollout, or at its second step."""

    def __init__(self, iteration, where):
        super().__init__()
        self.left, self.where = iteration, where
        self.steps = 0

    def _on_rollout_start(self):
        self.steps = 0
        self._fail("start")
        self.left -= 1

    def _on_step(self):
        self.steps += 1
        if self.left < 0 and self.steps == 2:
            self._fail("step")
        return True

    def _fail(self, where):
        if self.left <= 0 and self.where == where:
            raise RuntimeError("the scorer is gone")


@pytest.mark.parametrize(
    ("where", "iteration"), [("start", 1), ("step", 0), ("step", 1), ("step", 2)]
)
def test_what_was_before_a_rollout_that_failed_can_be_saved(where, iteration, tiny_dir, tmp_path):
    checkpoints = CheckpointCallback(tmp_path / "checkpoints", every=2)
    failing = [checkpoints.at_rollout_start(), Fails(iteration, where), checkpoints]
    with pytest.raises(RuntimeError, match="scorer is gone"):
        learn(tiny_ppo(tiny_dir()), failing, 4)
    saved = checkpoints.saved and checkpoints.saved.stat().st_ino
    kept = checkpoints.save_beginning()
    if checkpoints.saved:  # what is there is not written again
        assert checkpoints.saved.stat().st_ino == saved
    if iteration == 0:  # nothing has been learnt
        assert kept is None
        return
    algorithm = tiny_ppo(tiny_dir())
    load_checkpoint(algorithm, kept)
    assert (kept == checkpoints.saved) == ((where, iteration) == ("step", 2))  # which was due
    assert algorithm.num_timesteps == iteration * ROLLOUT
    algorithm.learn(ROLLOUT, reset_num_timesteps=False)
    straight = tiny_ppo(tiny_dir())
    learn(straight, [], iteration + 1)
    weights = straight.policy.state_dict()
    assert all(weights[name].equal(w) for name, w in algorithm.policy.state_dict().items())


def test_nothing_is_saved_of_an_update_that_failed(tiny_dir, tmp_path, monkeypatch):
    checkpoints = CheckpointCallback(tmp_path / "checkpoints")
    algorithm = tiny_ppo(tiny_dir())
    train = algorithm.train

    def failing():
        if algorithm.num_timesteps > ROLLOUT:
            raise RuntimeError("no memory")
        train()

    monkeypatch.setattr(algorithm, "train", failing)
    with pytest.raises(RuntimeError, match="no memory"):
        learn(algorithm, [checkpoints.at_rollout_start(), checkpoints], 3)
    assert checkpoints.save_beginning() is None


def test_first_signal_stops_after_the_iteration_with_a_checkpoint(tiny_dir, tmp_path):
    notes = []
    checkpoints = CheckpointCallback(tmp_path, every=100)
    interrupt = Probe(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    former = signal.getsignal(signal.SIGINT)
    algorithm = tiny_ppo(tiny_dir())
    with stop_on_signals(checkpoints, notes.append):
        learn(algorithm, [interrupt, checkpoints], 9)
    assert signal.getsignal(signal.SIGINT) is former
    assert checkpoints.stopped
    assert read_metadata(checkpoints.saved)["num_timesteps"] == 2 * ROLLOUT  # whole iterations
    assert len(notes) == 1


def test_second_signal_interrupts_at_once(tiny_dir, tmp_path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    checkpoints = CheckpointCallback(tmp_path, every=1)
    with pytest.raises(KeyboardInterrupt), stop_on_signals(checkpoints, lambda text: None):
        learn(tiny_ppo(tiny_dir()), [Probe(2, twice), checkpoints], 9)
    assert read_metadata(checkpoints.saved)["num_timesteps"] == ROLLOUT


def test_signals_are_left_alone_outside_the_main_thread(tmp_path):
    errors = []

    def run():
        try:
            with stop_on_signals(CheckpointCallback(tmp_path), lambda text: None):
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: CheckpointCallback(path, every=0),
            "every=.* must be a .*number of at least 1",
        ),
        (
            lambda path: SampleCallback(per_rollout=0),
            "per_rollout=.* must be a .*number of at least 1",
        ),
    ],
)
def test_bad_arguments(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(tmp_path)
