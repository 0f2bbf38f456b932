"""Our RLOO and GRPO as TRL has them, and what is said about two systems' curves."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.driver import Entry
from benchmarks.learning import run as learning_run
from benchmarks.side_by_side import equivalence, figures, run
from benchmarks.side_by_side.settings import COMPARISONS, SYSTEMS, TASKS, systems_of
from benchmarks.side_by_side.store import Store
from benchmarks.systems import ours_groups
from benchmarks.tasks import Tally, build_task
from benchmarks.worker import measure
from benchmarks.workload import Workload
from tests.benchmarks.test_handwritten import TINY

GROUPS = replace(TINY, episodes=8, group_size=4, minibatch_episodes=2, kl_coef=0.1)


# ---------------------------------------------------------------------- the systems


@pytest.mark.parametrize("algorithm", ours_groups.ALGORITHMS)
def test_a_system_trains_on_whole_batches_of_groups(algorithm):
    system = ours_groups.build(GROUPS, algorithm=algorithm)
    for _ in range(2):
        result = measure(system, "train", "cpu")
        assert result["tokens"] == GROUPS.tokens_per_batch
        assert 0 <= result["reward"] <= 1


def collected(algorithm, **changes):
    """A learner with one rollout in its buffer, and nothing learnt from it yet."""
    learner = ours_groups.build(replace(GROUPS, **changes), algorithm=algorithm).algorithm
    learner.train = lambda: None
    learner.learn(1)
    del learner.train
    return learner


def whole_log_probs(learner, members):
    """Log-probabilities of the members' completions under the model, one prefix at a time."""
    model = learner.policy.model
    rows = []
    for segment in members:
        actions = learner.rollout_buffer.actions[segment.start : segment.stop, segment.env]
        ids = [*segment.prefix.tolist(), *actions.tolist()]
        first = len(segment.prefix)
        logits = model(torch.tensor([ids])).logits[0, first - 1 : -1]
        rows.append(logits.log_softmax(-1)[range(len(actions)), ids[first:]])
    return rows


def shifted(learner):
    """Other weights than those that sampled, so that ratios are not 1 and some are clipped."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in learner.policy.model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)


def test_rloo_clips_the_ratio_of_a_whole_answer_as_trl_does():
    learner = collected("rloo")
    buffer, members = learner.rollout_buffer, learner.rollout_buffer.minibatches(24)[0]
    shifted(learner)
    expected, clipped = [], 0
    for segment, log_probs in zip(members, whole_log_probs(learner, members), strict=True):
        old = buffer.log_probs[segment.start : segment.stop, segment.env].sum()
        ratio = math.exp(float(log_probs.detach().sum()) - float(old))
        advantage = float(buffer.advantages[segment.start, segment.env])
        clip = min(max(ratio, 0.8), 1.2)
        clipped += clip != ratio
        expected.append(-min(ratio * advantage, clip * advantage))
    loss, _ = learner._loss(learner.policy, buffer, members)
    assert clipped
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-6)


def test_rloo_advantages_are_of_scores_less_the_summed_penalty():
    learner = collected("rloo")
    buffer = learner.rollout_buffer
    returns = np.array([buffer.rewards[s.start : s.stop, s.env].sum() for s in buffer.segments()])
    for group in range(2):
        of_group = returns[4 * group : 4 * group + 4]
        for row in range(4):
            others = (of_group.sum() - of_group[row]) / 3
            advantage = buffer.advantages[0, 4 * group + row]
            assert advantage == pytest.approx(of_group[row] - others, abs=1e-6)


def test_grpo_is_the_mean_over_tokens_then_answers_with_k3_beside_it():
    learner = collected("grpo")
    buffer, members = learner.rollout_buffer, learner.rollout_buffer.minibatches(24)[0]
    shifted(learner)
    expected = []
    for segment, log_probs in zip(members, whole_log_probs(learner, members), strict=True):
        place = (slice(segment.start, segment.stop), segment.env)
        ratio = (log_probs.detach().numpy() - buffer.log_probs[place]).astype(float)
        ratio = np.exp(ratio)
        advantage = buffer.advantages[place].astype(float)
        policy = -np.minimum(ratio * advantage, ratio.clip(0.8, 1.2) * advantage)
        behind = learner.shaping.reference_log_probs[place] - log_probs.detach().numpy()
        k3 = np.exp(behind) - behind - 1
        expected.append(np.mean(policy + GROUPS.kl_coef * k3))
    loss, _ = learner._loss(learner.policy, buffer, members)
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-4, abs=1e-6)


def test_minibatches_are_the_same_in_every_epoch_and_others_in_the_next_rollout():
    learner = collected("rloo")
    buffer = learner.rollout_buffer
    rows = [[s.env for s in members] for members in buffer.minibatches(2 * GROUPS.new_tokens)]
    assert [len(members) for members in rows] == [2, 2, 2, 2]
    assert sorted(row for part in rows for row in part) == list(range(8))
    again = [[s.env for s in members] for members in buffer.minibatches(2 * GROUPS.new_tokens)]
    assert again == rows
    orders = set()
    for _ in range(5):
        buffer.order = None
        orders.add(str([s.env for part in buffer.minibatches(None) for s in part]))
    assert len(orders) > 1


# ---------------------------------------------------------------------- the tasks


def test_a_tally_is_the_mean_of_all_calls_since_it_forgot():
    tally = Tally(lambda _, completions: [float(len(c)) for c in completions])
    assert math.isnan(tally.last_mean)
    assert tally(["", ""], ["a", "abc"], column=[1, 2]) == [1.0, 3.0]
    tally([""], ["abcde"])
    assert tally.last_mean == 3.0
    tally.forget()
    tally([""], ["a"])
    assert tally.last_mean == 1.0


def test_polite_emails_are_the_librarys_own_task(tmp_path):
    task = build_task(Workload(task="polite_email"), tmp_path)
    assert len(task.prompts) == len(task.instructions) == 512
    assert task.instructions[0] in task.prompts[0]
    polite = (
        "Dear Ms Cole,\n\nI hope you are well. Could you please send me the report? "
        "Thank you very much.\n\nKind regards,\nSam"
    )
    rude, kind = task.score(["Ask for the report."] * 2, ["send it now", polite])
    assert 0 <= rude < kind <= 1


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="task='chess' must be one of favoured_words"):
        Workload(task="chess")


# ---------------------------------------------------------------------- the figures


def batches(rewards, seconds=1.0):
    return [{"reward": reward, "cpu_seconds": seconds, "tokens": 8} for reward in rewards]


def test_the_interval_is_student_s():
    """By hand: mean 2, standard deviation 1, n 3; 2.920 is in every table."""
    interval = equivalence.paired_interval([1.0, 2.0, 3.0])
    assert interval["mean"] == 2
    assert interval["high"] - 2 == pytest.approx(2.920 / math.sqrt(3), rel=1e-4)
    assert 2 - interval["low"] == pytest.approx(2.920 / math.sqrt(3), rel=1e-4)


def test_nine_of_ten_intervals_cover():
    rng = np.random.default_rng(0)
    covered = [
        (lambda i: i["low"] < 0.3 < i["high"])(equivalence.paired_interval(sample))
        for sample in rng.normal(0.3, 1.0, size=(2000, 4))
    ]
    assert 0.88 < np.mean(covered) < 0.92


def test_one_pair_has_no_interval():
    with pytest.raises(ValueError, match=r"1 pair\(s\)"):
        equivalence.paired_interval([1.0])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.04, 0.04, "equal"),
        (0.01, 0.03, "equal"),
        (0.06, 0.09, "different"),
        (-0.09, -0.06, "different"),
        (-0.01, 0.06, "undecided"),
        (0.01, 0.06, "undecided"),
    ],
)
def test_the_verdict(low, high, expected):
    assert equivalence.verdict({"mean": 0.0, "low": low, "high": high}, 0.05) == expected


def test_seconds_are_to_a_reward_that_all_runs_reach():
    """Ours has a mean of 0.54 = 0.9 * 0.6 after 4 batches of 1 s, theirs after 5 of 2 s."""
    ours = [batches([0, 0.6, 0.6, 0.6, 0.9, 0.9])] * 2
    theirs = [batches([0, 0, 0.6, 0.6, 0.6, 0.6], seconds=2.0)] * 2
    figures_of = equivalence.compare(ours, theirs, margin=0.05)
    assert figures_of["common_reward"] == pytest.approx(0.54)
    assert figures_of["batches_ratio"]["mean"] == pytest.approx(4 / 5)
    assert figures_of["batch_seconds_ratio"]["mean"] == pytest.approx(1 / 2)
    assert figures_of["seconds_ratio"]["mean"] == pytest.approx(4 / 10)
    assert figures_of["area"]["mean"] == pytest.approx((3.6 - 2.4) / 6)
    assert figures_of["final"]["mean"] == pytest.approx(0.8 - 0.6)
    assert figures_of["final"]["verdict"] == "different"


def test_a_curve_that_falls_has_a_reward_that_all_reach_too():
    falling, rising = batches([0.4, 0.2, 0.2, 0.2]), batches([0.4, 0.5, 0.6, 0.7])
    figures_of = equivalence.compare([falling] * 2, [rising] * 2, margin=0.05)
    assert figures_of["common_reward"] == pytest.approx((0.4 + 0.2 + 0.2) / 3)
    assert figures_of["area"]["mean"] < 0


def test_what_the_first_batch_costs_once_is_left_out():
    taken = equivalence.seconds([{"reward": 0, "cpu_seconds": s} for s in (9.0, 1.0, 2.0, 3.0)])
    assert taken.tolist() == [2.5, 1.0, 2.0, 3.0]


# ---------------------------------------------------------------------- running and resuming


def test_a_finished_run_is_found_again_and_a_longer_one_is_not(tmp_path):
    entry, workload = Entry("ours", "ours_groups", {"algorithm": "rloo"}), Workload()
    Store(tmp_path / "runs.jsonl").add("ours_rloo", entry, workload, batches([0.1, 0.2]))
    store = Store(tmp_path / "runs.jsonl")
    assert store.find("ours_rloo", entry, workload, 1) == batches([0.1])
    assert store.find("ours_rloo", entry, workload, 3) is None
    assert store.find("ours_rloo", entry, replace(workload, seed=1), 2) is None
    assert store.find("ours_grpo", entry, workload, 2) is None


def test_a_run_under_other_settings_is_not_mixed_in(tmp_path):
    entry, workload = Entry("ours", "ours_groups"), Workload()
    store = Store(tmp_path / "runs.jsonl")
    store.add("ours_rloo", entry, workload, batches([0.1]))
    with pytest.raises(ValueError, match=r"kl_coef was 0\.05, now 0\.1; choose another --output"):
        store.find("ours_rloo", entry, replace(workload, kl_coef=0.1), 1)


def test_a_last_line_that_broke_off_is_dropped_and_the_run_done_again(tmp_path):
    path, entry, workload = tmp_path / "runs.jsonl", Entry("ours", "ours_groups"), Workload()
    Store(path).add("ours_rloo", entry, workload, batches([0.1]))
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + whole[:40], encoding="utf-8")
    store = Store(path)
    assert path.read_text(encoding="utf-8") == whole
    assert store.find("ours_rloo", entry, workload, 1) == batches([0.1])
    other = replace(workload, seed=1)
    store.add("ours_rloo", entry, other, batches([0.2]))
    assert Store(path).find("ours_rloo", entry, other, 1) == batches([0.2])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"system": "ours_rl', "line 2 is not JSON"),
        ('{"system": "ours_rloo"}', "line 2 is not a finished run"),
        ("[1]", "line 2 is not a finished run"),
    ],
)
def test_another_damaged_line_is_named(line, message, tmp_path):
    path = tmp_path / "runs.jsonl"
    Store(path).add("ours_rloo", Entry("ours", "ours_groups"), Workload(), batches([0.1]))
    whole = path.read_text(encoding="utf-8")
    path.write_text(f"{whole}{line}\n{whole}", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"runs\.jsonl, {message}.*delete that line"):
        Store(path)


class FakeWorker:
    """Answers like a worker; the system named "broken" ends in the second batch."""

    built = 0

    def __init__(self, entry, workload, **_):
        FakeWorker.built += 1
        self.entry, self.done = entry, 0

    def run(self, what):
        self.done += 1
        if self.entry.label == "broken" and self.done == 2:
            raise RuntimeError("out of memory")
        return {"reward": 0.1 * self.done, "cpu_seconds": 1.0, "tokens": 8}

    def close(self):
        pass


def test_a_failure_does_not_stop_the_others_and_nothing_is_done_twice(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(run, "Worker", FakeWorker)
    monkeypatch.setattr(FakeWorker, "built", 0)
    monkeypatch.setitem(SYSTEMS, "ours_rloo", Entry("fine", "ours_groups"))
    monkeypatch.setitem(SYSTEMS, "ours_grpo", Entry("broken", "ours_groups"))
    task = replace(TASKS["small"], batches=3, seeds=2)
    store = Store(tmp_path / "runs.jsonl")
    for _ in range(2):
        run.train(task, 0, ["ours_rloo", "ours_grpo"], store, tmp_path)
    assert "out of memory" in capsys.readouterr().out
    assert FakeWorker.built == 3  # the second time only the one that failed
    found = run.finished({"small": task}, Store(tmp_path / "runs.jsonl"))
    assert [list(by_seed) for by_seed in found["small"].values()] == [[0]]
    assert len(found["small"]["ours_rloo"][0]) == 3


def test_what_was_measured_is_compared_and_the_rest_is_named(tmp_path):
    curve = {seed: batches([0.1, 0.2, 0.3, 0.4 + 0.01 * seed]) for seed in range(3)}
    rows = run.comparisons({"small": {"ours_rloo": curve, "trl_rloo": curve, "ours_grpo": curve}})
    assert len(rows) == sum(each.task == "small" for each in COMPARISONS)
    first, second = rows[:2]
    assert first["area"]["verdict"] == "equal"
    assert first["seconds_ratio"]["mean"] == pytest.approx(1)
    assert second["status"] == "not measured"
    results = {"comparisons": rows, "margin": 0.05, "curves": {"small": {}}}
    results["curves"]["small"]["ours_rloo"] = {
        "rewards": [[batch["reward"] for batch in each] for each in curve.values()],
        "seconds": [[1.0] * 4] * 3,
    }
    json.dumps(results, allow_nan=False)
    table = figures.markdown(results)
    assert "| small | llm_gym.RLOO | TRL 1.16 RLOO | 3 | +0.000" in table
    assert "| not measured |" in table
    figures.draw(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


def test_every_comparison_is_of_known_systems_on_known_tasks():
    for task, ours, theirs, _ in COMPARISONS:
        assert task in TASKS
        assert SYSTEMS[ours].peer is None
        assert SYSTEMS[theirs].peer is not None
        assert {ours, theirs} <= set(systems_of(task))


def test_figures_alone_train_nothing():
    tasks, systems, _ = run.parse(["--output", "x", "--only-figures", "--tasks", "small"])
    assert list(tasks) == ["small"]
    assert systems == []


def test_too_few_seeds_are_refused(capsys):
    with pytest.raises(SystemExit):
        run.parse(["--output", "x", "--seeds", "1"])
    assert "--seeds 1 must be at least 2" in capsys.readouterr().err


def test_a_variant_cannot_take_the_name_of_a_system(capsys):
    with pytest.raises(SystemExit):
        learning_run.parse(["--output", "x", "--variant", "rloo", "{}"])
    assert "ours_rloo is a system already" in capsys.readouterr().err
