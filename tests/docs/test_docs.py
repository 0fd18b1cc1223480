"""The documentation beside the code: commands, imports and links that its pages name exist.

It reads the Markdown of docs/ and the README, and the sources; the site itself is built by
.ci/docs.
"""

import argparse
import ast
import itertools
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

import edgetl
from edgetl.cli.main import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^( *)(```+)([^\n`]*)\n(.*?)^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
SNIPPET = re.compile(r'^[ \t]*--8<-- "([^"]+)"[ \t]*$', re.MULTILINE)
FOREIGN = {"--include_ops_by_config", "--no-build-isolation", "--parallel", "--sanitize"}
"""Options of other programs that a sentence names."""


def blocks(page, *languages):
    """The code of a page's fenced blocks in one of the languages, without their indentation."""
    for indent, _, info, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if (info.split() or [""])[0] in languages:
            code = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
            yield SNIPPET.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), code)


def commands(code):
    """The words after `edgetl` of every call in a block of shell."""
    joined = code.replace("\\\n", " ")
    for line in joined.splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;()<>")
        lexer.whitespace_split = True
        for program, words in itertools.groupby(
            lexer, key=lambda word: not set(word) <= set("&|;()<>")
        ):
            call = list(words)
            if program and call[0].split("/")[-1] == "edgetl":
                yield call[1:]


class Refusing(argparse.ArgumentParser):
    """Tells what is wrong rather than ending the process."""

    def error(self, message):
        raise ValueError(message)


@cache
def parser():
    made = build_parser()
    for each in [made, *everything_below(made)]:
        each.__class__ = Refusing
    return made


def everything_below(top):
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield each
                yield from everything_below(each)


@cache
def known_options():
    return {option for each in everything_below(parser()) for option in each._option_string_actions}


def wrong_call(call):
    """What the command line says against a call, or None."""
    try:
        parser().parse_args(call)
    except ValueError as error:
        return f"edgetl {shlex.join(call)}: {error}"
    except SystemExit:  # --help, --version
        return None
    return None


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_of_blocks_are_ones_that_the_parsers_take(page):
    calls = [call for code in blocks(page, "", "sh", "bash", "console") for call in commands(code)]
    assert [wrong for call in calls if (wrong := wrong_call(call))] == []


def test_a_wrong_verb_option_or_choice_in_a_block_is_found():
    assert wrong_call(["adpat", "flowers/"])
    assert wrong_call(["predict", "flowers.edgetl", "photo.jpg", "--josn"])
    assert wrong_call(["export", "flowers.edgetl", "--precision", "int7"])
    assert not wrong_call(["export", "flowers.edgetl", "--precision", "int8", "-o", "x.edgetl"])
    found = commands(
        "a && .venv/bin/edgetl cache info # all\n$ edgetl learn a.edgetl \\\n  x.jpg\n"
    )
    assert list(found) == [["cache", "info"], ["learn", "a.edgetl", "x.jpg"]]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_options_and_verbs_in_sentences_exist(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    verbs = {name for each in parser()._actions if each.choices for name in each.choices}
    wrong = []
    for code in re.findall(r"`([^`\n]+)`", text):
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code)) - FOREIGN
        if code.split()[0].split("/")[-1] in ("pip", "cmake", "pytest", "python"):
            continue
        wrong += [f"{code}: {option}" for option in named - known_options()]
        if match := re.match(r"edgetl ([a-z]+)\b", code):
            wrong += [code] * (match[1] not in verbs)
    assert wrong == []


@cache
def defined(module):
    """The public names at the top of a module, read without importing it; None if there is none."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    if not file.exists():
        return None
    names = {child.stem for child in path.iterdir()} if path.is_dir() else set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def unknown_names(code):
    """What a piece of Python imports or takes from edgetl that is not there."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "edgetl":
            there = edgetl.__all__ if node.module == "edgetl" else defined(node.module)
            if there is None:
                yield node.module
            else:
                yield from (
                    f"{node.module}.{alias.name}"
                    for alias in node.names
                    if alias.name not in there and defined(f"{node.module}.{alias.name}") is None
                )
        elif isinstance(node, ast.Import):
            yield from (
                alias.name
                for alias in node.names
                if alias.name.split(".")[0] == "edgetl" and defined(alias.name) is None
            )
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "edgetl"
            and node.attr not in edgetl.__all__
        ):
            yield f"edgetl.{node.attr}"


@cache
def signature(module, name):
    """The keywords that a function or class of a module takes; None where that is not plain."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            given = node.args
            every = {each.arg for each in [*given.posonlyargs, *given.args, *given.kwonlyargs]}
            return None if given.kwarg else every
        if isinstance(node, ast.ClassDef) and node.name == name and not node.bases:
            return {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgetl."):
            for alias in node.names:
                if name in (alias.asname, alias.name) and node.module != module:
                    return signature(node.module, alias.name)
    return None


def unknown_keywords(code):
    """Keywords of calls that what is called does not take."""
    tree = ast.parse(code)
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("edgetl.")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.removeprefix("edgetl.")
        home = (edgetl._HOMES[name], name) if name in edgetl.__all__ else homes.get(called)
        taken = signature(*home) if home else None
        if taken:
            yield from (
                f"{called}({each.arg}=)"
                for each in node.keywords
                if each.arg and each.arg not in taken
            )


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_of_python_compile_and_their_names_exist(page):
    for code in blocks(page, "python", "py"):
        assert [*unknown_names(code), *unknown_keywords(code)] == []


def test_a_wrong_import_or_keyword_is_found():
    assert list(unknown_names("from edgetl.transfer.mmd import mmd_tset")) == [
        "edgetl.transfer.mmd.mmd_tset"
    ]
    assert list(unknown_names("from edgetl.transfer.nmd import mmd_test")) == [
        "edgetl.transfer.nmd"
    ]
    assert list(unknown_names("import edgetl\nedgetl.adpat()")) == ["edgetl.adpat"]
    assert list(unknown_keywords("edgetl.adapt('x', backbones='y')")) == [
        "edgetl.adapt(backbones=)"
    ]
    assert not list(unknown_names("from edgetl.evaluate import judge\nimport edgetl.heads"))


def anchors(page):
    """The anchors of a page's headings, as the site makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    found = set(re.findall(r"\{ ?#([\w-]+)", text))
    for heading in re.findall(r"^#+ +(.+?)(?: +\{.*\})?$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-"))
    if "<!-- results -->" in page.read_text(encoding="utf-8"):
        found |= {file.stem for file in (ROOT / "benchmarks" / "results").glob("*.txt")}
    if "<!-- verbs -->" in page.read_text(encoding="utf-8"):
        found |= {name for each in parser()._actions if each.choices for name in each.choices}
    return found


@pytest.mark.skipif(
    not (ROOT / "benchmarks" / "results").is_dir(), reason="a source distribution has no results"
)
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text(encoding="utf-8")))
    links = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(link)
    assert broken == []


def test_included_files_exist():
    for page in PAGES:
        for included in SNIPPET.findall(page.read_text(encoding="utf-8")):
            assert (ROOT / included).is_file(), f"{page}: {included}"


def test_every_public_name_is_in_the_reference():
    text = "\n".join(
        page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.md")
    )
    shown = set(re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE))
    assert {f"edgetl.{name}" for name in edgetl.__all__} - shown == set()
    for name in shown - {f"edgetl.{each}" for each in edgetl.__all__}:
        module, _, last = name.rpartition(".")
        there = defined(module)
        assert defined(name) is not None or (there is not None and last in there), name
