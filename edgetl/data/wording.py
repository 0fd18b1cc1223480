"""How counts and names are put into messages and notes. It knows words only."""

from __future__ import annotations

from collections.abc import Sequence


def enumerated(names: Sequence[str], *, limit: int = 5) -> str:
    """Names in quotes: the first few, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 row", "2 rows"."""
    return f"{count} {one if count == 1 else many or one + 's'}"
