"""A checked training set, and what heads derive from it together.

The decomposition of the features costs more than most heads; it is made once per training set and
shared by every head that is fitted to it. Knows nothing about what a head does with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.axes import Axes, centred, principal_axes, weighted_means
from edgetl.heads.ops import NUMPY, Array, Float, Ops

_DOUBLE = 1 << 23
"""Up to so many numbers features are worked on in float64."""


@dataclass(frozen=True)
class TrainingSet:
    """Features with the class and the weight of each sample.

    Attributes:
        features: (n, dim) of the `Ops`' library, float32 or float64, finite.
        codes: (n,) class of each sample, 0 to n_classes - 1; each class occurs.
        weights: (n,) positive.
        n_classes: Number of classes.
        ops: The array library that `features` belongs to.
    """

    features: Array
    codes: NDArray[np.int64]
    weights: NDArray[np.float64]
    n_classes: int
    ops: Ops = NUMPY
    _axes: dict[Float, Axes] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def dim(self) -> int:
        """Number of features."""
        return int(self.features.shape[1])

    @property
    def precision(self) -> Float:
        """float64 where it is cheap or, with fewer samples than features, needed; else float32."""
        small = self.dim > len(self) or len(self) * self.dim <= _DOUBLE
        return "float64" if small else "float32"

    @property
    def uneven(self) -> NDArray[np.float64] | None:
        """The weights, or None if all are 1."""
        return None if bool((self.weights == 1).all()) else self.weights

    @property
    def totals(self) -> NDArray[np.float64]:
        """(classes,) total weight of each class."""
        totals: NDArray[np.float64] = np.bincount(
            self.codes, self.weights, minlength=self.n_classes
        ).astype(np.float64)
        return totals

    def subset(self, index: NDArray[np.int64]) -> TrainingSet:
        """The samples at these positions; every class must still occur."""
        return replace(
            self,
            features=self.features[self.ops.index(index)],
            codes=self.codes[index],
            weights=self.weights[index],
            _axes={},
        )

    def reweighted(self, weights: NDArray[np.float64]) -> TrainingSet:
        """The same samples with other weights."""
        return replace(self, weights=weights)

    def class_means(self) -> NDArray[np.float64]:
        """Weighted mean of each class, (classes, dim)."""
        return weighted_means(self.features, self.codes, self.weights, self.n_classes, self.ops)

    def axes(self, precision: Float | None = None) -> Axes:
        """The features on their principal axes, weights ignored; made once per precision."""
        key = precision or self.precision
        if key not in self._axes:
            self._axes[key] = principal_axes(self.features, self.ops, dtype=key)
        return self._axes[key]

    def weighted_axes(self) -> Axes:
        """The features on their principal axes, rows multiplied by root weights."""
        if self.uneven is None:
            return self.axes()
        return principal_axes(self.features, self.ops, dtype=self.precision, weights=self.weights)

    def centred(self) -> tuple[Array, NDArray[np.float64]]:
        """Features minus their weighted mean, times root weights; and the mean."""
        return centred(self.features, self.ops, dtype=self.precision, weights=self.uneven)
