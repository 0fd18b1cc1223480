"""TrAdaBoost: source samples that contradict a few labelled target samples lose their say.

Dai, Yang, Xue and Yu, "Boosting for Transfer Learning" (2007), for any number of classes. Rounds of
fitting to source and target together: after each, a source sample that is answered wrongly weighs
less, by the fixed factor of Hedge, and a target sample that is answered wrongly more, as in
AdaBoost. It knows features and labels of both, and no networks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head, RidgeHead, SoftmaxHead
from edgetl.heads.calibrate import HeldOut
from edgetl.heads.linear import LinearHead
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import NotFittedError, check_features, check_labels
from edgetl.transfer.balanced_folds import balanced_folds

if TYPE_CHECKING:
    from typing_extensions import Self

FloatArray = NDArray[np.float64]
_LEAST_ERROR = 1e-6
"""A round that answers every target sample right would get an infinite vote."""
_LEAST_WEIGHT = 1e-12


class Learner(Protocol):
    """What is boosted: a head, or an estimator by scikit-learn's rules."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit to weighted samples."""

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (n, classes)."""

    def get_params(self) -> Any:
        """The constructor's arguments."""


@dataclass(frozen=True, eq=False)
class Round:
    """One round of boosting.

    Attributes:
        learner: As fitted in it.
        error: Weighted error on the target samples.
        vote: Logarithm of 1 / beta; negative for a learner worse than chance.
        source_weights: (n,) that it was fitted with; with those of the target they add up to 1.
        target_weights: (m,) likewise.
    """

    learner: Any
    error: float
    vote: float
    source_weights: FloatArray
    target_weights: FloatArray


class TrAdaBoost:
    """A vote of learners that were boosted on source and target samples together.

    With `loss` ``"soft"`` the loss of a sample is 1 minus the probability of its class, which for
    two classes is the paper's ``|h(x) - c(x)|`` of a hypothesis with values from 0 to 1; with
    ``"hard"`` it is 0 or 1. From the target's weighted mean loss e, the paper's
    ``beta = e / (1 - e)`` needs e below 1/2, which few rounds reach with many classes: with K
    classes beta is ``e / ((1 - e) (K - 1))``, below 1 for whatever is better than chance (as
    AdaBoost is generalised by Zhu et al., "Multi-class AdaBoost", 2009; the same for K = 2). The
    first round that is not better than chance ends the boosting. With `odds` ``"lenient"`` beta is
    ``e / (2 - e)``, below 1 for any error, as in the package `adapt`. The source's factor stays the
    paper's, ``1 / (1 + sqrt(2 ln n / rounds))``. The later half of the rounds votes, each by
    ``log(1 / beta)``, and the class with the most votes wins, which for two classes is the paper's
    threshold.

    Where the learners are linear heads, `to_head` gives one linear head.

    Args:
        learner: What is boosted, unfitted: a head, or an estimator with ``fit(X, y,
            sample_weight)`` and ``predict_proba`` that can be copied by ``get_params``.
            Logistic regression with C = 1 if None.
        rounds: At least 2.
        loss: See above.
        odds: See above.

    Attributes:
        classes_: (classes,) labels of the target, in the order of the columns of every result.
        rounds_: What happened.
        stopped_: Whether it ended early, for want of a learner better than chance.
    """

    def __init__(
        self,
        learner: Learner | None = None,
        *,
        rounds: int = 10,
        loss: Literal["soft", "hard"] = "soft",
        odds: Literal["chance", "lenient"] = "chance",
    ) -> None:
        self.learner = learner
        self.rounds = rounds
        self.loss = loss
        self.odds = odds

    def fit(
        self, source: ArrayLike, source_labels: ArrayLike, target: ArrayLike, labels: ArrayLike
    ) -> Self:
        """Boost.

        Args:
            source: (n, dim) features; samples of classes that the target does not have are left
                out.
            source_labels: (n,) their labels.
            target: (m, dim) features.
            labels: (m,) their labels, at least two different ones.

        Raises:
            ValueError: Shapes don't fit, values aren't finite, one class, no source sample of the
                target's classes, or a bad argument.
        """
        if self.rounds < 2 or self.loss not in ("soft", "hard"):
            raise ValueError(
                f"rounds must be at least 2 and loss 'soft' or 'hard', got {self.rounds} and "
                f"{self.loss!r}"
            )
        if self.odds not in ("chance", "lenient"):
            raise ValueError(f"odds must be 'chance' or 'lenient', got {self.odds!r}")
        first, codes, self.classes_, n = joined(source, source_labels, target, labels)
        data = TrainingSet(first, codes, np.ones(len(codes)), len(self.classes_))
        self.n_features_in_ = data.dim
        self.rounds_: tuple[Round, ...] = tuple(self._boost(data, n))
        self.stopped_ = len(self.rounds_) < self.rounds
        return self

    def _boost(self, data: TrainingSet, n: int) -> Iterator[Round]:
        """Rounds on samples of which the first `n` are the source's."""
        from_source = np.arange(len(data)) < n
        hedge = 1 / (1 + np.sqrt(2 * np.log(n) / self.rounds))
        weights = np.full(len(data), 1 / len(data))
        for place in range(self.rounds):
            learner = self._fitted(data, weights)
            losses = self._losses(learner, data)
            of_target = weights[~from_source]
            error = float(of_target @ losses[~from_source] / of_target.sum())
            beta = self._beta(error, data.n_classes)
            if beta >= 1 and place:  # the first one is kept, so that there is an answer
                return
            yield Round(learner, error, -np.log(beta), weights[from_source], of_target)
            if beta >= 1:
                return
            # In the paper's words: hedge ** loss for the source, beta ** -loss for the target.
            weights = weights * np.where(from_source, hedge, 1 / beta) ** losses
            weights = np.maximum(weights / weights.sum(), _LEAST_WEIGHT / len(data))

    def _fitted(self, data: TrainingSet, weights: FloatArray) -> Any:
        learner = SoftmaxHead(1.0) if self.learner is None else self.learner
        fresh = type(learner)(**learner.get_params())
        scaled = weights / weights.mean()  # so that a penalty means the same in every round
        if isinstance(fresh, Head):  # the axes of the features are shared by all rounds
            return fresh.fit_set(
                data.reweighted(scaled), np.arange(data.n_classes), calibrate=False
            )
        fresh.fit(data.features, data.codes, sample_weight=scaled)
        return fresh

    def _losses(self, learner: Any, data: TrainingSet) -> FloatArray:
        chances = np.asarray(learner.predict_proba(data.features))
        if self.loss == "hard":
            return np.asarray(chances.argmax(axis=1) != data.codes, dtype=np.float64)
        right = chances[np.arange(len(data)), data.codes]
        return np.clip(1 - np.asarray(right, np.float64), 0, 1)

    def _beta(self, error: float, classes: int) -> float:
        error = max(error, _LEAST_ERROR)
        if self.odds == "lenient":
            return error / (2 - error)
        return error / max((1 - error) * (classes - 1), 1e-300)

    def voters(self) -> tuple[Round, ...]:
        """The later half of the rounds; of an odd number the larger one.

        The paper counts the one in the middle of an even number too.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        if not hasattr(self, "rounds_"):
            raise NotFittedError("this TrAdaBoost is not fitted; call fit first")
        return self.rounds_[len(self.rounds_) // 2 :]

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Votes (n, classes), each learner's probabilities (or choice) by its vote; rows sum to 1.

        Raises:
            NotFittedError: `fit` has not been called.
            ValueError: `X` is not (n, dim), or not finite.
        """
        voters = self.voters()
        features = check_features(X, dim=self.n_features_in_, name="TrAdaBoost")
        total = np.zeros((len(features), len(self.classes_)))
        for vote, one in zip(_shares(voters), voters, strict=True):
            chances = np.asarray(one.learner.predict_proba(features))
            if self.loss == "hard":
                chances = np.eye(chances.shape[1])[chances.argmax(axis=1)]
            total += vote * chances
        return total

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The class with the most votes, (n,)."""
        votes = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[votes.argmax(axis=1)]
        return labels

    def to_head(self) -> RidgeHead:
        """One linear head, which a bundle stores: the learners' log probabilities by their votes.

        A pool of logarithms rather than of probabilities: the scores of linear heads add up to
        linear scores, and the votes of one-sided learners weigh a little more than in `predict`.
        It has no statistics, so it can't learn by `partial_fit`.

        Raises:
            NotFittedError: `fit` has not been called.
            TypeError: The learners are not linear heads.
        """
        voters = self.voters()
        kinds = {type(one.learner) for one in voters if not isinstance(one.learner, LinearHead)}
        if kinds:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise TypeError(
                f"learners of {names} are not linear heads of edgetl.heads, so their vote is no "
                "head that a bundle stores; use predict"
            )
        head = RidgeHead()
        head.classes_, head.n_features_in_ = self.classes_, self.n_features_in_
        shares = _shares(voters)
        head.coef_ = sum(s * one.learner.coef_ for s, one in zip(shares, voters, strict=True))
        head.intercept_ = sum(
            s * one.learner.intercept_ for s, one in zip(shares, voters, strict=True)
        )
        head.alpha_, head.errors_, head.temperature_ = 1.0, None, 1.0
        return head


def held_out_scores(
    boosting: TrAdaBoost,
    source: ArrayLike,
    source_labels: ArrayLike,
    target: ArrayLike,
    labels: ArrayLike,
    *,
    seed: int = 0,
) -> HeldOut | None:
    """Scores of target samples by heads boosted on the source and the other target samples.

    Args:
        boosting: With learners that are linear heads; it is not changed.
        source: As for `TrAdaBoost.fit`, and so are the next three.
        source_labels: (n,).
        target: (m, dim).
        labels: (m,).
        seed: Of the folds.

    Returns:
        None where every class has one target sample, so that none can be held out.
    """
    features = check_features(target)
    _, codes = check_labels(labels, len(features))
    folds = balanced_folds(codes, seed=seed)
    rows, scores = [], []
    for fold in range(int(folds.max()) + 1):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(outside):
            continue
        part = TrAdaBoost(
            boosting.learner, rounds=boosting.rounds, loss=boosting.loss, odds=boosting.odds
        )
        part.fit(source, source_labels, features[inside], np.asarray(labels)[inside])
        rows.append(outside)
        scores.append(part.to_head().scores(features[outside]))
    if not rows:
        return None
    return HeldOut.of(np.concatenate(scores), np.concatenate(rows), codes, np.ones(len(codes)))


def joined(
    source: ArrayLike, source_labels: ArrayLike, target: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[Any], int]:
    """Source samples of the target's classes, then the target's: features, codes, classes, count.

    Returns:
        (k + m, dim) features, (k + m,) codes, (classes,) labels, and k, the number of source
        samples.

    Raises:
        ValueError: As for `TrAdaBoost.fit`.
    """
    features = check_features(target)
    classes, codes = check_labels(labels, len(features))
    if len(classes) < 2:
        raise ValueError(f"need target samples of at least 2 classes, got {classes.tolist()}")
    others = check_features(source, dim=features.shape[1], name="the target")
    known, other_codes = check_labels(source_labels, len(others))
    place = {label: code for code, label in enumerate(classes.tolist())}
    moved = np.array([place.get(label, -1) for label in known.tolist()])[other_codes]
    kept = moved >= 0
    if kept.sum() < 2:
        raise ValueError(
            f"{kept.sum()} of {len(others)} source samples are of the target's {len(classes)} "
            f"classes ({classes.tolist()[:5]}); the source has {known.tolist()[:5]}"
        )
    rows = np.concatenate([others[kept], features])
    return rows, np.concatenate([moved[kept], codes]).astype(np.int64), classes, int(kept.sum())


def _shares(voters: tuple[Round, ...]) -> FloatArray:
    """Votes that add up to 1; a lone learner that is no better than chance still answers."""
    votes = np.maximum(np.array([one.vote for one in voters]), 0.0)
    if not votes.any():
        votes = np.ones(len(voters))
    return np.asarray(votes / votes.sum())
