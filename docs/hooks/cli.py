"""Writes the reference of the command line while the site is built, from the parsers themselves.

Where a page says ``<!-- verbs -->`` it gets a section for every verb, and for ``<!-- methods -->``
the ways to adapt. It imports `edgetl.cli`, which needs no package beside the standard library; it
knows nothing about what the verbs do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edgetl.cli.main import build_parser
from edgetl.transfer.names import ABOUT


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in what the command line says of itself (called by mkdocs for every page)."""
    if "<!-- verbs -->" in markdown:
        markdown = markdown.replace("<!-- verbs -->", "\n".join(_verbs()))
    if "<!-- methods -->" in markdown:
        markdown = markdown.replace("<!-- methods -->", "\n".join(_methods()))
    return markdown


def _verbs() -> Iterator[str]:
    for name, parser in verbs_of(build_parser()).items():
        yield f"## {name}\n"
        yield from _section(parser)


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"{_text(parser.description or '')}\n"
    yield f"```text\n{_usage(parser)}\n```\n"
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        yield f"`{_heading(action)}`\n:   {_text(_help(parser, action))}\n"
    for name, inner in verbs_of(parser).items():
        yield f"### {parser.prog.split()[-1]} {name}\n"
        yield from _section(inner)


def _methods() -> Iterator[str]:
    yield "| `--method` | what |\n|---|---|"
    yield from (f"| `{name}` | {_text(about)} |" for name, about in ABOUT.items())


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers below a parser, by the word that leads to each; none below most."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _usage(parser: argparse.ArgumentParser) -> str:
    """One line with what has to be given; the options are below."""
    words = [parser.prog]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words.append(f"{action.metavar} ...")
        elif not action.option_strings:
            words.append(_positional(action))
        elif action.required:
            words.append(_heading(action).split(", ")[-1])
    return " ".join([*words, "[options]"])


def _positional(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    once = {None: name, "?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} [{name} ...]"}
    return once[action.nargs if isinstance(action.nargs, str) else None]


def _heading(action: argparse.Action) -> str:
    if not action.option_strings:
        return _positional(action)
    if action.nargs == 0:
        return ", ".join(action.option_strings)
    value = action.metavar or (
        "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    )
    return ", ".join(f"{option} {value}" for option in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help as argparse would print it, with what it leaves unsaid: choices and requirement."""
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    more = []
    if action.choices and action.metavar:
        more.append("one of " + ", ".join(map(str, action.choices)))
    if action.required and action.option_strings:
        more.append("required")
    return "; ".join([part for part in (text, *more) if part]) or "see above"


def _text(text: str) -> str:
    """Plain text as Markdown: what would be markup is not."""
    for character in "\\`*_{}[]<>|#":
        text = text.replace(character, f"&#{ord(character)};")
    return text
