"""What holds for every engine that runs graphs."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgetl.engines import OpenVinoEngine, OrtEngine, available_cores, open_engine
from edgetl.errors import CorruptError, MissingDependencyError
from edgetl.targets import OnnxRuntime, OpenVino, Torch


@pytest.fixture(params=[OrtEngine, OpenVinoEngine], ids=["ort", "openvino"])
def engine_class(request):
    pytest.importorskip({OrtEngine: "onnxruntime", OpenVinoEngine: "openvino"}[request.param])
    return request.param


@pytest.mark.parametrize("purpose", ["extract", "serve"])
def test_features(engine_class, purpose, graph, reference, batch):
    engine = engine_class(graph, dim=6, purpose=purpose)
    for n in (5, 1, 3):
        features = engine(batch[:n])
        assert features.dtype == np.float32
        np.testing.assert_allclose(features, reference(batch[:n]), atol=1e-6)


def test_an_earlier_result_survives_later_calls(engine_class, graph, reference, batch):
    engine = engine_class(graph, dim=6, purpose="serve")
    first = engine(batch)
    engine(batch * 2)
    np.testing.assert_allclose(first, reference(batch), atol=1e-6)


def test_an_empty_batch(engine_class, graph, batch):
    assert engine_class(graph, dim=6)(batch[:0]).shape == (0, 6)


def test_a_strided_batch(engine_class, graph, reference, batch):
    features = engine_class(graph, dim=6)(batch[::-1, :, ::-1])
    np.testing.assert_allclose(features, reference(batch[::-1]), atol=1e-6)


def test_a_graph_from_memory(engine_class, graph, reference, batch):
    engine = engine_class(graph.read_bytes(), dim=6)
    np.testing.assert_allclose(engine(batch), reference(batch), atol=1e-6)
    assert engine.fingerprint == engine_class(graph, dim=6).fingerprint


def test_calls_from_many_threads(engine_class, graph, reference):
    engine = engine_class(graph, dim=6)
    batches = np.random.default_rng(2).standard_normal((64, 2, 3, 8, 8), np.float32)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(engine, batches))
    for given, found in zip(batches, results, strict=True):
        np.testing.assert_allclose(found, reference(given), atol=1e-6)


def test_the_graph_is_loaded_at_the_first_call(engine_class, tmp_path, batch):
    engine = engine_class(tmp_path / "later.onnx", dim=6, graph_fingerprint="abc")
    assert engine.dim == 6
    with pytest.raises(CorruptError, match=r"later\.onnx"):
        engine(batch)


def test_fingerprints(engine_class, graph, tmp_path):
    known = engine_class(graph, dim=6, graph_fingerprint="a").fingerprint
    assert known == engine_class(tmp_path, dim=6, graph_fingerprint="a").fingerprint
    assert known != engine_class(graph, dim=6, graph_fingerprint="b").fingerprint
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(graph.read_bytes() + b"\0")
    assert engine_class(graph, dim=6).fingerprint != engine_class(changed, dim=6).fingerprint
    assert OrtEngine(graph, dim=6).fingerprint != OpenVinoEngine(graph, dim=6).fingerprint


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (np.zeros((1, 3, 8, 8)), TypeError),
        (np.zeros((1, 3, 8, 8), np.uint8), TypeError),
        ([[1.0]], TypeError),
        (np.zeros((3, 8, 8), np.float32), ValueError),
        (np.zeros((1, 8, 8, 3), np.float32), ValueError),
        (np.zeros((1, 3, 9, 8), np.float32), ValueError),
    ],
    ids=["float64", "uint8", "list", "one image", "nhwc", "size"],
)
def test_batches_of_another_kind(engine_class, graph, wrong, error):
    with pytest.raises(error, match=r"float32 array|batches of shape"):
        engine_class(graph, dim=6)(wrong)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"\x00" * 64]
)
def test_damaged_graphs(engine_class, graph, tmp_path, batch, damage):
    path = tmp_path / "damaged.onnx"
    path.write_bytes(damage(graph.read_bytes()))
    with pytest.raises(CorruptError, match=r"can't load the graph .*damaged\.onnx"):
        engine_class(path, dim=6)(batch)


def test_another_dimension_than_promised(engine_class, graph, batch):
    with pytest.raises(CorruptError, match=r"expected \(n, 7\)"):
        engine_class(graph, dim=7)(batch)


def test_a_missing_graph(engine_class, tmp_path):
    with pytest.raises(CorruptError, match=r"none\.onnx can't be read"):
        engine_class(tmp_path / "none.onnx", dim=6)


def test_a_missing_package(engine_class, graph, monkeypatch):
    package = "onnxruntime" if engine_class is OrtEngine else "openvino"
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"{package} is not installed"):
        engine_class(graph, dim=6)


def test_concurrency(engine_class, graph):
    assert engine_class(graph, dim=6).concurrency == available_cores()
    assert engine_class(graph, dim=6, purpose="serve").concurrency == 1


def test_cuda_without_cuda_says_what_to_install(graph):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(MissingDependencyError, match=r"edgetl\[ort-gpu\]") as caught:
        OrtEngine(graph, dim=6, target=OnnxRuntime(provider="cuda"))
    assert caught.value.exit_code == 3


def test_targets_choose_the_engine(graph):
    assert isinstance(open_engine(OnnxRuntime(), graph, dim=6), OrtEngine)
    assert isinstance(open_engine(OpenVino(threads=1), graph, dim=6), OpenVinoEngine)
    with pytest.raises(TypeError, match="does not run ONNX graphs"):
        open_engine(Torch(), graph, dim=6)


def test_engines_work_without_the_workstations_packages(graph):
    """In a process where none of them can be imported."""
    script = """
import sys
for name in ("torch", "torchvision", "timm", "onnx", "onnxscript", "sklearn", "lance", "pyarrow"):
    sys.modules[name] = None
from pathlib import Path
import numpy as np
from edgetl.engines import OrtEngine
engine = OrtEngine(Path(sys.argv[1]), dim=6, purpose="serve")
assert engine(np.zeros((1, 3, 8, 8), np.float32)).shape == (1, 6)
assert "openvino" not in sys.modules
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(graph)],
        cwd=sys.prefix,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""


def test_openvino_sends_no_telemetry(tmp_path):
    pytest.importorskip("openvino")
    code = f"""
import sys
from edgetl.engines import OpenVinoEngine
path = {str(tmp_path / "graph.onnx")!r}
OpenVinoEngine(path.encode(), dim=4)
assert "openvino" in sys.modules
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
