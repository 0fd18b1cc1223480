"""The public names."""

import ast
from pathlib import Path

import pytest

import edgetl


def test_all_is_sorted_and_resolves():
    assert edgetl.__all__ == sorted(edgetl.__all__)
    for name in edgetl.__all__:
        assert getattr(edgetl, name) is not None
    assert set(edgetl.__all__) <= set(dir(edgetl))


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(edgetl.__file__).read_text(encoding="utf-8"))
    seen = {
        (alias.asname, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("edgetl.")
        for alias in node.names
    }
    assert seen == set(edgetl._HOMES.items())


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        edgetl.nonsense  # noqa: B018
