"""The peers of `export.py`: onnxruntime's static quantization, OpenVINO, and OpenVINO with NNCF.

Each function makes something that is called with a batch and gives features, with the peer's
defaults and as many threads as everybody. It knows nothing about edgetl.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Call = Callable[[np.ndarray], np.ndarray]


class Photos(CalibrationDataReader):
    """Photos one by one, as onnxruntime's calibraters want them."""

    def __init__(self, photos: np.ndarray, name: str) -> None:
        self._photos = iter(photos)
        self._name = name

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next photo as a batch, or None after the last one."""
        photo = next(self._photos, None)
        return None if photo is None else {self._name: photo[None]}


def ort_call(graph: Path, threads: int) -> Call:
    """A session with default options, but for its threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def ort_static(graph: Path, photos: np.ndarray, folder: Path, activations: str) -> Path:
    """Onnxruntime's static quantization with its defaults, after its own preparation of the graph.

    Args:
        graph: The float graph.
        photos: (n, ...) preprocessed calibration photos.
        folder: Where to write.
        activations: ``"u8"`` or ``"s8"`` (the default).
    """
    prepared = folder / "prepared.onnx"
    result = folder / f"{graph.stem}.ort-{activations}.onnx"
    name = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).get_inputs()[0]
    kind = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}[activations]
    with _quiet():
        quant_pre_process(str(graph), str(prepared))
        quantize_static(
            str(prepared),
            str(result),
            Photos(photos, name.name),
            quant_format=QuantFormat.QDQ,
            activation_type=kind,
        )
    return result


def openvino_call(graph: Path, threads: int, photos: np.ndarray | None = None) -> Call:
    """OpenVINO with its latency hint; quantized by NNCF with its defaults if there are photos.

    Raises:
        ImportError: openvino or nncf is not installed.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(str(graph))
    if photos is not None:
        os.environ.setdefault("NNCF_CI", "1")  # NNCF's own switch for its telemetry
        with _quiet():
            import nncf

            data = nncf.Dataset([photo[None] for photo in photos])
            model = nncf.quantize(model, data, subset_size=len(photos))
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": str(threads),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def call(batch: np.ndarray) -> np.ndarray:
        request.infer({0: batch}, share_inputs=True)
        return request.get_output_tensor(0).data

    return call


@contextlib.contextmanager
def _quiet():
    """Keep progress bars and advice out of the benchmark's output."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
