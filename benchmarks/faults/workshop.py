"""A copy of the tree in which one file at a time is broken, to see whether a test notices."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from benchmarks.common import ROOT
from benchmarks.faults.tester import CANNOT_SWAP

WHOLE = [
    [
        "tests/learning/test_policy_gradient.py",
        "tests/learning/test_dpo_on_env.py",
        "tests/policy/test_modes.py",
        "tests/text/test_state.py",
    ]
]
SECONDS = 600.0  # of one run of tests; one that takes longer hangs, which is noticing


class Workshop:
    """Breaks files of a copy of the tree and runs tests on it.

    Args:
        folder: Where the copy goes; what is there is replaced.
        root: The tree, a git repository.
        whole: Groups of tests that load what the others need, and must pass on the tree as it is.

    Raises:
        ValueError: `folder` holds something else than such a copy.
    """

    def __init__(
        self, folder: Path, root: Path = ROOT, whole: Sequence[Sequence[str]] = WHOLE
    ) -> None:
        self.folder, self._whole = folder.absolute(), whole
        _copy(root, self.folder)
        paths = [self.folder, *sorted(self.folder.glob("envs/*"))]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._testers: list[subprocess.Popen[str]] = []
        self._collected: subprocess.Popen[str] | None = None

    def __enter__(self) -> Workshop:
        self._start()
        failed = self.failing(self._whole)
        if failed:
            raise RuntimeError(f"{failed} fails on the tree as it is: mend that first")
        return self

    def _start(self) -> subprocess.Popen[str]:
        tester = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults.tester"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._testers.append(tester)
        return tester

    def collect(self, files: Sequence[str]) -> None:
        """Loads files of tests once for all faults that do not change what is done when loading.

        Args:
            files: Paths of all files that `failing_on` will be told tests of.
        """
        self._collected = self._start()
        _answer(self._collected, {"collect": files})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for tester in self._testers:
            tester.kill()
            tester.communicate()

    def failing(
        self,
        groups: Sequence[Sequence[str]],
        seconds: float | None = None,
        reach: Path | None = None,
    ) -> str | None:
        """The first test that fails on the copy as it is; `None` if all pass.

        Args:
            groups: Tests; a group is run where no test of those before it failed.
            seconds: Seconds after which a run counts as one that failed; None is `SECONDS`.
            reach: File that is told which functions of the library each test calls.

        Raises:
            RuntimeError: The process that runs tests has ended.
        """
        order = {"groups": groups, "seconds": seconds or SECONDS, "reach": reach and str(reach)}
        return _answer(self._testers[0], order)

    def failing_on(self, file: str, text: str, groups: Sequence[Sequence[str]]) -> str | None:
        """As `failing`, with other content of one file; the file is as it was afterwards.

        Args:
            file: Path in the tree.
            text: Content to try.
            groups: See `failing`; where there are none, no test notices.
        """
        if not groups:
            return None
        path = self.folder / file
        before = path.read_text(encoding="utf-8")
        # Bytecode is told from its source by whole seconds and size, which may be the same.
        compiled = path.parent / "__pycache__"
        for old in compiled.glob(f"{path.stem}.*.pyc"):
            old.unlink()
        path.write_text(text, encoding="utf-8")
        try:
            if self._collected:
                swapped = [str(path), before, text]
                order = {"groups": groups, "seconds": SECONDS, "swap": swapped}
                failed = _answer(self._collected, order)
                if failed != CANNOT_SWAP:
                    return failed
            return self.failing(groups)
        finally:
            path.write_text(before, encoding="utf-8")
            for new in compiled.glob(f"{path.stem}.*.pyc"):
                new.unlink()


def _answer(tester: subprocess.Popen[str], order: dict[str, Any]) -> str | None:
    sent, answers = cast("IO[str]", tester.stdin), cast("IO[str]", tester.stdout)
    sent.write(json.dumps(order) + "\n")
    sent.flush()
    line = answers.readline()
    if not line:
        raise RuntimeError("the process that runs tests has ended")
    return json.loads(line)["failed"]


def _copy(root: Path, folder: Path) -> None:
    marker = folder / ".workshop"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ValueError(f"{folder} is not empty and no copy of the tree: choose another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():  # and not one that was deleted since
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
