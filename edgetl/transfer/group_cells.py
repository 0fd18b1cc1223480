"""Classes within groups, and the sample weights that give each of them a share.

A *cell* is a class within a group, as in Sagawa et al. (2020), so that a group in which one class
is rare is mended too. Equal shares are importance weighting, which does as well as more elaborate
methods wherever all groups are in the training part (Idrissi et al. 2022, "Simple data balancing
achieves competitive worst-group-accuracy"). It knows classes and names; it fits nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_SAMPLES = 10
"""Smaller cells go together: a handful of samples must not decide the head."""


@dataclass(frozen=True)
class Cells:
    """The classes within groups.

    Attributes:
        codes: (n,) cell of each sample.
        names: (group, class index) of each cell; the group is None where small ones of a class
            were put together.
        counts: (cells,) samples of each.
    """

    codes: NDArray[np.int64]
    names: tuple[tuple[str | None, int], ...]
    counts: NDArray[np.int64]

    @classmethod
    def of(
        cls, targets: NDArray[np.int64], groups: ArrayLike, *, min_samples: int = MIN_SAMPLES
    ) -> Cells:
        """The cells of samples with class indices (n,) and group names (n,).

        Raises:
            ValueError: Lengths that differ.
        """
        names = np.asarray(groups, dtype=np.str_)
        if names.shape != targets.shape:
            raise ValueError(f"groups of shape {names.shape} for {len(targets)} samples")
        known, place = np.unique(names, return_inverse=True)
        pair = place.astype(np.int64) * (int(targets.max()) + 1) + targets
        sizes = np.bincount(pair)
        # Small cells are put together by class, under a group that is none of the names.
        pair = np.where(sizes[pair] < min_samples, len(known) * (targets.max() + 1) + targets, pair)
        cells, codes, counts = np.unique(pair, return_inverse=True, return_counts=True)
        listed = []
        for cell in cells.tolist():
            group, label = divmod(cell, int(targets.max()) + 1)
            listed.append((None if group == len(known) else str(known[group]), label))
        return cls(codes.astype(np.int64), tuple(listed), counts.astype(np.int64))

    def weights(self, shares: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """(n,) sample weights with mean 1 that give the cells these shares; equal ones if None."""
        if shares is None:
            shares = np.full(len(self.counts), 1 / len(self.counts))
        weights: NDArray[np.float64] = (shares / self.counts)[self.codes] * len(self.codes)
        return weights

    def record(self, labels: Sequence[str], shares: NDArray[np.float64]) -> list[dict[str, Any]]:
        """Each cell with its samples and its share of the weight, as plain JSON values."""
        return [
            {"group": group, "class": labels[label], "n": int(n), "share": float(share)}
            for (group, label), n, share in zip(self.names, self.counts, shares, strict=True)
        ]


def balanced_weights(
    targets: ArrayLike, groups: ArrayLike, *, min_samples: int = MIN_SAMPLES
) -> NDArray[np.float64]:
    """Sample weights under which every class within every group counts the same.

    Args:
        targets: (n,) class indices.
        groups: (n,) names.
        min_samples: Cells with fewer samples go together, by class.

    Returns:
        (n,) with mean 1, for any head's ``sample_weight``.
    """
    return Cells.of(np.asarray(targets, dtype=np.int64), groups, min_samples=min_samples).weights()
