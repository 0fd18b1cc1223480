"""The way of a camera frame to its answer: nothing allocated, nothing shared by mistake."""

import dataclasses
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgetl.bundle import Bundle, Manifest
from edgetl.errors import CorruptError, DataError
from edgetl.heads import PrototypeHead
from edgetl.preprocess import Preprocess
from edgetl.runtime import Runtime, load
from edgetl.targets import OnnxRuntime, OpenVino, TensorRT

SIDE = 160
COLOURS = ("red", "green", "blue")


def save_graph(path, layout):
    """A graph whose 3 features are the mean of each channel; NHWC bytes become floats first."""
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    inputs = {"nchw": (proto.FLOAT, [3, SIDE, SIDE]), "nhwc": (proto.UINT8, [SIDE, SIDE, 3])}
    kind, shape = inputs[layout]
    nodes = [
        helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["sums"]),
        helper.make_node("Mul", ["sums", "scale"], ["features"]),
    ]
    if layout == "nhwc":
        nodes[:0] = [
            helper.make_node("Cast", ["images"], ["floats"], to=proto.FLOAT),
            helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        ]
    else:
        nodes.insert(0, helper.make_node("Identity", ["images"], ["planes"]))
    scale = np.array(1 if layout == "nchw" else 1 / 255, np.float32)
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", kind, ["batch", *shape])],
        [helper.make_tensor_value_info("features", proto.FLOAT, ["batch", 3])],
        [onnx.numpy_helper.from_array(scale, "scale")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture(params=["nchw", "nhwc"])
def bundle(request, tmp_path):
    dtype = "float32" if request.param == "nchw" else "uint8"
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    preprocess = Preprocess(
        size=SIDE, resize=SIDE, mean=zeros, std=ones, layout=request.param, dtype=dtype
    )
    save_graph(tmp_path / "graph.onnx", request.param)
    rng = np.random.default_rng(0)
    features = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    features += rng.uniform(0, 0.2, features.shape).astype(np.float32)
    manifest = Manifest(
        labels=COLOURS,
        preprocess=preprocess,
        backbone="mean colour",
        dim=3,
        graph="backbone.onnx",
        graph_fingerprint="0" * 64,
        head="prototype",
    )
    head = PrototypeHead().fit(features, np.repeat(np.arange(3), 20))
    return Bundle(manifest, head, tmp_path / "graph.onnx")


def frames(count):
    """Frames whose mean colours tell them apart."""
    colours = np.random.default_rng(1).integers(0, 256, (count, 3), dtype=np.uint8)
    return colours, [np.full((90, 120, 3), colour) for colour in colours]


@pytest.mark.parametrize("target", [OnnxRuntime(), OpenVino()], ids=["ort", "openvino"])
def test_answers_of_many_threads_are_those_of_one(bundle, target):
    pytest.importorskip("openvino")
    colours, photos = frames(120)
    one = Runtime(bundle, target=target)
    expected = [one.predict(photo, features=True) for photo in photos]
    for answer, colour in zip(expected, colours, strict=True):
        np.testing.assert_allclose(answer.features, colour / 255, atol=1e-4)
    several = Runtime(bundle, target=target)
    ready = threading.Barrier(6)

    def ask(start):
        ready.wait()
        mine = range(start, len(photos), 6)
        return {number: several.predict(photos[number], features=True) for number in mine}

    with ThreadPoolExecutor(6) as pool:
        found = {k: v for part in pool.map(ask, range(6)) for k, v in part.items()}
    assert len(found) == len(photos)
    for number, answer in found.items():
        np.testing.assert_array_equal(answer.features, expected[number].features)
        np.testing.assert_array_equal(answer.probabilities, expected[number].probabilities)


def test_threads_come_and_go(bundle):
    runtime = Runtime(bundle)
    _, photos = frames(20)
    for photo in photos:
        thread = threading.Thread(target=runtime.predict, args=(photo,))
        thread.start()
        thread.join()
    assert len(runtime.extractor._one) == 1


def test_an_answer_owns_what_it_holds(bundle):
    runtime = Runtime(bundle)
    colours, photos = frames(11)
    alone = [runtime.predict(photo, features=True) for photo in photos]
    together = runtime.predict(photos, features=True)
    kept = runtime.extractor.features(photos)
    runtime.predict([photo * 0 for photo in photos])
    runtime.predict(photos[0] * 0)
    for answers in (alone, together):
        for answer, colour in zip(answers, colours, strict=True):
            np.testing.assert_allclose(answer.features, colour / 255, atol=1e-4)
    np.testing.assert_allclose(kept, colours / 255, atol=1e-4)
    assert runtime.extractor.features([]).shape == (0, 3)


@pytest.mark.parametrize("features", [False, True])
def test_predictions_allocate_nothing_of_a_batchs_size(bundle, features):
    runtime = Runtime(bundle)
    runtime.warm_up()
    _, photos = frames(8)
    runtime.predict(photos, features=features)
    one_sample = (
        np.prod(runtime.bundle.preprocess.shape) * runtime.bundle.preprocess.array_type.itemsize
    )

    def peak(call):
        tracemalloc.start()
        for _ in range(20):
            call()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(lambda: np.ones(one_sample, np.uint8)) > one_sample / 2, "numpy must be traced"
    assert peak(lambda: runtime.predict(photos[0], features=features)) < one_sample / 2
    # A list makes more small objects, but no batch of 8 either.
    assert peak(lambda: runtime.predict(photos, features=features)) < 4 * one_sample


def test_a_sample_that_fails_leaves_the_memory_for_the_next(bundle):
    runtime = Runtime(bundle)
    _, photos = frames(1)
    right = runtime.predict(photos[0]).probabilities
    for _ in range(3):
        with pytest.raises(TypeError, match="the sample: "):
            runtime.predict(photos[0].astype(np.float32))
        with pytest.raises(DataError, match="sample 1: "):
            runtime.predict([photos[0], b"text"])
    assert len(runtime.extractor._one) == 1
    assert len(runtime.extractor._several) == 1
    np.testing.assert_array_equal(runtime.predict(photos[0]).probabilities, right)


def test_a_frame_with_gaps_between_its_rows(bundle):
    runtime = Runtime(bundle)
    wide = np.random.default_rng(3).integers(0, 256, (80, 200, 3), dtype=np.uint8)
    part = wide[5:75, 20:140]
    expected = runtime.predict(np.ascontiguousarray(part), features=True).features
    np.testing.assert_array_equal(runtime.predict(part, features=True).features, expected)


def test_threads_of_one_prediction(bundle, tmp_path):
    path = bundle.save(tmp_path / "colour.edgetl").path
    runtime = load(path, threads=1, warmup=True)
    assert runtime.target == OnnxRuntime(threads=1)
    assert runtime.engine._session.get_session_options().intra_op_num_threads == 1
    assert load(path, threads=2).target == OnnxRuntime(threads=2)
    assert load(path, target=OnnxRuntime(threads=2)).target == OnnxRuntime(threads=2)
    with pytest.raises(ValueError, match="threads"):
        load(path, threads=-1)
    with pytest.raises(ValueError, match="TensorRT"):
        load(path, target=TensorRT(), threads=1)


def test_warming_up_leaves_nothing_for_the_first_prediction(bundle, tmp_path, monkeypatch):
    path = bundle.save(tmp_path / "colour.edgetl").path
    cold, warm = load(path), load(path, warmup=True)
    assert cold.engine._session is None
    assert len(warm.extractor._one) == 1
    monkeypatch.setattr(type(warm.engine), "_load", None)
    monkeypatch.setattr(type(warm.engine), "open_lane", None)
    assert warm.predict(frames(1)[1][0]).label in COLOURS


def test_a_wrong_shape_in_the_manifest_is_said(bundle):
    preprocess = dataclasses.replace(bundle.preprocess, size=SIDE - 1)
    manifest = dataclasses.replace(bundle.manifest, preprocess=preprocess)
    with pytest.raises(CorruptError, match=r"159, .*one of them was changed"):
        Runtime(dataclasses.replace(bundle, manifest=manifest)).predict(frames(1)[1][0])
