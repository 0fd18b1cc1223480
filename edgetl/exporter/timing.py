"""Fair timing of several callables in one run, on a machine that others use too.

Contestants take turns in blocks of calls with a pause between them. Single calls in turn would not
be fair: the threads of a session spin for a while after a call and slow down whoever comes next.
One long block each would not be either: what else the machine does drifts over seconds. So two
contestants are compared round by round, and the ratio of a round is hardly touched by the drift.

It knows callables and a clock; it does not know what is being timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_WARM_CALLS = 2
"""Untimed calls at the start of a block: the first find cold caches and sleeping threads."""


@dataclass(frozen=True, eq=False)
class Timing:
    """How long each timed call of one contestant took.

    Args:
        rounds: For each round the seconds of its calls, in order; every round has at least one.
    """

    rounds: tuple[NDArray[np.float64], ...]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Seconds of all calls, (n_calls,), in order."""
        return np.concatenate(self.rounds)

    @property
    def calls(self) -> int:
        """How many calls were timed."""
        return sum(map(len, self.rounds))

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return self.percentile(50)

    @property
    def p10(self) -> float:
        """Seconds that a tenth of the calls stayed below."""
        return self.percentile(10)

    @property
    def p90(self) -> float:
        """Seconds that nine tenths of the calls stayed below."""
        return self.percentile(90)

    @property
    def round_medians(self) -> tuple[float, ...]:
        """Median seconds of a call in each round."""
        return tuple(float(np.median(block)) for block in self.rounds)

    def percentile(self, q: float) -> float:
        """Seconds that `q` percent of all calls stayed below, by linear interpolation."""
        return float(np.percentile(self.seconds, q))


class Ratio(NamedTuple):
    """How many times as long one contestant takes as another.

    Args:
        median: Median over the rounds; below 1 where the first one is faster.
        low: 10th percentile over the rounds.
        high: 90th percentile over the rounds.
    """

    median: float
    low: float
    high: float

    @property
    def inverse(self) -> Ratio:
        """The same comparison the other way round, exactly so for the percentiles."""
        return Ratio(1 / self.median, 1 / self.high, 1 / self.low)


def interleaved(
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 10,
    calls: int = 20,
    pause: float = 0.02,
    seconds: float | None = None,
) -> dict[str, Timing]:
    """Time contestants in blocks that take turns, so that noise meets all alike.

    Every block begins with up to two untimed calls. The order is reversed in every other round, so
    that nobody always follows the same neighbour.

    Args:
        contestants: What to call, by name.
        rounds: How many blocks each contestant gets.
        calls: Timed calls of a block.
        pause: Seconds of sleep before each block, in which the threads of the last one calm down.
        seconds: At most so many timed seconds for each contestant, in equal parts for the rounds: a
            block ends with the call that passes its part. No limit if None.

    Returns:
        For each contestant its timing, in the order of `contestants`, all with `rounds` rounds.

    Raises:
        ValueError: Nobody contests, or a number is out of range.
    """
    if not contestants:
        raise ValueError("need at least one contestant to time, got none")
    if rounds < 1 or calls < 1:
        raise ValueError(f"rounds and calls must be at least 1, got {rounds} and {calls}")
    if pause < 0 or (seconds is not None and not seconds > 0):
        raise ValueError(
            f"pause must be 0 or more and seconds above 0, got pause={pause}, seconds={seconds}"
        )
    budget = float("inf") if seconds is None else seconds / rounds
    blocks: dict[str, list[NDArray[np.float64]]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        for name in names if number % 2 == 0 else reversed(names):
            time.sleep(pause)
            blocks[name].append(_block(contestants[name], calls, budget))
    return {name: Timing(tuple(own)) for name, own in blocks.items()}


def ratio(first: Timing, second: Timing) -> Ratio:
    """How many times as long `first` takes as `second`, from pairs of the same round.

    Args:
        first: A contestant of one call of `interleaved`.
        second: Another one of the same call.

    Raises:
        ValueError: They have different numbers of rounds, so they were not timed together.
    """
    if len(first.rounds) != len(second.rounds):
        raise ValueError(
            f"only timings of one run can be compared, got {len(first.rounds)} and "
            f"{len(second.rounds)} rounds"
        )
    values = np.array(first.round_medians) / np.array(second.round_medians)
    low, median, high = np.percentile(values, (10, 50, 90))
    return Ratio(float(median), float(low), float(high))


def _block(call: Callable[[], object], calls: int, budget: float) -> NDArray[np.float64]:
    """Seconds of up to `calls` calls, after warm-up, until the budget is used up."""
    clock = time.perf_counter
    start = clock()
    for _ in range(_WARM_CALLS):
        call()
        if clock() - start > budget:
            break
    seconds: list[float] = []
    used = 0.0
    while len(seconds) < calls and (not seconds or used < budget):
        start = clock()
        call()
        seconds.append(clock() - start)
        used += seconds[-1]
    return np.array(seconds)
