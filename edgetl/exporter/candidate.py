"""A candidate of the search for an int8 graph: what it is, how it did, and which one is best.

It knows figures; how they are measured is `edgetl.exporter.search`'s matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from edgetl.exporter.quantize import QuantConfig

_TIE = 0.95
"""Candidates at least this fast beside the fastest are as good; the one with least error wins."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge says of a candidate.

    Args:
        accepted: Whether its accuracy is inside the budget.
        accuracy: Held-out accuracy on the training part, if it was measured.
        reason: In words.
    """

    accepted: bool
    accuracy: float | None
    reason: str


Judge: TypeAlias = Callable[[bytes], Verdict]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One configuration and what was measured of it.

    Args:
        config: The configuration.
        size: Of the graph, in bytes.
        graph: The graph's bytes; empty where they were let go, and can be built again.
        milliseconds: Median latency of a single sample.
        speedup: How many times as fast as the float graph in the same run: quotient of the lower
            quartiles, which other programs on the machine disturb least.
        cosine: Mean cosine of its features to the float graph's.
        sqnr: Signal to quantization noise of its features in dB.
        verdict: The judge's, or None if it was not asked.
    """

    config: QuantConfig
    size: int
    graph: bytes = field(repr=False)
    milliseconds: float
    speedup: float
    cosine: float
    sqnr: float
    verdict: Verdict | None = None

    def to_json(self) -> dict[str, str | int | float | bool | None]:
        """One flat row of the table of what was tried."""
        return {
            "configuration": str(self.config),
            "ms": self.milliseconds,
            "speedup": self.speedup,
            "cosine": self.cosine,
            "sqnr_db": self.sqnr,
            "mb": self.size / 1e6,
            "accuracy": None if self.verdict is None else self.verdict.accuracy,
            "verdict": None if self.verdict is None else self.verdict.reason,
        }


def fittest(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest; of those that are as fast, within the noise, the one with the least error.

    One that is slower than float is not as good as one that is not.
    """
    fastest = max(item.speedup for item in candidates)
    least = fastest * _TIE if fastest < 1 else max(fastest * _TIE, 1.0)
    equals = [item for item in candidates if item.speedup >= least]
    return max(equals, key=lambda item: item.sqnr)
