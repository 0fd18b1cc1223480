"""The OpenVINO engine, on the CPU.

It runs a feature graph file. It knows nothing about torch, or about where the graph came from.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.engines.base import (
    Purpose,
    available_cores,
    check_batch,
    engine_fingerprint,
    hash_graph,
)
from edgetl.errors import CorruptError, EdgetlError
from edgetl.targets import OpenVino


class OpenVinoEngine:
    """A feature graph run by OpenVINO in float32.

    Args:
        graph: The ONNX file, or its bytes.
        target: Threads.
        dim: Length of one feature vector.
        graph_fingerprint: The graph's fingerprint where it is known; its sha256 if None.
        purpose: What to be fast at.

    Raises:
        MissingDependencyError: openvino is not installed.
        CorruptError: The graph's file can't be read.
    """

    def __init__(
        self,
        graph: Path | bytes,
        *,
        target: OpenVino | None = None,
        dim: int,
        graph_fingerprint: str | None = None,
        purpose: Purpose = "extract",
    ) -> None:
        self.target = target or OpenVino()
        self.dim = dim
        self.purpose = purpose
        self._graph = graph
        self._module = require("openvino", extra="openvino")
        self.fingerprint = engine_fingerprint(
            engine="openvino",
            version=self._module.get_version(),
            device="cpu",
            precision="fp32",
            graph=graph_fingerprint or hash_graph(graph),
        )
        cores = available_cores()
        extracting = purpose == "extract"
        self._threads = self.target.threads or (1 if extracting else cores)
        self.concurrency = max(1, cores // self._threads) if extracting else 1
        self.preferred_batch = 4 if extracting else 1
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[Any] | None = None
        self._shape: tuple[int | None, ...] = ()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the features of a batch; see :class:`edgetl.engines.Engine`.

        Raises:
            CorruptError: The graph is no valid ONNX file, or not a feature graph of this `dim`.
            EdgetlError: OpenVINO failed while running the graph.
        """
        requests = self._requests or self._load()
        batch = check_batch(batch, self._shape)
        if len(batch) == 0:
            return np.empty((0, self.dim), np.float32)
        request = requests.get()  # waits while `concurrency` calls are under way
        try:
            request.infer({0: batch}, share_inputs=True)
            return np.array(request.get_output_tensor(0).data, np.float32)
        except RuntimeError as error:
            raise EdgetlError(
                f"openvino failed on a batch of shape {batch.shape}: {_last_line(error)}"
            ) from error
        finally:
            requests.put(request)

    def _load(self) -> queue.SimpleQueue[Any]:
        with self._lock:
            if self._requests is None:
                compiled = self._compile()
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
        self._shape = _check_interface(compiled, self.dim)
        return compiled


def _check_interface(compiled: Any, dim: int) -> tuple[int | None, ...]:
    if len(compiled.inputs) != 1 or len(compiled.outputs) != 1:
        raise CorruptError(
            "not a feature graph: it must have one input and one output, found "
            f"{len(compiled.inputs)} and {len(compiled.outputs)}"
        )
    found = compiled.outputs[0].get_partial_shape()
    if found.rank.get_length() != 2 or (found[1].is_static and found[1].get_length() != dim):
        raise CorruptError(f"the graph's output has shape {found}, expected (n, {dim})")
    shape = compiled.inputs[0].get_partial_shape()
    return tuple(item.get_length() if item.is_static else None for item in list(shape)[1:])


def _name(graph: Path | bytes) -> str:
    return f"of {len(graph)} bytes" if isinstance(graph, bytes) else str(graph)


def _last_line(error: Exception) -> str:
    """The last line of its message: those before tell places in OpenVINO's own source."""
    return str(error).strip().rpartition("\n")[2]
