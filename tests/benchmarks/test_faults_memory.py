"""The measurement of long runs itself, short."""

from __future__ import annotations

from benchmarks.faults.memory import FIGURES, MOST_OF_ROWS, of_rollouts, of_rows
from llm_gym.runs.callbacks import History


class Hoarder(History):
    """Keeps every row, as `History` once did."""

    kept: list = []  # noqa: RUF012 - emptied by the test

    def write(self, key_values, key_excluded, step=0):
        super().write(key_values, key_excluded, step)
        self.kept.append(dict(key_values))


def test_rows_that_stay_in_memory_are_seen(tmp_path):
    assert of_rows(History(tmp_path / "rows.jsonl"), 1000) < MOST_OF_ROWS["with a file"]
    assert of_rows(History(), 1000) < MOST_OF_ROWS["in memory"]
    assert of_rows(Hoarder(tmp_path / "rows.jsonl"), 1000) > 8 * FIGURES
    Hoarder.kept.clear()


def test_a_run_of_a_few_rollouts_is_measured(tmp_path):
    assert of_rollouts(tmp_path, 10) < 100_000
