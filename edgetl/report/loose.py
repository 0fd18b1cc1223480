"""Reading of plain JSON values whose form nothing guarantees: of `Evidence.extra`, of files.

What is not there, or is of another type, is None or empty; nothing here raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgetl.report.markup import Child, name_of, tag, value_text


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


def outline(value: Any, depth: int = 0) -> Child:
    """Any JSON value as text, or as a list of names and values, to a depth of four."""
    if depth < 4 and isinstance(value, Mapping) and value:
        pairs = [
            tag("div", tag("dt", name_of(str(key))), tag("dd", outline(item, depth + 1)))
            for key, item in list(value.items())[:200]
        ]
        return tag("dl", pairs, class_="facts" if depth == 0 else "facts inner")
    nested = isinstance(value, list | tuple) and any(isinstance(i, Mapping | list) for i in value)
    if depth < 4 and nested:
        return tag("ol", [tag("li", outline(item, depth + 1)) for item in value[:50]])
    text = value_text(value)
    return text if len(text) <= 2000 else f"{text[:2000]}\u2026"
