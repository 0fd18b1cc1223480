"""What a bundle carries to be checked against later: an engine, and data that it was fitted on.

It knows arrays only; who runs the probe and who looks for known samples is not its business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from edgetl.errors import CorruptError

FILE = "checks.safetensors"

_TYPES: dict[str, tuple[type[np.generic], int]] = {
    "probe_features": (np.float32, 2),
    "train_digests": (np.uint64, 1),
    "reference_digests": (np.uint64, 1),
    "reference_classes": (np.int64, 1),
    "reference_features": (np.float16, 2),
}
_OF_TASK = "train_digests."
_OPTIONAL = ("reference_digests", "reference_classes", "reference_features")


@dataclass(frozen=True, eq=False)
class Checks:
    """Facts about the making of a bundle.

    Args:
        probe_features: (1, dim) float32: what the reference engine makes of `probe_batch`.
        train_digests: (n,) uint64, sorted: the first 8 bytes of each training sample's digest.
        reference_digests: (m,) uint64: of test samples, in an exported bundle, and of training
            samples where those are few; with the next two, the export can be checked on a machine
            that lacks the bundle it was exported from.
        reference_classes: (m,) int64: the classes that the original bundle gave them.
        reference_features: (k, dim) float16, k <= m: the original features of the first k of them.
        task_digests: As `train_digests`, of further tasks by their names.
    """

    probe_features: NDArray[np.float32]
    train_digests: NDArray[np.uint64]
    reference_digests: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    reference_classes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    reference_features: NDArray[np.float16] = field(
        default_factory=lambda: np.zeros((0, 0), np.float16)
    )
    task_digests: Mapping[str, NDArray[np.uint64]] = field(default_factory=dict)

    def check_fit(self, dim: int, classes: int) -> None:
        """Refuse arrays that belong to another bundle.

        Args:
            dim: Number of features of the bundle.
            classes: How many classes it knows.

        Raises:
            CorruptError: There are other numbers of features, or classes that it does not know.
        """
        lengths = {self.probe_features.shape[1]}
        if len(self.reference_features):
            lengths.add(self.reference_features.shape[1])
        if lengths != {dim}:
            raise CorruptError(
                f"{FILE} has vectors of {sorted(lengths)} features, the manifest says {dim}"
            )
        known = (self.reference_classes >= 0) & (self.reference_classes < classes)
        if not known.all():
            raise CorruptError(
                f"{FILE} names class {self.reference_classes[~known][0]}, there are {classes}"
            )

    def trained_on(self, digests: Iterable[bytes], *, task: str | None = None) -> NDArray[np.bool_]:
        """Which samples were in the training part, by the digests of their content.

        Args:
            digests: Those of the samples.
            task: A further task; the main one if None.
        """
        none = np.zeros(0, np.uint64)
        known = self.train_digests if task is None else self.task_digests.get(task, none)
        return np.isin(short_digests(digests), known)

    def to_bytes(self) -> bytes:
        """The file's content."""
        arrays = {
            name: getattr(self, name)
            for name in sorted(_TYPES)
            if name not in _OPTIONAL or getattr(self, name).size
        }
        of_tasks = {f"{_OF_TASK}{task}": array for task, array in self.task_digests.items()}
        return safetensors.numpy.save(arrays | of_tasks)

    @classmethod
    def from_bytes(cls, data: bytes) -> Checks:
        """Read what `to_bytes` wrote.

        Raises:
            CorruptError: It is something else.
        """
        arrays = read_arrays(data, FILE)
        for name, (dtype, ndim) in _TYPES.items():
            found = arrays.get(name)
            if found is None and name in _OPTIONAL:
                continue
            if found is None or found.dtype != dtype or found.ndim != ndim:
                raise CorruptError(f"{FILE} has no usable array {name!r}")
        of_tasks = {
            name[len(_OF_TASK) :]: array
            for name, array in arrays.items()
            if name.startswith(_OF_TASK)
        }
        if any(array.dtype != np.uint64 or array.ndim != 1 for array in of_tasks.values()):
            raise CorruptError(f"{FILE} has no usable digests of {sorted(of_tasks)}")
        known = {name: arrays[name] for name in _TYPES if name in arrays}
        checks = cls(**known, task_digests=of_tasks)  # type: ignore[arg-type]
        if (
            not len(checks.reference_features)
            <= len(checks.reference_digests)
            == len(checks.reference_classes)
        ):
            raise CorruptError(
                f"{FILE} has {len(checks.reference_digests)} reference digests, "
                f"{len(checks.reference_classes)} classes and {len(checks.reference_features)} "
                "features, which do not belong together"
            )
        return checks


def probe_batch(shape: tuple[int, int, int], *, dtype: str = "float32") -> NDArray[Any]:
    """Noise, one image of shape `shape` as a batch, the same on every machine.

    Of float32 it is in [-2, 2), of uint8 it has all values.

    Multiplicative hashing (Knuth, The Art of Computer Programming, vol. 3, 6.4) of the position:
    integers only, so that no library's generator decides.
    """
    count = int(np.prod(shape))
    hashed = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761)) % np.uint64(1 << 32)
    if dtype == "uint8":
        return (hashed >> np.uint64(24)).astype(np.uint8).reshape(1, *shape)
    return (hashed.astype(np.float64) / (1 << 30) - 2).astype(np.float32).reshape(1, *shape)


def short_digests(digests: Iterable[bytes]) -> NDArray[np.uint64]:
    """(n,) the first 8 bytes of each digest as a number."""
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], dtype=np.uint64)


def read_arrays(data: bytes, name: str) -> dict[str, NDArray[np.generic]]:
    """The arrays of a safetensors file.

    Raises:
        CorruptError: It is none, or has a type that numpy does not have.
    """
    try:
        return dict(safetensors.numpy.load(data))
    except Exception as error:  # its own class, or KeyError for a type unknown to numpy
        raise CorruptError(f"{name} can't be read: {error!r}") from error
