"""The benchmark on real ratings: its data, its figures, and the whole in small."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.real_preferences import backbone, data, reader, run, stress, summary
from benchmarks.real_preferences.settings import Backbone, Settings
from benchmarks.real_preferences.systems import BASELINES, LINEAR, UNIGRAMS
from benchmarks.run_log import RunLog
from llm_gym.testing.tiny import save_tiny_model
from tests.feedback.reward_model.worlds import texts_and_ratings

SMALL = replace(
    Settings(),
    folds=3,
    models=2,
    training=replace(Settings().training, epochs=12, batch_size=16),
    backbone=Backbone(embedding_dropout=0.1),
)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(number, seed=0):
    """Rated by how often `w1` occurs, as `texts_and_ratings` says."""
    texts, ratings = texts_and_ratings(number, seed)
    return [
        {"id": str(index), "text": text, "ratings": own, "score": float(np.mean(own))}
        for index, (text, own) in enumerate(zip(texts, ratings, strict=True))
    ]


@pytest.fixture
def small(monkeypatch):
    """Makes `--quick` small."""
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")

    def quick(self):
        if self.checkpoint:
            return replace(self, folds=SMALL.folds, models=1)
        return SMALL

    monkeypatch.setattr(Settings, "quick", quick)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)


def results_of(path, output, *more):
    run.main(["--data", str(path), "--output", str(output), "--quick", *more])
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------ the whole


@pytest.mark.slow
def test_a_planted_signal_is_learnt_and_an_interrupted_run_goes_on(small, tmp_path, capsys):
    path = write(tmp_path / "rated.jsonl", rows_of(240))
    first = results_of(path, tmp_path / "out")
    assert first["accuracy"] > 0.9
    assert first["bag_of_words"] > 0.9
    assert first["spearman"] > 0.8
    assert set(first["systems"]) == {"reward model", *BASELINES}
    for found in first["systems"].values():
        assert found["accuracy"]["low"] <= found["accuracy"]["value"] <= found["accuracy"]["high"]
        assert len(found["by_fold"]) == 3
    assert first["systems"]["reward model"]["accuracy"]["value"] == first["accuracy"]
    assert first["systems"][UNIGRAMS]["accuracy"]["value"] == first["bag_of_words"]
    assert len(first["single_models"]) == 2
    assert first["humans"]["spearman"]["value"] > 0.8
    assert first["settings"]["folds"] == 3
    assert first["data"]["texts"] == 240
    assert "scikit-learn" in first["versions"]
    assert (tmp_path / "out" / "real_preferences.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("mean of 2", "the rating left out", *BASELINES))

    log = tmp_path / "out" / run.RUNS
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    marked = json.loads(lines[1])
    assert marked["run"] == "reward model 0"
    marked["found"]["cpu_seconds"]["reward model 0"] = 1e6  # shows that it was not trained again
    kept = [lines[0], json.dumps(marked) + "\n", *lines[2:-2], lines[-2][:50]]
    log.write_text("".join(kept), encoding="utf-8")
    again = results_of(path, tmp_path / "out")
    assert again["cpu_seconds"]["reward model"] > 1e6
    assert again["systems"] == first["systems"]
    assert len(log.read_text(encoding="utf-8").splitlines()) == len(lines) == 9


def test_lines_of_other_data_do_not_count(tmp_path):
    def log_of(data):
        return RunLog(tmp_path / run.RUNS, ("fold", "run"), {"data": data})

    log_of("a").add((0, "linear models"), {"margins": {}})
    done = {(0, "linear models"): {"margins": {}}}
    assert log_of("a").done == done
    assert log_of("b").done == {}
    assert Settings().conditions() == Settings().quick().conditions()


@pytest.mark.slow
def test_shuffled_ratings_leave_nothing_to_learn(small, tmp_path):
    rows = rows_of(200)
    texts = [row["text"] for row in rows]
    random.Random(0).shuffle(texts)
    shuffled = [row | {"text": text} for row, text in zip(rows, texts, strict=True)]
    found = results_of(write(tmp_path / "rated.jsonl", shuffled), tmp_path / "out")
    assert abs(found["accuracy"] - 0.5) < 0.2  # 4 standard errors of about 100 texts
    assert abs(found["spearman"]) < 0.28  # 4 of 200


def test_a_checkpoint_is_trained_by_the_same_command(small, tmp_path, capsys):
    """And a single rating of each text leaves no person to compare with."""
    single = [row | {"ratings": row["ratings"][:1]} for row in rows_of(120)]
    path = write(tmp_path / "rated.jsonl", single)
    model = save_tiny_model(tmp_path / "model", "llama")
    found = results_of(path, tmp_path / "out", "--model", model)
    assert found["settings"]["checkpoint"] == model
    assert found["parameters"] > 10_000
    assert 0 <= found["accuracy"] <= 1
    assert found["humans"] is None
    assert f"reward model, {model}" in capsys.readouterr().out
    assert (tmp_path / "out" / "real_preferences.png").is_file()


# ------------------------------------------------------------------ data


def test_quarters_and_folds():
    classes = data.quarters(np.array([5.0, 1.0, 2.0, 8.0, 3.0, 4.0, 6.0, 7.0]))
    assert classes.tolist() == [0, -1, -1, 1, 0, 0, 0, 1]
    fold = data.folds([*map(str, range(18)), "0", "1"], 4, seed=0)
    assert (fold[18], fold[19]) == (fold[0], fold[1])
    assert np.bincount(fold[:18]).tolist() == [5, 5, 4, 4]
    assert fold.tolist() == data.folds([*map(str, range(18)), "0", "1"], 4, seed=0).tolist()
    assert fold.tolist() != data.folds([*map(str, range(18)), "0", "1"], 4, seed=1).tolist()


def test_texts_may_have_different_numbers_of_ratings(tmp_path):
    rows = rows_of(100)
    rows[3]["ratings"] = [4]
    rated = data.read(write(tmp_path / "rated.jsonl", rows))
    assert rated.ratings.shape == (100, 3)
    assert rated.means[3] == 4
    assert rated.means[5] == pytest.approx(rows[5]["score"])


def changed(key, value):
    rows = rows_of(120)
    rows[6] = {name: one for name, one in rows[6].items() if name != key}
    if value is not None:
        rows[6][key] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed("ratings", None), "line 7: has no 'ratings'; text, ratings and score are needed"),
        (changed("score", None), "line 7: has no 'score'"),
        (changed("text", None), "line 7: has no 'text'"),
        (changed("text", "  "), "line 7: text must be a string that is not empty, got '  '"),
        (changed("ratings", []), r"line 7: ratings must be a list of finite numbers, got \[\]"),
        (changed("ratings", [1, "5"]), "line 7: ratings must be a list of finite numbers"),
        (changed("score", float("nan")), "line 7: score must be a finite number, got nan"),
        ([[1, 2]], r"line 1: must be an object, got \[1, 2\]"),
        (rows_of(99), "has 99 rated texts, too few: at least 100"),
        ([row | {"ratings": [3, 3]} for row in rows_of(120)], "one-sided: all mean ratings are 3"),
        ([row | {"score": 1.0} for row in rows_of(120)], "the scores are one-sided: .* reach 1"),
    ],
)
def test_files_that_will_not_do_are_named(rows, message, tmp_path):
    path = write(tmp_path / "rated.jsonl", rows)
    with pytest.raises(ValueError, match=message):
        data.read(path)
    with pytest.raises(SystemExit, match=message):
        run.main(["--data", str(path), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_a_half_line_are_named(tmp_path):
    with pytest.raises(SystemExit, match=r"there is no file .* --data names the rated texts"):
        run.main(["--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")])
    (tmp_path / "half").write_text('{"text": "a"', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: not JSON"):
        data.read(tmp_path / "half")


# ------------------------------------------------------------------ the model from scratch


def test_the_backbone_knows_the_words_of_its_texts(tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    state = torch.get_rng_state()
    texts = ["Could you, please?", "please could you see", "rare"]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        backbone.make_backbone(texts, Backbone(), seed, tmp_path / name)
    assert torch.equal(state, torch.get_rng_state())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    assert tokenizer.tokenize("Please, COULD rare?") == [
        "please", "[UNK]", "could", "[UNK]", "[UNK]",
    ]  # fmt: skip
    a, b, c = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name).eval() for name in "abc"
    )
    ids = tokenizer("could you please", return_tensors="pt")
    with torch.no_grad():
        values = [model(**ids).logits.item() for model in (a, b, c)]
    assert values[0] == values[1] != values[2]


# ------------------------------------------------------------------ figures


def rated_by(ratings):
    ratings = np.array(ratings, dtype=np.float64)
    texts = [f"t{index}" for index in range(len(ratings))]
    return data.Rated(texts, ratings, np.nanmean(ratings, axis=1), "")


def test_accuracy_is_of_the_outer_quarters_only():
    rated = rated_by([[n, n] for n in range(8)])  # quarters: 0, 1 and 6, 7
    margins = np.array([-1.0, 2.0, 9, 9, -9, -9, 0.0, 3.0])
    fold = np.array([0, 0, 1, 1, 1, 1, 2, 2])
    found = summary.evaluate(rated, margins, fold)
    assert found["accuracy"]["value"] == (1 + 0 + 0.5 + 1) / 4
    assert found["by_fold"] == [0.5, None, 0.75]
    gain = summary.difference(rated, margins, np.zeros(8))
    assert gain["value"] == pytest.approx((0.5 - 0.5 + 0 + 0.5) / 4)


def test_people_and_systems_are_held_against_the_same():
    rated = rated_by([[n, n] for n in range(1, 9)])
    perfect = np.arange(8.0) - 3.5
    found = summary.humans(rated, {"perfect": perfect, "reversed": -perfect})
    assert found["accuracy"] == 1
    assert found["spearman"]["value"] == pytest.approx(1)
    assert found["systems"]["perfect"] == {"accuracy": 1, "spearman": pytest.approx(1)}
    assert found["systems"]["reversed"] == {"accuracy": 0, "spearman": pytest.approx(-1)}
    against = rated_by([[n, 9 - n] for n in range(1, 9)])
    assert summary.humans(against, {})["accuracy"] == 0
    assert summary.humans(rated_by([[n] for n in range(8)]), {}) is None


def test_predictions_go_back_to_their_texts():
    fold = np.array([1, 0, 1])
    done = {}
    for number, values in ((0, [5.0]), (1, [6.0, 7.0])):
        linear = {name: [-value for value in values] for name in BASELINES}
        done[number, LINEAR] = {"margins": linear, "cpu_seconds": dict.fromkeys(BASELINES, 1.0)}
        for seed in (0, 1):
            name = f"reward model {seed}"
            done[number, name] = {
                "margins": {name: [value - 4 + seed for value in values]},
                "predicted": [value + seed for value in values],
                "cpu_seconds": {name: 2.0},
            }
    gathered = summary.gather(fold, done)
    assert gathered.models.tolist() == [[2.0, 1.0, 3.0], [3.0, 2.0, 4.0]]
    assert gathered.rating.tolist() == [6.5, 5.5, 7.5]
    assert gathered.systems()["reward model"].tolist() == [2.5, 1.5, 3.5]
    assert gathered.systems()[UNIGRAMS].tolist() == [-6.0, -5.0, -7.0]
    seconds = summary.cpu_seconds(done)
    assert (seconds["reward model"], seconds[UNIGRAMS]) == (8.0, 2.0)


# ------------------------------------------------------------------ frozen models


def test_a_frozen_model_is_read_once_and_measured_like_the_others(small, monkeypatch, tmp_path):
    read = []
    original = reader.pooled_features

    def spy(model, rows, poolings):
        read.append(len(rows))
        return original(model, rows, poolings)

    monkeypatch.setattr(reader, "pooled_features", spy)
    path = write(tmp_path / "rated.jsonl", rows_of(150))
    model = save_tiny_model(tmp_path / "model", "gpt2")
    found = results_of(path, tmp_path / "out", "--model", model, "--head", "auto")
    assert found["accuracy"] > 0.8
    assert len(found["heads"]) == 3
    assert sum(read) == 150  # the texts are different
    assert found["settings"]["training"]["head"] == "auto"


def test_many_tasks_of_one_file_hold_the_reward_model_against_tfidf(tmp_path, capsys, monkeypatch):
    settings = stress.Settings(sizes=(40,), pairs=(30,), test=40, heads=("auto", "words"))
    monkeypatch.setattr(stress, "Settings", lambda: settings)
    one = write(tmp_path / "one.jsonl", rows_of(120))
    two = write(tmp_path / "two.jsonl", rows_of(100, seed=1))
    model = save_tiny_model(tmp_path / "model", "llama")
    stress.main(
        ["--data", str(one), "--other", str(two), "--model", model,
         "--output", str(tmp_path / "stress.json")]
    )  # fmt: skip
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "stress.json").read_text())["cases"]
    names = [case["case"] for case in found]
    assert names == [
        "40 ratings", "short to long", "long to short",
        "30 pairs, each by one person's ratings", "across", "across, back",
    ]  # fmt: skip
    assert all(name in shown for name in names)
    across = found[-2]
    assert across["auto"]["figure"]["value"] > 0.7
    gain = across["auto"]["figure"]["value"] - across["TF-IDF"]["value"]
    assert across["auto"]["gain"]["value"] == pytest.approx(gain)
