"""Drawings in SVG: scales with ticks, and strips that show a figure with its interval.

Colours come from the page's style sheet, by class, so that a drawing follows the reader's scheme.
It knows numbers and places, and nothing about what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgetl.report.markup import Child, Markup, join, tag


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic way from values to places.

    Args:
        low: Value at `start`.
        high: Value at `end`, another one than `low`.
        start: Place.
        end: Place.
        log: Whether equal ratios are equal distances; the values are then positive.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; those outside are put at the nearer end."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log(max(item, 1e-12)) for item in (value, low, high))
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values within the scale, at most about so many."""
        if self.log:
            found = [
                lead * 10.0**power
                for power in range(
                    math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1
                )
                for lead in (1, 2, 5)
            ]
            found = [value for value in found if self.low <= value <= self.high]
            return found if len(found) <= most else found[:: -(-len(found) // most)]
        step = _round_step((self.high - self.low) / max(1, most - 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 2.5 or 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * lead for lead in (1, 2, 2.5, 5, 10) if power * lead >= least * (1 - 1e-9))


def drawing(width: float, height: float, *shapes: Child, label: str, kind: str) -> Markup:
    """An SVG image that scales with the page.

    Args:
        width: Of the drawing's own coordinates.
        height: Likewise.
        shapes: What is drawn.
        label: What it shows, for those who can't see it.
        kind: A class of the style sheet.
    """
    return tag(
        "svg",
        *shapes,
        class_=kind,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def text(x: float, y: float, content: str, *, anchor: str = "middle", kind: str = "t") -> Markup:
    """A word, with its base line at y."""
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=kind)


def strip(
    scale: Scale,
    value: float,
    low: float | None,
    high: float | None,
    *,
    tone: str = "accent",
    zero: float | None = None,
) -> Markup:
    """A figure on its scale with its interval, as wide as there is room.

    It says nothing to those who can't see it; the figures stand beside it in words.

    Args:
        scale: One of `strip_scale`.
        value: The figure.
        low: Lower end of its interval; None without one.
        high: Upper end.
        tone: A class for the colour.
        zero: A value with a line of its own.
    """
    shapes = [_across(scale, tick, "grid") for tick in scale.ticks()]
    if zero is not None:
        shapes.append(_across(scale, zero, "zero"))
    if low is not None and high is not None:
        shapes.append(
            tag("line", x1=_at(scale, low), x2=_at(scale, high), y1=9, y2=9, class_="range")
        )
    shapes.append(tag("circle", cx=_at(scale, value), cy=9, r=4.5, class_="dot"))
    return tag("svg", *shapes, class_=f"strip {tone}", width="100%", height=18, aria_hidden="true")


def strip_scale(low: float, high: float) -> Scale:
    """A scale for strips, in hundredths of their width, with a little room for dots at the ends."""
    return Scale(low, high, 1.5, 98.5)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a forest plot.

    Args:
        label: What it is about.
        note: The figures in words.
        value: The figure.
        low: Lower end of its interval, or None.
        high: Upper end.
        tone: A class for the colour.
    """

    label: Child
    note: Child
    value: float
    low: float | None = None
    high: float | None = None
    tone: str = "accent"


def forest(lines: Sequence[Line], scale: Scale, *, unit: str, zero: float | None = None) -> Markup:
    """Shares with their intervals, one below the other on one scale.

    Args:
        lines: The figures.
        scale: One of `strip_scale`.
        unit: What the ticks, which are in hundredths, are called.
        zero: A value with a line of its own.
    """
    rows = [
        tag(
            "li",
            tag("span", item.label, class_="label"),
            tag("span", item.note, class_="note"),
            strip(scale, item.value, item.low, item.high, tone=item.tone, zero=zero),
        )
        for item in lines
    ]
    ticks = scale.ticks()
    marks = []
    for tick in ticks:
        content = f"{100 * tick:.4g}".replace("-", "\u2212")
        marks.append(
            tag("text", content, x=_at(scale, tick), y=11, text_anchor="middle", class_="t")
        )
    return join(
        tag("ul", rows, class_="forest"),
        tag("svg", marks, class_="axis", width="100%", height=14, aria_hidden="true"),
        tag("p", unit, class_="unit", aria_hidden="true"),
    )


def _at(scale: Scale, value: float) -> str:
    return f"{scale(value):.2f}%"


def _across(scale: Scale, value: float, kind: str) -> Markup:
    return tag("line", x1=_at(scale, value), x2=_at(scale, value), y1=0, y2=18, class_=kind)
