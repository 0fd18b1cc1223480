"""Labels that spread from few labelled samples over a graph of nearest neighbours.

Zhou et al., "Learning with Local and Global Consistency" (2004), where labels may give way a
little, and Zhu and Ghahramani, "Learning from Labeled and Unlabeled Data with Label Propagation"
(2002), where they hold. Both are the solution of one sparse linear system per class. It knows
features and labels; what it gives holds for the samples it was given together and for no others,
and becomes a head by fitting one to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.validate import check_features, check_labels
from edgetl.transfer.neighbour_graph import Graph, affinity_graph, neighbours

FloatArray = NDArray[np.float64]
_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Propagated:
    """Labels of all samples.

    Attributes:
        classes: (classes,) labels in the order of the columns.
        shares: (n, classes) of each class in each sample, rows sum to 1; by `propagate_labels` of
            the labelled samples first, then of the others. Even where nothing reaches a sample.
        reached: (n,) whether the sample is connected with a labelled one.
    """

    classes: NDArray[Any]
    shares: FloatArray
    reached: NDArray[np.bool_]

    @property
    def labels(self) -> NDArray[Any]:
        """(n,) the class with the largest share; it means nothing where nothing was reached."""
        labels: NDArray[Any] = self.classes[self.shares.argmax(axis=1)]
        return labels

    @property
    def certainty(self) -> FloatArray:
        """(n,) 1 - entropy / log(classes): 1 for one class, 0 for an even share of all.

        As Iscen et al. (2019) weight samples by.
        """
        terms = self.shares * np.log(np.maximum(self.shares, 1e-300))
        even = np.log(len(self.classes))
        return np.asarray(np.clip(1 + terms.sum(axis=1) / even, 0.0, 1.0))


def propagate_labels(
    X: ArrayLike,
    y: ArrayLike,
    unlabelled: ArrayLike,
    *,
    method: Literal["zhou", "zhu"] = "zhou",
    alpha: float = 0.9,
    n_neighbours: int = 10,
    sharpness: float = 3.0,
) -> Propagated:
    """Spread labels over the graph of nearest neighbours by cosine.

    Args:
        X: (l, dim) labelled features.
        y: (l,) their labels, at least two different ones.
        unlabelled: (u, dim) features without labels.
        method: ``"zhou"`` solves ``(I - alpha S) F = Y`` with S the graph divided by the roots of
            the degrees of both ends; ``"zhu"`` keeps the labels and gives every other sample the
            mean of its neighbours.
        alpha: Of zhou: how much a sample hears of its neighbours, 0 to 1 (both excluded).
        n_neighbours: Neighbours of each sample, at least 1.
        sharpness: As of `edgetl.transfer.neighbour_graph.affinity_graph`.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, one class, or numbers out of range.
    """
    features = check_features(X)
    others = check_features(unlabelled, dim=features.shape[1], name="the labelled samples")
    found = neighbours(np.concatenate([features, others]), n_neighbours)
    graph = affinity_graph(found, sharpness=sharpness)
    return propagate_on(graph, y, np.arange(len(features)), method=method, alpha=alpha)


def propagate_on(
    graph: Graph,
    y: ArrayLike,
    rows: ArrayLike,
    *,
    method: Literal["zhou", "zhu"] = "zhou",
    alpha: float = 0.9,
) -> Propagated:
    """`propagate_labels` on a graph of one's own.

    Args:
        graph: Of n samples.
        y: (l,) labels.
        rows: (l,) the samples that have them, all different.
        method: As for `propagate_labels`.
        alpha: Likewise.

    Raises:
        ValueError: As for `propagate_labels`.
    """
    if method not in ("zhou", "zhu") or not 0 < alpha < 1:
        raise ValueError(f"method must be zhou or zhu and alpha 0 to 1, got {method!r}, {alpha:g}")
    labelled = np.asarray(rows, dtype=np.int64)
    classes, codes = check_labels(y, len(labelled))
    if len(classes) < 2 or len(labelled) > graph.size:
        raise ValueError(
            f"need labels of at least 2 classes for at most {graph.size} samples, got "
            f"{len(labelled)} of {classes.tolist()[:5]}"
        )
    start = np.zeros((graph.size, len(classes)))
    start[labelled, codes] = 1
    components = graph.components()
    reached = np.isin(components, components[labelled])
    if method == "zhou":
        roots = np.sqrt(graph.degrees)
        inverse = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0)
        shares = _solve(graph.scaled(inverse, inverse), alpha, start)
    else:
        shares = _harmonic(graph, start, labelled, reached)
    shares = np.maximum(shares, 0.0)
    totals = shares.sum(axis=1, keepdims=True)
    even = np.full_like(shares, 1 / len(classes))
    return Propagated(classes, np.divide(shares, totals, out=even, where=totals > 0), reached)


def _harmonic(
    graph: Graph, start: FloatArray, labelled: NDArray[np.int64], reached: NDArray[np.bool_]
) -> FloatArray:
    """Zhu: ``(D - W) F = 0`` at the samples without labels that are reached, labels held."""
    free = reached.copy()
    free[labelled] = False
    inside = free[graph.rows] & free[graph.columns]
    among = Graph(graph.size, graph.rows[inside], graph.columns[inside], graph.weights[inside])
    right = graph.times(start) * free[:, None]
    # Multiplied from both sides by the roots of the degrees, the diagonal is 1.
    degrees = np.where(free, graph.degrees, 1.0)
    roots = 1 / np.sqrt(degrees)
    solved = _solve(among.scaled(roots, roots), 1.0, right * roots[:, None])
    result = start.copy()
    result[free] = (solved * roots[:, None])[free]
    return result


def _solve(graph: Graph, alpha: float, right: FloatArray) -> FloatArray:
    """``(I - alpha graph) F = right`` by conjugate gradients, one column per class."""
    found, rest, way = np.zeros_like(right), right.copy(), right.copy()
    sizes = (rest**2).sum(axis=0)
    goal = _TOLERANCE**2 * np.maximum((right**2).sum(axis=0), 1e-300)
    for _ in range(10 * len(right) + 100):
        if (sizes <= goal).all():
            break
        moved = way - alpha * graph.times(way)
        curvature = (way * moved).sum(axis=0)
        step = np.divide(sizes, curvature, out=np.zeros_like(sizes), where=curvature > 0)
        found += step * way
        rest -= step * moved
        fresh = (rest**2).sum(axis=0)
        way = rest + np.divide(fresh, sizes, out=np.zeros_like(sizes), where=sizes > 0) * way
        sizes = fresh
    return found
