"""A scatter that grows, seen through its resolvent: products, and updates of rank one.

The matrices are symmetric and packed: the lower triangle, row by row. It knows nothing about
classes, nor about how the resolvent at one place tells of another; see `edgetl.heads.resolvent`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgetl.native import _core, instruction_set
from edgetl.native import reference_heads as reference
from edgetl.native.checks import NOT_FINITE, OK, REFUSED, check_apart, check_array, compiled

FEW_VECTORS = 4
"""Up to so many vectors the compiled core is faster than unpacking a matrix for a BLAS."""


def packed_multiply(
    matrix: NDArray[np.float64], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A symmetric matrix times vectors, O(n dim^2).

    Up to `FEW_VECTORS` are the compiled core's, more are numpy's.

    Args:
        matrix: (dim (dim + 1) / 2,) float64.
        vectors: (n, dim) float64, n from 0 on.

    Returns:
        (n, dim).

    Raises:
        TypeError: An array has another type.
        ValueError: Shapes don't fit, an array has gaps, or a result is not finite.
    """
    check_array("vectors", vectors, (None, None), np.float64)
    n, dim = vectors.shape
    check_array("matrix", matrix, (dim * (dim + 1) // 2,), np.float64)
    if compiled() and n <= FEW_VECTORS:
        out = np.empty((n, dim))
        finite = _core.packed_multiply(matrix, vectors, out, instruction_set()) == OK
    else:
        with np.errstate(all="ignore"):
            out = vectors @ reference.unpack(matrix)
        finite = bool(np.isfinite(out).all())
    if not finite:
        raise ValueError("packed_multiply: the matrix, a vector or a product is NaN or infinite")
    return out


def resolvent_update(
    inverse: NDArray[np.float64],
    powers: NDArray[np.float64],
    z: NDArray[np.float64],
    shift: NDArray[np.float64],
    *,
    before: NDArray[np.float64] | None = None,
) -> None:
    """Add z z^T to a scatter and z shift^T to what its resolvent was applied to, in place.

    With P = (S + I)^-1 the powers are P M, P^2 M and so on. Each costs one product of P with a
    vector, however many columns M has: O(orders dim^2 + orders^2 classes dim).

    Args:
        inverse: (dim (dim + 1) / 2,) P, packed; changed, or with `before` only written.
        powers: (orders, classes, dim) the transposed powers; changed.
        z: (dim,).
        shift: (classes,).
        before: (dim (dim + 1) / 2,) the P to start from, which stays; None: `inverse`.

    Raises:
        TypeError: An array has another type.
        ValueError: Something does not fit, has gaps, shares memory or is not finite, or the inverse
            is not positive definite. Nothing was changed.
    """
    check_array("powers", powers, (None, None, None), np.float64, writeable=True)
    orders, classes, dim = powers.shape
    check_array("inverse", inverse, (dim * (dim + 1) // 2,), np.float64, writeable=True)
    check_array("z", z, (dim,), np.float64)
    check_array("shift", shift, (classes,), np.float64)
    check_apart(("inverse", inverse), ("powers", powers), ("z", z), ("shift", shift))
    check_apart(("powers", powers), ("z", z), ("shift", shift))
    if before is not None:
        check_array("before", before, inverse.shape, np.float64)
        check_apart(("inverse", inverse), ("before", before))
        check_apart(("powers", powers), ("before", before))
    if orders < 1:
        raise ValueError("powers must hold at least the first")
    if compiled():
        scratch = np.empty(orders * (dim + classes))
        status = _core.resolvent_update(
            inverse, powers, z, shift, scratch, instruction_set(), before
        )
    else:
        status = OK
        if before is not None:
            inverse[:] = before
        try:
            reference.resolvent_update(inverse, powers, z, shift)
        except reference.RefusedError:
            status = REFUSED
        except FloatingPointError:
            status = NOT_FINITE
    if status == REFUSED:
        raise ValueError("resolvent_update: the inverse is not positive definite; it is damaged")
    if status != OK:
        raise ValueError("resolvent_update: an array holds NaN, infinity or numbers beyond range")
