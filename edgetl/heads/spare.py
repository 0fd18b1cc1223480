"""Copies of large arrays in memory that was used before.

A fresh array of megabytes costs more to be given its pages than to be written. It knows nothing
about what is copied, or why.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEPT = 2


class Spares:
    """Arrays that are written again once nobody has them any more.

    Two are kept: in turn, one is in use and the next one is written. What is handed out must be
    held on to itself; a part of it alone does not keep it. A copy of it, deep or not, has nothing
    in common with it.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[NDArray[Any], weakref.ref[NDArray[Any]]]] = []

    def copy(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy that is nobody else's."""
        given = self.like(array)
        np.copyto(given, array)
        return given

    def like(self, array: NDArray[Any]) -> NDArray[Any]:
        """Memory of the same shape and type that is nobody else's, whatever is in it."""
        fits = [k for k in self._kept if k[0].shape == array.shape and k[0].dtype == array.dtype]
        free = next((memory for memory, user in fits if user() is None), None)
        memory = np.empty_like(array) if free is None else free
        given = memory[...]
        others = [k for k in fits if k[0] is not memory]
        self._kept = [*others, (memory, weakref.ref(given))][-_KEPT:]
        return given

    def __reduce__(self) -> tuple[type[Spares], tuple[()]]:
        return Spares, ()
