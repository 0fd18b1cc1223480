"""How NVIDIA's CUDA bindings are called: not run on a GPU, but with their real types."""

import ctypes

import numpy as np
import pytest

from edgetl.engines.cuda import CudaRuntime, find_device
from edgetl.errors import EdgetlError, MissingDependencyError


def test_the_real_cuda_runtime_says_that_there_is_no_device():
    pytest.importorskip("cuda.bindings.runtime")
    if find_device() is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(MissingDependencyError, match="CUDA finds none here"):
        CudaRuntime()


class HostRuntime:
    """NVIDIA's bindings, as their signatures are, with a GPU whose memory is the host's."""

    cudaStreamNonBlocking = 1  # their names

    def __init__(self, real):
        self.cudaMemcpyKind = real.cudaMemcpyKind
        self.cudaGetErrorString = real.cudaGetErrorString
        self.errors, self.stream_type = real.cudaError_t, real.cudaStream_t
        self.memory, self.freed, self.streams = {}, [], []

    def _allocate(self, size):
        if size > 1 << 30:
            return self.errors.cudaErrorMemoryAllocation, None
        block = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(block)] = block
        return self.errors.cudaSuccess, ctypes.addressof(block)

    cudaMalloc = cudaMallocHost = _allocate

    def _free(self, address):
        self.freed.append(address)
        return (self.errors.cudaSuccess,)

    cudaFree = cudaFreeHost = cudaStreamDestroy = _free

    def cudaGetDeviceCount(self):
        return self.errors.cudaSuccess, 1

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == 1
        return self.errors.cudaSuccess, self.stream_type(1234)

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        assert isinstance(kind, self.cudaMemcpyKind) and int(stream) == 1234
        ctypes.memmove(to, source, size)
        return (self.errors.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        assert int(stream) == 1234
        return (self.errors.cudaSuccess,)


def test_how_the_cuda_runtime_is_called(monkeypatch):
    real = pytest.importorskip("cuda.bindings.runtime")
    names = {name for name in dir(HostRuntime) if name.startswith("cuda")}
    assert all(hasattr(real, name) for name in names)
    runtime = HostRuntime(real)
    monkeypatch.setattr("edgetl.engines.cuda.require", lambda name, extra: runtime)
    cuda = CudaRuntime()
    assert cuda.stream == 1234
    there, back = cuda.pinned((3, 4), np.dtype("f4")), cuda.pinned((3, 4), np.dtype("f4"))
    address = cuda.device_memory(there.nbytes)
    there[:] = np.arange(12).reshape(3, 4)
    cuda.to_device(address, there[:2])
    cuda.to_host(back[:2], address)
    cuda.synchronize()
    np.testing.assert_array_equal(back, [[0, 1, 2, 3], [4, 5, 6, 7], [0, 0, 0, 0]])
    with pytest.raises(EdgetlError, match="CUDA failed: out of memory"):
        cuda.device_memory(1 << 40)
    cuda.close()
    cuda.close()
    assert set(runtime.memory) < {int(x) for x in runtime.freed} and len(runtime.freed) == 4
