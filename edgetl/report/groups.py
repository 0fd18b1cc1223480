"""The section of groups: how the model fares in each, and which gaps are more than chance.

It reads ``Evidence.extra["groups"]``, and shows what it finds there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgetl.report.draw import Line, forest, strip_scale
from edgetl.report.loose import number, numbers, objects, outline, words
from edgetl.report.markup import (
    Child,
    Markup,
    chance,
    count,
    interval,
    join,
    name_of,
    percent,
    points,
    tag,
)
from edgetl.report.section import Section, paragraph, small
from edgetl.report.subject import Subject
from edgetl.report.tables import folded, table

_SHOWN = 30
"""More groups than this: the least accurate ones are drawn, others are in the table."""
_ROWS = 300
_KNOWN = {"n", "n_ungrouped", "accuracy", "groups", "too_small", "worst", "widest", "odds", "alpha"}
_KNOWN |= {"confidence", "min_samples", "sentence", "column", "change"}
_RATES = {"tpr": "true positive rate", "fpr": "false positive rate"}


def groups_section(subject: Subject) -> Section | None:
    """Accuracy and gap of every group, for each column that was asked for."""
    content: list[Child] = []
    for column, report in _reports(subject.extra.get("groups")):
        content += _one(column, report)
    return Section("groups", "Groups", tuple(content)) if content else None


def _reports(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The reports by the name of their column, which is empty if it is not known."""
    if not isinstance(value, Mapping):
        return
    if isinstance(value.get("groups"), list | tuple):
        yield words(value, "column"), value
        return
    for column, report in value.items():
        if isinstance(report, Mapping) and isinstance(report.get("groups"), list | tuple):
            yield str(column), report


def _one(column: str, report: Mapping[str, Any]) -> Iterator[Child]:
    if column:
        yield tag("h3", "by ", name_of(column))
    sentence = words(report, "sentence")
    if sentence:
        yield paragraph(tag("strong", f"{sentence[:1].upper()}{sentence[1:]}."))
    rows = [row for row in map(_row, objects(report, "groups")) if row is not None]
    if rows:
        yield _forest(report, rows)
        yield _table(rows[:_ROWS])
    yield from _asides(report)
    odds = report.get("odds")
    if isinstance(odds, Mapping):
        yield from _odds(odds)
    change = report.get("change")
    if isinstance(change, Mapping):
        yield from _changes(change)
    rest = {key: value for key, value in report.items() if key not in _KNOWN}
    if rest:
        yield folded("More about these groups", outline(rest, column))


def _row(group: Mapping[str, Any]) -> dict[str, Any] | None:
    """The figures of a group, or None if they are not there."""
    accuracy = numbers(group, "accuracy", "accuracy_low", "accuracy_high")
    gap = numbers(group, "gap", "gap_low", "gap_high")
    if accuracy is None or gap is None:
        return None
    return {
        "name": words(group, "group"),
        "n": int(number(group, "n") or 0),
        "accuracy": accuracy,
        "gap": gap,
        "f1": number(group, "macro_f1"),
        "p": number(group, "p_value"),
        "found": group.get("found") is True,
    }


def _forest(report: Mapping[str, Any], rows: list[dict[str, Any]]) -> Markup:
    lines = []
    for row in rows[:_SHOWN]:
        value, low, high = row["accuracy"]
        lines.append(
            Line(
                label=name_of(row["name"]),
                note=f"{percent(value)}, {interval(low, high)}, {row['n']:,} photos",
                value=value,
                low=low,
                high=high,
                tone="warm" if row["found"] and row["gap"][0] < 0 else "accent",
            )
        )
    overall = number(report, "accuracy")
    least = min(row["accuracy"][1] for row in rows[:_SHOWN])
    scale = strip_scale(0 if least < 0.5 else 0.5, 1)
    line = "" if overall is None else f"; the line is the accuracy of all, {percent(overall)}"
    return tag(
        "figure",
        forest(lines, scale, unit=f"answered right, %{line}", zero=overall),
        tag("figcaption", "Orange: less accurate than the others, by more than chance."),
    )


def _table(rows: list[dict[str, Any]]) -> Markup:
    cells: list[list[Child]] = []
    for row in rows:
        gap, low, high = row["gap"]
        p = row["p"]
        cells.append(
            [
                name_of(row["name"]),
                f"{row['n']:,}",
                percent(row["accuracy"][0]),
                f"{points(gap)} ({points(low)} to {points(high)})",
                "\u2014" if p is None else chance(p),
                "yes" if row["found"] else "no",
                "\u2014" if row["f1"] is None else percent(row["f1"]),
            ]
        )
    columns = ["group", "test", "accuracy", "gap to the others, points", "p", "gap found", "F1"]
    return table("Accuracy of every group and its gap to the others", columns, cells)


def _asides(report: Mapping[str, Any]) -> Iterator[Child]:
    widest = report.get("widest")
    if isinstance(widest, list | tuple) and len(widest) == 5:
        figures = numbers(
            dict(zip(["gap", "low", "high"], widest[2:], strict=True)), "gap", "low", "high"
        )
        if figures is not None:
            gap, low, high = figures
            yield paragraph(
                "Widest difference: ",
                name_of(str(widest[0])),
                " over ",
                name_of(str(widest[1])),
                f", {points(gap)} points ({points(low)} to {points(high)}).",
            )
    small_ones = report.get("too_small")
    if isinstance(small_ones, list | tuple) and small_ones:
        names = [pair[0] for pair in small_ones if isinstance(pair, list | tuple) and pair]
        shown: list[Child] = []
        for position, name in enumerate(names[:20]):
            shown += [", " if position else None, name_of(str(name))]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        yield paragraph(f"{count(len(names), 'group')} too small to be tested: ", *shown, more, ".")
    alpha, confidence = number(report, "alpha"), number(report, "confidence")
    if alpha is not None and confidence is not None:
        yield small(
            f"Gaps are tested by permutation, corrected over all groups: where no group differs, "
            f"the chance that any is found is {percent(alpha, 0)}. All intervals hold together "
            f"with {percent(confidence, 0)} confidence."
        )


def _odds(odds: Mapping[str, Any]) -> Iterator[Child]:
    rows: list[list[Child]] = []
    for rate in objects(odds, "rates")[:_ROWS]:
        figures = numbers(rate, "value", "low", "high", "gap", "gap_low", "gap_high")
        if figures is None:
            continue
        value, low, high, gap, gap_low, gap_high = figures
        rows.append(
            [
                name_of(words(rate, "group")),
                _RATES.get(words(rate, "rate"), words(rate, "rate")),
                f"{int(number(rate, 'n') or 0):,}",
                f"{percent(value)} ({interval(low, high)})",
                f"{points(gap)} ({points(gap_low)} to {points(gap_high)})",
                "yes" if rate.get("found") is True else "no",
            ]
        )
    if not rows:
        return
    spread = number(odds, "spread")
    text = "" if spread is None else f" They differ by at most {100 * spread:.1f} points."
    yield paragraph(
        join("Rates of answering ", name_of(words(odds, "positive")), f" (equalised odds).{text}")
    )
    columns = ["group", "rate", "test", "value", "gap to the others, points", "gap found"]
    yield table("Equalised odds: rates of every group", columns, rows, left=(0, 1))


def _changes(change: Mapping[str, Any]) -> Iterator[Child]:
    """What a method did to each group, beside the same model without it."""
    overall = change.get("overall")
    every = [overall] if isinstance(overall, Mapping) else []
    rows: list[list[Child]] = []
    for item in [*every, *objects(change, "groups")[:_ROWS]]:
        figures = numbers(item, "before", "after", "gain", "gain_low", "gain_high", "p_value")
        if figures is None:
            continue
        before, after, gain, low, high, p = figures
        name = words(item, "group")
        rows.append(
            [
                name_of(name) if name else "all photos",
                f"{int(number(item, 'n') or 0):,}",
                percent(before),
                percent(after),
                f"{points(gain)} ({points(low)} to {points(high)})",
                chance(p),
            ]
        )
    if not rows:
        return
    yield tag("h3", "What the method changed")
    sentence = words(change, "sentence")
    if sentence:
        yield paragraph(f"{sentence[:1].upper()}{sentence[1:]}.")
    columns = ["group", "test", "without it", "with it", "change, points", "p"]
    yield table("Accuracy of every group without and with the method", columns, rows)
