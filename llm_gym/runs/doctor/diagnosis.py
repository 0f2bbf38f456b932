"""All rules, asked of a run one after the other, causes before what follows from them."""

from __future__ import annotations

from pathlib import Path

from llm_gym.runs.doctor import measurement, outcome, signal, steps
from llm_gym.runs.doctor.finding import Diagnosis, Finding
from llm_gym.runs.doctor.record import RunRecord, read_run

RULES = (*measurement.RULES, *signal.RULES, *steps.RULES, *outcome.RULES)
"""In the order in which they are asked, and findings are told."""


def examine(run: RunRecord) -> Diagnosis:
    """Asks every rule of a run.

    Args:
        run: What was read of it.

    Returns:
        What was found, and what could not be judged.
    """
    findings: list[Finding] = []
    not_judged: dict[str, str] = {}
    for rule in RULES:
        if any(finding.id in rule.after for finding in findings):
            continue
        missing = rule.missing(run)
        if missing is not None:
            not_judged[rule.id] = missing
            continue
        finding = rule.judge(run)
        if finding is not None:
            findings.append(finding)
    return Diagnosis(findings, not_judged, run.iterations)


def diagnose(directory: str | Path) -> list[Finding]:
    """Names what is wrong with a run, from the figures, looks and samples that it has written.

    Args:
        directory: Of a run of `train`, `demo`, `rlhf` or an agent, finished or at work; or with a
            log of Stable-Baselines3's (`progress.csv`).

    Returns:
        What was found, causes before what follows from them; nothing of a healthy run. What its
        figures could not say is in `llm_gym.runs.doctor.examine`.

    Raises:
        FileNotFoundError: There is no such directory.
        ValueError: It holds no run, or a log that is damaged.
    """
    return examine(read_run(directory)).findings
