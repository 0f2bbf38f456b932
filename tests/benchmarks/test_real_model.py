import numpy as np
import pytest

from benchmarks.lora import run as lora
from benchmarks.real_model.entries import ENTRIES, RATIOS
from benchmarks.real_model.run import figures_of, ratio_of, table
from benchmarks.systems.ours_groups import build
from benchmarks.workload import Workload
from llm_gym.language_models import SFT_MODEL, resolve


def batches(seconds, peak):
    return [
        {
            "cpu_seconds": s,
            "rollout_cpu_seconds": s / 2,
            "wall_seconds": s,
            "reward": 0.1,
            "peak_mb": peak,
        }
        for s in seconds
    ]


def test_every_ratio_is_of_two_entries():
    for ratio in RATIOS.values():
        assert {ratio.of, ratio.over} <= set(ENTRIES)


def test_a_ratio_is_of_medians_and_of_peaks():
    measured = {
        ratio.of: batches([2.0, 4.0, 90.0], 1500.0) for ratio in RATIOS.values()
    } | dict.fromkeys(("trl", "trl_lora", "generate"), batches([8.0, 8.0, 8.0], 3000.0))
    seconds = ratio_of(RATIOS["CPU seconds, all weights, against TRL"], measured)
    assert seconds["value"] == 0.5
    assert seconds["low"] <= 0.5 <= seconds["high"]
    assert ratio_of(RATIOS["peak, LoRA, against TRL's"], measured)["value"] == 0.5
    results = {
        "systems": {"ours": figures_of(measured["ours"])},
        "ratios": {"peak, LoRA, against TRL's": {"value": 0.5, "wanted": 0.9}},
    }
    assert "<= 0.9" in table(results)


@pytest.mark.slow
def test_ours_trains_a_model_of_the_users():
    workload = Workload(
        task="real_model",
        model=str(resolve(SFT_MODEL)),
        new_tokens=4,
        episodes=4,
        group_size=2,
        minibatch_episodes=2,
        epochs=1,
    )
    system = build(workload, **ENTRIES["ours_lora_micro"].options)
    batch = system.train_batch()
    assert 4 <= batch.tokens <= 16
    assert np.isfinite(batch.reward)
    adapter = [n for n, p in system.algorithm.policy.named_parameters() if p.requires_grad]
    assert any("lora_" in name for name in adapter)
    assert not any("base_layer" in name for name in adapter)


def test_a_verdict_needs_the_whole_interval():
    assert lora.verdict({"low": -0.004, "high": 0.01}) == "within 0.005"
    assert lora.verdict({"low": -0.02, "high": -0.006}) == "refuted"
    assert lora.verdict({"low": -0.02, "high": 0.01}) == "open"
    assert lora.verdict({"low": None, "high": None}) == "too few problems"


def test_differences_are_of_the_same_problems():
    def run(name, seed, ratio):
        end = {"j_over_jstar": ratio, "kl_to_optimum": 0.1}
        key = {"algorithm": name, "task": "additive", "seed": seed, "status": "done"}
        return {**key, "learning_rate": 0.01, "end": end}

    runs = [run(lora.ALL, 0, 0.9), run(lora.ALL, 1, 0.5), run("rank 1", 0, 0.8)]
    figures = lora.differences(runs)
    assert figures["rank 1"]["problems"] == 1
    assert np.isclose(figures["rank 1"]["difference"]["mean"], -0.1)
    assert figures["rank 1"]["by_family"].keys() == {"additive"}
    assert lora.best_rates(runs)["rank 1"] == {"0.01": 0.8}
    told = lora.told({"figures": figures, "rates": dict.fromkeys(figures, 0.01), "tunings": {}})
    assert "-0.1000" in told


def test_a_rate_that_crashes_on_one_problem_is_not_chosen_for_the_others():
    of = {"algorithm": "rank 1", "learning_rate": 0.3}
    done = {**of, "status": "done", "end": {"j_over_jstar": 0.9}}
    assert lora.best_rates([done, {**of, "status": "crashed"}]) == {"rank 1": {}}
