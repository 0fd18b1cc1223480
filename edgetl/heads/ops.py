"""The few array operations the solvers need, so that one solver serves numpy and other libraries.

A solver touches sample-sized arrays only through operators (``@``, ``*``, slices) and an `Ops`. The
numpy one is here; the torch one lives on the workstation side, in `edgetl.transfer.torch_fit`. This
module knows nothing about heads.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = Any
"""An array of whichever library the `Ops` at hand belongs to."""
Float: TypeAlias = Literal["float32", "float64"]


class Ops(Protocol):
    """Array operations of one library, on one device."""

    block: int
    """How many elements of an intermediate result to work on at a time."""

    def asarray(self, values: ArrayLike | Array, dtype: Float) -> Array:
        """Bring `values` to this library and device as floats; no copy where none is needed."""
        ...

    def index(self, values: NDArray[np.int64]) -> Array:
        """Bring integer positions to this library and device."""
        ...

    def to_numpy(self, values: Array) -> NDArray[Any]:
        """Bring an array back to numpy, with its dtype."""
        ...

    def is_double(self, values: Array) -> bool:
        """Whether the array holds float64."""
        ...

    def empty(self, shape: tuple[int, ...], dtype: Float) -> Array:
        """An array of unspecified content."""
        ...

    def softmax_(self, logits: Array) -> Array:
        """Replace `logits` (a, classes, n) by its softmax over axis 1, in place.

        Returns:
            The logarithm of the normalising sums, (a, n).
        """
        ...

    def eigh(self, matrix: Array) -> tuple[Array, Array]:
        """Eigenvalues in ascending order and eigenvectors (columns) of a symmetric matrix."""
        ...

    def solve(self, matrix: Array, right: Array) -> Array:
        """The solution x of ``matrix @ x = right``."""
        ...


class NumpyOps:
    """`Ops` for numpy arrays."""

    block = 1 << 18
    """1 MB of float32: it stays in a core's cache between two passes."""

    def asarray(self, values: ArrayLike | Array, dtype: Float) -> NDArray[Any]:
        """Bring `values` to numpy as floats; no copy where none is needed."""
        return np.asarray(values, dtype=dtype)

    def index(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Integer positions as they are."""
        return values

    def to_numpy(self, values: Array) -> NDArray[Any]:
        """The array as it is."""
        return np.asarray(values)

    def is_double(self, values: Array) -> bool:
        """Whether the array holds float64."""
        return bool(values.dtype == np.float64)

    def empty(self, shape: tuple[int, ...], dtype: Float) -> NDArray[Any]:
        """An array of unspecified content."""
        return np.empty(shape, dtype=dtype)

    def softmax_(self, logits: Array) -> NDArray[Any]:
        """Replace `logits` (a, classes, n) by its softmax over axis 1; return log-sums (a, n)."""
        top = logits.max(axis=1, keepdims=True)
        logits -= top
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        logits *= 1 / total
        result: NDArray[Any] = (np.log(total) + top)[:, 0]
        return result

    def eigh(self, matrix: Array) -> tuple[NDArray[Any], NDArray[Any]]:
        """Eigenvalues in ascending order and eigenvectors (columns) of a symmetric matrix."""
        values, vectors = np.linalg.eigh(matrix)
        return values, vectors

    def solve(self, matrix: Array, right: Array) -> NDArray[Any]:
        """The solution x of ``matrix @ x = right``."""
        return np.linalg.solve(matrix, right)


NUMPY: Ops = NumpyOps()
