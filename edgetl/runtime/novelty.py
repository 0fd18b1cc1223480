"""Whether a sample is like anything known: a score for it, and a calibrated limit.

The score is the cosine distance to the nearest of some kept training features (k nearest
neighbours with k = 1 on features of norm 1: Sun et al., "Out-of-Distribution Detection with Deep
Nearest Neighbors", 2022). Where no features may be kept it is the energy of the head's scores (Liu
et al., "Energy-based Out-of-distribution Detection", 2020), which is a good deal weaker. It knows
nothing about photos, engines, or how a head learns; `edgetl.runtime.drift` looks at many scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError
from edgetl.heads import Head
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.training import TrainingSet
from edgetl.native.heads import nearest
from edgetl.runtime.rows import Rows

ALPHA = 0.05
"""Share of known samples that may be called unknown."""
KEPT = 256 * 1280
"""Numbers, each of a byte, that a model keeps of training samples, and as many of learned ones."""
_CALIBRATION = 1024
"""Scores that a model keeps; more change the limit by less than a standard error of 0.7 %."""
_SLACK = 32
"""Samples beyond the limit before there is room made, which copies them all."""


@dataclass(frozen=True, eq=False)
class Novelty:
    """Scores samples by how unlike the known ones they are.

    It never changes: learning gives a new one, and other threads may go on with the old one.

    `alpha` holds for samples like those of the training, by conformal prediction: the limit is a
    quantile of the scores that training samples had when they were held out, with room for one more
    (Vovk et al., "Algorithmic Learning in a Random World", 2005). A kept training sample is
    compared with all the other kept ones. Were the new sample among those, as the theory has it,
    that score could only be smaller: the limit errs to the safe side. The promise is on average
    over training parts, and for samples drawn like them: the frames of one film are not. The limit
    knows nothing of classes learned since: the fewer samples, the more of them are called unknown.

    Args:
        alpha: Share of known samples that may be called unknown, 0 to 1 (excluded). `replace` it to
            be stricter.
        calibration: (n,) float32, ascending: held-out scores of training samples.
        shipped: Features that came with the bundle; None for a model that goes by energy.
        learned: Features learned since; None likewise.
    """

    alpha: float
    calibration: NDArray[np.float32]
    shipped: Rows | None = None
    learned: Rows | None = None
    limit: float = field(init=False)
    """The largest score of a known sample. Infinite, so that nothing is unknown, where `alpha` is
    below `least_alpha`."""
    _judged: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = len(self.calibration)
        rank = math.ceil((count + 1) * (1 - self.alpha))
        limit = float(self.calibration[rank - 1]) if rank <= count else math.inf
        object.__setattr__(self, "limit", limit)
        kept = [rows.codes for rows in (self.shipped, self.learned) if rows is not None]
        judged = np.unique(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
        object.__setattr__(self, "_judged", judged)

    @property
    def kind(self) -> str:
        """``"nearest"`` or ``"energy"``."""
        return "energy" if self.shipped is None else "nearest"

    @property
    def least_alpha(self) -> float:
        """The smallest `alpha` that as many held-out scores can promise: 0.05 takes 19 of them."""
        return 1 / (len(self.calibration) + 1)

    def score(self, features: NDArray[np.float32], head: Head | None = None) -> NDArray[np.float64]:
        """How unlike the known samples others are, (n,): cosine distance, 0 to 2, or energy.

        Args:
            features: (n, dim).
            head: The head that answers; only the energy needs it.

        Raises:
            ValueError: The model goes by energy and there is no head.
        """
        if self.shipped is None or self.learned is None:
            if head is None:
                raise ValueError("a model of novelty that goes by energy needs the head")
            return energy(head.scores(features), head.temperature_)
        features = np.ascontiguousarray(features, dtype=np.float32)
        found = [
            nearest(features, rows.units, 1)[1][:, 0]
            for rows in (self.shipped, self.learned)
            if len(rows)
        ]
        if not found:  # nothing to compare with
            return np.zeros(len(features))
        return np.asarray(1 - np.maximum.reduce(found), dtype=np.float64)

    def unknown(self, scores: NDArray[np.float64], codes: NDArray[Any]) -> NDArray[np.bool_]:
        """Which samples are not like any known one, (n,).

        What the head takes for a class that no feature is kept of, such as one that came with an
        update, can't be judged and is not called unknown.

        Args:
            scores: (n,) what `score` gave.
            codes: (n,) the class that the head gave each.
        """
        beyond = scores > self.limit
        if self.kind == "nearest" and beyond.any():
            beyond &= np.isin(codes, self._judged)
        return np.asarray(beyond)

    def with_samples(self, features: NDArray[Any], codes: NDArray[np.int64]) -> Novelty:
        """The model that knows some samples more; one by energy, which only needs the head, as is.

        The limit stays. Beyond some `KEPT` numbers, the oldest of the most frequent classes go.

        Args:
            features: (n, dim) finite.
            codes: (n,) class of each.
        """
        if self.learned is None:
            return self
        learned = self.learned.joined(Rows.of(features, np.asarray(codes, np.int64)))
        most = most_kept(features.shape[1], len(self._judged))
        if len(learned) > most + _SLACK:
            newest = _balanced(learned.codes[::-1], most)
            learned = learned.part(np.sort(len(learned) - 1 - newest))
        return replace(self, learned=learned)

    def relabelled(self, old: Sequence[str], new: Sequence[str]) -> Novelty:
        """The model where classes have the places of other labels; what is not there is forgotten.

        Args:
            old: Label of each code so far.
            new: Label of each code from now on.
        """
        if self.shipped is None or self.learned is None or tuple(old) == tuple(new):
            return self
        there = {label: code for code, label in enumerate(new)}
        codes = np.array([there.get(label, -1) for label in old], dtype=np.int64)

        def moved(rows: Rows) -> Rows:
            places = codes[rows.codes]
            return Rows(rows.levels, places, rows.units).part(places >= 0)

        return replace(self, shipped=moved(self.shipped), learned=moved(self.learned))

    def base(self) -> Novelty:
        """The model without what was learned: to learn anew what was not undone."""
        return (
            self
            if self.learned is None
            else replace(self, learned=self.learned.part(np.zeros(0, np.int64)))
        )

    def settled(self) -> Novelty:
        """The model as if what was learned had come with the bundle: for a bundle of its own."""
        if self.shipped is None or self.learned is None:
            return self
        rows = self.learned.joined(self.shipped)
        most = 2 * most_kept(rows.units.shape[1], len(self._judged))
        kept = rows.part(np.sort(_balanced(rows.codes, most)))
        return replace(self, shipped=kept, learned=self.learned.part(np.zeros(0, np.int64)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a bundle stores."""
        arrays: dict[str, NDArray[Any]] = {
            "alpha": np.array(self.alpha, dtype=np.float64),
            "calibration": self.calibration,
        }
        for name in ("shipped", "learned"):
            rows = getattr(self, name)
            if rows is not None:
                arrays[name] = rows.levels
                arrays[f"{name}_codes"] = rows.codes
        return arrays

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], *, dim: int, classes: int
    ) -> Novelty | None:
        """What `arrays` gave; None if there are none: a bundle made without.

        Args:
            arrays: What was read.
            dim: Number of features of the bundle.
            classes: How many classes the head knows.

        Raises:
            CorruptError: An array is missing, of another shape or type than it must be, or holds
                what can't be.
        """
        if not arrays:
            return None
        known = {"alpha", "calibration"}
        if "shipped" in arrays:
            known |= {"shipped", "shipped_codes", "learned", "learned_codes"}
        if set(arrays) != known:
            raise CorruptError(
                f"the model of novelty has the arrays {sorted(arrays)}, not {sorted(known)}"
            )
        alpha = float(_array(arrays, "alpha", np.float64, ()))
        calibration = _array(arrays, "calibration", np.float32, (None,))
        finite = bool(np.isfinite(calibration).all())
        if not 0 < alpha < 1 or not finite or np.any(np.diff(calibration) < 0):
            raise CorruptError(
                f"the model of novelty has alpha {alpha} and {len(calibration)} scores; it needs "
                "0 < alpha < 1 and scores that are finite and ascending"
            )
        if "shipped" not in arrays:
            return cls(alpha, calibration)
        shipped = _rows(arrays, "shipped", dim, classes)
        learned = _rows(arrays, "learned", dim, classes)
        return cls(alpha, calibration, shipped, learned)


def fit_novelty(
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    *,
    alpha: float = ALPHA,
    kept: int | None = None,
    seed: int = 0,
    unseen: NDArray[np.bool_] | None = None,
) -> Novelty:
    """A model of what a head was trained on.

    Args:
        features: (n, dim) all training samples, at least two.
        codes: (n,) class of each.
        alpha: Share of known samples that may be called unknown.
        kept: How many samples to keep, of every class alike; what `most_kept` says if None.
        seed: Of the choice among samples.
        unseen: (n,) the samples that the network itself was not trained on, which alone tell how
            far new ones will lie; all of them if None.

    Raises:
        ValueError: Numbers are out of range.
    """
    _check_alpha(alpha)
    kept = most_kept(features.shape[1], int(codes.max(initial=0)) + 1) if kept is None else kept
    if kept < 2 or len(codes) < 2:
        raise ValueError(f"need 2 features at least, got {len(codes)}, of which to keep {kept}")
    order = np.random.default_rng(seed).permutation(len(codes))
    chosen = order[_balanced(codes[order], kept)]
    rows = Rows.of(features[chosen], codes[chosen].astype(np.int64))
    scored = (order if unseen is None else order[unseen[order]])[:_CALIBRATION]
    if not len(scored):
        return Novelty(alpha, np.zeros(0, np.float32), rows, Rows.none(features.shape[1]))
    queries = np.ascontiguousarray(features[scored], dtype=np.float32)
    similar = nearest(queries, rows.units, 2)[1]
    # A kept sample's most similar row is itself; the second one is the nearest other.
    scores = 1 - np.where(np.isin(scored, chosen), similar[:, 1], similar[:, 0])
    calibration = np.sort(scores).astype(np.float32)
    return Novelty(alpha, calibration, rows, Rows.none(features.shape[1]))


def most_kept(dim: int, classes: int) -> int:
    """How many samples to keep: 256 of 1,280 features, and one of each class at least."""
    return max(KEPT // dim, classes)


def fit_energy(
    head: Head,
    features: NDArray[np.float32],
    codes: NDArray[np.int64],
    *,
    alpha: float = ALPHA,
    unseen: NDArray[np.bool_] | None = None,
) -> Novelty:
    """A model that keeps no feature: the energy of the head's scores.

    The limit comes from scores of heads that were fitted to four fifths of the samples each, and so
    is close to that of the head itself, but no strict promise (Vovk, "Cross-conformal predictors",
    2015).

    Args:
        head: The fitted head.
        features: (n, dim) what it was fitted to.
        codes: (n,) class of each, 0 to classes - 1.
        alpha: Share of known samples that may be called unknown.
        unseen: (n,) the samples that neither the network nor the head was trained on, whose scores
            are those that count; None where the network was trained on other samples.

    Raises:
        ValueError: `alpha` is out of range.
    """
    _check_alpha(alpha)
    folds = stratified_folds(codes)
    scores = np.zeros(0)
    if unseen is not None:
        if unseen.any():
            scores = energy(head.scores(features[unseen]), head.temperature_)
    elif folds.max() >= 0:
        data = TrainingSet(features, codes, np.ones(len(codes)), int(codes.max()) + 1)
        scores = energy(held_out(head.fixed(), data, folds).scores, head.temperature_)
    order = np.random.default_rng(0).permutation(len(scores))[:_CALIBRATION]
    return Novelty(alpha, np.sort(scores[order]).astype(np.float32))


def energy(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """``-T log sum exp(score / T)`` of scores (n, classes), by Liu et al. (2020)."""
    scaled = scores / temperature
    top = scaled.max(axis=1, keepdims=True)
    total = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return np.asarray(-temperature * total, dtype=np.float64)


def _balanced(codes: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Positions of at most so many samples, the first ones of every class in turn."""
    sorted_codes = np.argsort(codes, kind="stable")
    counts = np.unique(codes, return_counts=True)[1]
    turn = np.empty(len(codes), dtype=np.int64)
    turn[sorted_codes] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.argsort(turn, kind="stable")[:most].astype(np.int64)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")


def _rows(arrays: Mapping[str, NDArray[Any]], name: str, dim: int, classes: int) -> Rows:
    levels = _array(arrays, name, np.int8, (None, dim))
    codes = _array(arrays, f"{name}_codes", np.int64, (len(levels),))
    if len(codes) and not (codes.min() >= 0 and codes.max() < classes):
        raise CorruptError(
            f"the model of novelty names classes {codes.min()} to {codes.max()}, "
            f"there are {classes}"
        )
    return Rows.stored(levels, codes)


def _array(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    dtype: type[np.generic],
    shape: tuple[int | None, ...],
) -> NDArray[Any]:
    array = np.asarray(arrays[name])
    fits = array.dtype == dtype and array.ndim == len(shape)
    if not fits or any(w not in (None, n) for w, n in zip(shape, array.shape, strict=True)):
        raise CorruptError(
            f"the model of novelty has {name!r} of {array.dtype} {array.shape}, "
            f"not {np.dtype(dtype)} {shape}"
        )
    return array
