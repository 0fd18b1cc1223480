"""Methods by their names, with options from text.

A method's module is imported when it is asked for: some need torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, cast

from edgetl.errors import MissingDependencyError
from edgetl.transfer.method import Method
from edgetl.transfer.names import METHODS

_OF_TRAIN = ("torch", "torchvision", "timm")


def load_method(name: str, options: Mapping[str, str] | None = None) -> Method:
    """A method by its name, with options as they are typed.

    Args:
        name: A key of `METHODS`.
        options: Name to text of its fields; ``none`` is None where a field may be that, a tuple is
            given with commas, true and false are as in JSON.

    Raises:
        ValueError: There is no such method or option, or a text is no value of the option's type.
        MissingDependencyError: A package it needs is not installed.
    """
    if name not in METHODS:
        close = difflib.get_close_matches(name, METHODS, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"no method is called {name!r}{hint}; there are {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _OF_TRAIN:
            raise
        raise MissingDependencyError(
            f"method {name} needs {error.name}, which is not installed; install it with: "
            "pip install 'edgetl[train]'"
        ) from None
    kind = cast("type[Method]", getattr(found, attribute))
    hints = typing.get_type_hints(kind)
    known = [item.name for item in dataclasses.fields(kind)]
    values = {}
    for option, text in (options or {}).items():
        if option not in known:
            raise ValueError(
                f"method {name} has no option {option!r}; "
                + (f"it has {', '.join(known)}" if known else "it has none")
            )
        try:
            values[option] = _parsed(text.strip(), hints[option])
        except ValueError as error:
            raise ValueError(f"option {option} of method {name}: {error}") from error
    return kind(**values)


def _parsed(text: str, kind: Any) -> Any:
    """A value of a type from its text."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _first_of(text, arguments)
    if origin is Literal:
        return _named(text, {str(value): value for value in arguments})
    if origin is tuple:
        items = [item.strip() for item in text.split(",") if item.strip()]
        return tuple(_parsed(item, arguments[0]) for item in items)
    if kind is type(None):
        return _named(text.lower(), {"none": None})
    if kind is bool:
        return _named(text.lower(), {"true": True, "false": False})
    try:
        value = kind(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"must be {what}, got {text!r}") from None
    if kind is float and not math.isfinite(value):
        raise ValueError(f"must be a finite number, got {text!r}")
    return value


def _named(text: str, values: Mapping[str, Any]) -> Any:
    if text not in values:
        raise ValueError(f"must be one of {', '.join(values)}, got {text!r}")
    return values[text]


def _first_of(text: str, kinds: tuple[Any, ...]) -> Any:
    """By the first type of a union that takes the text; None before text."""
    ordered = sorted(kinds, key=lambda kind: (kind is str, kind is not type(None)))
    errors = []
    for kind in ordered:
        try:
            return _parsed(text, kind)
        except ValueError as error:
            errors.append(str(error))
    raise ValueError("; or ".join(errors))
