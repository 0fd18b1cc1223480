"""The OpenVINO engine, on the CPU.

It runs a feature graph file. It knows nothing about torch, or about where the graph came from.
"""

from __future__ import annotations

import queue
import sys
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
from edgetl.errors import CorruptError, EdgetlError
from edgetl.targets import OpenVino


class _Ends(NamedTuple):
    """The two ends of a compiled graph that are used."""

    output: int  # its place among the outputs
    shape: tuple[int | None, ...]  # of one image
    dtype: np.dtype[Any]
    batch: int  # the fixed batch length, or 0


class _Tied:
    """A batch and the features that come of it, which one request reads and writes in place."""

    def __init__(self, module: Any, compiled: Any, ends: _Ends, batch: NDArray[Any], dim: int):
        self.batch = batch
        self.features = np.empty((len(batch), dim), np.float32)
        self._request = compiled.create_infer_request()
        self._request.set_input_tensor(module.Tensor(batch, shared_memory=True))
        features = module.Tensor(self.features, shared_memory=True)
        self._request.set_output_tensor(ends.output, features)

    def run(self) -> NDArray[np.float32]:
        """Compute the features of what the batch holds now; the next run overwrites them."""
        try:
            self._request.infer(share_outputs=True)
        except RuntimeError as error:
            raise _failed(self.batch, error) from error
        return self.features


_TELEMETRY = "openvino_telemetry"
_importing = threading.Lock()


class OpenVinoEngine:
    """A feature graph run by OpenVINO, in float32 where the graph does not say otherwise.

    Args:
        graph: The ONNX file, or its bytes.
        target: Threads.
        dim: Length of one feature vector, or of one row of the output asked for.
        graph_fingerprint: The graph's fingerprint where it is known; its sha256 if None.
        purpose: What to be fast at.
        output: Which output to give; ``"probabilities"`` of a graph with its head inside.
        prepared: What it is going to be given; a graph that takes something else is refused when it
            is loaded. Not checked if None.

    Raises:
        MissingDependencyError: openvino is not installed.
        CorruptError: The graph's file can't be read.
        ValueError: The graph is in ONNX Runtime's own format, which nothing else reads.
    """

    def __init__(
        self,
        graph: Path | bytes,
        *,
        target: OpenVino | None = None,
        dim: int,
        graph_fingerprint: str | None = None,
        purpose: Purpose = "extract",
        output: Output = "features",
        prepared: Prepared | None = None,
    ) -> None:
        self.target = target or OpenVino()
        self.dim = dim
        self.purpose = purpose
        self.output: Output = output
        self._prepared = prepared
        self._graph = graph
        self._module = import_openvino()
        if is_ort_format(graph):
            raise ValueError(
                f"the graph {_name(graph)} is in ONNX Runtime's own format, which OpenVINO can't "
                "read; use OnnxRuntime(), or export an ONNX file"
            )
        self.fingerprint = engine_fingerprint(
            engine="openvino",
            version=self._module.get_version(),
            device="cpu",
            precision=arithmetic(graph),
            graph=graph_identity(graph_fingerprint or hash_graph(graph), output),
        )
        cores = available_cores()
        extracting = purpose == "extract"
        self._threads = self.target.threads or (1 if extracting else cores)
        self.concurrency = max(1, cores // self._threads) if extracting else 1
        self.preferred_batch = 4 if extracting else 1
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[Any] | None = None
        self._compiled: Any = None
        self._ends = _Ends(0, (), np.dtype(np.float32), 0)

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the features of a batch; see :class:`edgetl.engines.Engine`.

        Raises:
            CorruptError: The graph is no valid ONNX file, or not a feature graph of this `dim`.
            EdgetlError: OpenVINO failed while running the graph.
        """
        requests = self._requests or self._load()
        ends = self._ends
        batch = check_batch(batch, ends.shape, ends.dtype)
        if len(batch) == 0:
            return np.empty((0, self.dim), np.float32)
        if ends.batch in (0, len(batch)):
            return self._run(requests, batch)
        return in_chunks(batch, ends.batch, lambda part: self._run(requests, part))

    def open_lane(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Lane:
        """Memory for batches of one shape, tied to a request once; see `edgetl.engines.lane`.

        Raises:
            CorruptError: As for a call.
            TypeError: The graph takes batches of another type.
            ValueError: It takes batches of another shape.
        """
        if self._requests is None:
            self._load()
        ends = self._ends

        def make(batch: NDArray[Any]) -> Lane:
            batch = check_batch(batch, ends.shape, ends.dtype)
            try:
                return _Tied(self._module, self._compiled, ends, batch, self.dim)
            except RuntimeError as error:
                raise _failed(batch, error) from error

        return tie(self, shape, dtype, fixed=ends.batch, make=make)

    def _run(self, requests: queue.SimpleQueue[Any], batch: NDArray[Any]) -> NDArray[np.float32]:
        request = requests.get()  # waits while `concurrency` calls are under way
        try:
            request.infer({0: batch}, share_inputs=True)
            return np.array(request.get_output_tensor(self._ends.output).data, np.float32)
        except RuntimeError as error:
            raise _failed(batch, error) from error
        finally:
            requests.put(request)

    def _load(self) -> queue.SimpleQueue[Any]:
        with self._lock:
            if self._requests is None:
                compiled = self._compiled = self._compile()
                requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
                for _ in range(self.concurrency):
                    requests.put(compiled.create_infer_request())
                self._requests = requests
            return self._requests

    def _compile(self) -> Any:
        extracting = self.purpose == "extract"
        options = {
            "PERFORMANCE_HINT": "THROUGHPUT" if extracting else "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # machines with AMX would compute in bfloat16
            "NUM_STREAMS": str(self.concurrency),
            "INFERENCE_NUM_THREADS": str(self.concurrency * self._threads),
        }
        core = self._module.Core()
        try:
            if isinstance(self._graph, bytes):
                model = core.read_model(self._graph)
            else:
                model = core.read_model(str(self._graph))
            compiled = core.compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise CorruptError(
                f"openvino can't load the graph {_name(self._graph)}: {_last_line(error)}"
            ) from error
        ends = self._ends = _check_interface(compiled, self.dim, self.output)
        check_prepared(self._prepared, ends.shape, ends.dtype)
        return compiled


def import_openvino() -> Any:
    """The openvino package without its telemetry, which would fork a sender at the import.

    Where that package is missing, openvino itself puts an empty one in its place.
    """
    with _importing:
        hidden = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
        if hidden:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # stops an import
        try:
            return require("openvino", extra="openvino")
        finally:
            if hidden:
                del sys.modules[_TELEMETRY]


def _check_interface(compiled: Any, dim: int, wanted: Output) -> _Ends:
    """The ends of a compiled graph, checked."""
    kinds = [item.get_element_type().to_dtype() for item in compiled.inputs]
    if len(kinds) != 1 or kinds[0] not in (np.float32, np.uint8):
        raise CorruptError(
            "not a feature graph: it must have one float32 or uint8 input, found "
            f"{[np.dtype(kind).name for kind in kinds]}"
        )
    names = [item.get_names() for item in compiled.outputs]  # each may have several
    place = find_output([wanted if wanted in some else min(some) for some in names], wanted)
    found = compiled.outputs[place].get_partial_shape()
    if found.rank.get_length() != 2 or (found[1].is_static and found[1].get_length() != dim):
        raise CorruptError(f"the graph's output has shape {found}, expected (n, {dim})")
    first, *rest = list(compiled.inputs[0].get_partial_shape())
    return _Ends(
        output=place,
        shape=tuple(item.get_length() if item.is_static else None for item in rest),
        dtype=np.dtype(kinds[0]),
        batch=first.get_length() if first.is_static else 0,
    )


def _failed(batch: NDArray[Any], error: Exception) -> EdgetlError:
    return EdgetlError(f"openvino failed on a batch of shape {batch.shape}: {_last_line(error)}")


def _name(graph: Path | bytes) -> str:
    return f"of {len(graph)} bytes" if isinstance(graph, bytes) else str(graph)


def _last_line(error: Exception) -> str:
    """The last line of its message: those before tell places in OpenVINO's own source."""
    return str(error).strip().rpartition("\n")[2]
