"""The search for the int8 graph that pays: measured on the machine it runs on.

Which types are fast, which operators have good kernels and where the borders between int8 and float
should lie depends on the processor and the version of the runtime; so candidates are built and
timed against the float graph, in turns in one run. The fastest whose accuracy holds is kept. It
knows latency and features; what accuracy means is the caller's `Judge`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from edgetl.errors import EdgetlError
from edgetl.exporter.calibrate import Calibration
from edgetl.exporter.candidate import Candidate, Judge, Verdict, fittest
from edgetl.exporter.contest import Call, Contest, Open
from edgetl.exporter.errors_by_node import node_errors
from edgetl.exporter.histogram import METHODS
from edgetl.exporter.processor import saturates
from edgetl.exporter.quantize import QuantConfig
from edgetl.exporter.regions import CHUNKS, regions, switches

__all__ = [
    "Call",
    "Candidate",
    "Judge",
    "Open",
    "Report",
    "SearchOptions",
    "SearchResult",
    "Verdict",
    "fittest",
    "search_int8",
]

_WORTH = 1.02
"""A change has to be this much faster to count as one."""
_RIVALS, _LONGER = 2, 4.0
"""How many of the fastest are timed again at the end, and how much longer than before."""
_JUDGED = 8
"""Candidates that are judged at most."""
_RESCUED = (0.1, 0.25, 0.5)
"""Shares of the quantized tensors, the worst ones, whose regions are tried in float."""

Report: TypeAlias = Callable[[str], None]
"""Is told in words how far something is."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How thoroughly to search.

    Args:
        rounds: Rounds of switching regions between int8 and float; 0 takes the graph as a whole.
        chunks: Into how many parts the graph is cut for that.
        seconds: Timed seconds for each candidate of a comparison.
        portable: Whether the graph must also be right on x86 processors without VNNI, which needs
            weights of 7 bits.
        allow_slower: Whether a graph slower than float will do.
    """

    rounds: int = 3
    chunks: int = CHUNKS
    seconds: float = 0.4
    portable: bool = False
    allow_slower: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What was found.

    Args:
        chosen: The fastest candidate inside the budget; None if there is none that pays.
        candidates: All that were tried, in that order.
        float_milliseconds: Median latency of the float graph.
        node_errors: Float tensor to the signal to noise ratio in dB that it has in the chosen
            graph, worst first.
        reason: Why the chosen one, or why none.
        failure: Why there is none: all that are accurate are ``"slow"``, or all that are fast are
            ``"inaccurate"``.
    """

    chosen: Candidate | None
    candidates: tuple[Candidate, ...]
    float_milliseconds: float
    node_errors: Mapping[str, float]
    reason: str
    failure: Literal["slow", "inaccurate"] | None = None


def search_int8(
    model: Any,
    calibration: Calibration,
    *,
    samples: NDArray[Any],
    float_graph: bytes,
    open_engine: Open,
    judge: Judge,
    options: SearchOptions | None = None,
    report: Report | None = None,
) -> SearchResult:
    """Find the fastest int8 graph whose accuracy holds.

    Args:
        model: A prepared float graph.
        calibration: Of that graph, on training samples.
        samples: (n, ...) preprocessed training samples on which features are compared.
        float_graph: The graph to be faster than.
        open_engine: How graphs are run.
        judge: Says whether a candidate's accuracy is inside the budget.
        options: How thoroughly to search.
        report: Told in words what is being done, since a search takes a while.

    Raises:
        EdgetlError: No configuration could be quantized at all.
    """
    say = report or (lambda text: None)
    search = _Search(model, calibration, samples, float_graph, open_engine, options)
    say("int8: comparing types and operators")
    best = search.by_kind()
    for number in range(search.options.rounds):
        say(f"int8: {best.speedup:.2f} times as fast as float32; round {number + 1} over its parts")
        better = search.by_region(best)
        if better is None:
            break
        best = better
    say("int8: timing the fastest again, and choosing ranges")
    best = search.by_method(search.confirmed(best))
    say(f"int8: {best.speedup:.2f} times as fast as float32; judging its accuracy")
    return search.conclude(best, judge)


class _Search(Contest):
    """The state of one search: the contest so far, and what to try next."""

    def __init__(
        self,
        model: Any,
        calibration: Calibration,
        samples: NDArray[Any],
        float_graph: bytes,
        open_engine: Open,
        options: SearchOptions | None,
    ) -> None:
        self.options = options or SearchOptions()
        super().__init__(
            model, calibration, samples, float_graph, open_engine, seconds=self.options.seconds
        )

    def by_kind(self) -> Candidate:
        """The fastest of the kinds of types and operators, with the graph as a whole."""
        seven_bit = self.options.portable or saturates()
        asymmetric = QuantConfig(seven_bit=seven_bit)
        kinds = [
            asymmetric,
            dataclasses.replace(asymmetric, operators="compute"),
            dataclasses.replace(asymmetric, per_channel=False),
            # On x86 onnxruntime turns these into u8 by itself, with the same overflow.
            QuantConfig(activations="s8", seven_bit=seven_bit),
        ]
        if seven_bit:
            # Other kernels, which do not overflow.
            kinds.append(QuantConfig(weights="u8", per_channel=False))
        found = self.compare(kinds)
        if not found:
            raise EdgetlError("no int8 graph could be made: " + "; ".join(self.failures))
        best = fittest(found)
        # A graph of which only the matrix products or the gates pay is far from the whole one.
        parts = switches(self.model, best.config, chunks=1)
        whole = frozenset().union(*parts.values())
        few = [
            dataclasses.replace(best.config, keep_float=whole - names)
            for what, names in parts.items()
            if "part" not in what
        ]
        return fittest(self.compare([best.config, *few]))

    def by_region(self, best: Candidate) -> Candidate | None:
        """Switch parts of the graph between int8 and float; None if nothing is gained."""
        kept = best.config.keep_float
        moves = []
        for names in switches(self.model, best.config, chunks=self.options.chunks).values():
            moves.append(kept - names if names <= kept else kept | names)
        configs = [dataclasses.replace(best.config, keep_float=keep) for keep in moves]
        found = self.compare([best.config, *configs])
        now = next((item for item in found if item.config == best.config), best)
        gains = sorted(
            (item for item in found if item.speedup > now.speedup * _WORTH),
            key=lambda item: -item.speedup,
        )
        if not gains:
            return None
        # Moves that gain alone mostly gain together; the comparison tells.
        joint = kept
        for item in gains:
            joint = joint ^ (kept ^ item.config.keep_float)
        several = dataclasses.replace(best.config, keep_float=joint)
        last = self.compare([best.config, gains[0].config, several])
        now = next((item for item in last if item.config == best.config), now)
        winner = fittest(last)
        return winner if winner.speedup > now.speedup * _WORTH else None

    def confirmed(self, best: Candidate) -> Candidate:
        """The best one after it was timed again, for longer, beside its closest rivals."""
        rivals = sorted(self.tried.values(), key=lambda item: -item.speedup)[:_RIVALS]
        configs = [best.config, *(item.config for item in rivals)]
        return fittest(self.compare(configs, seconds=_LONGER * self.options.seconds))

    def by_method(self, best: Candidate) -> Candidate:
        """The way of taking ranges, and bias correction, with the least error; speed is the same.

        A correction has to gain half a decibel: less is no measurable help.
        """
        variants = [dataclasses.replace(best.config, method=method) for method in METHODS]
        found = [self.measured(config, best) for config in variants]
        chosen = max((item for item in found if item), key=lambda item: item.sqnr, default=best)
        corrected = dataclasses.replace(chosen.config, bias_correction=True)
        trial = self.measured(corrected, best)
        if trial is not None and trial.sqnr > chosen.sqnr + 0.5:
            chosen = trial
        return chosen

    def conclude(self, best: Candidate, judge: Judge) -> SearchResult:
        """Judge candidates from the fastest on, until one is accepted."""
        best = self.whole(best)
        errors = node_errors(self.model, best.graph, self.samples[:4])
        refusal = ""
        for candidate in self._in_order(best, errors):
            if candidate.speedup < 1 and not self.options.allow_slower:
                # They come in the order of their speed, so there is no faster one behind.
                speed = f"{candidate.speedup:.2f} times the speed of float32"
                reason = f"the fastest int8 graph runs at {speed}"
                if refusal:
                    reason = (
                        f"no int8 graph that is faster than float32 is accurate enough ({refusal}),"
                        f" and the next one runs at {speed}"
                    )
                failure: Literal["slow", "inaccurate"] = "inaccurate" if refusal else "slow"
                return self._result(None, errors, reason, failure)
            candidate = self.whole(candidate)
            verdict = judge(candidate.graph)
            judged = self.tried[candidate.config] = dataclasses.replace(candidate, verdict=verdict)
            if verdict.accepted:
                if candidate is not best:
                    errors = node_errors(self.model, judged.graph, self.samples[:4])
                return self._result(judged, errors, verdict.reason)
            refusal = verdict.reason
        reason = f"no int8 graph is accurate enough: {refusal}"
        return self._result(None, errors, reason, "inaccurate")

    def _in_order(self, best: Candidate, errors: Mapping[str, float]) -> Iterable[Candidate]:
        """The best candidate, then others that were tried and more precise ones, fastest first.

        More precise: a scale for each channel, and more and more of the worst nodes in float.
        """
        yield best
        finer = dataclasses.replace(best.config, per_channel=True)
        precise = [finer]
        for share in _RESCUED:
            worst = self._makers(list(errors)[: max(1, int(len(errors) * share))])
            precise.append(dataclasses.replace(finer, keep_float=finer.keep_float | worst))
        tried = sorted(self.tried.values(), key=lambda item: (-item.speedup, -item.sqnr))
        # The same graph with other ranges is as fast, and may suit the samples better.
        others = [
            item
            for item in tried
            if item.config.keep_float == best.config.keep_float or item.sqnr > best.sqnr
        ]
        configs = [config for config in dict.fromkeys(precise) if config != best.config]
        found = [*self.compare(configs), *others[: _JUDGED - len(configs) - 1]]
        known = {item.config: item for item in found if item.config != best.config}
        yield from sorted(known.values(), key=lambda item: (-item.speedup, -item.sqnr))

    def _makers(self, tensors: list[str]) -> frozenset[str]:
        """Nodes of the regions in which these tensors are computed.

        An activation function alone would help nothing: its convolution has lost the precision.
        """
        wanted = set(tensors)
        makers = {node.name for node in self.model.graph.node if wanted.intersection(node.output)}
        parts = regions(self.model, QuantConfig())
        return frozenset().union(makers, *(part for part in parts if part & makers))

    def _result(
        self,
        chosen: Candidate | None,
        errors: Mapping[str, float],
        reason: str,
        failure: Literal["slow", "inaccurate"] | None = None,
    ) -> SearchResult:
        return SearchResult(
            chosen=chosen,
            candidates=tuple(self.tried.values()),
            float_milliseconds=self.float_milliseconds,
            node_errors=errors,
            reason=reason,
            failure=failure,
        )
