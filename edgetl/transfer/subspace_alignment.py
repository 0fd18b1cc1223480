"""Subspace alignment: the principal axes of the source, turned onto those of the target.

Fernando, Habrard, Sebban and Tuytelaars, "Unsupervised Visual Domain Adaptation Using Subspace
Alignment" (ICCV 2013). In closed form; projecting target features is linear, so it is taken up by a
linear head. It knows nothing about networks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Head, Selection, select_head
from edgetl.heads.linear import LinearHead
from edgetl.transfer.domain_adapter import (
    DomainAdapter,
    FloatArray,
    cautious_head,
    check_domains,
    composed,
)

_REASON = "fitted to the source's principal coordinates, aligned with the target's"


class SubspaceMap:
    """Both domains' coordinates: ``(x - mean_s) @ P_s @ P_s.T @ P_t`` and ``(x - mean_t) @ P_t``.

    Args:
        source: (n, dim) features.
        target: (m, dim) features.
        axes: Number of principal axes k of each domain; fewer where a domain has fewer.

    Attributes:
        source_axes: (k, dim) P_s.T, orthonormal rows.
        target_axes: (k, dim) P_t.T.

    Raises:
        ValueError: Shapes don't fit, `axes` is below 1, or a domain's features are all alike.
    """

    def __init__(self, source: FloatArray, target: FloatArray, *, axes: int) -> None:
        source, target = check_domains(source, target)
        if axes < 1:
            raise ValueError(f"axes must be 1 or more, got {axes}")
        self.means = source.mean(axis=0), target.mean(axis=0)
        found = [_principal(X - mean) for X, mean in zip((source, target), self.means, strict=True)]
        count = min(axes, *map(len, found))
        if count < 1:
            raise ValueError("a domain's features are all alike: it has no principal axis")
        self.source_axes, self.target_axes = (rows[:count] for rows in found)

    def of_source(self, X: FloatArray) -> FloatArray:
        """Aligned coordinates (n, k) of source features (n, dim)."""
        own = (X - self.means[0]) @ self.source_axes.T
        aligned: FloatArray = own @ (self.source_axes @ self.target_axes.T)
        return aligned

    def of_target(self, X: FloatArray) -> FloatArray:
        """Coordinates (n, k) of target features (n, dim)."""
        own: FloatArray = (X - self.means[1]) @ self.target_axes.T
        return own


@dataclass(kw_only=True)
class SubspaceAdapter(DomainAdapter):
    """A linear head fitted to aligned source coordinates, for target features as they come.

    Args:
        axes: Principal axes of each domain.
        head: A linear head or its kind; ``"auto"`` is a softmax head with strong penalties.
        seed: Of the folds in which the head's strength is chosen.

    Attributes:
        map_: The coordinates of both domains.
    """

    axes: int = 40
    head: str | Head = "auto"
    seed: int = 0

    def _fit(self, source: FloatArray, codes: NDArray[np.int64], target: FloatArray) -> Selection:
        self.map_ = SubspaceMap(source, target, axes=self.axes)
        rows = self.map_.of_source(source)
        head = cautious_head(rows, seed=self.seed) if self.head == "auto" else self.head
        found = select_head(rows, codes, head=head, seed=self.seed)
        if not isinstance(found.head, LinearHead):
            raise ValueError(
                f"subspace alignment needs a linear head (softmax, ridge or lda), got "
                f"{found.head.kind}"
            )
        axes = self.map_.target_axes
        return dataclasses.replace(
            found, head=composed(found.head, axes, -axes @ self.map_.means[1]), reason=_REASON
        )

    def move(self, X: FloatArray) -> FloatArray:
        """The point of the target's subspace with the aligned coordinates."""
        moved: FloatArray = self.map_.of_source(X) @ self.map_.target_axes + self.map_.means[1]
        return moved


def _principal(centred: FloatArray) -> FloatArray:
    """Principal axes (r, dim) in descending order of variance, those of rounding errors left out.

    An axis is only known up to its sign; turning either domain's axes over changes no distance
    between aligned coordinates.
    """
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    kept: FloatArray = axes[sizes > 1e-10 * max(float(sizes[0]), np.finfo(float).tiny)]
    return kept
