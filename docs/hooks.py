"""Adds to the site what is no Markdown under `docs/`: plug-ins' pages, lessons, the reference.

Pages are written for a code host, where links are paths of the repository. Here a link to a file
that is a page of the site leads to that page. One to any other file of the repository keeps its
text only, since the site has no address of the repository. One to nothing stops the build.
"""

from __future__ import annotations

import ast
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

import griffe
import tomllib
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
# Pages of the site by the file of the repository.
OUTSIDE = {
    "envs/autopilot/README.md": "environments/autopilot.md",
    "envs/known_optimum/README.md": "environments/known_optimum.md",
    "envs/reasoning/README.md": "environments/reasoning.md",
    "envs/sycophancy/README.md": "environments/sycophancy.md",
    "llm_gym/language_models/assets/MODEL_CARD.md": "models/emails.md",
    "envs/sycophancy/llm_gym_sycophancy/assets/facts-sft/MODEL_CARD.md": "models/facts.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
FILE_OF = {page: file for file, page in OUTSIDE.items()}
LESSONS = {
    path.relative_to(ROOT).as_posix(): f"course/{path.stem}.md"
    for path in sorted((ROOT / "docs/course").glob("[0-9]*.py"))
}
NO_REFERENCE = {"cli"}  # commands say what they do by --help

ONLY_THE_DOCSTRING = """    options:
      members: false
      show_root_heading: false
      show_root_toc_entry: false
"""

# A cell of a lesson begins so; a cell of text is written as comments.
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)

CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^)\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the reference to the navigation: the names at the top, then the floors from the top."""
    rooms = [{f"llm_gym.{room}": f"api/{room}.md"} for room in rooms_from_the_top()]
    config.nav = [*(config.nav or []), {"API": [{"llm_gym": "api/index.md"}, *rooms]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are files elsewhere in the repository, and those of the reference."""
    for path, page in OUTSIDE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=without_front_matter(text)))
    for path, page in LESSONS.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=as_page(text)))
    files.append(File.generated(config, "api/index.md", content=names_at_the_top()))
    for room in rooms_from_the_top():
        files.append(File.generated(config, f"api/{room}.md", content=reference(room)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lets links to files of the repository lead to pages of the site."""
    page_uri = page.file.src_uri
    if page_uri.startswith("api/"):
        return markdown
    folder = posixpath.dirname(FILE_OF.get(page_uri, f"docs/{page_uri}"))

    def replaced(match: re.Match[str]) -> str:
        text, target = match["text"], match["target"]
        path, hash_sign, anchor = target.partition("#")
        if not path or ":" in path:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, path))
        if not (ROOT / path).exists():
            raise PluginError(f"{page_uri} links to {target}, which is not in the repository")
        uri = OUTSIDE.get(path) or LESSONS.get(path)
        if path.startswith("docs/") and not path.endswith(".py"):
            uri = path.removeprefix("docs/")
        if not uri:
            return text[1:-1]
        relative = posixpath.relpath(uri, posixpath.dirname(page_uri) or ".")
        return f"{text}({relative}{hash_sign}{anchor})"

    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(replaced, prose) for prose in parts[::2]]
    return "".join(parts)


def rooms_from_the_top() -> list[str]:
    """Rooms of `llm_gym` in the order in which the contract on imports has them."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    rooms = [room.strip() for layer in layers for room in layer.split("|")]
    return [room for room in rooms if room not in NO_REFERENCE]


def names_at_the_top() -> str:
    """A page with all that `llm_gym` itself exports, each with a link to where it is described."""
    title = ["# llm_gym", "", "What `import llm_gym` offers, imported when it is first used.", ""]
    return "\n".join([*title, *exports(package_tree())])


def reference(room: str) -> str:
    """A page with what a room's packages export, and every module that has something public."""
    folder = ROOT / "llm_gym" / room
    paths = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    lines = [f"# llm_gym.{room}", ""]
    if folder.is_dir():
        lines.append(f"::: llm_gym.{room}\n{ONLY_THE_DOCSTRING}")
    for path in paths:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if path.name == "__init__.py":
            package = module.removesuffix(".__init__")
            if names := exports(package_tree()[package.removeprefix("llm_gym.")]):
                lines += [f"`{package}` has", "", *names, ""]
    for path in paths:
        if not path.name.startswith("_") and has_public(path):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            lines.append(f"::: {module}\n")
    return "\n".join(lines)


@cache
def package_tree() -> griffe.Module:
    """The package as its source says, without importing it."""
    return griffe.load("llm_gym", search_paths=[str(ROOT)])


def exports(package: griffe.Module) -> list[str]:
    """Items of a list: classes and functions that a package hands on, with what they are."""
    names = sorted(package.members, key=str.lower)
    objects = {name: package.members[name] for name in names if not name.startswith("_")}
    targets = {
        name: member.final_target
        for name, member in objects.items()
        if member.is_alias and member.target_path.startswith("llm_gym.")
    }
    return [
        f"- [`{name}`][{target.path}]: {first_sentence(target)}"
        for name, target in targets.items()
        if (target.is_class or target.is_function) and target.docstring
    ]


def first_sentence(target: griffe.Object) -> str:
    """The first paragraph of a docstring, on one line."""
    assert target.docstring is not None
    return " ".join(target.docstring.value.split("\n\n")[0].split())


def has_public(path: Path) -> bool:
    """Whether a module defines a function, class or constant that is not private."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    return any(not name.startswith("_") for name in names)


def as_page(lesson: str) -> str:
    """A lesson of the course, cells of text and of code, as Markdown."""
    _, *parts = CELL.split(lesson)
    cells = []
    for kind, source in zip(parts[::2], parts[1::2], strict=True):
        text = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        cells.append(text if kind else f"```python\n{source.strip()}\n```\n")
    return "\n".join(cells)


def without_front_matter(text: str) -> str:
    """A model card without the metadata that a hub reads."""
    return re.sub(r"\A---\n.*?^---\n", "", text, flags=re.DOTALL | re.MULTILINE)
