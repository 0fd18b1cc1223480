"""TensorRT's real parser and builder on a CPU; see `trt_harness`. Nothing is run on a GPU."""

import io
import logging
import re
import sys
import time

import networks
import numpy as np
import onnx
import pytest
import trt_harness
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from edgetl.engines.cuda import CudaDevice
from edgetl.engines.trt_backend import EngineStamp, find_backend
from edgetl.errors import CorruptError, MissingDependencyError, WeightsError
from edgetl.exporter.compile_trt import build_engine, typed_graph
from edgetl.exporter.ends import with_uint8_input
from edgetl.exporter.fuse import fuse_head
from edgetl.exporter.half import cast_floats
from edgetl.exporter.qdq_trt import activations
from edgetl.exporter.spinner import Spinner
from edgetl.heads import SoftmaxHead
from edgetl.targets import TensorRT


@pytest.fixture
def tensorrt_rtx(monkeypatch):
    """The harness in the place of ``tensorrt_rtx``, on a machine without ``tensorrt`` and GPU."""
    reason = trt_harness.why_not()
    if reason:
        pytest.skip(reason)
    module = trt_harness.load()
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: None)
    return module


@pytest.fixture
def no_tensorrt(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)


def build(nodes, weights, *, shape=("n", 4, 6, 6), inputs=("x",)):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def small(seed=0):
    weights = np.random.default_rng(seed).standard_normal((4, 4, 1, 1), np.float32)
    return build([helper.make_node("Conv", ["x", "w"], ["y"], name="conv")], {"w": weights})


# The three networks in each precision; MobileNetV3 has operators that bfloat16 lacks.
NETWORKS = ["mobilenetv2_100", "torchvision/resnet50.IMAGENET1K_V1", "vit_tiny_patch16_224"]
CASES = [(name, precision) for name in NETWORKS for precision in ("fp32", "fp16", "int8", "bf16")]
CASES += [("tf_mobilenetv3_small_100", "int8"), ("tf_mobilenetv3_small_100", "bf16")]


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_builds(
    name, precision, assets, networks_folder, tmp_path, tensorrt_rtx, record_property, trt_builds
):
    backbone, model = networks.load(name, assets, networks_folder)
    ranges = None
    if precision == "int8":
        batch = networks.photos(assets, backbone.preprocess, 1)
        ranges = networks.observe(model, activations(model), batch)
    graph = typed_graph(model, precision, ranges=ranges).SerializeToString()
    target = TensorRT(precision=precision, max_batch=8)
    built = build_engine(graph, target, cache_dir=tmp_path)
    record_property("trt_build_seconds", round(built.seconds, 2))
    record_property("trt_engine_bytes", built.size)
    trt_builds.append((name, precision, built.seconds, built.size, built.layers))

    assert not built.cached and built.seconds > 0
    assert built.layers >= len([x for x in model.graph.node if x.op_type == "Conv"])
    weights = sum(np.prod(item.dims) for item in model.graph.initializer)
    # Ahead of time, TensorRT for RTX may keep weights in more than one form.
    bytes_each = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[precision]
    assert 0.9 * bytes_each * weights < built.size == len(built.read())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_bytes_in_and_a_head_inside(
    precision, assets, networks_folder, tmp_path, tensorrt_rtx, trt_builds
):
    """The whole of a camera's pipeline in one engine: uint8 NHWC to features and probabilities."""
    name = "torchvision/squeezenet1_1"
    backbone, model = networks.load(name, assets, networks_folder)
    rng = np.random.default_rng(0)
    head = SoftmaxHead()
    head.fit(rng.standard_normal((20, backbone.dim), np.float32), np.arange(20) % 5)
    model, preprocess = with_uint8_input(model, backbone.preprocess)
    model = fuse_head(model, head, ("a", "b", "c", "d", "e"))
    ranges = None
    if precision == "int8":
        batch = networks.photos(assets, preprocess, 1)
        ranges = networks.observe(model, activations(model), batch)
    graph = typed_graph(model, precision, ranges=ranges)
    assert graph.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    built = build_engine(graph.SerializeToString(), TensorRT(), cache_dir=tmp_path)
    trt_builds.append((f"{name}, fused", precision, built.seconds, built.size, built.layers))
    assert built.size > 0


def test_the_cache(tmp_path, tensorrt_rtx, monkeypatch):
    graph = small().SerializeToString()
    path = tmp_path / "graph.onnx"
    path.write_bytes(graph)
    first = build_engine(path, TensorRT(), cache_dir=tmp_path)
    again = build_engine(graph, TensorRT(precision="fp32"), cache_dir=tmp_path)
    assert not first.cached and again.cached
    assert (again.path, again.read(), again.seconds) == (first.path, first.read(), first.seconds)

    first.path.write_bytes(first.read()[:-1])
    with pytest.raises(CorruptError, match="not what was written"):
        first.read()
    assert not build_engine(graph, TensorRT(), cache_dir=tmp_path).cached, "damaged"
    others = [
        build_engine(graph, TensorRT(max_batch=2), cache_dir=tmp_path),
        build_engine(graph, TensorRT(workspace=1 << 28), cache_dir=tmp_path),
        build_engine(graph, TensorRT(hardware_compatible=True), cache_dir=tmp_path),
        build_engine(small(1).SerializeToString(), TensorRT(), cache_dir=tmp_path),
    ]
    monkeypatch.setattr(tensorrt_rtx, "__version__", "11.9.0")
    others.append(build_engine(graph, TensorRT(), cache_dir=tmp_path))
    assert not any(built.cached for built in others)
    assert len({built.path for built in (first, *others)}) == 6
    assert others[-1].stamp.version == "11.9.0"


def test_the_timing_cache_is_kept_by_version_and_device(tmp_path, tensorrt_rtx, monkeypatch):
    folder = tmp_path / "tensorrt"
    build_engine(small().SerializeToString(), TensorRT(timing_cache=False), cache_dir=tmp_path)
    assert not list(folder.glob("timing-*"))
    build_engine(small(1).SerializeToString(), TensorRT(), cache_dir=tmp_path)
    (timing,) = folder.glob("timing-*")
    timing.write_bytes(b"what another program wrote")
    build_engine(small(2).SerializeToString(), TensorRT(), cache_dir=tmp_path)
    assert timing.read_bytes() != b"what another program wrote"
    monkeypatch.setattr(tensorrt_rtx, "__version__", "11.9.0")
    build_engine(small(3).SerializeToString(), TensorRT(), cache_dir=tmp_path)
    assert len(list(folder.glob("timing-*"))) == 2
    assert not list(folder.glob(".new-*"))


class Reader(CalibrationDataReader):
    def __init__(self):
        self.batches = iter([np.random.default_rng(0).uniform(0, 1, (2, 4, 6, 6)).astype("f4")])

    def get_next(self):
        batch = next(self.batches, None)
        return None if batch is None else {"x": batch}


def test_what_onnxruntime_quantized_never_reaches_tensorrt(tmp_path, tensorrt_rtx, monkeypatch):
    onnx.save(small(), tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Reader())
    with monkeypatch.context() as patch:
        patch.setattr(tensorrt_rtx, "Builder", None)
        with pytest.raises(WeightsError, match=r"for TensorRT: .* zero points other"):
            build_engine(tmp_path / "int8.onnx", TensorRT(), cache_dir=tmp_path)
    assert not (tmp_path / "tensorrt").exists()
    # TensorRT would have refused it as well.
    monkeypatch.setattr("edgetl.exporter.compile_trt.refuse_asymmetric", lambda model: None)
    with pytest.raises(WeightsError, match=r"(?i)can't take the graph: .*zero point"):
        build_engine(tmp_path / "int8.onnx", TensorRT(), cache_dir=tmp_path)


def test_what_the_parser_refuses(tmp_path, tensorrt_rtx):
    """HardSwish in bfloat16, which `cast_floats` avoids for this reason."""
    model = cast_floats(build([helper.make_node("Relu", ["x"], ["y"])], {}), "bfloat16")
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "HardSwish"
    with pytest.raises(WeightsError, match=r"tensorrt_rtx 11\.\S* can't take .*HardSwish.*BF16"):
        build_engine(model.SerializeToString(), TensorRT(), cache_dir=tmp_path)
    assert not list((tmp_path / "tensorrt").glob("*")), "nothing half-made is left"


@pytest.mark.parametrize("content", [b"", b"no graph at all", small().SerializeToString()[:-20]])
def test_what_is_no_onnx_file(content, tmp_path, tensorrt_rtx):
    (tmp_path / "graph.onnx").write_bytes(content)
    with pytest.raises(CorruptError):
        build_engine(tmp_path / "graph.onnx", TensorRT(), cache_dir=tmp_path)
    with pytest.raises(CorruptError, match="can't be read"):
        build_engine(tmp_path / "nowhere.onnx", TensorRT(), cache_dir=tmp_path)


def test_what_is_no_feature_graph(tmp_path, tensorrt_rtx):
    nodes = [helper.make_node("Add", ["x", "z"], ["y"])]
    with pytest.raises(CorruptError, match="one input, found 2"):
        build_engine(
            build(nodes, {}, inputs=("x", "z")).SerializeToString(), TensorRT(), cache_dir=tmp_path
        )
    free = build([helper.make_node("Relu", ["x"], ["y"])], {}, shape=("n", 3, "h", "w"))
    with pytest.raises(CorruptError, match="only the batch may be dynamic"):
        build_engine(free.SerializeToString(), TensorRT(), cache_dir=tmp_path)


def test_a_fixed_batch(tmp_path, tensorrt_rtx):
    model = build([helper.make_node("Relu", ["x"], ["y"])], {}, shape=(2, 4, 6, 6))
    assert build_engine(model.SerializeToString(), TensorRT(), cache_dir=tmp_path).size > 0


def test_without_tensorrt(tmp_path, no_tensorrt):
    with pytest.raises(MissingDependencyError, match=r"edgetl\[tensorrt\]") as caught:
        build_engine(small().SerializeToString(), TensorRT(), cache_dir=tmp_path)
    assert caught.value.exit_code == 3


class Fake:
    """A package of which only the version matters."""

    def __init__(self, version):
        self.__version__ = version


GPU = CudaDevice("NVIDIA Test", "8.9", "13.0")


@pytest.mark.parametrize(
    ("tensorrt", "rtx", "device", "chosen"),
    [
        ("10.9.0", "1.7.1", GPU, ("tensorrt", "NVIDIA Test (8.9, CUDA 13.0)")),
        ("10.9.0", None, GPU, ("tensorrt", "NVIDIA Test (8.9, CUDA 13.0)")),
        ("10.9.0", "1.7.1", None, ("tensorrt_rtx", "any")),
        (None, "1.7.1", None, ("tensorrt_rtx", "any")),
        (None, "1.7.1", GPU, ("tensorrt_rtx", "NVIDIA Test (8.9, CUDA 13.0)")),
        ("10.9.0", None, None, "compiles on a GPU and CUDA finds none"),
        ("8.6.1", None, GPU, "8.6.1 is too old"),
        (None, None, GPU, r"edgetl\[tensorrt\]"),
    ],
)
def test_which_package_compiles(tensorrt, rtx, device, chosen, monkeypatch):
    for name, version in (("tensorrt", tensorrt), ("tensorrt_rtx", rtx)):
        monkeypatch.setitem(sys.modules, name, None if version is None else Fake(version))
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: device)
    if isinstance(chosen, str):
        with pytest.raises(MissingDependencyError, match=chosen):
            find_backend()
    else:
        backend = find_backend()
        assert (backend.name, backend.device) == chosen


STAMP = EngineStamp(
    backend="tensorrt", version="10.9", device="A", graph="g", max_batch=4, options=""
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"max_batch": 2, "options": "workspace=1"}, None),
        ({"max_batch": 8}, "batches of 4, and 8"),
        ({"device": "B"}, r"another device \(A, here it is B"),
        ({"version": "11.0"}, r"another TensorRT \(tensorrt 10.9, here it is tensorrt 11.0"),
        ({"backend": "tensorrt_rtx"}, "another TensorRT"),
        ({"graph": "other"}, "another graph"),
    ],
)
def test_engines_that_do_not_fit(change, reason):
    other = EngineStamp.from_json(STAMP.to_json() | change)
    assert (other.key == STAMP.key) is (not change)
    found = STAMP.misfit(other)
    assert (found is None) if reason is None else re.search(reason, found)


@pytest.mark.parametrize("change", [{"max_batch": "4"}, {"extra": "1"}, {"device": None}])
def test_damaged_stamps(change):
    with pytest.raises(CorruptError, match="stamp has the entries"):
        EngineStamp.from_json(STAMP.to_json() | change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "precision must be one of"),
        ({"max_batch": 0}, "max_batch must be a whole number, 1 or more"),
        ({"max_batch": 1.5}, "max_batch must be a whole number"),
        ({"workspace": -1}, "workspace must be a whole number"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ValueError, match=message):
        TensorRT(**options)


def test_int8_needs_ranges():
    with pytest.raises(ValueError, match="needs the ranges"):
        typed_graph(small(), "int8")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_spinner_turns_on_a_terminal_only(caplog):
    terminal, pipe = Terminal(), io.StringIO()
    with Spinner("compiling", stream=terminal), Spinner("compiling", stream=pipe):
        deadline = time.monotonic() + 30
        while terminal.getvalue().count("\r") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = terminal.getvalue().rstrip("\n").split("\r")
    assert re.fullmatch(r"\| compiling: 0 s\s*", lines[1])
    assert re.fullmatch(r"/ compiling: \d+ s\s*", lines[2])
    assert re.fullmatch(r"compiling: \d+\.\d s\s*", lines[-1])
    assert pipe.getvalue() == ""
    with pytest.raises(KeyError), Spinner("compiling", stream=terminal):
        raise KeyError
    assert "compiling: failed after 0." in terminal.getvalue()
    with Spinner("compiling", enabled=False, stream=(silent := Terminal())):
        pass
    assert silent.getvalue() == ""


def test_building_writes_nothing_to_a_pipe(tmp_path, tensorrt_rtx, capfd, caplog):
    caplog.set_level(logging.DEBUG, "edgetl.tensorrt")
    build_engine(small().SerializeToString(), TensorRT(), cache_dir=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert any("tensor" in line.lower() for line in caplog.messages), "the log has what it said"
