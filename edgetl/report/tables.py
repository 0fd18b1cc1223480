"""Tables: those that scroll inside themselves, lists of facts, and the heat map of confusions.

It knows rows and columns, and nothing about what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from edgetl.report.markup import Child, Markup, name_of, tag

STEPS = 7
"""Shades of a heat map, each side, as the style sheet has them."""


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Child]],
    *,
    left: Sequence[int] = (0,),
    kinds: Mapping[int, str] | None = None,
    stacked: bool = False,
) -> Markup:
    """A table whose first column names the rows; where it is too wide, it scrolls by itself.

    Args:
        caption: What it holds, for those who come upon it out of context.
        columns: Headings.
        rows: As many cells each as there are columns.
        left: Columns of words, which are aligned left; the others hold numbers.
        kinds: Classes of the style sheet for rows, by their position.
        stacked: Whether the cells of a row lie one below the other on a phone, as suits sentences.
    """
    kinds = kinds or {}
    sides = ["words" if column in left else "number" for column in range(len(columns))]

    def role(name: str) -> str | None:
        # Browsers forget what a table is once its rows are laid out as blocks.
        return name if stacked else None

    head = [
        tag("th", name, scope="col", class_=side, role=role("columnheader"))
        for name, side in zip(columns, sides, strict=True)
    ]
    body = []
    for position, row in enumerate(rows):
        first, *others = zip(row, sides, strict=True)
        cells = [tag("th", first[0], scope="row", class_=first[1], role=role("rowheader"))]
        cells += [tag("td", cell, class_=side, role=role("cell")) for cell, side in others]
        body.append(tag("tr", cells, class_=kinds.get(position), role=role("row")))
    content = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", tag("tr", head, role=role("row")), role=role("rowgroup")),
        tag("tbody", body, role=role("rowgroup")),
        class_="stack" if stacked else None,
        role=role("table"),
    )
    return scrolling(content, caption)


def scrolling(content: Child, label: str) -> Markup:
    """Something wide that scrolls inside itself, by the keyboard too."""
    return tag("div", content, class_="scroll", role="region", tabindex=0, aria_label=label)


def facts(rows: Mapping[str, Child], *, tight: bool = False) -> Markup:
    """Names with what is known about them; those with nothing are left out.

    Args:
        rows: Name to content.
        tight: Whether several go side by side, since all are short.
    """
    pairs = [
        tag("div", tag("dt", name), tag("dd", content))
        for name, content in rows.items()
        if content is not None and content != ""
    ]
    return tag("dl", pairs, class_="facts tight" if tight else "facts")


def folded(summary: str, *content: Child) -> Markup:
    """Something that is shown on demand."""
    return tag("details", tag("summary", summary), *content)


def heat_map(labels: Sequence[str], counts: Sequence[Sequence[int]], caption: str) -> Markup:
    """A confusion matrix, shaded by the share of each row.

    Args:
        labels: Of the classes.
        counts: (C, C): row is the true class, column the answer.
        caption: What it holds.
    """
    head = tag(
        "tr",
        tag("th", "true class", scope="col", class_="corner"),
        (
            tag("th", tag("span", name_of(label, limit=26)), scope="col", class_="up")
            for label in labels
        ),
        tag("th", tag("span", "in all"), scope="col", class_="up"),
    )
    body = []
    for index, (label, row) in enumerate(zip(labels, counts, strict=True)):
        total = sum(row)
        cells = [
            tag(
                "td",
                str(number) if number else tag("span", "0", class_="none"),
                class_=shade(number, total, "right" if column == index else "wrong"),
            )
            for column, number in enumerate(row)
        ]
        body.append(
            tag(
                "tr",
                tag("th", name_of(label, limit=26), scope="row"),
                cells,
                tag("td", str(total), class_="sum"),
            )
        )
    content = tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", head),
        tag("tbody", body),
        class_="heat",
    )
    return scrolling(content, caption)


def shade(number: int, total: int, side: Literal["right", "wrong"]) -> str | None:
    """The class of a cell's colour.

    Right answers go by their share, wrong ones by its square root: few of them matter already.
    """
    if not number or not total:
        return None
    share = number / total if side == "right" else math.sqrt(number / total)
    return f"{side}{max(1, math.ceil(STEPS * share))}"
