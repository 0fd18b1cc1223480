"""Reading of plain JSON values whose form nothing guarantees: of `Evidence.extra`, of files.

What is not there, or is of another type, is None or empty; nothing here raises.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from edgetl.report.markup import Child, name_of, tag, value_text

_LONG, _CUT = 20_000, 2000
"""Characters of JSON that are too many for a list, and characters that are shown of any text."""


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
    """Any JSON value as text, or as a list of names and values, to a depth of four.

    A long one is text, and cut: it is in the bundle's manifest for who wants it.
    """
    if depth == 0 and len(json.dumps(value, default=str)) > _LONG:
        return _cut(value)
    if depth < 4 and isinstance(value, Mapping) and value:
        pairs = [
            tag("div", tag("dt", name_of(str(key))), tag("dd", outline(item, depth + 1)))
            for key, item in list(value.items())[:200]
        ]
        return tag("dl", pairs, class_="facts" if depth == 0 else "facts inner")
    nested = isinstance(value, list | tuple) and any(isinstance(i, Mapping | list) for i in value)
    if depth < 4 and nested:
        return tag("ol", [tag("li", outline(item, depth + 1)) for item in value[:50]])
    return _cut(value)


def _cut(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= _CUT else f"{text[:_CUT]}\u2026"
