"""The ONNX Runtime engine.

It runs a feature graph file. It knows nothing about torch, or about where the graph came from.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.engines.base import (
    Output,
    Prepared,
    Purpose,
    available_cores,
    check_batch,
    check_prepared,
    engine_fingerprint,
    find_output,
    graph_identity,
    hash_graph,
    in_chunks,
    is_ort_format,
)
from edgetl.engines.lane import Lane, tie
from edgetl.engines.processor import arithmetic
from edgetl.errors import CorruptError, EdgetlError, MissingDependencyError
from edgetl.targets import OnnxRuntime

_SEVERITY_ERROR = 3  # ONNX Runtime's numbering: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


_THREADS_OF_ONE_CALL = {
    # Threads wait for the next layer by spinning, which is soonest; but not for the next call: at
    # 30 frames per second that took a core, for nothing.
    "session.force_spinning_stop": "1",
    # A layer is handed out in pieces that get smaller, so that a thread that was held up by another
    # process does not hold up the layer.
    "session.dynamic_block_base": "4",
}

_INPUT_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(uint8)": np.dtype(np.uint8),
}


class _Ends(NamedTuple):
    """The two ends of a session that are used."""

    image: str
    output: str
    shape: tuple[int | None, ...]  # of one image
    dtype: np.dtype[Any]
    batch: int  # the fixed batch length, or 0


class _Bound:
    """Memory that is tied to a session: a batch, and the features that come of it.

    On the CPU it is read and written in place, where `session.run` would allocate, copy and
    convert. For a GPU the batch is copied when it is bound, and so has to be bound for every run.
    """

    def __init__(
        self, session: Any, ends: _Ends, batch: NDArray[Any], dim: int, in_place: bool
    ) -> None:
        self.batch = batch
        self.features = np.empty((len(batch), dim), np.float32)
        self.place = _place(batch)
        self._session = session
        self._image = ends.image
        self._in_place = in_place
        self._binding = session.io_binding()
        self._binding.bind_cpu_input(ends.image, batch)
        to = self.features.__array_interface__["data"][0]
        self._binding.bind_output(ends.output, "cpu", 0, np.float32, self.features.shape, to)

    def run(self) -> NDArray[np.float32]:
        """Compute the features of what the batch holds now; the next run overwrites them."""
        try:
            if not self._in_place:
                self._binding.bind_cpu_input(self._image, self.batch)
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # its exception classes share no base
            raise _failed(self.batch, error) from error
        return self.features


class OrtEngine:
    """A feature graph run by ONNX Runtime.

    On the CPU, extraction runs one single-threaded call per core, since a small graph split over
    threads waits at the end of every layer; serving splits the one call over all cores.

    Args:
        graph: The ONNX file or one in ONNX Runtime's own format (.ort), or its bytes.
        target: Provider and threads.
        dim: Length of one feature vector, or of one row of the output asked for.
        graph_fingerprint: The graph's fingerprint where it is known; its sha256 if None.
        purpose: What to be fast at.
        output: Which output to give; ``"probabilities"`` of a graph with its head inside.
        prepared: What it is going to be given; a graph that takes something else is refused when it
            is loaded. Not checked if None.
        optimise: Whether ONNX Runtime may rewrite the graph. Without it nodes run as written, which
            a graph that is quantized for TensorRT needs: there the optimiser stores biases as
            integers, in steps of a product of two float16 scales that is too small for float16.

    Raises:
        MissingDependencyError: onnxruntime, or the provider asked for, is not there.
        CorruptError: The graph's file can't be read.
    """

    def __init__(
        self,
        graph: Path | bytes,
        *,
        target: OnnxRuntime | None = None,
        dim: int,
        graph_fingerprint: str | None = None,
        purpose: Purpose = "extract",
        output: Output = "features",
        prepared: Prepared | None = None,
        optimise: bool = True,
    ) -> None:
        self.target = target or OnnxRuntime()
        self.dim = dim
        self.purpose = purpose
        self.output: Output = output
        self.optimise = optimise
        self._prepared = prepared
        self._graph = graph
        self._module = require(
            "onnxruntime", extra="ort-gpu" if self.target.provider == "cuda" else "ort"
        )
        _check_provider(self._module, self.target.provider)
        self.fingerprint = engine_fingerprint(
            engine="onnxruntime",
            version=self._module.__version__,
            device=self.target.provider if optimise else f"{self.target.provider}, as written",
            precision=arithmetic(graph),
            graph=graph_identity(graph_fingerprint or hash_graph(graph), output),
        )
        cores = available_cores()
        on_cpu = self.target.provider == "cpu"
        extracting = purpose == "extract" and on_cpu
        self._threads = self.target.threads or (1 if extracting else cores)
        self.concurrency = max(1, cores // self._threads) if extracting else 1
        self.preferred_batch = (4 if on_cpu else 64) if purpose == "extract" else 1
        self._lock = threading.Lock()
        self._session: Any = None
        self._local = threading.local()
        self._ends = _Ends("", "", (), np.dtype(np.float32), 0)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the features of a batch; see :class:`edgetl.engines.Engine`.

        Raises:
            CorruptError: The graph is no valid file, or not a feature graph of this `dim`.
            EdgetlError: ONNX Runtime failed while running the graph.
        """
        session = self._session or self._load()
        ends = self._ends
        batch = check_batch(batch, ends.shape, ends.dtype)
        if len(batch) == 0:
            return np.empty((0, self.dim), np.float32)
        if ends.batch in (0, len(batch)):
            return self._run(session, batch)
        return in_chunks(batch, ends.batch, lambda part: self._run(session, part))

    def open_lane(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Lane:
        """Memory for batches of one shape, tied to the session once; see `edgetl.engines.lane`.

        Raises:
            CorruptError: As for a call.
            TypeError: The graph takes batches of another type.
            ValueError: It takes batches of another shape.
        """
        session = self._session or self._load()
        ends = self._ends

        def bind(batch: NDArray[Any]) -> Lane:
            return self._bind(session, check_batch(batch, ends.shape, ends.dtype))

        return tie(self, shape, dtype, fixed=ends.batch, make=bind)

    def _run(self, session: Any, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The features of a batch; a thread that keeps its buffer pays for the binding once."""
        bound: _Bound | None = getattr(self._local, "bound", None)
        if bound is None or bound.place != _place(batch):
            bound = self._local.bound = self._bind(session, batch)
        return bound.run().copy()

    def _bind(self, session: Any, batch: NDArray[Any]) -> _Bound:
        try:
            return _Bound(session, self._ends, batch, self.dim, self.target.provider == "cpu")
        except Exception as error:  # its exception classes share no base
            raise _failed(batch, error) from error

    def _load(self) -> Any:
        with self._lock:
            if self._session is None:
                session = self._open()
                ends = _check_interface(session, self.dim, self.output)
                check_prepared(self._prepared, ends.shape, ends.dtype)
                self._ends = ends
                self._session = session
            return self._session

    def _open(self) -> Any:
        options = self._module.SessionOptions()
        options.log_severity_level = _SEVERITY_ERROR
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        if self._threads > 1:
            for name, value in _THREADS_OF_ONE_CALL.items():
                options.add_session_config_entry(name, value)
        if not self.optimise:
            levels = self._module.GraphOptimizationLevel
            options.graph_optimization_level = levels.ORT_DISABLE_ALL
        providers: list[Any] = ["CPUExecutionProvider"]
        if self.target.provider == "cuda":
            # TensorFloat-32 keeps 10 bits of each factor; the features would not be fp32's.
            providers.insert(0, ("CUDAExecutionProvider", {"use_tf32": "0"}))
        if is_ort_format(self._graph):
            options.add_session_config_entry("session.load_model_format", "ORT")
        source = self._graph if isinstance(self._graph, bytes) else str(self._graph)
        try:
            session = self._module.InferenceSession(source, options, providers=providers)
        except Exception as error:  # its exception classes share no base
            raise CorruptError(
                f"onnxruntime can't load the graph {_name(self._graph)}: {_first_line(error)}"
            ) from error
        # It falls back to the CPU by itself.
        if self.target.provider == "cuda" and "CUDA" not in session.get_providers()[0]:
            raise _no_cuda("onnxruntime found no usable CUDA device or libraries")
        return session


def _check_provider(module: Any, provider: str) -> None:
    if provider == "cuda" and "CUDAExecutionProvider" not in module.get_available_providers():
        raise _no_cuda("this onnxruntime is built without CUDA")


def _no_cuda(reason: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"{reason}; on a machine with an NVIDIA GPU replace onnxruntime by: "
        "pip uninstall onnxruntime && pip install 'edgetl[ort-gpu]'"
    )


def _check_interface(session: Any, dim: int, wanted: Output) -> _Ends:
    """The ends of a session, checked."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or inputs[0].type not in _INPUT_TYPES:
        raise CorruptError(
            "not a feature graph: it must have one float32 or uint8 input, found "
            f"{[(item.name, item.type) for item in inputs]}"
        )
    output = outputs[find_output([item.name for item in outputs], wanted)]
    if output.type != "tensor(float)":
        raise CorruptError(f"the graph's {wanted} are {output.type}, expected tensor(float)")
    found = output.shape
    if len(found) != 2 or (isinstance(found[1], int) and found[1] != dim):
        raise CorruptError(f"the graph's output has shape {found}, expected (n, {dim})")
    first, *rest = inputs[0].shape
    return _Ends(
        image=inputs[0].name,
        output=output.name,
        shape=tuple(item if isinstance(item, int) else None for item in rest),
        dtype=_INPUT_TYPES[inputs[0].type],
        batch=first if isinstance(first, int) and first > 0 else 0,
    )


def _place(batch: NDArray[Any]) -> tuple[int, tuple[int, ...]]:
    """Where a batch lies in memory, and its shape."""
    return batch.__array_interface__["data"][0], batch.shape


def _failed(batch: NDArray[Any], error: Exception) -> EdgetlError:
    return EdgetlError(
        f"onnxruntime failed on a batch of shape {batch.shape}: {_first_line(error)}"
    )


def _name(graph: Path | bytes) -> str:
    return f"of {len(graph)} bytes" if isinstance(graph, bytes) else str(graph)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
