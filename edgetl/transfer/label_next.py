"""Which samples to label next: active learning on features, in batches.

By uncertainty (margin, entropy), by coverage (k-centre greedy: Sener and Savarese, "Active Learning
for Convolutional Neural Networks: A Core-Set Approach", 2018), by both at once (BADGE: Ash et al.,
"Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds", 2020), or, with few labels
or none, by what is typical (TypiClust: Hacohen, Dekel and Weinshall, "Active Learning on a Budget",
2022). It knows features and labels; `simulate` plays labelling on samples whose labels are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head, RidgeHead
from edgetl.heads.validate import check_features, check_labels
from edgetl.native.heads import unit_rows
from edgetl.transfer.clustering import k_means
from edgetl.transfer.density_ratio import Reduction, squared_distances

FloatArray = NDArray[np.float64]
STRATEGIES: dict[str, str] = {
    "margin": "least lead of the likeliest class over the next",
    "entropy": "least certain over all classes",
    "coreset": "farthest from everything labelled or picked",
    "badge": "uncertain and different from each other",
    "typical": "in the middle of clusters where nothing is labelled",
    "random": "drawn blindly, for comparison",
}
"""Name of a strategy to what it picks."""
NEED_LABELS = frozenset({"margin", "entropy", "badge"})
"""Strategies that ask a head, which has to be fitted to something."""
_COMPONENTS = 64
_LARGEST = 20
"""Neighbours that make a sample typical."""


@dataclass(frozen=True, eq=False)
class Picked:
    """Samples to label.

    Attributes:
        index: (n,) positions among the unlabelled ones, the first to label first.
        strategy: That picked them.
        scores: (n,) what each was picked by, in the strategy's own measure; higher is sooner.
    """

    index: NDArray[np.int64]
    strategy: str
    scores: FloatArray


def label_next(
    unlabelled: ArrayLike,
    count: int,
    *,
    strategy: str = "auto",
    X: ArrayLike | None = None,
    y: ArrayLike | None = None,
    head: Head | None = None,
    seed: int = 0,
) -> Picked:
    """Pick samples to label.

    Args:
        unlabelled: (n, dim) features to pick from.
        count: How many, 1 to n.
        strategy: From `STRATEGIES`; ``"auto"`` is typical while there are fewer than five labels
            per class or none, and badge after that.
        X: (m, dim) features of what is labelled already; None for nothing.
        y: (m,) their labels.
        head: Unfitted, to ask how certain it is; ridge if None.
        seed: Of everything random.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, numbers are out of range, there is no
            such strategy, or it needs labels of at least two classes and there are none.
    """
    pool = check_features(unlabelled)
    if not 1 <= count <= len(pool):
        raise ValueError(f"count must be 1 to {len(pool)}, the number of samples, got {count}")
    known, labels = _labelled(X, y, pool)
    if strategy == "auto":
        strategy = _automatic(labels)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be auto, {', '.join(STRATEGIES)}, got {strategy!r}")
    generator = np.random.default_rng(seed)
    if strategy in NEED_LABELS:
        chances = _chances(strategy, known, labels, pool, head)
        if strategy == "badge":
            index, scores = _badge(pool, chances, count, generator)
        else:
            scores = _uncertainty(chances, strategy)
            index = np.argsort(-scores, kind="stable")[:count]
            scores = scores[index]
    elif strategy == "coreset":
        index, scores = _coreset(pool, known, count)
    elif strategy == "typical":
        index, scores = _typical(pool, known, count, seed)
    else:
        index, scores = generator.permutation(len(pool))[:count], np.zeros(count)
    return Picked(index.astype(np.int64), strategy, np.asarray(scores, np.float64))


def _labelled(
    X: ArrayLike | None, y: ArrayLike | None, pool: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Features and labels of what is labelled; no rows and None for nothing."""
    if (X is None) != (y is None):
        raise ValueError("give both features and labels of what is labelled, or neither")
    if X is None or y is None:
        return pool[:0], None
    known = check_features(X, dim=pool.shape[1], name="label_next")
    classes, codes = check_labels(y, len(known))
    return known, classes[codes]


def _chances(
    strategy: str,
    known: NDArray[Any],
    labels: NDArray[Any] | None,
    pool: NDArray[Any],
    head: Head | None,
) -> FloatArray:
    """(n, classes) probabilities by a head that was fitted to what is labelled."""
    if labels is None or len(np.unique(labels)) < 2:
        raise ValueError(
            f"strategy {strategy} needs labelled samples of at least 2 classes; without, there are "
            "typical, coreset and random"
        )
    fitted = RidgeHead() if head is None else type(head)(**head.get_params())
    return fitted.fit(known, labels).predict_proba(pool)


def _automatic(labels: NDArray[Any] | None) -> str:
    if labels is None:
        return "typical"
    counts = np.unique(labels, return_counts=True)[1]
    return "badge" if len(counts) > 1 and counts.mean() >= 5 else "typical"


def _uncertainty(chances: FloatArray, strategy: str) -> FloatArray:
    """(n,) higher is less certain."""
    if strategy == "margin":
        top = np.sort(chances, axis=1)
        return np.asarray(top[:, -2] - top[:, -1])
    return np.asarray(-(chances * np.log(np.maximum(chances, 1e-300))).sum(axis=1))


def _coreset(
    pool: NDArray[Any], known: NDArray[Any], count: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """The farthest sample from all labelled and picked ones, again and again; on norm 1.

    Without anything labelled it begins in the middle, with the sample nearest to the mean. The
    farthest samples are often the odd ones: a first batch is better picked by what is typical.
    """
    rows, labelled = unit_rows(pool), unit_rows(known)
    if len(labelled):
        nearest = squared_distances(rows, labelled).min(axis=1)
    else:
        middle = squared_distances(rows, rows.mean(axis=0, keepdims=True)).ravel()
        nearest = middle.max() * 4 + 4 - middle
    picked, scores = [], []
    for _ in range(count):
        place = int(nearest.argmax())
        picked.append(place)
        scores.append(float(nearest[place]) ** 0.5)
        nearest = np.minimum(nearest, 2 - 2 * rows @ rows[place])  # of rows with norm 1
        nearest[place] = -1.0
    return np.array(picked, np.int64), np.maximum(np.array(scores), 0.0)


def _badge(
    pool: NDArray[Any], chances: FloatArray, count: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], FloatArray]:
    """k-means++ over the gradients that the head's own guess as label would give.

    The gradient of the log loss is the outer product of ``chances - onehot(guess)`` and the feature
    (with norm 1); products of such gradients are products of both parts, so that none is built.
    """
    rows = unit_rows(pool)
    errors = chances.copy()
    errors[np.arange(len(errors)), chances.argmax(axis=1)] -= 1
    sizes = (errors**2).sum(axis=1) * (rows**2).sum(axis=1)
    first = int(sizes.argmax())
    picked, scores = [first], [float(sizes[first])]
    nearest = np.full(len(rows), np.inf)
    for _ in range(count - 1):
        last = picked[-1]
        products = (errors @ errors[last]) * (rows @ rows[last])
        nearest = np.minimum(nearest, np.maximum(sizes + sizes[last] - 2 * products, 0.0))
        nearest[picked] = 0.0
        total = float(nearest.sum())
        if total > 0:
            mark = generator.random() * total
            place = int(np.searchsorted(np.cumsum(nearest), mark))
            place = min(place, int(np.flatnonzero(nearest)[-1]))
        else:  # what is left is like what was picked
            left = np.setdiff1d(np.arange(len(rows)), picked)
            place = int(generator.choice(left))
        picked.append(place)
        scores.append(float(nearest[place]))
    return np.array(picked, np.int64), np.array(scores)


def _typical(
    pool: NDArray[Any], known: NDArray[Any], count: int, seed: int
) -> tuple[NDArray[np.int64], FloatArray]:
    """The densest sample of each of the largest clusters that hold nothing labelled yet.

    As many clusters as samples are labelled and to be picked, so that with every round they are
    finer; at most one per five samples, after which they are gone through again.
    """
    both = np.concatenate([known, pool]).astype(np.float64)
    units = unit_rows(both)
    rows = Reduction.of(units, components=_COMPONENTS)(units)
    k = max(min(len(known) + count, len(rows) // 5), 1)
    clusters = k_means(rows, k, restarts=3, max_iter=50, seed=seed)
    codes, labelled = clusters.codes, np.arange(len(rows)) < len(known)
    covered = np.bincount(codes[labelled], minlength=k)
    density = np.empty(len(rows))
    for code in range(k):
        inside = np.flatnonzero(codes == code)
        near = min(_LARGEST, len(inside) - 1)
        squares = squared_distances(rows[inside], rows[inside])
        nearest = np.sort(np.sqrt(squares), axis=1)[:, 1 : near + 1]
        density[inside] = 1 / np.maximum(nearest.mean(axis=1), 1e-12) if near > 0 else 0.0
    free = ~labelled
    picked: list[int] = []
    while len(picked) < count:
        sizes = np.bincount(codes[free], minlength=k)
        # The fewest labels first, of these the largest cluster, of it the densest sample.
        order = np.lexsort((-sizes, np.where(sizes > 0, covered, np.iinfo(np.int64).max)))
        code = int(order[0])
        inside = np.flatnonzero(free & (codes == code))
        place = int(inside[density[inside].argmax()])
        picked.append(place)
        free[place] = False
        covered[code] += 1
    index = np.array(picked, np.int64)
    return index - len(known), density[index]


def simulate(
    X: ArrayLike,
    y: ArrayLike,
    queries: ArrayLike,
    truth: ArrayLike,
    *,
    strategies: Sequence[str],
    budgets: Sequence[int],
    seeds: int = 5,
    head: Head | None = None,
) -> Mapping[str, FloatArray]:
    """Accuracy after labelling so many samples, had they been picked by each strategy.

    Strategies that need labels start from a random first budget, the same for all of a seed.

    Args:
        X: (n, dim) features to pick from.
        y: (n,) their labels, which are shown only once picked.
        queries: (m, dim) features to be asked.
        truth: (m,) their labels.
        strategies: From `STRATEGIES`, or ``"auto"``.
        budgets: Numbers of labels, ascending, at most n.
        seeds: Runs of each strategy.
        head: What is fitted; ridge if None.

    Returns:
        By strategy, (seeds, budgets) accuracies on the queries.

    Raises:
        ValueError: As for `label_next`, or `budgets` do not ascend.
    """
    features = check_features(X)
    classes, codes = check_labels(y, len(features))
    labels = classes[codes]
    if not budgets or any(b <= a for a, b in zip([0, *budgets], budgets, strict=False)):
        raise ValueError(f"budgets must be positive and ascend, got {list(budgets)}")
    results = {name: np.empty((seeds, len(budgets))) for name in strategies}
    for name in strategies:
        for seed in range(seeds):
            chosen = np.zeros(0, np.int64)
            for step, budget in enumerate(budgets):
                left = np.setdiff1d(np.arange(len(features)), chosen)
                first = not len(chosen)
                found = label_next(
                    features[left],
                    budget - len(chosen),
                    strategy="random" if first and name in NEED_LABELS else name,
                    X=None if first else features[chosen],
                    y=None if first else labels[chosen],
                    head=head,
                    seed=seed,
                )
                chosen = np.concatenate([chosen, left[found.index]])
                results[name][seed, step] = _accuracy(
                    features[chosen], labels[chosen], queries, truth, head
                )
    return results


def _accuracy(
    X: NDArray[Any], y: NDArray[Any], queries: ArrayLike, truth: ArrayLike, head: Head | None
) -> float:
    """Accuracy of a head fitted to what is labelled; of its only class where there is one."""
    if len(np.unique(y)) < 2:
        return float(np.mean(np.asarray(truth) == y[0]))
    fitted = RidgeHead() if head is None else type(head)(**head.get_params())
    return fitted.fit(X, y).score(queries, truth)
