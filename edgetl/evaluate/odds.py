"""Equalised odds: true and false positive rates of each group beside those of the others.

For two classes. A gap in accuracy may come from groups having other shares of the classes; a gap
in a rate does not, since rates are taken within one true class (Hardt, Price and Srebro 2016). Both
rates of all groups are one family of tests, permuted within each class. It knows answers and group
names; it does not know which rate matters to whom.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.evaluate.significance import beside_the_rest, gap_p_values


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One rate of one group.

    Attributes:
        group: Name of the group.
        rate: ``"tpr"``: share of its positive samples answered positive; ``"fpr"``: of its negative
            ones.
        n: Samples that tell of it.
        value: The rate.
        low: Lower end of its Wilson interval.
        high: Upper end.
        gap: The rate minus that of all other samples of the class.
        gap_low: Lower end of Newcombe's interval.
        gap_high: Upper end.
        p_value: Of the gap, corrected over both rates of all groups.
        found: Whether the gap is significant.
    """

    group: str
    rate: str
    n: int
    value: float
    low: float
    high: float
    gap: float
    gap_low: float
    gap_high: float
    p_value: float
    found: bool


@dataclass(frozen=True, kw_only=True)
class Odds:
    """Both rates of all groups.

    Attributes:
        positive: The class that rates are about: its name, or its index as text.
        tpr: Over all samples; None where none is positive.
        fpr: Likewise; None where none is negative.
        rates: True positive rates by group, then false positive rates, those with samples enough.
        spread: The largest difference of the true or of the false positive rate between any two
            groups (the equalised odds difference); no interval.
    """

    positive: str
    tpr: float | None
    fpr: float | None
    rates: tuple[Rate, ...]
    spread: float

    @property
    def found(self) -> tuple[tuple[str, str], ...]:
        """(group, rate) of the significant gaps."""
        return tuple((rate.group, rate.rate) for rate in self.rates if rate.found)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**vars(self), "rates": [dataclasses.asdict(rate) for rate in self.rates]}


def equalised_odds(
    answers: NDArray[np.int64],
    truth: NDArray[np.int64],
    names: NDArray[np.str_],
    tested: Sequence[str],
    *,
    labels: Sequence[str] | None,
    positive: int,
    min_samples: int,
    alpha: float,
    confidence: float,
    permutations: int,
    generator: np.random.Generator,
) -> Odds:
    """Rates of the groups `tested`; see `edgetl.evaluate.groups.group_report`.

    Raises:
        ValueError: `positive` is neither 0 nor 1.
    """
    if positive not in (0, 1):
        raise ValueError(f"positive must be 0 or 1 with two classes, got {positive}")
    said = answers == positive
    cells = []
    for rate, inside in (("tpr", truth == positive), ("fpr", truth != positive)):
        groups = [said[inside & (names == name)] for name in tested]
        enough = [min_samples <= len(group) < int(inside.sum()) for group in groups]
        if any(enough):
            cells.append(
                _Cells(
                    rate,
                    list(compress(tested, enough)),
                    np.array([group.sum() for group in compress(groups, enough)]),
                    np.array([len(group) for group in compress(groups, enough)]),
                    int(said[inside].sum()),
                    int(inside.sum()),
                )
            )
    count = sum(len(cell.names) for cell in cells)
    level = 1 - (1 - confidence) / max(count, 1)
    p_values = gap_p_values(
        [(cell.hits, cell.sizes, cell.n - int(cell.sizes.sum()), cell.total) for cell in cells],
        generator=generator,
        draws=permutations,
    )
    rates: list[Rate] = []
    for cell in cells:
        counts = zip(cell.names, cell.hits.tolist(), cell.sizes.tolist(), strict=True)
        for name, hits, size in counts:
            p_value = float(p_values[len(rates)])
            (low, high), (gap, gap_low, gap_high) = beside_the_rest(
                (hits, size), (cell.total, cell.n), confidence=level
            )
            rates.append(
                Rate(
                    group=name,
                    rate=cell.rate,
                    n=size,
                    value=hits / size,
                    low=low,
                    high=high,
                    gap=gap,
                    gap_low=gap_low,
                    gap_high=gap_high,
                    p_value=p_value,
                    found=p_value <= alpha,
                )
            )
    return Odds(
        positive=str(positive) if labels is None else labels[positive],
        tpr=_share(said, truth == positive),
        fpr=_share(said, truth != positive),
        rates=tuple(rates),
        spread=max((_range(rates, cell.rate) for cell in cells), default=0.0),
    )


@dataclass(frozen=True)
class _Cells:
    """The samples of one class: of the groups that have enough of it, and of all."""

    rate: str
    names: list[str]
    hits: NDArray[np.int64]
    sizes: NDArray[np.int64]
    total: int
    n: int


def _share(said: NDArray[np.bool_], inside: NDArray[np.bool_]) -> float | None:
    return float(said[inside].mean()) if inside.any() else None


def _range(rates: list[Rate], kind: str) -> float:
    values = [rate.value for rate in rates if rate.rate == kind]
    return max(values) - min(values)
