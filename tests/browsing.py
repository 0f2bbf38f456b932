"""What the browser tests share: a Chromium, and pages of it that are watched."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

READY = "body[data-state=ready]"
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(event.violatedDirective + " " + event.blockedURI);
});
"""

CHROMIUM = os.environ.get("LLM_GYM_CHROMIUM") or shutil.which("chromium")
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever would leave this machine fails at once, instead of silently working.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


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


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium, one for each file of tests.

    While it is open, Playwright's event loop runs in this thread, and `asyncio.run` cannot; so it
    ends before the tests of another file begin.
    """
    missing = None
    if not CHROMIUM or not Path(CHROMIUM).exists():
        missing = "there is no chromium here (Debian: apt-get install chromium)"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "Playwright's Python package is not installed"
    if missing:
        if os.environ.get("LLM_GYM_REQUIRE_BROWSER") == "1":
            pytest.fail(f"LLM_GYM_REQUIRE_BROWSER=1, but {missing}")
        pytest.skip(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    contexts = []

    def new(url, **options):
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(60_000)  # a busy machine is slow, not wrong
        return Watched(contexts[-1], url)

    yield new
    for context in contexts:
        context.close()
