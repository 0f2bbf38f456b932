"""The labelling command in a process that can be killed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


class Command:
    """`llm-gym label` in a process of its own, which can be killed."""

    def __init__(self, store, port=0):
        code = "import sys; from llm_gym.cli import main; main(sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "label", str(store), "--no-browser", "--rater", "Ada",
             "--port", str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if address := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.url, self.port = address[0], int(address[1])
                return
        pytest.fail(f"the server did not start: {lines}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
