"""The TensorRT engine around the GPU: not run on a GPU.

Engines are compiled by TensorRT's real builder (see ``tests/exporter/trt_harness.py``); `fake_gpu`
plays the GPU.
"""

import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "exporter"))
import trt_harness
from fake_gpu import DEVICE, FakeContext, FakeCuda, play

from edgetl.engines import CompiledGraph, EngineStamp, TensorRtEngine, open_engine
from edgetl.engines.cuda import CudaDevice
from edgetl.engines.tensorrt import device_cache_dir
from edgetl.engines.trt_backend import find_backend
from edgetl.engines.trt_builder import build_cached
from edgetl.errors import CorruptError, EdgetlError, MissingDependencyError
from edgetl.targets import TensorRT


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    reason = trt_harness.why_not()
    if reason:
        pytest.skip(reason)
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(tmp_path / "cache"))
    return play(monkeypatch, trt_harness.load())


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
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: DEVICE)
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


def test_where_a_device_keeps_engines(monkeypatch):
    monkeypatch.setenv("EDGETL_CACHE_DIR", "~/engines")
    assert device_cache_dir() == Path.home() / "engines"
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("EDGETL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.home() / "elsewhere"))
    assert device_cache_dir() == platformdirs.user_cache_path("edgetl", appauthor=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert device_cache_dir() == platformdirs.user_cache_path("edgetl", appauthor=False)
