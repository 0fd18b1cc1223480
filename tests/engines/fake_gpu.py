"""A GPU, played on the host.

Device memory is host memory that only copies may touch, work is queued and done when somebody waits
for it, and executing an engine runs the ONNX graph it was compiled from by onnxruntime.
"""

import sys

import numpy as np
import onnxruntime

from edgetl.engines.cuda import CudaDevice
from edgetl.engines.trt_builder import build_cached

DEVICE = CudaDevice("NVIDIA Test", "8.9", "13.0")


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
        self.cuda = FakeCuda.made[-1]  # made just before the engine is loaded
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
        cuda = self.cuda
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
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # As written: the optimiser would round biases in a way that TensorRT does not.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
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
        self.built = []  # graphs, in the order of compiling
        self.loaded = []

    def know(self, built, graph):
        self.graphs[built.read()] = (graph, built.stamp.max_batch)

    def deserialize(self, content):
        if content not in self.graphs:
            return None
        self.loaded.append(FakeEngine(self.module, *self.graphs[content]))
        return self.loaded[-1]


def play(monkeypatch, module):
    """Put a GPU into this machine, with `module` in the place of ``tensorrt_rtx``."""
    machine = Gpu(module)
    FakeCuda.made.clear()

    class Runtime:
        def __init__(self, logger):
            assert isinstance(logger, module.ILogger)

        def deserialize_cuda_engine(self, content):
            return machine.deserialize(content)

    def build(graph, target, **options):
        built = build_cached(graph, target, **options)
        if not built.cached:
            machine.built.append(graph)
        machine.know(built, graph)
        return built

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: DEVICE)
    monkeypatch.setattr("edgetl.engines.cuda.CudaRuntime", FakeCuda)
    monkeypatch.setattr(module, "Runtime", Runtime)
    monkeypatch.setattr("edgetl.engines.tensorrt.build_cached", build)
    monkeypatch.setattr("edgetl.exporter.compile_trt.build_cached", build)
    return machine
