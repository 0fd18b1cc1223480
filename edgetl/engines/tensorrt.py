"""The TensorRT engine, on an NVIDIA GPU.

It runs a compiled engine, and compiles the ONNX graph itself where there is none that fits this
machine. Torch-free: TensorRT's own runtime, and CUDA through `edgetl.engines.cuda`. It knows
nothing about where the graph came from.

Its calls follow the interface of TensorRT 10 and 11; it has not been run on a GPU yet (its tests
play one).
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetl.engines import cuda
from edgetl.engines.base import (
    Output,
    Prepared,
    Purpose,
    check_batch,
    check_prepared,
    engine_fingerprint,
    find_output,
    graph_identity,
    hash_graph,
)
from edgetl.engines.trt_backend import EngineStamp, find_backend, make_stamp
from edgetl.engines.trt_builder import build_cached, make_logger
from edgetl.errors import CorruptError, EdgetlError
from edgetl.targets import TensorRT

_log = logging.getLogger("edgetl.tensorrt")


class CompiledGraph(NamedTuple):
    """An engine that was compiled before, such as the one in a bundle."""

    content: bytes
    stamp: EngineStamp


class _Ends(NamedTuple):
    """The memory between a batch and its features, and what fits in it."""

    image: str
    shape: tuple[int, ...]  # of one image
    capacity: int
    fixed: bool  # whether a call always takes `capacity` images
    host_in: NDArray[Any]
    host_out: NDArray[np.float32]
    device_in: int
    device_out: int


class TensorRtEngine:
    """A feature graph run by TensorRT in the precision that is written in the graph.

    Batches go through pinned memory in pieces of at most `target.max_batch`. An engine that was
    compiled for another graph, TensorRT or device is compiled again from the graph, with a message
    in the log, and kept in the cache: ``EDGETL_CACHE_DIR``, by default the user's cache folder.

    Args:
        graph: The ONNX file, or its bytes.
        target: The largest batch, and how to compile.
        dim: Length of one feature vector, or of one row of the output asked for.
        output: Which output to give; ``"probabilities"`` of a graph with its head inside.
        prepared: What it is going to be given; a graph that takes something else is refused when it
            is loaded. Not checked if None.
        graph_fingerprint: The graph's fingerprint where it is known; its sha256 if None.
        purpose: What to be fast at.
        compiled: The engine that was compiled from this graph, if there is one.

    Raises:
        MissingDependencyError: Neither tensorrt nor tensorrt_rtx is installed, or no GPU is found.
        CorruptError: The graph's file can't be read.
    """

    concurrency = 1

    def __init__(
        self,
        graph: Path | bytes,
        *,
        target: TensorRT | None = None,
        dim: int,
        output: Output = "features",
        prepared: Prepared | None = None,
        graph_fingerprint: str | None = None,
        purpose: Purpose = "extract",
        compiled: CompiledGraph | None = None,
    ) -> None:
        self.target = target or TensorRT()
        self.dim = dim
        self.output: Output = output
        self._prepared = prepared
        self.purpose = purpose
        self._graph = graph
        self._compiled = compiled
        self._backend = find_backend()
        device = cuda.find_device()
        if device is None:
            raise cuda.no_device("no device or no driver")
        self.fingerprint = engine_fingerprint(
            engine=self._backend.name,
            version=self._backend.version,
            device=f"{device.name} {device.capability}",
            precision="as the graph says",
            graph=graph_identity(graph_fingerprint or hash_graph(graph), output),
        )
        self.preferred_batch = self.target.max_batch if purpose == "extract" else 1
        self._lock = threading.Lock()
        self._context: Any = None
        self._runtime: Any = None  # has to live as long as its engine, and that as its context
        self._engine: Any = None
        self._logger: Any = None
        self._ends: _Ends | None = None
        self._cuda: cuda.Cuda | None = None

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the features of a batch; see :class:`edgetl.engines.Engine`.

        Raises:
            CorruptError: The graph is no valid ONNX file, or not a feature graph of this `dim`.
            WeightsError: TensorRT can't compile the graph.
            EdgetlError: TensorRT or CUDA failed while running it.
        """
        with self._lock:  # one context, one stream, one pair of buffers
            ends = self._ends or self._load()
            batch = check_batch(batch, ends.shape, ends.host_in.dtype)
            features = np.empty((len(batch), self.dim), np.float32)
            for start in range(0, len(batch), ends.capacity):
                stop = min(start + ends.capacity, len(batch))
                self._run(ends, batch[start:stop], features[start:stop])
        return features

    def _run(self, ends: _Ends, part: NDArray[Any], features: NDArray[np.float32]) -> None:
        """Run one piece of a batch, from host memory to host memory."""
        assert self._cuda is not None
        count = len(part)
        ends.host_in[:count] = part
        if ends.fixed and count < ends.capacity:
            ends.host_in[count:] = 0
            count = ends.capacity
        self._cuda.to_device(ends.device_in, ends.host_in[:count])
        ready = ends.fixed or self._context.set_input_shape(ends.image, (count, *ends.shape))
        if not ready or not self._context.execute_async_v3(self._cuda.stream):
            self._cuda.synchronize()
            raise EdgetlError(
                f"{self._backend} failed on a batch of shape {part.shape}: {self._last_error()}"
            )
        self._cuda.to_host(ends.host_out[:count], ends.device_out)
        self._cuda.synchronize()
        features[:] = ends.host_out[: len(part)]

    def _load(self) -> _Ends:
        self._logger = make_logger(self._backend)
        self._cuda = cuda.CudaRuntime()
        weakref.finalize(self, self._cuda.close)
        self._engine = self._open()
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EdgetlError(
                f"{self._backend} can't make an execution context: {self._last_error()}"
            )
        self._ends = self._bind(self._cuda)
        return self._ends

    def _open(self) -> Any:
        """The engine: the one given if it fits and loads, else compiled from the graph."""
        graph = self._graph if isinstance(self._graph, bytes) else _read(self._graph)
        wanted = make_stamp(
            self._backend, graph=hashlib.sha256(graph).hexdigest(), target=self.target
        )
        if self._compiled is not None:
            reason = self._compiled.stamp.misfit(wanted)
            if reason is None:
                engine = self._deserialize(self._compiled.content)
                if engine is not None:
                    return engine
                reason = f"{self._backend} can't load it: {self._last_error()}"
            _log.warning(
                "the compiled engine is compiled again from the ONNX graph, which can take "
                "minutes: %s",
                reason,
            )
        built = build_cached(
            graph, self.target, backend=self._backend, cache_dir=device_cache_dir()
        )
        _log.info(
            "%s %s in %.1f s", built.path, "found" if built.cached else "compiled", built.seconds
        )
        engine = self._deserialize(built.read())
        if engine is None:
            raise EdgetlError(
                f"{self._backend} can't load the engine {built.path} that it compiled: "
                f"{self._last_error()}"
            )
        return engine

    def _deserialize(self, content: bytes) -> Any:
        self._runtime = self._backend.module.Runtime(self._logger)
        return self._runtime.deserialize_cuda_engine(content)

    def _bind(self, memory: cuda.Cuda) -> _Ends:
        """Check the engine's ends, and tie memory to them."""
        module, engine = self._backend.module, self._engine
        names = [engine.get_tensor_name(x) for x in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        inputs = [name for name in names if modes[name] == module.TensorIOMode.INPUT]
        outputs = [name for name in names if modes[name] == module.TensorIOMode.OUTPUT]
        types: dict[Any, np.dtype[Any]] = {
            module.DataType.FLOAT: np.dtype(np.float32),
            module.DataType.UINT8: np.dtype(np.uint8),
        }
        dtype = types.get(engine.get_tensor_dtype(inputs[0])) if len(inputs) == 1 else None
        if dtype is None:
            raise CorruptError(
                "not a feature graph: it must have one float32 or uint8 input, found "
                f"{[(name, str(engine.get_tensor_dtype(name))) for name in inputs]}"
            )
        image, wanted = inputs[0], outputs[find_output(outputs, self.output)]
        found = tuple(engine.get_tensor_shape(wanted))
        kind = engine.get_tensor_dtype(wanted)
        if kind != module.DataType.FLOAT or len(found) != 2 or found[1] not in (-1, self.dim):
            raise CorruptError(
                f"the graph's output {wanted} is {kind} of shape {found}, expected float32 "
                f"(n, {self.dim})"
            )
        batch, *rest = tuple(engine.get_tensor_shape(image))
        capacity = batch if batch > 0 else engine.get_tensor_profile_shape(image, 0)[2][0]
        shape = tuple(rest)
        check_prepared(self._prepared, shape, dtype)
        host_in = memory.pinned((capacity, *shape), dtype)
        host_out = memory.pinned((capacity, self.dim), np.dtype(np.float32))
        device_in = memory.device_memory(host_in.nbytes)
        self._context.set_tensor_address(image, device_in)
        device_out = 0
        for name in outputs:  # each needs memory, also those nobody asked for
            address = memory.device_memory(_output_size(engine, name, capacity))
            self._context.set_tensor_address(name, address)
            device_out = address if name == wanted else device_out
        return _Ends(image, shape, capacity, batch > 0, host_in, host_out, device_in, device_out)

    def _last_error(self) -> str:
        return self._logger.errors[-1] if self._logger.errors else "it does not say why"


def device_cache_dir() -> Path:
    """Where engines are kept: ``EDGETL_CACHE_DIR``, or the user's cache folder of the platform."""
    named = os.environ.get("EDGETL_CACHE_DIR")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "edgetl" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgetl"


def _output_size(engine: Any, name: str, capacity: int) -> int:
    """Bytes of an output at the largest batch; one that is no (n, ...) array is refused."""
    first, *rest = tuple(engine.get_tensor_shape(name))
    if any(length < 0 for length in rest):
        raise CorruptError(
            f"the graph's output {name} has shape {(first, *rest)}, and only the batch may be "
            "dynamic (-1) for TensorRT"
        )
    count = max(first, capacity) * int(np.prod(rest, dtype=np.int64))
    return int(count * engine.get_tensor_dtype(name).itemsize)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptError(f"the graph {path} can't be read: {error.strerror}") from error
