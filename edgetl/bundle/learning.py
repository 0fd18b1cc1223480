"""What a bundle carries so that a device can learn on: kept features, and what judges an update.

It knows arrays only. How a head learns, and how novelty is scored, is not its business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from edgetl.bundle.checks import read_arrays
from edgetl.errors import CorruptError

_TYPES: dict[str, tuple[type[np.generic], int]] = {
    "features": (np.float16, 2),
    "codes": (np.int64, 1),
    "weights": (np.float32, 1),
    "guard_features": (np.float16, 2),
    "guard_codes": (np.int64, 1),
}
_GROUPS = ("statistics", "novelty")


@dataclass(frozen=True, eq=False)
class Learning:
    """Samples as features, and statistics of those that were not kept.

    Args:
        features: (m, dim) float16: the memory, training samples of every class alike.
        codes: (m,) int64: class of each, as of the bundle's labels.
        weights: (m,) float32, positive: how many training samples each stands for.
        guard_features: (g, dim) float16: samples that the head was not fitted to.
        guard_codes: (g,) int64: class of each.
        statistics: What `edgetl.heads.Head.learning_state` gave, where the memory does not hold
            every training sample; empty where it does, or the head needs none.
        novelty: Arrays of `edgetl.runtime.novelty`; empty without.
    """

    features: NDArray[np.float16]
    codes: NDArray[np.int64]
    weights: NDArray[np.float32]
    guard_features: NDArray[np.float16]
    guard_codes: NDArray[np.int64]
    statistics: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    novelty: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def empty(cls, dim: int) -> Learning:
        """Without any sample."""
        none, codes = np.zeros((0, dim), np.float16), np.zeros(0, np.int64)
        return cls(none, codes, np.zeros(0, np.float32), none, codes)

    def check_fit(self, dim: int, classes: int, name: str) -> None:
        """Refuse arrays that belong to another head.

        Args:
            dim: Number of features of the bundle.
            classes: How many classes the head knows.
            name: The file's name, for messages.

        Raises:
            CorruptError: There are other numbers of features, or classes that it does not know.
        """
        for features, codes in (
            (self.features, self.codes),
            (self.guard_features, self.guard_codes),
        ):
            if features.shape != (len(codes), dim):
                raise CorruptError(
                    f"{name} has features of shape {features.shape} for {len(codes)} classes of "
                    f"samples; the manifest says {dim} features"
                )
            if len(codes) and not (codes.min() >= 0 and codes.max() < classes):
                raise CorruptError(
                    f"{name} names classes {codes.min()} to {codes.max()}, there are {classes}"
                )

    def to_bytes(self) -> bytes:
        """The file's content."""
        arrays: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _TYPES}
        for group in _GROUPS:
            for name, array in getattr(self, group).items():
                arrays[f"{group}.{name}"] = np.asarray(array, order="C")
        return safetensors.numpy.save(dict(sorted(arrays.items())))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Learning:
        """Read what `to_bytes` wrote.

        Raises:
            CorruptError: It is something else.
        """
        arrays = read_arrays(data, name)
        groups: dict[str, dict[str, NDArray[Any]]] = {group: {} for group in _GROUPS}
        own: dict[str, Any] = {}
        for key, array in arrays.items():
            group, _, rest = key.partition(".")
            if group in groups and rest:
                groups[group][rest] = array
            elif key in _TYPES:
                own[key] = array
            else:
                raise CorruptError(f"{name} has an unknown array {key!r:.80}")
        for key, (dtype, axes) in _TYPES.items():
            found = own.get(key)
            if found is None or found.dtype != dtype or found.ndim != axes:
                raise CorruptError(f"{name} has no usable array {key!r}")
        learning = cls(**own, statistics=groups["statistics"], novelty=groups["novelty"])
        kept = len(learning.features), len(learning.codes), len(learning.weights)
        if len(set(kept)) != 1 or len(learning.guard_features) != len(learning.guard_codes):
            raise CorruptError(
                f"{name} has {kept[0]} kept features, {kept[1]} classes and {kept[2]} weights, "
                f"{len(learning.guard_features)} guard features and "
                f"{len(learning.guard_codes)} classes of them, which do not belong together"
            )
        for key in ("features", "weights", "guard_features"):
            if not np.isfinite(own[key]).all():
                raise CorruptError(f"{name}: {key!r} holds NaN or infinity")
        if not (learning.weights > 0).all():
            raise CorruptError(f"{name}: weights must be positive")
        return learning
