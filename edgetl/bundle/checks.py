"""What a bundle carries to be checked against later: an engine, and data that it was fitted on.

It knows arrays only; who runs the probe and who looks for known samples is not its business.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from edgetl.errors import CorruptError

FILE = "checks.safetensors"

_TYPES = {"probe_features": (np.float32, 2), "train_digests": (np.uint64, 1)}


@dataclass(frozen=True, eq=False)
class Checks:
    """Facts about the making of a bundle.

    Args:
        probe_features: (1, dim) float32: what the reference engine makes of `probe_batch`.
        train_digests: (n,) uint64, sorted: the first 8 bytes of each training sample's digest.
    """

    probe_features: NDArray[np.float32]
    train_digests: NDArray[np.uint64]

    def trained_on(self, digests: Iterable[bytes]) -> NDArray[np.bool_]:
        """Which samples were in the training part, by the digests of their content."""
        return np.isin(short_digests(digests), self.train_digests)

    def to_bytes(self) -> bytes:
        """The file's content."""
        return safetensors.numpy.save({name: getattr(self, name) for name in sorted(_TYPES)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Checks:
        """Read what `to_bytes` wrote.

        Raises:
            CorruptError: It is something else.
        """
        arrays = read_arrays(data, FILE)
        for name, (dtype, ndim) in _TYPES.items():
            found = arrays.get(name)
            if found is None or found.dtype != dtype or found.ndim != ndim:
                raise CorruptError(f"{FILE} has no usable array {name!r}")
        return cls(
            probe_features=arrays["probe_features"].astype(np.float32, copy=False),
            train_digests=arrays["train_digests"].astype(np.uint64, copy=False),
        )


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
