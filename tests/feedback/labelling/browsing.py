"""What the browser tests share: a watched page, and the command in a process that can be killed."""

from __future__ import annotations

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

READY = "body[data-state=ready]"
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(event.violatedDirective + " " + event.blockedURI);
});
"""


class Watched:
    """A page of the browser, and everything it did that it should not have done."""

    def __init__(self, context, url):
        self.url = url
        self.console, self.dialogs, self.requests = [], [], []
        context.on("request", lambda request: self.requests.append(request.url))
        self.page = context.new_page()
        self.page.add_init_script(WATCH)
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("dialog", self._dialog)

    def _dialog(self, dialog):
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, selector=READY):
        self.page.goto(self.url)
        self.page.wait_for_selector(selector)
        return self

    def press(self, key, then=READY):
        """Presses a key, waits for the answer and for the next question."""
        self.page.wait_for_selector(READY)
        with self.page.expect_response(re.compile("/api/(vote|undo)")):
            self.page.keyboard.press(key)
        self.page.wait_for_selector(then)

    def settles_at(self, progress, state=READY):
        """Waits until the page is at rest with that progress.

        Progress alone says too little: the page may have shown it before, while a request that
        changes it is still on its way.
        """
        self.page.wait_for_selector(f"{state} >> #progress >> text=/^{progress}/")

    def text(self, selector):
        return self.page.text_content(selector)

    def assert_clean(self):
        assert self.console == []
        assert self.dialogs == []
        assert self.page.evaluate("window.violations") == []
        assert self.page.evaluate("typeof window.pwned") == "undefined"
        assert self.requests
        assert {urlsplit(url).netloc for url in self.requests} == {urlsplit(self.url).netloc}


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
