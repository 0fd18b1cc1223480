"""Puts what the benchmarks printed into the site, as it lies in ``benchmarks/results``.

Where a page says ``<!-- results -->`` it gets a section for every file: what the script that
printed it measures, in the words of its docstring, and the file, folded. For ``<!-- missed -->`` it
gets the bars that were missed. Nothing is computed here.
"""

from __future__ import annotations

import ast
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
_MISSED = " DOES NOT HOLD"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the results (called by mkdocs for every page)."""
    if "<!-- results -->" in markdown:
        sections = "\n".join(_section(file) for file in _files())
        markdown = markdown.replace("<!-- results -->", sections)
    if "<!-- missed -->" in markdown:
        markdown = markdown.replace("<!-- missed -->", "\n".join(_missed()))
    return markdown


def _files() -> list[Path]:
    return sorted((_BENCHMARKS / "results").glob("*.txt"))


def _section(file: Path) -> str:
    script = _script(file.stem)
    about = f"`{script.relative_to(_BENCHMARKS.parent)}`: {_about(script)}" if script else ""
    printed = html.escape(file.read_text(encoding="utf-8"), quote=False)
    # HTML without an empty line, so that nothing in the file is taken for Markdown.
    printed = printed.rstrip().replace("\n", "&#10;")
    folded = f"<details><summary>{file.name}</summary><pre><code>{printed}</code></pre></details>"
    return f"### {file.stem} {{ #{file.stem} }}\n\n{about}\n\n{folded}\n"


def _missed() -> Iterator[str]:
    """A table of the missed bars; their lines are ``what: measured <= bar DOES NOT HOLD``."""
    yield "| what | measured, and the bar | result |\n|---|---|---|"
    for file in _files():
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.endswith(_MISSED):
                what, _, figures = line.removesuffix(_MISSED).rpartition(": ")
                shown = html.escape(figures, quote=False)
                yield f"| {what} | {shown} | [{file.stem}](measured.md#{file.stem}) |"


def _script(stem: str) -> Path | None:
    """The script whose name the file's begins with, the longest if there are several."""
    words = stem.split("_")
    for last in range(len(words), 0, -1):
        script = _BENCHMARKS / ("_".join(words[:last]) + ".py")
        if script.exists():
            return script
    return None


def _about(script: Path) -> str:
    """The first paragraph of its docstring."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
