"""What every adapter to an unlabelled target domain is: an estimator on arrays of features.

It learns from labelled features of a source domain and unlabelled ones of the target domain, and
what it learned is a head for features of the target domain that a bundle stores. It knows no photos
and no networks, and never sees a label of the target domain.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head, Selection, SoftmaxHead, select_head
from edgetl.heads.linear import LinearHead
from edgetl.heads.validate import NotFittedError, check_features, check_labels

if TYPE_CHECKING:
    from typing_extensions import Self

FloatArray = NDArray[np.float64]
_STRENGTHS = (0.1, 1.0, 10.0)


@dataclasses.dataclass(kw_only=True)
class DomainAdapter(ABC):
    """A classifier for a target domain of which there are no labels.

    Subclasses are dataclasses whose fields are the arguments; what `fit` learns ends in an
    underscore.

    Attributes:
        selection_: The fitted head for target features as they come, and how it was chosen.
        classes_: (classes,) labels in the order of the columns of every result.
    """

    def fit(self, Xs: ArrayLike, ys: ArrayLike, Xt: ArrayLike) -> Self:
        """Learn from both domains.

        Args:
            Xs: (n, dim) features of labelled source samples.
            ys: (n,) their labels, at least two different ones.
            Xt: (m, dim) features of unlabelled target samples, m from 2.

        Raises:
            ValueError: Shapes don't fit, values aren't finite, or there is only one class.
        """
        source, target = check_domains(Xs, Xt)
        self.classes_, codes = check_labels(ys, len(source))
        if len(self.classes_) < 2:
            raise ValueError(f"need samples of 2 classes or more, got 1: {self.classes_.tolist()}")
        self.selection_ = self._fit(source, codes, target)
        self.selection_.head.classes_ = self.classes_
        return self

    @abstractmethod
    def _fit(self, source: FloatArray, codes: NDArray[np.int64], target: FloatArray) -> Selection:
        """Fit a head on checked float64 features; its classes are codes."""

    @abstractmethod
    def move(self, X: FloatArray) -> FloatArray:
        """Source features (n, dim) as the head would have them: as if of the target domain."""

    @property
    def head_(self) -> Head:
        """The head for features of the target domain.

        Raises:
            NotFittedError: `fit` has not been called.
        """
        if not hasattr(self, "selection_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit first")
        return self.selection_.head

    def predict_proba(self, X: ArrayLike) -> FloatArray:
        """Probabilities (n, classes) for features of the target domain."""
        return self.head_.predict_proba(X)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most likely label of each sample of the target domain, (n,)."""
        return self.head_.predict(X)

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Accuracy on labelled features of the target domain."""
        return self.head_.score(X, y)


@dataclasses.dataclass(kw_only=True)
class SourceOnly(DomainAdapter):
    """No adaptation: the head that held-out source samples speak for.

    Args:
        head: ``"auto"``, a kind of head, or a head.
        seed: Of the choice of the head.
    """

    head: str | Head = "auto"
    seed: int = 0

    def _fit(self, source: FloatArray, codes: NDArray[np.int64], target: FloatArray) -> Selection:
        return select_head(source, codes, head=self.head, seed=self.seed)

    def move(self, X: FloatArray) -> FloatArray:
        """Source features as they are."""
        return X


def check_domains(Xs: ArrayLike, Xt: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Features of both domains as float64, of at least two samples each.

    Raises:
        ValueError: Shapes don't fit each other, or values aren't finite.
    """
    source = check_features(Xs).astype(np.float64)
    target = check_features(Xt, dim=source.shape[1], name="the source domain").astype(np.float64)
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"need 2 samples or more of each domain, got {len(source)} and {len(target)}"
        )
    return source, target


def composed(head: Head, matrix: FloatArray, offset: FloatArray) -> Head:
    """The head on x that gives what `head` gives on ``matrix @ x + offset``.

    Args:
        head: A fitted linear head, of ``k`` features.
        matrix: (k, dim).
        offset: (k,).

    Raises:
        TypeError: The head is not linear.
    """
    if not isinstance(head, LinearHead):
        raise TypeError(f"only a linear head can take up a map, not a {head.kind} head")
    result = linear_head(
        type(head),
        head.coef_ @ matrix,
        head.intercept_ + head.coef_ @ offset,
        strength=next(iter(head.chosen().values())),
        temperature=head.temperature_,
    )
    result.classes_ = head.classes_
    return result


def cautious_head(rows: FloatArray, *, seed: int = 0) -> SoftmaxHead:
    """An unfitted softmax head whose strengths are all strong for such rows (n, dim).

    Which strength held-out source samples prefer says little about another domain, where directions
    that hardly vary in the source may vary much; so only strong ones are offered to them. They are
    in units of the rows' mean squared distance from their mean.
    """
    spread = float(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean())
    unit = spread if spread > 0 else 1.0
    return SoftmaxHead(tuple(strength / unit for strength in _STRENGTHS), random_state=seed)


def linear_head(
    kind: type[LinearHead],
    coef: FloatArray,
    intercept: FloatArray,
    *,
    strength: float = 1.0,
    temperature: float = 1.0,
) -> LinearHead:
    """A fitted linear head from its coefficients (classes, dim) and intercepts (classes,)."""
    return kind.from_arrays(
        {
            "coef": np.asarray(coef, dtype=np.float64),
            "intercept": np.asarray(intercept, dtype=np.float64),
            "strength": np.array(float(strength)),
            "temperature": np.array(float(temperature)),
        }
    )
