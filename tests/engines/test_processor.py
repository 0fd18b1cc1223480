"""What a fingerprint says of int8: features depend on the processor, and others do not."""

import platform
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetl.engines import OpenVinoEngine, OrtEngine, processor

DIM = 6


@pytest.fixture(scope="session")
def quantized(graph, tmp_path_factory):
    """The small graph with its input rounded to 8 bits."""
    model = onnx.load(graph)
    ends = [np.float32(0.05), np.uint8(128)]
    names = ["scale", "zero"]
    for name, value in zip(names, ends, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.graph.node[0].input[0] = "rounded"
    for kind, given, made in (
        ("DequantizeLinear", "bytes", "rounded"),
        ("QuantizeLinear", "images", "bytes"),
    ):
        model.graph.node.insert(0, helper.make_node(kind, [given, *names], [made]))
    onnx.checker.check_model(model)
    path = tmp_path_factory.mktemp("quantized") / "backbone.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def fingerprints(graph, monkeypatch, engine):
    """On three kinds of processors."""
    found = []
    for machine, overflows in (("x86_64", True), ("x86_64", False), ("aarch64", False)):
        with monkeypatch.context() as patch:
            patch.setattr(processor, "saturates", lambda flag=overflows: flag)
            patch.setattr(platform, "machine", lambda name=machine: name)
            found.append(engine(graph, dim=DIM, graph_fingerprint="same").fingerprint)
    return found


@pytest.mark.parametrize("engine", [OrtEngine, OpenVinoEngine])
@pytest.mark.parametrize("whole", [False, True], ids=["file", "bytes"])
def test_int8_features_are_known_by_the_kind_of_processor(
    engine, whole, graph, quantized, monkeypatch
):
    if engine is OpenVinoEngine:
        pytest.importorskip("openvino")
        _ = OpenVinoEngine(graph, dim=DIM, graph_fingerprint="same")  # asks for the machine once
    read = Path.read_bytes if whole else Path
    assert len(set(fingerprints(read(quantized), monkeypatch, engine))) == 3
    assert len(set(fingerprints(read(graph), monkeypatch, engine))) == 1


def ort_format(graph, path):
    """The graph in ONNX Runtime's own format, written by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return path


def test_quantized_graphs_are_found_in_both_formats(graph, quantized, tmp_path):
    assert processor.is_quantized(ort_format(quantized, tmp_path / "int8.ort"))
    assert not processor.is_quantized(ort_format(graph, tmp_path / "float.ort"))


def test_operators_are_found_wherever_they_stand(tmp_path):
    path = tmp_path / "large.onnx"
    for place in (0, processor._PIECE - 5, processor._PIECE - 1, 2 * processor._PIECE - 9):
        content = bytearray(3 * processor._PIECE)
        content[place : place + 7] = b"QLinear"
        path.write_bytes(content)
        assert processor.is_quantized(path), place
    path.write_bytes(bytes(3 * processor._PIECE))
    assert not processor.is_quantized(path)
    assert not processor.is_quantized(tmp_path / "none.onnx")


def test_weights_count_for_nothing(tmp_path):
    """Integers alone, as in float graphs with shapes, are no int8 arithmetic."""
    node = helper.make_node("Cast", ["images"], ["features"], to=TensorProto.FLOAT)
    ends = [
        helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", DIM]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIM]),
    ]
    model = helper.make_model(helper.make_graph([node], "bytes", ends[:1], ends[1:]))
    assert processor.arithmetic(model.SerializeToString()) == "fp32"


@pytest.mark.parametrize(
    ("machine", "flags", "overflows"),
    [
        ("x86_64", "fpu avx2 avx512bw", True),
        ("AMD64", "fpu avx2 avx512_vnni", False),
        ("x86_64", "fpu avx2 avx_vnni", False),
        ("x86_64", None, True),
        ("aarch64", None, False),
    ],
)
def test_which_processors_overflow(machine, flags, overflows, monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "Path", lambda name: cpuinfo)
    assert processor.saturates() is overflows
