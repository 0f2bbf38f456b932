"""A program in a pseudo terminal, which POSIX systems have."""

from __future__ import annotations

import os
import re
import select
import subprocess
import time

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo terminals here")


class Terminal:
    """A program in a pseudo terminal."""

    def __init__(self, *command):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        )
        os.close(slave)
        self.text = ""

    def wait_for(self, pattern, seconds=60):
        """Reads until the pattern appears behind what was matched before."""
        deadline = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text)):
            assert time.monotonic() < deadline, self.text
            if select.select([self.master], [], [], 0.5)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        self.text = self.text[match.end() :]

    def type(self, keys):
        os.write(self.master, keys.encode())

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
