from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llm_gym_autopilot", reason="the plug-in envs/autopilot is not installed")

FOLDER = Path(__file__).parents[2] / "agents"
NAMES = ("ppo_autopilot", "sac_autopilot", "dqn_autopilot")
TINY = {
    "ppo_autopilot": ["--n-steps", "8", "--batch-size", "16", "--n-epochs", "1"],
    "sac_autopilot": ["--learning-starts", "16", "--batch-size", "8", "--gradient-steps", "1"],
    "dqn_autopilot": ["--learning-starts", "16", "--batch-size", "8", "--gradient-steps", "1"],
}


@pytest.fixture(scope="module", params=NAMES)
def script(request):
    spec = importlib.util.spec_from_file_location(request.param, FOLDER / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def arguments(script, output):
    return [
        "--total-steps", "64", "--num-envs", "4", "--hidden", "8", "--eval-every", "32",
        "--eval-episodes", "2", "--test-episodes", "3", "--output", str(output),
        *TINY[script.__name__],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(script, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "run"
    assert script.main(arguments(script, output)) == 0
    return output


def test_can_be_read_in_one_sitting(script):
    assert len(Path(script.__file__).read_text().splitlines()) <= 350


def test_every_setting_is_an_option_with_its_comment_as_help(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for field in fields(script.Config):
        assert f"--{field.name.replace('_', '-')}" in shown
    assert "of everything random [0]" in shown
    assert f"python agents/{script.__name__}.py --output" in shown
    assert script.parse_config([]) == script.Config()
    assert script.parse_config(["--gamma", "0.5", "--num-envs", "3"]).gamma == 0.5


def test_writes_everything(run):
    assert {file.name for file in run.iterdir()} == {
        ".llm_gym.lock", "checkpoints", "config.json", "evaluation.json", "llm_gym.json",
        "metrics.jsonl", "model.zip", "pilot.npz", "trace",
    }  # fmt: skip


def test_keeps_the_pilot_of_every_look(run):
    kept = sorted((run / "trace").glob("pilot-*.npz"))
    assert [path.name[6:-4].lstrip("0") for path in kept] == ["", "32", "64"]
    newest, last = (np.load(path) for path in (kept[-1], run / "pilot.npz"))
    assert all((newest[name] == last[name]).all() for name in last.files if name != "metadata")
    assert (np.load(kept[0])["weight_0"] != last["weight_0"]).any()


def test_evaluates_at_intervals(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 32, 64]
    for row in rows:
        assert {"return/none", "return/moderate", "success/none", "stick/none"} <= row.keys()
    seconds = [row["time/cpu_seconds"] for row in rows]
    assert seconds == sorted(seconds)
    assert "train/learning_rate" in rows[-1]


def test_compares_with_pilots_that_were_not_learnt(run):
    flown = json.loads((run / "evaluation.json").read_text())
    assert {one["pilot"] for one in flown} == {"trained", "pid", "lqr", "rule"}
    assert {one["turbulence"] for one in flown} == {"none", "light", "moderate", "severe"}
    assert {one["episodes"] for one in flown} == {3}


def test_the_pilot_is_the_model(script, run):
    import stable_baselines3
    from llm_gym_autopilot.movement import positions
    from llm_gym_autopilot.pilots.network import NetworkPilot

    pilot = NetworkPilot.load(run / "pilot.npz")
    algorithm = getattr(stable_baselines3, script.__name__[:3].upper())
    model = algorithm.load(run / "model.zip", device="cpu")
    seen = np.random.default_rng(0).normal(size=(9, 11)).astype(np.float32)
    wanted, _ = model.predict(seen, deterministic=True)
    if script.__name__ == "ppo_autopilot":
        wanted = positions(seen, wanted, (0.5, 0.6))
    np.testing.assert_allclose(pilot.predict(seen)[0], wanted, atol=1e-5)
    assert pilot.metadata["provenance"]["steps"] == model.num_timesteps == 64
    assert pilot.metadata["provenance"]["seed"] == 0


def test_same_seed_same_pilot(script, run, tmp_path):
    config = script.parse_config(arguments(script, tmp_path))
    script.save(config, script.train(config, tmp_path), tmp_path)
    assert (tmp_path / "pilot.npz").read_bytes() == (run / "pilot.npz").read_bytes()


class Killed(BaseException):
    """As SIGKILL: nothing of the run comes after it."""


def at_step(number, do):
    def on_step(watch):
        if watch.num_timesteps == number:
            do()
        return True

    return on_step


def kill():
    raise Killed


def left(output):
    """All that a run leaves but what is measured with a clock, and the directory itself."""
    [checkpoint] = (output / "checkpoints").glob("*-000000000064")
    state = json.loads((checkpoint / "checkpoint.json").read_text())["state"]
    for episode in state["episodes"]:
        del episode["t"]
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return (
        state,
        (checkpoint / "training.safetensors").read_bytes(),
        (output / "pilot.npz").read_bytes(),
        {path.name: path.read_bytes() for path in (output / "trace").iterdir()},
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows],
    )


@pytest.mark.parametrize("step", [12, 44], ids=["soon", "late"])
@pytest.mark.filterwarnings("ignore::llm_gym.runs.directory.RestartWarning")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(script, step, run, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "compare", lambda *_: [])  # long, and nothing to do with it
    command = [*arguments(script, tmp_path / "run"), "--checkpoint-every", "8"]
    with monkeypatch.context() as patch:
        patch.setattr(script.TrainingWatch, "_on_step", at_step(step, kill))
        with pytest.raises(Killed):
            script.main(command)
    half_written = tmp_path / "run" / ".pilot.npz.llm_gym-12345678.tmp"
    half_written.write_text("as `NetworkPilot.save` calls it")
    assert script.main([*command, "--resume"]) == 0
    assert left(tmp_path / "run") == left(run)
    assert not half_written.exists()


def test_sigterm_ends_with_a_checkpoint_and_a_pilot(script, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "compare", lambda *_: [])
    command = arguments(script, tmp_path / "run")
    terminate = at_step(20, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with monkeypatch.context() as patch:
        patch.setattr(script.TrainingWatch, "_on_step", terminate)
        assert script.main(command) == 130
    shown = capsys.readouterr()
    assert "add --resume to the command to go on" in shown.out
    assert (tmp_path / "run" / "pilot.npz").exists()
    with pytest.raises(ValueError, match=r"already holds a run \(stopped\): add --resume"):
        script.main(command)
    with pytest.raises(ValueError, match=r"other settings: gamma=0\.5"):
        script.main([*command, "--resume", "--gamma", "0.5"])
    assert script.main([*command, "--resume"]) == 0
    assert left(tmp_path / "run") == left(run)


def test_nothing_in_a_checkpoint_is_pickled(run):
    [checkpoint] = (run / "checkpoints").iterdir()
    assert {path.suffix for path in checkpoint.rglob("*")} == {".json", ".safetensors"}


def test_mistakes_are_named(script, run):
    with pytest.raises(ValueError, match="turbulence='hurricane' must be one of"):
        script.main(["--turbulence", "hurricane", "--output", str(run.parent / "other")])
    assert not (run.parent / "other").exists()
    with pytest.raises(ValueError, match=r"already holds a run \(finished\): add --resume"):
        script.main(arguments(script, run))


@pytest.mark.parametrize("script", ["ppo_autopilot"], indirect=True)
def test_ppo_learns_to_click(script, tmp_path):
    from llm_gym_autopilot.pilots.network import NetworkPilot

    config = script.parse_config([*arguments(script, tmp_path), "--discrete"])
    script.save(config, script.train(config, tmp_path), tmp_path)
    assert NetworkPilot.load(tmp_path / "pilot.npz").discrete
