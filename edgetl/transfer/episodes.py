"""Few-shot episodes: the same methods on many draws of labelled samples, compared in pairs.

An episode draws so many samples of each class from the training part, fits, and answers every
sample of the test part. It knows features and class indices; it does not know where they came from.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import DataError
from edgetl.transfer.fewshot import METHODS, Method

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Spread:
    """How a figure spreads over the episodes.

    Attributes:
        minimum: The smallest.
        median: The middle.
        maximum: The largest.
        low: Lower end of the 95 % interval of the median; None with fewer than 6 episodes.
        high: Upper end of it.
    """

    minimum: float
    median: float
    maximum: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        low, high = median_interval(values)
        return cls(min(values), statistics.median(values), max(values), low, high)


@dataclass(frozen=True)
class Score:
    """One method at one number of shots.

    Attributes:
        method: Its name.
        shots: Labelled samples per class.
        transductive: Whether it saw all queries together.
        ships: Whether a bundle can store what it fits.
        accuracies: Test accuracy of each episode, in the order of the seeds.
        accuracy: Their spread.
        gain: Spread of the difference to the baseline, episode by episode; None for the baseline.
        wins: Episodes in which it is more accurate than the baseline.
        losses: Episodes in which it is less accurate.
        p_value: Of the two-sided sign test that wins and losses are equally likely; None for the
            baseline.
    """

    method: str
    shots: int
    transductive: bool
    ships: bool
    accuracies: tuple[float, ...]
    accuracy: Spread
    gain: Spread | None = None
    wins: int = 0
    losses: int = 0
    p_value: float | None = None


def draw_support(
    targets: NDArray[np.int64], shots: int, *, seed: int, labels: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Positions of `shots` samples of each class, drawn without replacement.

    Fewer shots of the same seed are a part of more, and a class's draw depends on the seed, its
    position and its size alone.

    Args:
        targets: (n,) class indices.
        shots: Samples per class.
        seed: Which draw, 0 or more.
        labels: Class names, for the message.

    Returns:
        (classes * shots,) positions, class by class.

    Raises:
        ValueError: `shots` is below 1.
        DataError: A class has fewer samples.
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, got {shots}")
    chosen = []
    for code in range(int(targets.max()) + 1):
        members = np.flatnonzero(targets == code)
        if len(members) < shots:
            name = f"class {code}" if labels is None else f"class {labels[code]!r}"
            raise DataError(
                f"{name} has {len(members)} training samples, fewer than {shots} shots; ask for "
                "fewer shots or add samples"
            )
        chosen.append(np.random.default_rng([seed, code]).permutation(members)[:shots])
    return np.concatenate(chosen)


def run_episodes(
    train: tuple[NDArray[Any], NDArray[np.int64]],
    test: tuple[NDArray[Any], NDArray[np.int64]],
    *,
    shots: Sequence[int],
    seeds: int,
    methods: Sequence[str] | Mapping[str, Method],
    baseline: str = "prototype",
    labels: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Every method on the same draws.

    The intervals say how much the drawn samples decide, given this training and test part. Draws of
    one training part overlap, the more so the more shots; the test part is the same in all.

    Args:
        train: Features (n, dim) and class indices (n,) that labelled samples are drawn from; every
            class from 0 on occurs.
        test: Features (m, dim) and class indices (m,): all are queries in every episode.
        shots: Labelled samples per class, each a table of its own.
        seeds: Episodes per number of shots, at least 2: seeds 0 to seeds - 1.
        methods: Names from `METHODS`, or methods of one's own by name.
        baseline: What the others are compared with; added if it is not among the methods.
        labels: Class names, for messages.
        progress: Called after each episode with how many are done, and how many there are.

    Returns:
        Scores by shots in the order given, then by method in the order given.

    Raises:
        ValueError: An unknown method, no shots, or too few seeds.
        DataError: A class has fewer samples than shots.
    """
    named = _named(methods, baseline)
    if seeds < 2 or not shots:
        raise ValueError(f"need at least 2 seeds and 1 number of shots, got {seeds} and {shots}")
    X, y = train
    queries, truth = test
    draws = {
        count: [draw_support(y, count, seed=seed, labels=labels) for seed in range(seeds)]
        for count in shots
    }
    scores, done = [], 0
    for count, supports in draws.items():
        found: dict[str, list[float]] = {name: [] for name in named}
        for support in supports:
            for name, method in named.items():
                chances = method.answer(X[support], y[support], queries)
                found[name].append(float(np.mean(chances.argmax(axis=1) == truth)))
            done += 1
            if progress is not None:
                progress(done, seeds * len(draws))
        scores += [_score(name, named[name], count, found, baseline) for name in named]
    return scores


def _named(methods: Sequence[str] | Mapping[str, Method], baseline: str) -> dict[str, Method]:
    """The methods by name, the baseline among them."""
    known = methods if isinstance(methods, Mapping) else METHODS
    names = list(dict.fromkeys([*methods, baseline]))
    unknown = [name for name in names if name not in known and name not in METHODS]
    if unknown or not methods:
        raise ValueError(f"no method is called {unknown}; there are {', '.join(METHODS)}")
    return {name: known[name] if name in known else METHODS[name] for name in names}


def _score(
    name: str, method: Method, shots: int, found: Mapping[str, Sequence[float]], baseline: str
) -> Score:
    own = found[name]
    score = Score(
        method=name,
        shots=shots,
        transductive=method.transductive,
        ships=method.ships,
        accuracies=tuple(own),
        accuracy=Spread.of(own),
    )
    if name == baseline:
        return score
    gains = [a - b for a, b in zip(own, found[baseline], strict=True)]
    wins, losses = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    return replace(
        score, gain=Spread.of(gains), wins=wins, losses=losses, p_value=sign_test(wins, losses)
    )


def median_interval(
    values: Sequence[float], *, confidence: float = CONFIDENCE
) -> tuple[float | None, float | None]:
    """Interval of the median by order statistics, whatever the distribution (Thompson 1936).

    The k-th smallest and the k-th largest value enclose the median of the distribution with at
    least the stated probability, for the largest k with which a binomial of n halves falls below k
    at most half as often as allowed.

    Returns:
        The ends; None and None where n is too small for this confidence.
    """
    n, ordered = len(values), sorted(values)
    k, below = 0, 0.0
    while k < n:
        below += math.comb(n, k) / 2**n
        if below > (1 - confidence) / 2:
            break
        k += 1
    if k == 0:
        return None, None
    return ordered[k - 1], ordered[n - k]


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p-value that wins and losses are equally likely; ties are left out."""
    n, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(n, k) for k in range(fewer + 1)) / float(2**n)
    return min(1.0, 2 * tail)
