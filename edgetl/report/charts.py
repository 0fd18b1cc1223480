"""The charts with two axes: reliability, and accuracy against latency.

They take figures and give a drawing; each is followed on the page by a table with the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgetl.report.answers import Bin
from edgetl.report.draw import Scale, drawing, line, text
from edgetl.report.markup import Child, Markup, percent, tag

_WIDTH = 380.0
_LEFT, _RIGHT, _TOP = 44.0, 368.0, 12.0


def reliability(bins: Sequence[Bin], *, label: str) -> Markup:
    """How often answers are right, against how sure they were, and how many there are of each.

    Args:
        bins: Those that hold a sample.
        label: What it shows, in words.
    """
    bottom, floor, height = 262.0, 348.0, 386.0
    across = Scale(0, 1, _LEFT, _RIGHT)
    up = Scale(0, 1, bottom, _TOP)
    shapes: list[Child] = [_grid(across, up, bottom, hundredths=True, marks=False)]
    shapes.append(line(across(0), up(0), across(1), up(1), "ideal"))
    for item in bins:
        low, high = item.interval
        x = across(item.confidence)
        about = (
            f"{percent(item.low, 0)} to {percent(item.high, 0)}: {item.right} of {item.n} right, "
            f"{percent(item.accuracy)}"
        )
        shapes.append(
            tag(
                "g",
                tag("title", about),
                line(x, up(low), x, up(high), "range"),
                tag("circle", cx=x, cy=up(item.accuracy), r=4.5, class_="dot"),
            )
        )
    most = max(item.n for item in bins)
    tall = Scale(0, most, floor, bottom + 24)
    for item in bins:
        left, right = across(item.low) + 1, across(item.high) - 1
        shapes.append(
            tag(
                "rect",
                tag("title", f"{item.n} answers"),
                x=left,
                y=tall(item.n),
                width=right - left,
                height=floor - tall(item.n),
                class_="bar",
            )
        )
    shapes += [
        line(_LEFT, floor, _RIGHT, floor, "edge"),
        text(_LEFT - 6, tall(most) + 9, f"{most}", anchor="end"),
        text(_LEFT - 6, floor, "0", anchor="end"),
        *(text(across(tick), floor + 15, f"{100 * tick:.0f}") for tick in across.ticks()),
        text((_LEFT + _RIGHT) / 2, height - 6, "probability given, %", kind="t name"),
        _sideways(11, (bottom + _TOP) / 2, "answers that are right, %"),
        _sideways(11, (floor + bottom + 24) / 2, "answers"),
    ]
    return drawing(_WIDTH, height, shapes, label=label, kind="chart")


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A backbone in the plot of accuracy against latency.

    Args:
        mark: What its point says: its number in the table.
        name: What it is called.
        accuracy: Cross-validated.
        low: Lower end of its interval.
        high: Upper end.
        milliseconds: Median.
        fast: What a tenth of the calls stayed below.
        slow: What nine tenths of the calls stayed below.
        pareto: Whether no other one beats it in both.
        recommended: Whether it is the recommended one.
    """

    mark: str
    name: str
    accuracy: float
    low: float
    high: float
    milliseconds: float
    fast: float
    slow: float
    pareto: bool
    recommended: bool


def contest(contenders: Sequence[Contender], *, budget: float | None, label: str) -> Markup:
    """Accuracy against latency with both spreads; the Pareto set joined by a line.

    Args:
        contenders: At least one.
        budget: Largest latency allowed, or None.
        label: What it shows, in words.
    """
    bottom, height = 268.0, 312.0
    left = min(min(item.fast, item.milliseconds) for item in contenders)
    right = max(max(item.slow, item.milliseconds) for item in contenders)
    if budget is not None:
        left, right = min(left, budget), max(right, budget)
    left, right = max(left, 1e-6), max(right, 2e-6)
    log = right / left > 5
    across = (
        Scale(left / 1.25, right * 1.25, _LEFT, _RIGHT, log=True)
        if log
        else Scale(0, right * 1.12, _LEFT, _RIGHT)
    )
    least, most = min(item.low for item in contenders), max(item.high for item in contenders)
    room = max(0.02, (most - least) * 0.1)
    up = Scale(max(0.0, least - room), min(1.0, most + room), bottom, _TOP)
    shapes: list[Child] = [_grid(across, up, bottom, hundredths=False, marks=True)]
    if budget is not None:
        x = across(budget)
        side = "end" if x > (_LEFT + _RIGHT) / 2 else "start"
        shapes += [
            line(x, _TOP, x, bottom, "budget"),
            text(
                x + (-5 if side == "end" else 5), _TOP + 10, f"at most {budget:g} ms", anchor=side
            ),
        ]
    front = sorted((item for item in contenders if item.pareto), key=lambda item: item.milliseconds)
    if len(front) > 1:
        path = " ".join(f"{across(i.milliseconds):.1f},{up(i.accuracy):.1f}" for i in front)
        shapes.append(tag("polyline", points=path, class_="front"))
    for item in contenders:
        shapes.append(_contender(item, across(item.milliseconds), across, up))
    shapes += [
        text((_LEFT + _RIGHT) / 2, height - 6, "milliseconds for a photo", kind="t name"),
        _sideways(11, (bottom + _TOP) / 2, "accuracy, %"),
    ]
    return drawing(_WIDTH, height, shapes, label=label, kind="chart")


def _contender(item: Contender, x: float, across: Scale, up: Scale) -> Markup:
    y = up(item.accuracy)
    about = f"{item.name}: {percent(item.accuracy)}, {item.milliseconds:.3g} ms"
    kind = "best" if item.recommended else "pareto" if item.pareto else "other"
    return tag(
        "g",
        tag("title", about),
        line(x, up(item.low), x, up(item.high), "range"),
        line(across(item.fast), y, across(item.slow), y, "range thin"),
        tag("circle", cx=x, cy=y, r=12.5, class_="halo") if item.recommended else None,
        tag("circle", cx=x, cy=y, r=9, class_="point"),
        text(x, y + 4, item.mark, kind="mark"),
        class_=kind,
    )


def _grid(across: Scale, up: Scale, bottom: float, *, hundredths: bool, marks: bool) -> Markup:
    """Lines behind a chart with their numbers; of the x axis only if `marks`."""
    shapes: list[Child] = []
    for tick in up.ticks():
        y = up(tick)
        shapes.append(line(_LEFT, y, _RIGHT, y, "grid"))
        shapes.append(text(_LEFT - 6, y + 4, f"{100 * tick:.4g}", anchor="end"))
    for tick in across.ticks():
        x = across(tick)
        shapes.append(line(x, _TOP, x, bottom, "grid"))
        if marks:
            shown = 100 * tick if hundredths else tick
            shapes.append(text(x, bottom + 15, f"{shown:.4g}"))
    shapes.append(line(_LEFT, bottom, _RIGHT, bottom, "edge"))
    return tag("g", shapes)


def _sideways(x: float, y: float, content: str) -> Markup:
    """The name of a vertical axis."""
    return tag(
        "text",
        content,
        x=x,
        y=y,
        text_anchor="middle",
        transform=f"rotate(-90 {x:g} {y:g})",
        class_="t name",
    )
