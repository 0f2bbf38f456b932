"""A lesson that was run, as one page of HTML that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import Any

from markdown_it import MarkdownIt
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --faint: #f3f4f6;
  --line: #d0d7de; --link: #3b5bdb; --quiet: #57606a }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --paper: #16181c; --faint: #22262c;
  --line: #3a4048; --link: #91a7ff; --quiet: #a0a8b2 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.6 system-ui, sans-serif; overflow-wrap: break-word }
main, nav { max-width: 52rem; margin: 0 auto; padding: 1rem }
nav { display: flex; flex-wrap: wrap; gap: .2rem .9rem; font-size: 15px }
h1 { line-height: 1.2; font-size: 1.9rem } h2 { margin: 2.4rem 0 .6rem; font-size: 1.35rem }
a { color: var(--link) }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .8rem .35rem 0; text-align: left;
  vertical-align: top }
pre, code { font: 13px/1.5 ui-monospace, monospace }
code { background: var(--faint); border-radius: 4px; padding: .1rem .25rem }
pre { overflow-x: auto; margin: .8rem 0; padding: .8rem 1rem; border-radius: 8px;
  background: var(--faint) }
pre code { background: none; padding: 0 }
pre.printed { background: none; border: 1px solid var(--line); color: var(--ink);
  white-space: pre-wrap }
img { max-width: 100%; background: #fff; border-radius: 8px; padding: 4px }
"""


def page_of(notebook: Any, lessons: list[str]) -> str:
    """The page.

    Args:
        notebook: A lesson that was run.
        lessons: Names of all lessons' files without their endings: links between them lead to
            pages, and stand at the top.
    """
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = cell.source
            for name in lessons:
                text = text.replace(f"({name}.py)", f"({name}.html)")
            parts.append(markdown.render(text))
        else:
            parts.append(highlight(cell.source, PythonLexer(), HtmlFormatter(nowrap=False)))
            parts += [_output(output) for output in cell.outputs]
    title = notebook.cells[0].source.split("\n")[0].removeprefix("# ")
    links = "".join(f'<a href="{name}.html">{int(name[:2])}</a>' for name in lessons)
    light = HtmlFormatter(style="default").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    colours = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(title)}</title>\n<style>{colours}\n{_STYLE}"
        ".highlight, .highlight pre { background: var(--faint) }\n</style>\n</head>\n<body>\n"
        f"<nav>Lessons {links}</nav>\n<main>\n{''.join(parts)}\n</main>\n</body>\n</html>\n"
    )


def _output(output: Any) -> str:
    """What a cell printed or drew; what models wrote is text, whatever it looks like."""
    if output.output_type == "stream" and output.name == "stdout":
        return f'<pre class="printed">{escape(output.text.rstrip())}</pre>'
    if "image/png" in output.get("data", {}):
        return (
            f'<p><img alt="The figure" src="data:image/png;base64,{output.data["image/png"]}"></p>'
        )
    return ""
