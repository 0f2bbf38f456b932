"""From measured batches to what is reported."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import common, peers
from benchmarks.driver import Entry
from benchmarks.learning import figures as learning
from benchmarks.learning import run as learning_run
from benchmarks.throughput import figures as throughput
from benchmarks.throughput import measuring
from benchmarks.throughput import run as throughput_run
from benchmarks.throughput.entries import ENTRIES, RATIOS


def batch(cpu_seconds: float, peak_mb: float = 100.0) -> dict[str, float]:
    return {
        "tokens": 60,
        "reward": 0.5,
        "cpu_seconds": cpu_seconds,
        "wall_seconds": 2 * cpu_seconds,
        "peak_mb": peak_mb,
    }


def test_a_ratio_is_that_of_the_medians_and_lies_in_its_interval():
    systems = {
        "ours": throughput.system_figures({"train": [batch(1), batch(2), batch(3)]}),
        "trl_ppo": throughput.system_figures({"train": [batch(6, peak_mb=400)]}),
    }
    ratios = throughput.ratio_figures(systems, "cpu")
    assert set(ratios) == {"loop_vs_trl_ppo", "peak_vs_trl_ppo"}
    assert ratios["loop_vs_trl_ppo"]["value"] == pytest.approx(3)
    assert ratios["loop_vs_trl_ppo"]["low"] == pytest.approx(2)
    assert ratios["loop_vs_trl_ppo"]["high"] == pytest.approx(6)
    assert ratios["peak_vs_trl_ppo"]["value"] == pytest.approx(0.25)


def test_cost_is_seconds_per_token():
    systems = {
        "ours_t32": throughput.system_figures({"train": [batch(1)]}),
        "ours_t256": throughput.system_figures({"train": [batch(1.2)]}),
    }
    ratios = throughput.ratio_figures(systems, "cpu")
    assert ratios["cost_t256_vs_t32"]["value"] == pytest.approx(1.2)


def test_what_a_token_costs_is_drawn_by_length_where_it_was_measured(tmp_path):
    results: dict = {"settings": {"clock": "cpu"}, "systems": {}}
    throughput.draw_curves(results, tmp_path / "none.png")
    assert list(tmp_path.iterdir()) == []
    measured = throughput.system_figures({"rollout": [batch(1)], "train": [batch(2)]})
    results["systems"] = {"c_16_128": measured, "c_16_512": measured, "c_64_128": {"status": "no"}}
    throughput.draw_curves(results, tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 10_000


def test_every_ratio_is_between_systems_that_measure_it():
    for ratio in RATIOS.values():
        for key in (ratio.of, ratio.over):
            assert ratio.measure == "peak" or ratio.measure in ENTRIES[key].measures


def test_a_system_that_is_not_installed_is_named_as_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers, "VENVS", tmp_path)
    settings, _ = throughput_run.parse(["--output", str(tmp_path), "--systems", "trl_ppo"])
    systems = measuring.measure(settings, tmp_path, print)
    assert systems["trl_ppo"]["status"] == "skipped"
    assert "install_peers.py trl-ppo" in systems["trl_ppo"]["reason"]
    results = {
        "systems": systems,
        "settings": settings.as_dict(),
        "ratio_details": {},
        "ratios": {"loop_vs_trl_ppo": None},
    }
    throughput.print_tables(results)
    throughput.draw(results, tmp_path / "picture.png")
    assert "TRL 1.12 PPO" in capsys.readouterr().out


@pytest.mark.parametrize("parse", [throughput_run.parse, learning_run.parse])
def test_an_unknown_system_is_refused(parse, capsys):
    with pytest.raises(SystemExit):
        parse(["--output", "x", "--systems", "trl_dpo"])
    assert "invalid choice: 'trl_dpo'" in capsys.readouterr().err


def test_rounds_below_one_are_refused(capsys):
    with pytest.raises(SystemExit):
        throughput_run.parse(["--output", "x", "--rounds", "0"])
    assert "--rounds 0 must be at least 1" in capsys.readouterr().err


def test_the_trailing_mean_of_rewards():
    np.testing.assert_allclose(learning.trailing_mean(np.array([1.0, 3, 5, 7])), [1, 2, 3, 5])


def test_seconds_to_a_reward_are_counted_up_to_the_batch_that_reached_it():
    rewards, seconds = np.array([0.0, 0, 3, 6, 9]), np.array([1.0, 1, 1, 2, 4])
    assert learning.seconds_to(3.0, rewards, seconds) == 5.0
    assert learning.seconds_to(10.0, rewards, seconds) is None


def test_systems_are_compared_after_the_same_batches(capsys, tmp_path):
    def run(rewards: list[float], seconds: float) -> list[dict[str, float]]:
        return [{"reward": reward, "cpu_seconds": seconds} for reward in rewards]

    systems = {
        "ours": learning.system_figures([run([0.0, 2, 2, 2, 9, 9, 9, 9], 1.0)] * 2, batches=4),
        "trl_ppo": learning.system_figures([run([0.0, 1, 1, 1], 3.0)] * 2, batches=4),
        "trl_grpo": {"status": "skipped", "reason": "not installed"},
    }
    learning.add_comparison(systems, batches=4)
    assert systems["ours"]["final_reward"]["mean"] == 2
    assert systems["ours"]["cpu_seconds"]["mean"] == 4
    assert systems["ours"]["reward_minus_target"]["mean"] == 1
    assert systems["ours"]["seconds_over_target"] == pytest.approx(3 / 12)
    for key, figures in systems.items():
        figures["label"] = key
    results = {"systems": systems, "settings": {"batches": 4}}
    learning.print_table(results)
    learning.draw(results, tmp_path / "learning.png")
    assert "skipped: not installed" in capsys.readouterr().out


def test_variants_of_ours_are_rows_of_their_own(capsys):
    options = {"settings": {"learning_rate": 0.1}}
    arguments = ["--output", "x", "--systems", "ours", "--variant", "fast", json.dumps(options)]
    settings, _ = learning_run.parse(arguments)
    assert settings.entries()["ours_fast"] == Entry("llm_gym.PPO, fast", "ours", options)
    with pytest.raises(SystemExit):
        learning_run.parse([*arguments[:-1], "{"])
    assert "is not JSON" in capsys.readouterr().err


def test_a_record_names_machine_versions_and_commit():
    record = common.record({"rounds": 1})
    assert record["machine"]["cores"] >= 1
    assert record["versions"]["torch"] != "not installed"
    assert {"commit", "started", "settings"} <= record.keys()
    json.dumps(record, allow_nan=False)
