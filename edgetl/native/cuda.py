"""The GPU's kernels: checks what they are given, and queues their work.

Arrays are taken as they are, by their address: torch tensors, anything with
``__cuda_array_interface__``, and numpy arrays. Those in host memory go to the kernels' host twin,
which gives the same bits and is slow: it is there for tests. Nothing is allocated, and nothing
waited for. Torch is not imported; its stream comes as an integer
(``torch.cuda.current_stream().cuda_stream``). It knows nothing about decoding or networks.
"""

from __future__ import annotations

import functools
import importlib
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import MissingDependencyError
from edgetl.native import MAX_SIDE
from edgetl.native.views import Tensor, View, check_packed, view_of

if TYPE_CHECKING:
    from edgetl.preprocess import Preprocess

ALIGNMENT = 16
"""Photos that begin at multiples of this many bytes are read fastest; buffers have to."""

MAX_NEIGHBOURS = 64

MAX_CHANNELS = 8192
"""Most channels that `pool` takes."""

_COLUMNS = 10
_FLOATS = ("float32", "float16", "bfloat16")


@functools.cache
def why_not() -> str | None:
    """Why the kernels can't run on a GPU here; None where they can."""
    try:
        module = importlib.import_module("edgetl.native._cuda")
    except ImportError as error:
        return (
            f"the CUDA module of edgetl is missing ({error}); build it, where nvcc is, with: "
            "EDGETL_CUDA=ON pip install ."
        )
    reason: str = module.why_no_device()
    return f"there is no GPU here that CUDA can use: {reason}" if reason else None


def available() -> bool:
    """Whether the kernels can run on a GPU here."""
    return why_not() is None


@functools.cache
def announce_fallback() -> None:
    """Say, once, that the CPU's kernels do the work of the GPU's, and why."""
    logging.getLogger(__name__).warning("%s; photos are prepared on the CPU", why_not())


def preprocess(
    pixels: Tensor,
    table: NDArray[np.int64],
    device_table: Tensor,
    *,
    definition: Preprocess,
    workspace: Tensor,
    out: Tensor,
    stream: int = 0,
) -> None:
    """Queue the resize, crop and normalisation of a batch; the bits of `edgetl.Preprocess.apply`.

    Args:
        pixels: (bytes,) uint8 with the photos of the batch, at a multiple of 16 bytes.
        table: What `plan` completed. What it says decides how the launch is cut up, so it may also
            be that of larger photos: then what is in `device_table` has to shrink no more.
        device_table: (n, 10) int64, its copy on the device, as it will be when the work is done.
        definition: What to do. Its layout and dtype don't matter: `out` decides.
        workspace: (at least `plan`'s bytes,) uint8.
        out: (n, 3, size, size) of float32, float16, bfloat16 or uint8 (the bytes before
            normalisation), contiguous or channels last; or (n, size, size, 3), contiguous.
        stream: A CUDA stream as an integer.

    Raises:
        TypeError, ValueError: An array does not fit; the message says which.
        MissingDependencyError: The arrays are on a GPU, and the module or the driver is missing.
    """
    given = {
        "pixels": view_of("pixels", pixels, ("uint8",)),
        "device_table": view_of("device_table", device_table, ("int64",)),
        "workspace": view_of("workspace", workspace, ("uint8",)),
        "out": view_of("out", out, (*_FLOATS, "uint8")),
    }
    kernels, device = _kernels(given)
    n, size = len(table), definition.size
    _check_table(table)
    result = given["out"]
    if result.shape == (n, 3, size, size) and result.is_packed((0, 1, 2, 3)):
        nhwc = False
    elif (result.shape == (n, 3, size, size) and result.is_packed((0, 2, 3, 1))) or (
        result.shape == (n, size, size, 3) and result.is_packed((0, 1, 2, 3))
    ):
        nhwc = True
    else:
        raise ValueError(
            f"out must be ({n}, 3, {size}, {size}), contiguous or channels last, or "
            f"({n}, {size}, {size}, 3); got {result.shape} with strides {result.strides}"
        )
    if given["device_table"].shape != table.shape:
        raise ValueError(f"device_table is {given['device_table'].shape}, table {table.shape}")
    for name in ("pixels", "workspace", "device_table"):
        check_packed(name, given[name])
    kernels.preprocess(
        given["pixels"].address,
        math.prod(given["pixels"].shape),
        table,
        given["device_table"].address,
        given["workspace"].address,
        math.prod(given["workspace"].shape),
        result.address,
        result.dtype,
        size,
        definition.resize,
        definition.interpolation == "bicubic",
        nhwc,
        definition.fit == "squash",
        definition.mean,
        definition.std,
        device,
        stream,
    )


def preprocess_at(
    base: int,
    size_bytes: int,
    table: NDArray[np.int64],
    device_table: Tensor,
    *,
    definition: Preprocess,
    workspace: Tensor,
    out: Tensor,
    stream: int = 0,
) -> None:
    """`preprocess` of photos that lie apart in the device's memory, such as decoded ones.

    Args:
        base: The lowest address, a multiple of 16; the table's offsets count from it.
        size_bytes: Bytes from `base` to the end of the last photo. What lies between the photos is
            not read, but for the rest of the 16 bytes that a line begins or ends in.
        table: As for `preprocess`; so are all others.
        device_table: Likewise.
        definition: Likewise.
        workspace: Likewise.
        out: Likewise.
        stream: Likewise.
    """
    device = view_of("out", out, (*_FLOATS, "uint8")).device
    preprocess(
        View(base, (size_bytes,), (1,), "uint8", device),
        table,
        device_table,
        definition=definition,
        workspace=workspace,
        out=out,
        stream=stream,
    )


def lay_out(shapes: Sequence[tuple[int, ...]]) -> tuple[NDArray[np.int64], int]:
    """A table for packed photos one after the other, and the bytes they take.

    Args:
        shapes: (h, w, 3) of each photo.

    Returns:
        A table (n, 10) for `plan`: offset, bytes from row to row, height, width, bytes from plane
        to plane (0: pixels are packed), and the geometry, which `plan` fills in.

    Raises:
        ValueError: A shape is not that of a photo.
    """
    table = np.zeros((len(shapes), _COLUMNS), np.int64)
    offset = 0
    for row, shape in zip(table, shapes, strict=True):
        if len(shape) != 3 or shape[2] != 3 or not 1 <= min(shape) <= max(shape) <= MAX_SIDE:
            raise ValueError(f"a photo must be (h, w, 3), sides 1 to {MAX_SIDE}, got {shape}")
        height, width, _ = shape
        row[:4] = offset, 3 * width, height, width
        offset += -(-3 * height * width // ALIGNMENT) * ALIGNMENT
    return table, offset


def plan(table: NDArray[np.int64], size_bytes: int, definition: Preprocess, device: Any) -> int:
    """Complete a table, and say how large the workspace has to be.

    Args:
        table: (n, 10) int64, the first five columns filled in; the others are overwritten.
        size_bytes: Bytes of the buffer that the photos lie in.
        definition: What will be done.
        device: The number of the GPU; None for the host twin.

    Returns:
        Bytes of workspace.

    Raises:
        ValueError: A photo does not lie in the buffer; or it shrinks so much (beyond about 30 to 1)
            that this GPU has too little shared memory for it: it has to be prepared on the CPU.
        MissingDependencyError: The module or the driver is missing.
    """
    _check_table(table)
    kernels = _twin() if device is None else _module()
    needed: int = kernels.plan(
        table,
        size_bytes,
        definition.size,
        definition.resize,
        definition.interpolation == "bicubic",
        definition.fit == "squash",
        device or 0,
    )
    return needed


def pool(maps: Tensor, out: Tensor, *, unit: bool = False, stream: int = 0) -> None:
    """Queue the mean over all positions of a network's last maps, and their conversion.

    Args:
        maps: (n, c, h, w) of float32, float16 or bfloat16, contiguous or channels last; or (n, c).
            At most 8192 channels.
        out: (n, c) of any of these types, contiguous; overwritten.
        unit: Whether to divide each sample's features by their length (L2).
        stream: A CUDA stream as an integer.

    Raises:
        TypeError, ValueError: An array does not fit.
        MissingDependencyError: The arrays are on a GPU, and the module or the driver is missing.
    """
    given = {"maps": view_of("maps", maps, _FLOATS), "out": view_of("out", out, _FLOATS)}
    kernels, device = _kernels(given)
    what, result = given["maps"], given["out"]
    if len(what.shape) not in (2, 4) or 0 in what.shape:
        raise ValueError(f"maps must be (n, c, h, w) or (n, c), not empty, got {what.shape}")
    order = tuple(range(len(what.shape)))
    last = len(order) == 4 and what.is_packed((0, 2, 3, 1))
    if not last and not what.is_packed(order):
        raise ValueError(f"maps must have no gaps, got strides {what.strides}")
    check_packed("out", result)
    if result.shape != what.shape[:2]:
        raise ValueError(f"out must be {what.shape[:2]}, got {result.shape}")
    kernels.pool(
        what.address,
        what.shape[0],
        what.shape[1],
        math.prod(what.shape[2:]),
        last,
        what.dtype,
        unit,
        result.address,
        result.dtype,
        device,
        stream,
    )


def nearest_workspace(queries: int, rows: int, dim: int, k: int) -> int:
    """Bytes of workspace that `nearest` needs for so many queries and rows."""
    needed: int = _twin().nearest_workspace(queries, rows, dim, "float32", k)
    return needed


def nearest(
    queries: Tensor,
    memory: Tensor,
    *,
    indices: Tensor,
    similarities: Tensor,
    workspace: Tensor,
    stream: int = 0,
) -> None:
    """Queue the search of the rows of `memory` with the largest products with each query.

    For rows of length 1 these products are cosines. Of equal ones the row that comes first wins.
    They are never stored for all rows, and memory is read once for every 16 queries: fast for few
    queries. For more than about 64, a matrix product followed by top-k is faster
    (`edgetl.transfer.torch_search` picks).

    Args:
        queries: (n, dim) float32, float16 or bfloat16, contiguous.
        memory: (rows, dim) of the same type, contiguous.
        indices: (n, k) int64, contiguous; overwritten. k is at most 64, and at most `rows`.
        similarities: (n, k) float32, contiguous; overwritten.
        workspace: (at least `nearest_workspace`'s bytes,) uint8.
        stream: A CUDA stream as an integer.

    Raises:
        TypeError, ValueError: An array does not fit.
        MissingDependencyError: The arrays are on a GPU, and the module or the driver is missing.
    """
    given = {
        "queries": view_of("queries", queries, _FLOATS),
        "memory": view_of("memory", memory, _FLOATS),
        "indices": view_of("indices", indices, ("int64",)),
        "similarities": view_of("similarities", similarities, ("float32",)),
        "workspace": view_of("workspace", workspace, ("uint8",)),
    }
    kernels, device = _kernels(given)
    for name, view in given.items():
        check_packed(name, view)
    left, right, found = given["queries"], given["memory"], given["indices"]
    if len(left.shape) != 2 or len(right.shape) != 2 or left.shape[1] != right.shape[1]:
        raise ValueError(f"queries {left.shape} and memory {right.shape} don't fit each other")
    if left.dtype != right.dtype:
        raise TypeError(f"queries are {left.dtype}, and memory {right.dtype}")
    if len(found.shape) != 2 or found.shape[0] != left.shape[0]:
        raise ValueError(f"indices must be ({left.shape[0]}, k), got {found.shape}")
    if given["similarities"].shape != found.shape:
        raise ValueError(f"similarities must be {found.shape}")
    kernels.nearest(
        left.address,
        left.shape[0],
        right.address,
        right.shape[0],
        left.shape[1],
        left.dtype,
        found.shape[1],
        given["workspace"].address,
        math.prod(given["workspace"].shape),
        found.address,
        given["similarities"].address,
        device,
        stream,
    )


def _module() -> Any:
    reason = why_not()
    if reason is not None:
        raise MissingDependencyError(reason)
    return importlib.import_module("edgetl.native._cuda")


def _twin() -> Any:
    from edgetl import native

    if not native.COMPILED:
        raise MissingDependencyError(
            "the compiled core of edgetl is missing; build it with: pip install . "
            "(needs a C++17 compiler)"
        )
    return importlib.import_module("edgetl.native._core").cuda_twin


def _kernels(views: dict[str, View]) -> tuple[Any, int]:
    """The module for the device that all arrays are on, and its number."""
    devices = {view.device for view in views.values()}
    if len(devices) != 1:
        places = {name: _place(view) for name, view in views.items()}
        raise ValueError(f"all arrays must be on one device, got {places}")
    device = devices.pop()
    return (_twin(), 0) if device is None else (_module(), device)


def _place(view: View) -> str:
    return "cpu" if view.device is None else f"cuda:{view.device}"


def _check_table(table: NDArray[np.int64]) -> None:
    if not isinstance(table, np.ndarray) or table.dtype != np.int64:
        raise TypeError("table must be an int64 array; lay_out makes one")
    if table.ndim != 2 or table.shape[1] != _COLUMNS or not table.flags.c_contiguous:
        raise ValueError(f"table must be (n, {_COLUMNS}) and contiguous, got {table.shape}")
