"""Reading of plain JSON values whose form nothing guarantees: of `Evidence.extra`, of files.

What is not there, or is of another type, is None or empty; nothing here raises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from edgetl.report.markup import Child, name_of, tag, value_text
from edgetl.report.tables import table

_LONG, _CUT = 20_000, 2000
"""Characters of JSON that are too many for a list, and characters that are shown of any text."""
_ROWS = 50
"""Longest list that is shown item by item."""


def number(values: Mapping[str, Any], key: str) -> float | None:
    """A finite number."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def numbers(values: Mapping[str, Any], *keys: str) -> tuple[float, ...] | None:
    """Several finite numbers, or None if one is missing."""
    found = [number(values, key) for key in keys]
    return None if None in found else tuple(value for value in found if value is not None)


def words(values: Mapping[str, Any], key: str) -> str:
    """A text; empty if there is none."""
    value = values.get(key)
    return value if isinstance(value, str) else ""


def objects(values: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The JSON objects of a list."""
    value = values.get(key)
    items = value if isinstance(value, list | tuple) else ()
    return [item for item in items if isinstance(item, Mapping)]


def outline(value: Any, name: str = "", depth: int = 0) -> Child:
    """Any JSON value as text, as names and values, or as a table, to a depth of four.

    `name` is what tables in it are called. A long value is cut: the bundle's manifest has it all.
    """
    if depth == 0 and len(json.dumps(value, default=str)) > _LONG:
        return _cut(value)
    if depth < 4 and isinstance(value, Mapping) and value:
        pairs = [
            tag(
                "div",
                tag("dt", name_of(str(key).replace("_", " "))),
                tag("dd", outline(item, f"{name} {key}", depth + 1)),
            )
            for key, item in list(value.items())[:200]
        ]
        kind = "facts" if depth == 0 else "facts inner"
        return tag("dl", pairs, class_=f"{kind} tight" if _many_short(value) else kind)
    if isinstance(value, list | tuple) and 0 < len(value) <= _ROWS and all(map(_flat, value)):
        columns = list(dict.fromkeys(key for row in value for key in row))
        cells = [[value_text(row.get(key, "")) for key in columns] for row in value]
        return table(name.strip() or "rows", [key.replace("_", " ") for key in columns], cells)
    nested = isinstance(value, list | tuple) and any(isinstance(i, Mapping | list) for i in value)
    if depth < 4 and nested:
        return tag(
            "ol",
            [
                tag("li", outline(item, f"{name} {place}", depth + 1))
                for place, item in enumerate(value[:_ROWS], start=1)
            ],
        )
    return _cut(value)


def _flat(row: Any) -> bool:
    """Whether a row is an object of at most ten plain values, or short lists of those."""
    if not isinstance(row, Mapping) or not 0 < len(row) <= 10:
        return False
    items: list[Any] = []
    for item in row.values():
        items += item if isinstance(item, list | tuple) and len(item) <= 5 else [item]
    return not any(isinstance(item, Mapping | list | tuple) for item in items)


def _many_short(values: Mapping[str, Any]) -> bool:
    """Whether there are more than five values, all so short that several fit into a line."""
    return len(values) > 5 and all(
        not isinstance(item, Mapping | list | tuple) and len(value_text(item)) <= 16
        for item in values.values()
    )


def _cut(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= _CUT else f"{text[:_CUT]}\u2026"
