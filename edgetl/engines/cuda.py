"""The little of CUDA that an engine needs: which device there is, memory, copies and a stream.

It goes through NVIDIA's own bindings (the package ``cuda-bindings``, of the extra ``tensorrt``),
which find the driver at the first call. It knows nothing about graphs.
"""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.errors import EdgetlError, MissingDependencyError

_MODULE = "cuda.bindings.runtime"


@dataclass(frozen=True)
class CudaDevice:
    """A GPU, as far as compiled engines depend on it.

    Args:
        name: What its maker calls it.
        capability: Compute capability such as ``"8.9"``.
        driver: The CUDA version that its driver supports, such as ``"13.0"``.
    """

    name: str
    capability: str
    driver: str

    def __str__(self) -> str:
        return f"{self.name} ({self.capability}, CUDA {self.driver})"


class Cuda(Protocol):
    """Memory and work of one device; addresses are plain integers."""

    stream: int

    def device_memory(self, size: int) -> int:
        """Allocate `size` bytes on the device; returns their address."""

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array in host memory that the device can copy from and to by itself."""

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """Queue the copy of a pinned, C-contiguous array to the device."""

    def to_host(self, array: NDArray[Any], address: int) -> None:
        """Queue the copy from the device to a pinned, C-contiguous array."""

    def synchronize(self) -> None:
        """Wait until everything that was queued is done."""

    def close(self) -> None:
        """Free everything."""


def find_device() -> CudaDevice | None:
    """The current CUDA device; None without a device, a driver, or the package cuda-bindings."""
    try:
        runtime = importlib.import_module(_MODULE)
    except ImportError:
        return None
    error, count = runtime.cudaGetDeviceCount()
    if int(error) or not count:
        return None
    number = _check(runtime, runtime.cudaGetDevice())
    properties = _check(runtime, runtime.cudaGetDeviceProperties(number))
    driver = int(_check(runtime, runtime.cudaDriverGetVersion()))
    return CudaDevice(
        properties.name.decode().rstrip("\0"),
        f"{properties.major}.{properties.minor}",
        f"{driver // 1000}.{driver % 1000 // 10}",
    )


class CudaRuntime:
    """The CUDA runtime on the current device; a :class:`Cuda`.

    Raises:
        MissingDependencyError: cuda-bindings is not installed, or there is no device.
    """

    def __init__(self) -> None:
        self._runtime: Any = require(_MODULE, extra="tensorrt")
        error, count = self._runtime.cudaGetDeviceCount()
        if int(error) or not count:
            raise no_device(_describe(self._runtime, error) if int(error) else "it counts 0")
        flags = self._runtime.cudaStreamNonBlocking
        self._stream = _check(self._runtime, self._runtime.cudaStreamCreateWithFlags(flags))
        self.stream = int(self._stream)
        self._device: list[int] = []
        self._host: list[int] = []

    def device_memory(self, size: int) -> int:
        """See :class:`Cuda`."""
        address = int(_check(self._runtime, self._runtime.cudaMalloc(size)))
        self._device.append(address)
        return address

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """See :class:`Cuda`."""
        size = int(np.prod(shape)) * dtype.itemsize
        address = int(_check(self._runtime, self._runtime.cudaMallocHost(size)))
        self._host.append(address)
        memory = (ctypes.c_uint8 * size).from_address(address)
        return np.frombuffer(memoryview(memory), dtype=dtype).reshape(shape)

    def to_device(self, address: int, array: NDArray[Any]) -> None:
        """See :class:`Cuda`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, array.ctypes.data, array.nbytes, kind)

    def to_host(self, array: NDArray[Any], address: int) -> None:
        """See :class:`Cuda`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, kind)

    def synchronize(self) -> None:
        """See :class:`Cuda`."""
        _check(self._runtime, self._runtime.cudaStreamSynchronize(self._stream))

    def close(self) -> None:
        """See :class:`Cuda`; errors are not told, since the driver may be gone at exit."""
        while self._device:
            self._runtime.cudaFree(self._device.pop())
        while self._host:
            self._runtime.cudaFreeHost(self._host.pop())
        if self.stream:
            self._runtime.cudaStreamDestroy(self._stream)
            self.stream = 0

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        _check(self._runtime, self._runtime.cudaMemcpyAsync(to, source, size, kind, self._stream))


def no_device(reason: str) -> MissingDependencyError:
    """The error for a machine without a usable GPU."""
    return MissingDependencyError(
        f"TensorRT runs on NVIDIA GPUs only, and CUDA finds none here ({reason}); use "
        "another target, such as OnnxRuntime() (--engine onnxruntime), or a machine with a GPU and "
        "its driver"
    )


def _check(runtime: Any, result: tuple[Any, ...]) -> Any:
    """The value of a call of the bindings, which return their error first."""
    if int(result[0]):
        raise EdgetlError(f"CUDA failed: {_describe(runtime, result[0])}")
    return result[1] if len(result) > 1 else None


def _describe(runtime: Any, error: Any) -> str:
    text = runtime.cudaGetErrorString(error)[1]
    return text.decode() if isinstance(text, bytes) else str(text)
