"""The site's pages are the repository's: links lead where they lead on a code host."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("mkdocs", reason="the site needs the extra docs")
tomllib = pytest.importorskip("tomllib", reason="the site is built with Python 3.11 or newer")

from mkdocs.exceptions import PluginError  # noqa: E402

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs/hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(hooks, page, markdown):
    page = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    return hooks.on_page_markdown(markdown, page, config=None, files=None)


@pytest.mark.parametrize(
    ("page", "on_a_code_host", "on_the_site"),
    [
        ("pieces.md", "[a](scorers.md#rules)", "[a](scorers.md#rules)"),
        ("pieces.md", "[a](#plug-ins)", "[a](#plug-ins)"),
        ("pieces.md", "[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("pieces.md", "[`a`](../envs/autopilot/README.md)", "[`a`](environments/autopilot.md)"),
        ("pieces.md", "[a `b`](../agents/ppo_text.py).", "a `b`."),
        (
            "environments/autopilot.md",
            "![a](../../docs/images/demo.png)",
            "![a](../images/demo.png)",
        ),
        ("environments/autopilot.md", "[a](../../docs/curves.md)", "[a](../curves.md)"),
        ("changelog.md", "[a](docs/figures.md#learning)", "[a](figures.md#learning)"),
        ("pieces.md", "```\n[a](nowhere.md)\n```\n", "```\n[a](nowhere.md)\n```\n"),
    ],
)
def test_a_link_leads_to_the_same_page_on_the_site(hooks, page, on_a_code_host, on_the_site):
    assert shown(hooks, page, on_a_code_host) == on_the_site


def test_a_link_to_nothing_stops_the_build(hooks):
    with pytest.raises(PluginError, match=r"pieces\.md links to \.\./nowhere\.md"):
        shown(hooks, "pieces.md", "[a](../nowhere.md)")


def test_pages_from_elsewhere_are_files(hooks):
    assert all((ROOT / path).is_file() for path in hooks.OUTSIDE)


def test_the_reference_has_a_page_for_every_room_but_the_commands(hooks):
    rooms = {
        path.stem
        for path in (ROOT / "llm_gym").iterdir()
        if not path.name.startswith("_") and (path.is_dir() or path.suffix == ".py")
    }
    assert {*hooks.rooms_from_the_top(), "cli"} == rooms


def test_the_reference_links_what_a_package_exports(hooks):
    page = hooks.reference("text")
    assert "- [`TextGenerationEnv`][llm_gym.text.single.TextGenerationEnv]: Text gen" in page
    assert "::: llm_gym.text.vector\n" in page
    assert hooks.names_at_the_top().count("\n- [`") >= 30


def test_the_front_matter_of_a_model_card_is_not_shown(hooks):
    assert hooks.without_front_matter("---\nlicense: x\n---\n\n# Card\n---\n") == "\n# Card\n---\n"


def test_the_floors_of_the_page_are_those_that_are_enforced():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    page = (ROOT / "docs/pieces.md").read_text(encoding="utf-8")
    table = page.split("## The floors")[1].split("\n## ")[0]
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in table.split("\n") if "|" in line]
    assert [row for row in rows if row] == [re.findall(r"\w+", layer) for layer in layers]
