"""Classifiers for 1 to 10 samples per class, by name, and the choice among them.

The choice uses the labelled samples alone: scores of held-out ones, in balanced folds. What it
gives is one of `edgetl.heads`, so that a bundle can ship it. Methods that need the queries, or keep
every sample, are here by name too, for `edgetl.transfer.episodes`; they serve from Python only. It
knows features and labels, nothing of photos.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.crossval import held_out
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features, check_labels
from edgetl.transfer.balanced_folds import balanced_folds
from edgetl.transfer.cosine_softmax import CosineSoftmax
from edgetl.transfer.tip_adapter import TipAdapter
from edgetl.transfer.transductive import LaplacianShot, SoftKMeans

FloatArray = NDArray[np.float64]
Fit = Callable[[NDArray[Any], NDArray[np.int64], NDArray[Any]], FloatArray]
"""From labelled features, codes 0 to classes - 1 and queries to probabilities (m, classes)."""


@dataclass(frozen=True)
class Method:
    """A way of answering queries with few labelled samples.

    Attributes:
        name: As on the command line.
        answer: Fits and answers.
        paper: Where it comes from, or what else it is.
        transductive: Whether it looks at all queries together before it answers.
        ships: Whether what it fits is one of `edgetl.heads`, which bundles store.
    """

    name: str
    answer: Fit
    paper: str
    transductive: bool = False
    ships: bool = False


@dataclass(frozen=True)
class FewShotCandidate:
    """One method that was considered.

    Attributes:
        method: Its name.
        accuracy: Held-out accuracy, None if nothing could be held out.
        log_loss: Held-out log loss in nats after temperature, None likewise.
        chosen: Whether it is the one taken.
        parameters: What it chose itself, such as ``{"alpha": 3.0}``.
        temperature: Of its scores.
        seconds: What fitting and judging it took.
    """

    method: str
    accuracy: float | None
    log_loss: float | None
    chosen: bool
    parameters: Mapping[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class FewShotChoice:
    """A fitted head for few samples, and why it was taken.

    Attributes:
        head: One of `edgetl.heads`, fitted to all samples.
        method: The name of what made it.
        candidates: All that were considered.
        reason: One sentence.
        hits: (m,) whether the method got each held-out sample right, in the samples' order; None if
            nothing could be held out.
    """

    head: Head
    method: str
    candidates: tuple[FewShotCandidate, ...]
    reason: str
    hits: NDArray[np.bool_] | None = field(default=None, repr=False, compare=False)


CANDIDATES: dict[str, Callable[[], Head]] = {
    "cosine": CosineSoftmax,
    "prototype": PrototypeHead,
    "ridge": RidgeHead,
    "softmax": SoftmaxHead,
    "lda": LdaHead,
}
"""What the choice is made among. The first is taken where nothing speaks for another."""
_ERRORS = 2.0
"""Standard errors by which another has to be ahead."""


def choose_few(
    X: ArrayLike, y: ArrayLike, *, methods: Sequence[str] | None = None, seed: int = 0
) -> FewShotChoice:
    """Fit the classifier that the labelled samples speak for.

    The first candidate, cosine softmax, is the default. Each candidate is judged on samples held
    out in the same folds, which take from every class alike: with up to five samples per class, one
    of each class per fold, so that n shots are judged by fits to n - 1. Another than the default is
    taken only if its held-out accuracy is higher by more than two standard errors of the paired
    difference; of several such the most accurate, then the one with the lower log loss. Few
    held-out samples tell methods apart badly, and the best of several scores is the best by luck
    most of the time. Where every class has one sample nothing can be held out, and the default is
    taken.

    Args:
        X: (n, dim) features.
        y: (n,) labels, at least two different ones.
        methods: Names from `CANDIDATES`, the default first; all of them if None.
        seed: Of the folds.

    Returns:
        The head, fitted to all samples, with its temperature, and what was considered.

    Raises:
        ValueError: A method is unknown, or the input is unusable.
    """
    names = list(CANDIDATES if methods is None else methods)
    unknown = [name for name in names if name not in CANDIDATES]
    if unknown or not names:
        raise ValueError(f"methods must be some of {', '.join(CANDIDATES)}, got {names}")
    features = check_features(X)
    classes, codes = check_labels(y, len(features))
    data = TrainingSet(features, codes, np.ones(len(codes)), len(classes))
    folds = balanced_folds(codes, seed=seed)
    comparable = bool(folds.max() >= 0) and len(names) > 1
    heads, held, seconds = [], [], []
    for name in names if comparable else names[:1]:
        start = time.perf_counter()
        head = CANDIDATES[name]()
        head.fit_set(data, classes, calibrate=not comparable)
        if comparable:
            held.append(_judge(head, data, folds))
            head.temperature_ = held[-1].temperature
        heads.append(head)
        seconds.append(time.perf_counter() - start)
    best = _best(held) if comparable else 0
    return FewShotChoice(
        head=_shipped(heads[best]),
        method=names[best],
        candidates=tuple(
            _considered(name, place, heads, held, seconds, chosen=place == best)
            for place, name in enumerate(names)
        ),
        reason=_reason(names, best, held, comparable),
        hits=held[best].hits if comparable else None,
    )


def _judge(head: Head, data: TrainingSet, folds: NDArray[np.int64]) -> HeldOut:
    """Held-out scores at the strength that the head chose itself on all samples."""
    return held_out(head.fixed(), data, folds)


def _considered(
    name: str,
    place: int,
    heads: Sequence[Head],
    held: Sequence[HeldOut],
    seconds: Sequence[float],
    *,
    chosen: bool,
) -> FewShotCandidate:
    """One row of the table; of what was never fitted, its name."""
    judged = held[place] if place < len(held) else None
    return FewShotCandidate(
        method=name,
        accuracy=None if judged is None else judged.accuracy,
        log_loss=None if judged is None else judged.log_loss,
        chosen=chosen,
        parameters=heads[place].chosen() if place < len(heads) else {},
        temperature=heads[place].temperature_ if place < len(heads) else 1.0,
        seconds=seconds[place] if place < len(seconds) else 0.0,
    )


def _best(held: Sequence[HeldOut]) -> int:
    """The first, or the best of those that are ahead of it by more than two standard errors."""
    ahead = []
    for place, rival in enumerate(held[1:], start=1):
        difference = rival.hits.astype(np.float64) - held[0].hits
        if difference.mean() > _ERRORS * difference.std() / len(difference) ** 0.5:
            ahead.append(place)
    return min(ahead, key=lambda place: (-held[place].accuracy, held[place].log_loss), default=0)


def _shipped(head: Head) -> Head:
    return head.to_head() if isinstance(head, CosineSoftmax) else head


def _reason(names: Sequence[str], best: int, held: Sequence[HeldOut], comparable: bool) -> str:
    if len(names) == 1:
        return "the only candidate"
    if not comparable:
        return f"every class has one sample: nothing can be held out, so {names[0]} is taken"
    if best == 0:
        return (
            f"no other method is ahead of {names[0]} by more than two standard errors on "
            f"{len(held[0].hits)} held-out samples"
        )
    return (
        f"held-out accuracy {held[best].accuracy:.3f}, more than two standard errors above "
        f"{held[0].accuracy:.3f} of {names[0]}, on {len(held[0].hits)} held-out samples"
    )


def _with_head(make: Callable[[], Head]) -> Fit:
    def answer(X: NDArray[Any], codes: NDArray[np.int64], queries: NDArray[Any]) -> FloatArray:
        return make().fit(X, codes).predict_proba(queries)

    return answer


def _auto(X: NDArray[Any], codes: NDArray[np.int64], queries: NDArray[Any]) -> FloatArray:
    return choose_few(X, codes).head.predict_proba(queries)


def _soft_k_means(X: NDArray[Any], codes: NDArray[np.int64], queries: NDArray[Any]) -> FloatArray:
    return SoftKMeans().fit(X, codes, queries).predict_proba(queries)


def _laplacian(X: NDArray[Any], codes: NDArray[np.int64], queries: NDArray[Any]) -> FloatArray:
    return LaplacianShot().fit(X, codes).predict_proba(queries)


def _laplacian_cosine(
    X: NDArray[Any], codes: NDArray[np.int64], queries: NDArray[Any]
) -> FloatArray:
    return LaplacianShot(prior=CosineSoftmax()).fit(X, codes).predict_proba(queries)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("auto", _auto, "chosen on the labelled samples (choose_few)", ships=True),
        Method(
            "cosine",
            _with_head(CosineSoftmax),
            "Gidaris and Komodakis 2018; Chen et al. 2019",
            ships=True,
        ),
        Method(
            "prototype",
            _with_head(PrototypeHead),
            "Snell et al. 2017; Wang et al. 2019",
            ships=True,
        ),
        Method("ridge", _with_head(RidgeHead), "least squares, leave-one-out", ships=True),
        Method("softmax", _with_head(SoftmaxHead), "logistic regression", ships=True),
        Method("lda", _with_head(LdaHead), "linear discriminants, shrunken", ships=True),
        Method("tip", _with_head(TipAdapter), "Zhang et al. 2022, prototypes as prior"),
        Method(
            "tip-ridge", _with_head(lambda: TipAdapter(RidgeHead())), "the same, ridge as prior"
        ),
        Method("soft-kmeans", _soft_k_means, "Ren et al. 2018", transductive=True),
        Method("laplacian", _laplacian, "Ziko et al. 2020", transductive=True),
        Method(
            "laplacian-cosine",
            _laplacian_cosine,
            "Ziko et al. 2020, costs of the cosine softmax",
            transductive=True,
        ),
    )
}
"""Every method by its name."""
