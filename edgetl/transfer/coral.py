"""CORAL: source features with the target domain's mean and covariance, then an ordinary head.

Sun, Feng and Saenko, "Return of Frustratingly Easy Domain Adaptation" (AAAI 2016). The map is in
closed form and moves the source, so the head takes target features as they come: any kind of head
will do, and a bundle stores it as it is. It knows nothing about networks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Head, Selection, select_head
from edgetl.transfer.domain_adapter import (
    DomainAdapter,
    FloatArray,
    cautious_head,
    check_domains,
)

_REASON = "fitted to source features with the mean and covariance of the target's"


class CoralMap:
    """``(x - mean_s) @ C_s^(-1/2) @ C_t^(1/2) + mean_t``, with C the covariances plus a ridge.

    The covariances have at most as many axes as samples; outside them they are the ridge alone, so
    no matrix of dim by dim is ever made: O(n^2 dim) for n samples.

    Args:
        source: (n, dim) features.
        target: (m, dim) features.
        ridge: Added to the variance along every axis, above 0 (1 in the paper, for features of
            variance 1).
        center: Whether means are matched too. Without, the map is ``x @ C_s^(-1/2) @ C_t^(1/2)``;
            the paper's features have been standardised before.

    Raises:
        ValueError: Shapes don't fit, or the ridge is not above 0.
    """

    def __init__(
        self, source: FloatArray, target: FloatArray, *, ridge: float, center: bool = True
    ) -> None:
        source, target = check_domains(source, target)
        if not 0 < ridge < np.inf:
            raise ValueError(f"ridge must be above 0 and finite, got {ridge}")
        self.ridge = ridge
        zero = np.zeros(source.shape[1])
        self.means = (source.mean(axis=0), target.mean(axis=0)) if center else (zero, zero)
        self._whiten = _Power(source, -0.5, ridge)
        self._colour = _Power(target, 0.5, ridge)

    def __call__(self, X: FloatArray) -> FloatArray:
        """Source features (n, dim) as if they came from the target domain."""
        moved: FloatArray = self._colour(self._whiten(X - self.means[0])) + self.means[1]
        return moved


@dataclass(kw_only=True)
class CoralAdapter(DomainAdapter):
    """A head fitted to source features that CORAL has moved to the target domain.

    Args:
        ridge: Added to the variances, in units of the mean variance of a feature over both domains;
            large values leave a shift of the mean alone.
        center: Whether means are matched too.
        head: A kind of head, or a head; ``"auto"`` is a softmax head with strong penalties.
        seed: Of the choice of the head.

    Attributes:
        map_: The map of source features.
    """

    ridge: float = 10.0
    center: bool = True
    head: str | Head = "auto"
    seed: int = 0

    def _fit(self, source: FloatArray, codes: NDArray[np.int64], target: FloatArray) -> Selection:
        unit = mean_variance(source, target)
        self.map_ = CoralMap(source, target, ridge=self.ridge * unit, center=self.center)
        moved = self.map_(source)
        head = cautious_head(moved, seed=self.seed) if self.head == "auto" else self.head
        found = select_head(moved, codes, head=head, seed=self.seed)
        return dataclasses.replace(found, reason=_REASON)

    def move(self, X: FloatArray) -> FloatArray:
        """CORAL's map."""
        return self.map_(X)


def mean_variance(source: FloatArray, target: FloatArray) -> float:
    """The variance of a feature, averaged over features and both domains; 1 if all are alike."""
    mean = 0.5 * float(source.var(axis=0).mean() + target.var(axis=0).mean())
    return mean if mean > 0 else 1.0


class _Power:
    """``x @ (covariance + ridge)^power`` of some samples' covariance (with n - 1)."""

    def __init__(self, samples: FloatArray, power: float, ridge: float) -> None:
        centred = samples - samples.mean(axis=0)
        _, sizes, self.axes = np.linalg.svd(centred, full_matrices=False)
        self.outside = ridge**power
        self.inside = (sizes**2 / (len(samples) - 1) + ridge) ** power - self.outside

    def __call__(self, X: FloatArray) -> FloatArray:
        result: FloatArray = self.outside * X + ((X @ self.axes.T) * self.inside) @ self.axes
        return result
