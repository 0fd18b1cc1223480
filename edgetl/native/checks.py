"""What the faces of the compiled core check alike, and whether there is a core to call.

Knows nothing about what is computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.native import COMPILED, _announce_fallback, instruction_set

OK, NOT_FINITE, REFUSED = range(3)
"""What the head kernels of the compiled core answer."""


def compiled() -> bool:
    """Whether the compiled core is there; if not, the log says so once.

    Raises:
        MissingDependencyError: It is not, and EDGETL_REQUIRE_NATIVE is 1.
        ValueError: EDGETL_ISA names no instruction set.
    """
    if COMPILED:
        instruction_set()  # here, since callers take a ValueError of the core's for their arrays'
    else:
        _announce_fallback()
    return COMPILED


def check_array(
    name: str,
    array: NDArray[Any],
    shape: tuple[int | None, ...],
    dtype: Any,
    *,
    writeable: bool = False,
) -> None:
    """Refuse what is not a C-contiguous array of this type and shape (None: any length)."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {np.dtype(dtype)}, got {array.dtype}")
    if array.ndim != len(shape) or any(
        wanted not in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
    ):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError(f"{name} must be C-contiguous; use numpy.ascontiguousarray")
    if writeable and not array.flags.writeable:
        raise ValueError(f"{name} must be writeable")


def check_apart(out: tuple[str, NDArray[Any]], *others: tuple[str, NDArray[Any]]) -> None:
    """Refuse an output that shares memory with anything else."""
    for name, other in others:
        if np.may_share_memory(out[1], other):
            raise ValueError(f"{out[0]} shares memory with {name}")
