"""Candidates for an int8 graph in contest with the float graph: built, timed in turns, compared.

It knows configurations, latency and features; which candidates to try, and which of them is good
enough, is `edgetl.exporter.search`'s matter.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import EdgetlError
from edgetl.exporter.calibrate import Calibration
from edgetl.exporter.candidate import Candidate
from edgetl.exporter.histogram import METHODS
from edgetl.exporter.quantize import QuantConfig, quantize
from edgetl.exporter.timing import interleaved

_AT_ONCE = 8
"""Candidates that are open, and timed in turns, at a time."""
_KEPT = 3
"""Candidates whose graphs stay in memory: the fastest ones."""

Features: TypeAlias = NDArray[np.float32]


class Call(Protocol):
    """A graph that runs."""

    def __call__(self, batch: NDArray[Any]) -> Features:
        """Features (n, dim) of a batch."""


class Open(Protocol):
    """Opens the bytes of a graph as it would serve on this machine."""

    def __call__(self, graph: bytes) -> Call:
        """The engine."""


class Contest:
    """What was built so far, and how it did.

    Args:
        model: A prepared float graph.
        calibration: Of that graph.
        samples: (n, ...) preprocessed samples on which features are compared.
        float_graph: The graph to be faster than.
        open_engine: How graphs are run.
        seconds: Timed seconds for each candidate of a comparison.
    """

    def __init__(
        self,
        model: Any,
        calibration: Calibration,
        samples: NDArray[Any],
        float_graph: bytes,
        open_engine: Open,
        *,
        seconds: float,
    ) -> None:
        self.model, self.calibration, self.samples = model, calibration, samples
        self.open, self.seconds = open_engine, seconds
        self.float = open_engine(float_graph)
        self.expected = self._features(self.float)
        self.float_milliseconds = 0.0
        self.ranges = {method: calibration.ranges(method) for method in METHODS}
        self.tried: dict[QuantConfig, Candidate] = {}
        self.failures: list[str] = []

    def compare(
        self, configs: list[QuantConfig], *, seconds: float | None = None
    ) -> list[Candidate]:
        """Build what is new and time all of them, with the float graph, in turns."""
        wanted = list(dict.fromkeys(configs))
        found: list[Candidate] = []
        for start in range(0, len(wanted), _AT_ONCE):
            found += self._compare(wanted[start : start + _AT_ONCE], seconds)
            self._let_go()
        return found

    def _compare(self, configs: list[QuantConfig], seconds: float | None) -> list[Candidate]:
        """Time a few candidates that are open at once."""
        calls: dict[str, Callable[[], object]] = {"float": self._one(self.float)}
        opened: dict[QuantConfig, tuple[bytes, Call]] = {}
        for config in configs:
            graph = self._graph(config)
            if graph is not None:
                opened[config] = graph, self.open(graph)
                calls[str(len(calls))] = self._one(opened[config][1])
        timings = interleaved(
            calls, rounds=7, calls=40, pause=0.01, seconds=seconds or self.seconds
        )
        base = timings["float"]
        self.float_milliseconds = base.median * 1e3
        result = []
        for (config, (graph, engine)), timing in zip(
            opened.items(), list(timings.values())[1:], strict=True
        ):
            known = self.tried.get(config)
            cosine, sqnr = (known.cosine, known.sqnr) if known else self._error(engine)
            result.append(
                Candidate(
                    config=config,
                    size=len(graph),
                    graph=graph,
                    milliseconds=timing.median * 1e3,
                    speedup=base.percentile(25) / timing.percentile(25),
                    cosine=cosine,
                    sqnr=sqnr,
                )
            )
        self.tried.update({item.config: item for item in result})
        return result

    def _graph(self, config: QuantConfig) -> bytes | None:
        """The graph of a configuration, built again if it was let go; None if there is none."""
        known = self.tried.get(config)
        return known.graph if known and known.graph else self._build(config)

    def _let_go(self) -> None:
        """Forget the graphs of all but the fastest: each is as large as the network."""
        order = sorted(self.tried.values(), key=lambda item: -item.speedup)
        for item in order[_KEPT:]:
            self.tried[item.config] = dataclasses.replace(item, graph=b"")

    def whole(self, candidate: Candidate) -> Candidate:
        """A candidate with its graph, built again if it was let go."""
        if candidate.graph:
            return candidate
        graph = self._build(candidate.config)
        assert graph is not None  # it was built before
        return dataclasses.replace(candidate, graph=graph)

    def measured(self, config: QuantConfig, like: Candidate) -> Candidate | None:
        """A candidate whose speed is known from one of the same shape; only errors are new."""
        known = self.tried.get(config)
        if known is not None:
            return dataclasses.replace(like, config=config, cosine=known.cosine, sqnr=known.sqnr)
        graph = self._build(config)
        if graph is None:
            return None
        cosine, sqnr = self._error(self.open(graph))
        found = dataclasses.replace(
            like, config=config, size=len(graph), graph=b"", cosine=cosine, sqnr=sqnr
        )
        self.tried[config] = found
        return found

    def _build(self, config: QuantConfig) -> bytes | None:
        try:
            model = quantize(
                self.model,
                config,
                ranges=self.ranges[config.method],
                channel_means=self.calibration.channel_means,
            )
        except ValueError:
            return None  # nothing left to quantize
        except EdgetlError as error:
            self.failures.append(str(error))
            return None
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _one(self, engine: Call) -> Callable[[], object]:
        single = self.samples[:1]
        return lambda: engine(single)

    def _features(self, engine: Call) -> Features:
        return np.concatenate([engine(sample[None]) for sample in self.samples])

    def _error(self, engine: Call) -> tuple[float, float]:
        """Mean cosine and signal to noise ratio in dB of the samples' features."""
        found = self._features(engine).astype(np.float64)
        if not np.isfinite(found).all():
            return -1.0, -math.inf
        wanted = self.expected.astype(np.float64)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
        cosine = float(np.mean((found * wanted).sum(axis=1) / np.maximum(norms, 1e-30)))
        noise = float(((found - wanted) ** 2).sum())
        signal = float((wanted**2).sum())
        return cosine, 10 * float(np.log10(max(signal, 1e-30) / max(noise, 1e-30)))
