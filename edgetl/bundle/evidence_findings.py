"""What further measurements say, as lines for the terminal: the verdict, and the groups.

They lie in the evidence's `extra`, which every version keeps as it is: what is not of the form that
is known here is left out, whoever wrote it. It knows the layout only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_SHOWN = 12
"""Groups in the table: the least accurate ones; all of them are in the JSON form."""
_NAMED = 5


def verdict_row(extra: Mapping[str, Any]) -> str:
    """The verdict as a sentence; "" where there is none."""
    try:
        sentence = extra["verdict"]["sentence"]
        return sentence if isinstance(sentence, str) else ""
    except (KeyError, TypeError):
        return ""


def group_rows(extra: Mapping[str, Any], clean: Callable[[str], str]) -> list[list[str]]:
    """A header and one row per group, or nothing.

    Args:
        extra: Of the evidence.
        clean: Makes a name safe to print.
    """
    try:
        scores = extra["groups"]["groups"]
        header = ["group", "test", "accuracy", "interval", "F1", "gap", "interval", "p"]
        rows = [
            [
                clean(str(score["group"])),
                str(int(score["n"])),
                f"{100 * score['accuracy']:.1f} %",
                f"{100 * score['accuracy_low']:.1f} to {100 * score['accuracy_high']:.1f}",
                f"{100 * score['macro_f1']:.1f}",
                f"{100 * score['gap']:+.1f}",
                f"{100 * score['gap_low']:+.1f} to {100 * score['gap_high']:+.1f}",
                f"{score['p_value']:.3f}" + (" *" if score["found"] else "  "),
            ]
            for score in scores
        ]
    except (KeyError, TypeError, ValueError):
        return []
    if not rows:
        return []
    shown = [
        row
        for place, (row, score) in enumerate(zip(rows, scores, strict=True))
        if place < _SHOWN or score["found"]
    ]
    return [header, *shown]


def group_notes(extra: Mapping[str, Any], clean: Callable[[str], str]) -> list[tuple[str, str]]:
    """What belongs under the table of groups: name and text."""
    try:
        report = extra["groups"]
        total = len(report["groups"])
        named = f"by {clean(str(report['column']))}: " if report.get("column") else ""
        notes = [("groups", named + clean(report["sentence"]))]
        if total:
            notes.append(
                (
                    "  intervals",
                    f"hold together at {100 * report['confidence']:g} %; gap: to all other samples;"
                    f" * significant; p corrected over {total} groups",
                )
            )
        small = [f"{clean(str(name))} ({int(n)})" for name, n in report["too_small"]]
        if small:
            more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
            least = f", with fewer than {int(report['min_samples'])} samples: "
            notes.append(("  not tested", f"{len(small)}{least}{', '.join(small[:_NAMED])}{more}"))
        if report["odds"]:
            notes.append(("  odds", _odds(report["odds"], clean)))
        if "change" in report:
            notes.append(("  method", clean(report["change"]["sentence"])))
        return notes
    except (KeyError, TypeError, ValueError):
        return []


def _odds(odds: Mapping[str, Any], clean: Callable[[str], str]) -> str:
    found = [rate for rate in odds["rates"] if rate["found"]]
    listed = ", ".join(
        f"{clean(str(rate['group']))} {rate['rate'].upper()} {100 * rate['value']:.1f} % "
        f"({100 * rate['gap']:+.1f})"
        for rate in found[:_NAMED]
    )
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    rates = " and ".join(
        f"{name.upper()} {100 * odds[name]:.1f} %"
        for name in ("tpr", "fpr")
        if odds[name] is not None
    )
    return (
        f"{clean(str(odds['positive']))} is positive: {rates} in all, groups differ by up to "
        f"{100 * odds['spread']:.1f} points; significant: {listed + more if found else 'none'}"
    )
