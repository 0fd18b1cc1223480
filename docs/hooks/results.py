"""Puts what the benchmarks printed into the site, as it lies in ``benchmarks/results``.

Where a page says ``<!-- results -->`` it gets a section for every file: what the script that printed
it measures, in the words of its docstring, and the file, folded. Nothing is computed here.
"""

from __future__ import annotations

import ast
import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the results (called by mkdocs for every page)."""
    if "<!-- results -->" not in markdown:
        return markdown
    files = sorted((_BENCHMARKS / "results").glob("*.txt"))
    return markdown.replace("<!-- results -->", "\n".join(map(_section, files)))


def _section(file: Path) -> str:
    script = _script(file.stem)
    about = f"`{script.relative_to(_BENCHMARKS.parent)}`: {_about(script)}" if script else ""
    printed = html.escape(file.read_text(encoding="utf-8"), quote=False)
    # HTML, so that nothing in the file is taken for Markdown.
    folded = f"<details><summary>{file.name}</summary><pre><code>{printed}</code></pre></details>"
    return f"### {file.stem} {{ #{file.stem} }}\n\n{about}\n\n{folded}\n"


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
    first: Iterator[str] = iter(text.split("\n\n"))
    return " ".join(next(first).split())
