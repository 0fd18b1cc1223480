"""Arrays of any library as a kernel sees them: address, shape, strides, type and device.

Torch tensors, arrays with ``__cuda_array_interface__`` and numpy arrays are read without importing
their libraries. Nothing is copied, and nothing kept alive: that is up to the caller. It knows
nothing about kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Tensor: TypeAlias = Any
"""A torch tensor, an array with ``__cuda_array_interface__``, or a numpy array."""


@dataclass(frozen=True)
class View:
    """What a kernel needs to know of an array."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements
    dtype: str
    device: int | None  # None: the host

    def is_packed(self, order: Sequence[int]) -> bool:
        """Whether the elements follow each other without gaps, `order`'s last axis fastest."""
        step = 1
        for axis in reversed(order):
            if self.shape[axis] != 1 and self.strides[axis] != step:
                return False
            step *= self.shape[axis]
        return True


def view_of(name: str, array: Tensor, dtypes: Sequence[str]) -> View:
    """The view of `array`, which errors call `name`.

    Raises:
        TypeError: It is no array, not of one of `dtypes`, or on a device that is no GPU of CUDA.
    """
    view = _read(name, array)
    if view.dtype not in dtypes:
        raise TypeError(f"{name} must be {' or '.join(dtypes)}, got {view.dtype}")
    return view


def _read(name: str, array: Tensor) -> View:
    if isinstance(array, View):
        return array
    if hasattr(array, "data_ptr"):
        kind = array.device.type
        if kind not in ("cpu", "cuda"):
            raise TypeError(f"{name} is on {array.device}; it must be on a GPU of CUDA")
        return View(
            array.data_ptr(),
            tuple(array.shape),
            tuple(array.stride()),
            str(array.dtype).removeprefix("torch."),
            None if kind == "cpu" else int(array.device.index or 0),
        )
    if isinstance(array, np.ndarray):
        strides = tuple(step // array.itemsize for step in array.strides)
        return View(array.ctypes.data, array.shape, strides, str(array.dtype), None)
    if hasattr(array, "__cuda_array_interface__"):
        return _read_interface(array)
    raise TypeError(f"{name} must be a tensor or an array, got {type(array).__name__}")


def _read_interface(array: Any) -> View:
    """CUDA Array Interface, version 3."""
    values = array.__cuda_array_interface__
    dtype = np.dtype(values["typestr"])
    shape = tuple(values["shape"])
    steps = values.get("strides")
    if steps is None:
        steps = [dtype.itemsize * math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    device = int(getattr(getattr(array, "device", None), "id", 0))
    strides = tuple(step // dtype.itemsize for step in steps)
    return View(int(values["data"][0]), shape, strides, str(dtype), device)


def check_packed(name: str, view: View) -> None:
    """Refuse, with a ValueError, an array whose elements don't follow each other row by row."""
    if not view.is_packed(range(len(view.shape))):
        raise ValueError(f"{name} must be contiguous, got strides {view.strides}")
