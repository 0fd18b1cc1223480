"""The TensorRT engine around the GPU: not run on a GPU.

Engines are compiled by TensorRT's real builder (see ``tests/exporter/trt_harness.py``). A GPU's
part is played by the classes below: device memory is host memory that only copies may touch, work
is queued and done when somebody waits for it, and executing an engine runs the same ONNX graph by
onnxruntime.
"""

import ctypes
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parents[1] / "exporter"))
import trt_harness

from edgetl.engines import CompiledGraph, EngineStamp, TensorRtEngine, open_engine
from edgetl.engines.cuda import CudaDevice, CudaRuntime, find_device
from edgetl.engines.tensorrt import device_cache_dir
from edgetl.engines.trt_backend import find_backend
from edgetl.engines.trt_builder import build_cached
from edgetl.errors import CorruptError, EdgetlError, MissingDependencyError
from edgetl.targets import TensorRT

GPU = CudaDevice("NVIDIA Test", "8.9", "13.0")


class FakeCuda:
    """Memory in two worlds, and a stream that does nothing before it is waited for."""

    made: list["FakeCuda"] = []

    def __init__(self):
        self.stream = 7
        self.device = {}
        self.host = []
        self.queue = []
        FakeCuda.made.append(self)

    def device_memory(self, size):
        address = 4096 * (len(self.device) + 1)
        self.device[address] = np.full(size, 0xCD, np.uint8)
        return address

    def pinned(self, shape, dtype):
        self.host.append(np.full(shape, 113, dtype))
        return self.host[-1]

    def _is_pinned(self, array):
        return any(np.shares_memory(array, memory) for memory in self.host)

    def to_device(self, address, array):
        assert self._is_pinned(array) and array.flags.c_contiguous

        def copy():
            self.device[address][: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)

        self.queue.append(copy)

    def to_host(self, array, address):
        assert self._is_pinned(array) and array.flags.c_contiguous

        def copy():
            data = self.device[address][: array.nbytes].tobytes()
            array[...] = np.frombuffer(data, array.dtype).reshape(array.shape)

        self.queue.append(copy)

    def synchronize(self):
        while self.queue:
            self.queue.pop(0)()

    def close(self):
        self.device.clear()


class FakeContext:
    """Runs the ONNX graph on what lies at the addresses it was told."""

    def __init__(self, engine):
        self.engine = engine
        self.addresses = {}
        self.shape = None
        self.calls = []

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        return self.engine.fixed is None and shape[0] <= self.engine.capacity

    def execute_async_v3(self, stream):
        cuda = FakeCuda.made[-1]
        assert stream == cuda.stream
        shape = self.shape or self.engine.fixed
        self.calls.append(shape[0])

        def work():
            session = self.engine.session
            (image,) = session.get_inputs()
            dtype = np.float32 if image.type == "tensor(float)" else np.uint8
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            data = cuda.device[self.addresses[image.name]][:size].tobytes()
            batch = np.frombuffer(data, dtype).reshape(shape)
            names = [output.name for output in session.get_outputs()]
            for name, value in zip(names, session.run(names, {image.name: batch}), strict=True):
                cuda.device[self.addresses[name]][: value.nbytes] = np.frombuffer(
                    value.tobytes(), np.uint8
                )

        cuda.queue.append(work)
        return True


class FakeEngine:
    """What an engine compiled from a graph says of itself."""

    def __init__(self, module, graph, max_batch):
        self.module = module
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.ends = {
            **{item.name: (item, module.TensorIOMode.INPUT) for item in self.session.get_inputs()},
            **{
                item.name: (item, module.TensorIOMode.OUTPUT) for item in self.session.get_outputs()
            },
        }
        shape = self.session.get_inputs()[0].shape
        self.fixed = tuple(shape) if isinstance(shape[0], int) else None
        self.capacity = self.fixed[0] if self.fixed else max_batch
        self.num_io_tensors = len(self.ends)
        self.context = FakeContext(self)

    def get_tensor_name(self, number):
        return list(self.ends)[number]

    def get_tensor_mode(self, name):
        return self.ends[name][1]

    def get_tensor_shape(self, name):
        return tuple(x if isinstance(x, int) else -1 for x in self.ends[name][0].shape)

    def get_tensor_dtype(self, name):
        kinds = {"tensor(float)": "FLOAT", "tensor(uint8)": "UINT8", "tensor(int64)": "INT64"}
        return getattr(self.module.DataType, kinds[self.ends[name][0].type])

    def get_tensor_profile_shape(self, name, number):
        shape = self.get_tensor_shape(name)[1:]
        return [(1, *shape), (self.capacity, *shape), (self.capacity, *shape)]

    def create_execution_context(self):
        return self.context


class Gpu:
    """The machine of a test: its TensorRT, and what was loaded on its GPU."""

    def __init__(self, module):
        self.module = module
        self.graphs = {}  # bytes of an engine -> the graph it was compiled from
        self.loaded = []

    def know(self, built, graph):
        self.graphs[built.read()] = (graph, built.stamp.max_batch)

    def deserialize(self, content):
        if content not in self.graphs:
            return None
        self.loaded.append(FakeEngine(self.module, *self.graphs[content]))
        return self.loaded[-1]


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    reason = trt_harness.why_not()
    if reason:
        pytest.skip(reason)
    module = trt_harness.load()
    machine = Gpu(module)
    FakeCuda.made.clear()
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: GPU)
    monkeypatch.setattr("edgetl.engines.cuda.CudaRuntime", FakeCuda)

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, module.ILogger)

        def deserialize_cuda_engine(self, content):
            return machine.deserialize(content)

    def build(graph, target, **options):
        built = build_cached(graph, target, **options)
        machine.know(built, graph)
        return built

    monkeypatch.setattr(module, "Runtime", Runtime)
    monkeypatch.setattr("edgetl.engines.tensorrt.build_cached", build)
    return machine


@pytest.fixture
def images():
    return np.random.default_rng(1).standard_normal((11, 3, 8, 8), np.float32)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_batches_of_any_length(gpu, graph, reference, images, count):
    engine = TensorRtEngine(graph, dim=6, target=TensorRT(max_batch=4))
    for batch in (images[:count], images[-count:] * 2):
        features = engine(batch)
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, reference(batch), atol=1e-6)
    calls = gpu.loaded[0].context.calls[: len(gpu.loaded[0].context.calls) // 2]
    assert sum(calls) == count and max(calls) <= 4 and len(calls) == -(-count // 4)
    assert len(gpu.loaded) == 1


def test_an_earlier_result_survives_later_calls(gpu, graph, reference, images):
    engine = TensorRtEngine(graph.read_bytes(), dim=6, target=TensorRT(max_batch=16))
    first = engine(images)
    engine(images * 2)
    np.testing.assert_allclose(first, reference(images), atol=1e-6)


def test_strided_and_empty_batches(gpu, graph, reference, images):
    engine = TensorRtEngine(graph, dim=6, target=TensorRT(max_batch=4))
    strided = images[::-2, :, ::-1]
    np.testing.assert_allclose(engine(strided), reference(strided), atol=1e-6)
    assert engine(images[:0]).shape == (0, 6)


def test_calls_from_many_threads(gpu, graph, reference, images):
    engine = TensorRtEngine(graph, dim=6, target=TensorRT(max_batch=2))
    batches = [images[start : start + 3] for start in range(8)] * 4
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(engine, batches))
    for given, found in zip(batches, results, strict=True):
        np.testing.assert_allclose(found, reference(given), atol=1e-6)
    assert len(gpu.loaded) == 1


def edit(graph, *, kind=TensorProto.FLOAT, batch=None, second=False):
    """The small graph with another input type, a fixed batch, or a second output."""
    model = onnx.load(graph)
    image = model.graph.input[0]
    if kind != TensorProto.FLOAT:
        image.type.tensor_type.elem_type = kind
        model.graph.node.insert(0, helper.make_node("Cast", ["images"], ["wide"], to=1))
        model.graph.node[1].input[0] = "wide"
    if batch:
        for item in (image, model.graph.output[0]):
            item.type.tensor_type.shape.dim[0].dim_value = batch
    if second:
        model.graph.node.append(helper.make_node("Softmax", ["features"], ["probabilities"]))
        other = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 6])
        model.graph.output.insert(0, other)
    return model.SerializeToString()


def test_bytes_in(gpu, graph, reference, images):
    pixels = (images * 50 + 128).clip(0, 255).astype(np.uint8)
    engine = TensorRtEngine(
        edit(graph, kind=TensorProto.UINT8), dim=6, target=TensorRT(max_batch=4)
    )
    np.testing.assert_allclose(engine(pixels), reference(pixels), rtol=1e-5)
    with pytest.raises(TypeError, match="uint8 array"):
        engine(images)


def test_a_graph_of_fixed_batch(gpu, graph, reference, images):
    engine = TensorRtEngine(edit(graph, batch=4), dim=6, target=TensorRT(max_batch=2))
    np.testing.assert_allclose(engine(images[:4]), reference(images[:4]), atol=1e-6)
    np.testing.assert_allclose(engine(images), reference(images), atol=1e-6)
    assert gpu.loaded[0].context.calls == [4, 4, 4, 4]


def test_a_graph_with_its_head_inside(gpu, graph, reference, images):
    content = edit(graph, second=True)
    target = TensorRT(max_batch=4)
    features = TensorRtEngine(content, dim=6, target=target)
    np.testing.assert_allclose(features(images), reference(images), atol=1e-6)
    scores = TensorRtEngine(content, dim=6, target=target, output="probabilities")
    exact = np.exp(reference(images))
    np.testing.assert_allclose(scores(images), exact / exact.sum(1, keepdims=True), atol=1e-6)
    assert features.fingerprint != scores.fingerprint


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (np.zeros((1, 3, 8, 8)), TypeError),
        (np.zeros((1, 3, 8, 9), np.float32), ValueError),
        (np.zeros((3, 8, 8), np.float32), ValueError),
    ],
)
def test_batches_of_another_kind(gpu, graph, wrong, error):
    with pytest.raises(error, match=r"float32 array|batches of shape"):
        TensorRtEngine(graph, dim=6)(wrong)


def test_another_dimension_than_promised(gpu, graph, images):
    with pytest.raises(CorruptError, match=r"expected float32 \(n, 7\)"):
        TensorRtEngine(graph, dim=7)(images)


def compile_here(gpu, graph, target):
    """An engine as an exporter would have put it into a bundle."""
    backend = find_backend()
    built = build_cached(
        graph.read_bytes(), target, backend=backend, cache_dir=device_cache_dir() / "other"
    )
    gpu.know(built, graph.read_bytes())
    return CompiledGraph(built.read(), built.stamp)


def test_an_engine_that_fits_is_not_compiled_again(gpu, graph, reference, images, caplog):
    caplog.set_level(logging.INFO, "edgetl.tensorrt")
    compiled = compile_here(gpu, graph, TensorRT(max_batch=4))
    engine = TensorRtEngine(graph, dim=6, target=TensorRT(max_batch=2), compiled=compiled)
    np.testing.assert_allclose(engine(images), reference(images), atol=1e-6)
    assert not (device_cache_dir() / "tensorrt").exists()
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "10.3.0"}, "another TensorRT (tensorrt_rtx 10.3.0, here"),
        ({"device": "NVIDIA Old (7.5, CUDA 12.0)"}, "another device (NVIDIA Old"),
        ({"graph": "0" * 64}, "another graph (000000000000, here"),
        ({"max_batch": 1}, "takes batches of 1, and 4 are wanted"),
    ],
)
def test_an_engine_of_another_machine_is_compiled_again(
    gpu, graph, reference, images, caplog, change, reason
):
    caplog.set_level(logging.INFO, "edgetl.tensorrt")
    target = TensorRT(max_batch=4)
    compiled = compile_here(gpu, graph, target)
    stamp = EngineStamp.from_json(compiled.stamp.to_json() | change)
    engine = TensorRtEngine(
        graph, dim=6, target=target, compiled=CompiledGraph(compiled.content, stamp)
    )
    np.testing.assert_allclose(engine(images), reference(images), atol=1e-6)
    assert len(list((device_cache_dir() / "tensorrt").glob("*.engine"))) == 1
    assert "compiled again from the ONNX graph" in caplog.text and reason in caplog.text
    caplog.clear()
    TensorRtEngine(graph, dim=6, target=target)(images)
    assert " found in " in caplog.text, "the next time it is in the cache"


def test_an_engine_made_ahead_of_time_fits_any_card(gpu, graph, images, monkeypatch):
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: None)
    compiled = compile_here(gpu, graph, TensorRT())
    assert compiled.stamp.device == "any"
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: GPU)
    TensorRtEngine(graph, dim=6, compiled=compiled)(images)
    assert not (device_cache_dir() / "tensorrt").exists()


def test_an_engine_that_does_not_load_is_compiled_again(gpu, graph, reference, images, caplog):
    compiled = compile_here(gpu, graph, TensorRT())
    damaged = CompiledGraph(compiled.content[:-1], compiled.stamp)
    engine = TensorRtEngine(graph, dim=6, compiled=damaged)
    np.testing.assert_allclose(engine(images), reference(images), atol=1e-6)
    assert "can't load it" in caplog.text


def test_failures_on_the_device(gpu, graph, images, monkeypatch):
    engine = TensorRtEngine(graph, dim=6, target=TensorRT(max_batch=4))
    engine(images)
    monkeypatch.setattr(FakeContext, "execute_async_v3", lambda self, stream: False)
    with pytest.raises(EdgetlError, match=r"failed on a batch of shape \(4, 3, 8, 8\)"):
        engine(images)


def test_memory_is_given_back(gpu, graph, images):
    engine = TensorRtEngine(graph, dim=6)
    engine(images)
    (cuda,) = FakeCuda.made
    assert len(cuda.device) == 2
    del engine
    assert not cuda.device


def test_fingerprints_and_the_way_in(gpu, graph, monkeypatch):
    engine = open_engine(TensorRT(max_batch=3), graph, dim=6)
    assert isinstance(engine, TensorRtEngine)
    assert (engine.concurrency, engine.preferred_batch) == (1, 3)
    assert open_engine(TensorRT(max_batch=3), graph, dim=6, purpose="serve").preferred_batch == 1
    same = TensorRtEngine(graph.read_bytes(), dim=6).fingerprint
    assert engine.fingerprint == same, "the batch changes no feature"
    assert TensorRtEngine(edit(graph, batch=2), dim=6).fingerprint != same
    assert TensorRtEngine(graph, dim=6, graph_fingerprint="known").fingerprint != same
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: CudaDevice("B", "9.0", "13.0"))
    assert TensorRtEngine(graph, dim=6).fingerprint != same
    monkeypatch.setattr(gpu.module, "__version__", "11.9")
    assert TensorRtEngine(graph, dim=6).fingerprint != same


def test_without_tensorrt(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=r"edgetl\[tensorrt\]") as caught:
        open_engine(TensorRT(), graph, dim=6)
    assert caught.value.exit_code == 3


def test_without_a_gpu(gpu, graph, monkeypatch):
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: None)
    with pytest.raises(MissingDependencyError, match="NVIDIA GPUs only") as caught:
        TensorRtEngine(graph, dim=6)
    assert caught.value.exit_code == 3


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


def test_where_a_device_keeps_engines(monkeypatch):
    monkeypatch.setenv("EDGETL_CACHE_DIR", "~/engines")
    assert device_cache_dir() == Path.home() / "engines"
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("EDGETL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.home() / "elsewhere"))
    assert device_cache_dir() == platformdirs.user_cache_path("edgetl", appauthor=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert device_cache_dir() == platformdirs.user_cache_path("edgetl", appauthor=False)
