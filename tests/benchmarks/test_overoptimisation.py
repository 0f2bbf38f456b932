"""The over-optimisation benchmark: its world by hand, its verdicts, a whole run in small."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.overoptimisation import claims, optimise, run
from benchmarks.overoptimisation.proxies import Proxy, train_proxy
from benchmarks.overoptimisation.settings import Settings
from benchmarks.overoptimisation.world import (
    gold_scores,
    listed,
    log_probabilities,
    make_tokenizer,
    make_world,
)

TINY = replace(
    Settings(),
    words=3,
    answer_words=3,
    model_width=16,
    comparisons=(40, 400),
    widths=(4, 8),
    proxy_steps=60,
    seeds=1,
    points=8,
    sampled=16,
    iterations=6,
    episodes=32,
    learning_rate=3e-3,
    alarm_every=2,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(TINY, 0, tmp_path_factory.mktemp("model"))


def test_every_answer_is_listed_once_in_order():
    assert listed(2, 2).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert len({tuple(row) for row in listed(3, 4).tolist()}) == 81


def test_probabilities_are_those_of_the_model_word_by_word(world):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(world.model).eval()
    table = log_probabilities(model, world.prompts, 3, 3)
    assert np.exp(table).sum(1) == pytest.approx(np.ones(9), abs=1e-5)
    for prompt, answer in ((0, 5), (7, 26), (3, 11)):
        ids = torch.tensor([*world.prompts[prompt], *world.answers[answer]])
        with torch.no_grad():
            log_probs = model(ids[None]).logits[0].log_softmax(-1)
        direct = sum(float(log_probs[1 + t, ids[2 + t]]) for t in range(3))
        assert table[prompt, answer] == pytest.approx(direct, abs=1e-5)


def test_gold_by_hand():
    """One answer `w0 w0 w1`: twice w0, once w1, two pairs, less 2^2 + 1^2 halves."""
    settings = replace(TINY, words=2, enough=0.5)
    answers = np.array([[0, 0, 1]])
    gold = gold_scores(settings, np.random.default_rng(0), np.array([[1, 0]]), answers)
    rng = np.random.default_rng(0)
    by_prompt = settings.prompt_scale * rng.normal(size=(2, 2, 2))
    pairs = settings.pair_scale * rng.normal(size=(2, 2))
    wanted = by_prompt[0, 1] + by_prompt[1, 0]
    expected = 2 * wanted[0] + wanted[1] + pairs[0, 0] + pairs[0, 1] - 0.5 * 5
    assert gold == pytest.approx(np.array([[expected]]))


def test_gold_is_standardised_under_the_initial_policy(world):
    means = (world.probabilities * world.gold).sum(1)
    assert means == pytest.approx(np.zeros(9), abs=1e-12)
    assert (world.probabilities * world.gold**2).sum(1).mean() == pytest.approx(1.0)


def test_what_the_environment_decodes_is_looked_up(world):
    scorer = world.scorer(world.gold, "gold")
    tokenizer = make_tokenizer(3)
    answers = [0, 5, 26]
    completions = [tokenizer.decode(world.answers[i].tolist()) for i in answers]
    prompts = [world.texts()[4]] * 3
    assert scorer(prompts, completions) == world.gold[4, answers].tolist()
    assert [tokenizer(text)["input_ids"] for text in world.texts()] == world.prompts.tolist()


def test_more_comparisons_make_a_better_proxy(world):
    settings = replace(TINY, proxy_steps=300)
    few, many = (train_proxy(settings, world, count, 16, seed=1) for count in (20, 4_000))
    assert many.agreement > 0.8 > few.agreement
    assert many.validation_accuracy > 0.6


def test_the_tilted_policy_has_most_proxy_for_its_divergence(world):
    """And best-of-n comes close without reaching it (here the gold score itself is the proxy)."""
    proxy = Proxy(world.gold, 1.0, 1.0)
    best = optimise.best_of_n_curve(replace(TINY, largest_n=50.0), world, proxy)
    tilted = optimise.tilted_curve(replace(TINY, points=200), world, proxy)
    assert (tilted["kl"][0], tilted["proxy"][0]) == pytest.approx((0.0, 0.0), abs=1e-12)
    bound = np.interp(best["kl"], tilted["kl"], tilted["proxy"])
    assert (np.array(best["proxy"]) <= bound + 1e-3).all()
    assert best["proxy"][4] > 0.9 * bound[4]
    assert best["gold"] == pytest.approx(best["proxy"])


def test_sampling_finds_the_exact_expectation(world):
    settings = replace(TINY, sampled=512)
    found = optimise.sampled_best_of_n(settings, world, Proxy(world.gold, 1.0, 1.0), seed=0)
    assert found["gold"] == pytest.approx(found["exact"], abs=0.1)
    assert found["n"][-1] == 512


# ------------------------------------------------------------------ figures and verdicts


def test_small_pieces():
    assert claims.thinned(np.array([0.0, 0.05, 0.1, 0.3, 0.2, 0.45])).tolist() == [0, 2, 3, 5]
    assert claims.largest_drop(np.array([0.0, 3.0, 2.0, 4.0])) == 0.25
    x, y = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 3.0])
    assert claims.first_crossing(x, y, 2.0) == 1.5
    assert claims.first_crossing(x, y, 9.0) is None
    assert claims.first_crossing(x, y, -1.0) == 0.0
    rising, falling = np.array([0, 1, 0.95, 2]), np.array([0, 1, 0.5, 2])
    assert claims.turning_point(rising) == (3, False)
    assert claims.turning_point(falling) == (1, True)
    kl, proxy, gold = claims.smoothed({"kl": [-3, 0, 3], "proxy": [1, 2, 3], "gold": [0] * 3}, 3)
    assert (kl.tolist(), proxy.tolist(), gold.tolist()) == ([0.0] * 2, [0.0, 2.0], [0.0] * 2)


def rows(peaks, **overrides):
    """One row a seed and size of the data; `peaks[seed]` are the peak KLs by ascending size."""
    made = []
    for seed, kls in enumerate(peaks):
        for count, kl in zip((100, 1_000, 10_000), kls, strict=True):
            method = {
                "peak_kl": kl,
                "highest_kl": kl,
                "peak_gold": kl,
                "turned": count < 10_000,
                "proxy_drop": 0.0,
                "kl_at_same_proxy": 1.0,
                "fit": {"r_squared": 0.95},
                "r_squared_of_the_other_law": 0.8,
            }
            later = {"peak_kl": 2 * kl, "kl_at_same_proxy": 2.0}
            made.append(
                {
                    "seed": seed,
                    "comparisons": count,
                    "width": 8,
                    "best_of_n": method | overrides,
                    "ppo": method | later | overrides,
                    "tilted": {"kl_at_same_proxy": 0.5},
                    "alarm": {"rang_at_kl": 3.0 * kl if count < 10_000 else None},
                }
            )
    return made


def test_tau_counts_pairs_of_the_same_seed_only():
    """Seed 0 all concordant, seed 1 two of three pairs, seed 2 reversed: (1 + 1/3 - 1) / 3."""
    made = rows([(1, 2, 3), (2, 1, 3), (30, 20, 10)])
    tau = claims.ordering(made, "comparisons", lambda row: row["ppo"]["peak_kl"])
    assert tau["mean"] == pytest.approx(1 / 9)
    assert tau["low"] < tau["mean"] < tau["high"]
    assert claims.ordering(made, "width", lambda row: row["ppo"]["peak_kl"]) == {}


def test_a_world_as_in_the_paper_gets_four_times_holds():
    judged = claims.judge(rows([(1, 2, 3)] * 5))
    assert {judged[number]["verdict"] for number in ("i", "ii", "iii", "iv")} == {"holds"}
    assert judged["iv"]["peak_kl_ppo_less_best_of_n"]["mean"] == 2.0
    alarm = judged["alarm"]
    assert (alarm["runs_that_turned"], alarm["rang_of_these"], alarm["rang_of_those"]) == (
        10,
        10,
        0,
    )


@pytest.mark.parametrize(
    ("number", "peaks", "overrides"),
    [
        ("i", (1, 2, 3), {"fit": {"r_squared": 0.5}}),
        ("ii", (3, 2, 1), {"turned": False}),
        ("iii", (1, 2, 3), {"proxy_drop": 0.2}),
        ("iv", (1, 2, 3), {"peak_kl": 5.0, "kl_at_same_proxy": 1.0}),
    ],
)
def test_a_world_unlike_the_paper_is_told_so(number, peaks, overrides):
    judged = claims.judge(rows([peaks] * 5, **overrides))
    assert judged[number]["verdict"] != "holds"


def test_half_a_claim_holds_in_part():
    made = rows([(1, 2, 3)] * 5)
    for row in made:
        row["ppo"]["proxy_drop"] = 0.2
    assert claims.judge(made)["iii"]["verdict"] == "holds in part"


# ------------------------------------------------------------------ the whole


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_with_results(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(Settings, "quick", lambda self: TINY)
    path = tmp_path / "runs.jsonl"
    run.measure(replace(TINY, comparisons=(40,)), path)
    before = path.read_text()
    path.write_text(before + '{"seed": 10, "compar')  # killed while writing
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--output", str(tmp_path)])
    run.main()
    lines = path.read_text().splitlines()
    assert path.read_text().startswith(before)
    keys = [(row["comparisons"], row["width"]) for row in map(json.loads, lines)]
    assert keys == [(40, 4), (40, 8), (400, 4), (400, 8)]
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert set(results["claims"]) == {"i", "ii", "iii", "iv", "alarm"}
    assert len(results["runs"]) == 4
    for name in ("curves.png", "peaks.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert all(f"({number})" in shown for number in ("i", "ii", "iii", "iv"))
    with pytest.raises(ValueError, match="other settings"):
        run.read_runs(path, replace(TINY, episodes=64))


def test_a_number_of_seeds_that_makes_no_sense_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--output", "x", "--seeds", "0"])
    assert "--seeds 0 must be at least 1" in capsys.readouterr().err
