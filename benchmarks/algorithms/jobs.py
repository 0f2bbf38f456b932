"""Jobs, each in a process of its own, a few at a time; a job that dies takes nothing with it.

What they return goes to a store, so that a job that is done is not done again.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from benchmarks.algorithms.store import RunStore
from llm_gym.files.provenance import commit

Job = dict[str, Any]
Work = Callable[[Job], dict[str, Any]]

_PRELOADED = ["benchmarks.algorithms.dispatch"]  # and all that it imports


def do_jobs(store: RunStore, jobs: list[Job], workers: int, report: bool = False) -> list[Job]:
    """Does the jobs that are not done yet, unless only a report is wanted, and returns all runs.

    Args:
        store: Where finished and crashed runs are; new ones are added to it.
        jobs: With `key` and `settings`.
        workers: Processes at a time.
        report: Whether to run nothing and take the runs that are there.

    Raises:
        OtherRunsError: One was done with other settings.
    """
    from benchmarks.algorithms.dispatch import dispatch

    waiting = store.to_do(jobs)
    if len(waiting) < len(jobs):
        print(f"{len(jobs) - len(waiting)} of {len(jobs)} runs are there already")
    if report:
        return store.of(jobs)
    now = commit()
    for index, (job, result) in enumerate(run_jobs(dispatch, waiting, workers), 1):
        line = {name: value for name, value in job.items() if isinstance(value, (str, int, float))}
        line["task"] = line.pop("task_name")
        try:
            store.add({**line, "commit": now, **result})
        except ValueError as error:  # NaN and infinity are no JSON
            crash = {"status": "crashed", "error": f"a figure is not finite: {error}"}
            store.add({**line, "commit": now, **crash, "traceback": ""})
        print(f"[{index}/{len(waiting)}] {job['key']}: {_summary(store.runs[-1])}", flush=True)
    return store.of(jobs)


def _summary(run: dict[str, Any]) -> str:
    if run["status"] != "done":
        return f"CRASHED: {run['error']}"
    end, figures = run.get("end", {}), ""
    if run["kind"] in ("text", "text-tune"):
        kl = f"KL {end['kl_to_reference']:.2f}"
        figures = f"score {run['start']['score']:.3f} -> {end['score']:.3f}, {kl}, "
    elif run["kind"] == "flight":
        figures = f"return {run['start']['return']:.1f} -> {end['return']:.1f}, "
    elif end:
        figures = f"J/J* {end['j_over_jstar']:.3f}, KL {end['kl_to_optimum']:.3f}, "
    return f"{figures}{run['total_cpu_seconds']:.1f} s of CPU"


def run_jobs(work: Work, jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Does every job and yields it with its result as it is done.

    Args:
        work: A function that can be imported; what it returns must be picklable.
        jobs: Arguments of `work`, one a call.
        workers: Processes at a time.

    Yields:
        Jobs and results: `{"status": "done", **returned}`, or `{"status": "crashed", "error":
        ..., "traceback": ...}` if the work raised or its process died.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(_PRELOADED)  # torch is imported once
    waiting, running = list(jobs), {}  # running: pipe -> (job, process)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_do, args=(work, job, theirs), daemon=True)
                process.start()
                theirs.close()
                running[ours] = (job, process)
            for pipe in wait(list(running)):
                job, process = running.pop(pipe)  # type: ignore[index]
                yield job, _result(pipe, process)  # type: ignore[arg-type]
    finally:
        for pipe, (_, process) in running.items():
            process.terminate()
            pipe.close()


def _result(pipe: Connection, process: Any) -> dict[str, Any]:
    try:
        result = pipe.recv()
    except EOFError:
        result = None
    finally:
        pipe.close()
        process.join()
    if result is not None:
        return result
    return {
        "status": "crashed",
        "error": f"the process died with exit code {process.exitcode}",
        "traceback": "",
    }


def _do(work: Work, job: Job, pipe: Connection) -> None:
    """In the process: at most one thread of arithmetic, and every error becomes a result."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(1)  # the cores are shared out among processes
    disable_progress_bar()
    started, cpu = time.perf_counter(), time.process_time()
    try:
        result = {"status": "done", **work(job)}
    except Exception as error:
        result = {
            "status": "crashed",
            "error": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }
    result["wall_seconds"] = time.perf_counter() - started
    result["total_cpu_seconds"] = time.process_time() - cpu
    pipe.send(result)
    pipe.close()
