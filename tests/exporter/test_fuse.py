"""Fused graphs answer as their heads do, for every kind of head, on features of real photos."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgetl.decode import read_image
from edgetl.engines import OpenVinoEngine, OrtEngine
from edgetl.exporter.ends import fix_batch, with_uint8_input
from edgetl.exporter.fuse import fuse_head
from edgetl.heads import HEADS, KnnHead, PrototypeHead, SoftmaxHead, load_head

LABELS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


class Task:
    """A real network's graph, its features of photos, and the photos themselves."""

    def __init__(self, assets, backbone, path):
        self.model = onnx.load(path)
        self.preprocess, self.dim = backbone.preprocess, backbone.dim
        engine = OrtEngine(path, dim=self.dim)
        photos = {
            part: [
                (read_image(file, preprocess=self.preprocess), code)
                for code, label in enumerate(LABELS)
                for file in sorted((assets / "data/flower_photos" / part / label).iterdir())[:count]
            ]
            for part, count in (("train", 20), ("test", 8))
        }
        self.targets = np.array([code for _, code in photos["train"]])
        self.photos = [photo for photo, _ in photos["test"]]
        self.images = np.stack([self.preprocess.apply(photo) for photo in self.photos])
        train = np.stack([self.preprocess.apply(photo) for photo, _ in photos["train"]])
        self.train, self.features = engine(train), engine(self.images)


@pytest.fixture(scope="module")
def task(assets, mobilenet):
    return Task(assets, *mobilenet)


def identity(dim, *, opset=18, batch="batch"):
    """A graph whose features are its input, so that a head alone is tested."""
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, dim])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, dim])
    node = helper.make_node("Identity", ["images"], ["features"])
    graph = helper.make_graph([node], "identity", [image], [features])
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def fitted(kind, X, y):
    """A head as a bundle gives it back."""
    head = HEADS[kind]().fit(X, y)
    return load_head(kind, head.arrays())


@pytest.mark.parametrize("kind", HEADS)
def test_every_kind_answers_as_the_head_does(task, kind):
    head = fitted(kind, task.train, task.targets)
    before = task.model.SerializeToString()
    fused = fuse_head(task.model, head, LABELS)
    assert task.model.SerializeToString() == before, "the model given must stay as it was"
    onnx.checker.check_model(fused, full_check=True)
    assert [item.name for item in fused.graph.output] == ["probabilities", "features"]
    assert fused.opset_import == task.model.opset_import

    expected = head.predict_proba(task.features)
    data = fused.SerializeToString()
    probabilities = OrtEngine(data, dim=5, output="probabilities")(task.images)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(OrtEngine(data, dim=task.dim)(task.images), task.features, atol=1e-5)
    assert len(np.unique(expected.argmax(axis=1))) == 5


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("kind", HEADS)
def test_heads_alone_in_the_reference_evaluator(task, kind, opset):
    head = fitted(kind, task.train, task.targets)
    fused = fuse_head(identity(task.dim, opset=opset), head, LABELS)
    onnx.checker.check_model(fused, full_check=True)
    probabilities, features = ReferenceEvaluator(fused).run(None, {"images": task.features})
    np.testing.assert_allclose(probabilities, head.predict_proba(task.features), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(features, task.features)


@pytest.mark.parametrize("kind", HEADS)
def test_unusual_features(task, kind):
    """Zeros, a training sample itself, a class mean, and features of other magnitudes."""
    head = fitted(kind, task.train, task.targets)
    rows = [np.zeros(task.dim), task.train[7], task.train[:20].mean(axis=0)]
    if kind == "prototype":  # where a direction loses its meaning
        rows.append(head.prototypes_.mean(axis=0))
    if kind in ("knn", "prototype"):  # which look at directions
        rows += [task.features[0] * 1e-30, task.features[0] * 1e30]
    rows = np.array(rows, np.float32)
    fused = fuse_head(identity(task.dim), head, LABELS).SerializeToString()
    engine = engine_of_rows(fused)
    expected = head.predict_proba(rows)
    np.testing.assert_allclose(engine(rows), expected, rtol=0, atol=1e-5)


def engine_of_rows(data):
    """Plain onnxruntime: engines take images."""
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda rows: session.run(["probabilities"], {"images": rows})[0]


@pytest.mark.parametrize("weights", [None, "weighted"])
@pytest.mark.parametrize("n_neighbors", [1, 3, 500])
def test_neighbours_of_any_number_and_weight(task, n_neighbors, weights):
    generator = np.random.default_rng(1)
    sample_weight = None if weights is None else generator.uniform(0.1, 3, len(task.targets))
    head = KnnHead(n_neighbors).fit(task.train, task.targets, sample_weight)
    engine = engine_of_rows(fuse_head(identity(task.dim), head, LABELS).SerializeToString())
    expected = head.predict_proba(task.features)
    np.testing.assert_allclose(engine(task.features), expected, rtol=0, atol=1e-5)


def test_neighbours_that_are_equally_near():
    """Twins vote alike; which of them may vote does not matter within a class."""
    X = np.repeat(np.eye(4, dtype=np.float32), 3, axis=0)
    y = np.repeat([0, 1, 0, 1], 3)
    head = KnnHead(3).fit(X, y)
    engine = engine_of_rows(fuse_head(identity(4), head, ("a", "b")).SerializeToString())
    queries = np.concatenate([np.eye(4), np.eye(4)[:2] * 5 + 0.1]).astype(np.float32)
    np.testing.assert_allclose(engine(queries), head.predict_proba(queries), rtol=0, atol=1e-6)


@pytest.mark.parametrize("center", [True, False])
def test_prototypes_with_and_without_centre(task, center):
    head = PrototypeHead(center=center).fit(task.train, task.targets)
    engine = engine_of_rows(fuse_head(identity(task.dim), head, LABELS).SerializeToString())
    expected = head.predict_proba(task.features)
    np.testing.assert_allclose(engine(task.features), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine_class", [OrtEngine, OpenVinoEngine])
@pytest.mark.parametrize("kind", ["softmax", "knn"])
def test_fixed_batches_and_bytes(task, kind, engine_class):
    """All that can be done to the ends of a graph at once, in both engines."""
    pytest.importorskip({OrtEngine: "onnxruntime", OpenVinoEngine: "openvino"}[engine_class])
    head = fitted(kind, task.train, task.targets)
    model, preprocess = with_uint8_input(task.model, task.preprocess)
    model = fuse_head(fix_batch(model, 4), head, LABELS)
    assert [item.type.tensor_type.shape.dim[0].dim_value for item in model.graph.output] == [4, 4]
    data = model.SerializeToString()
    pixels = np.stack([preprocess.apply(photo) for photo in task.photos])[:10]
    probabilities = engine_class(data, dim=5, output="probabilities")(pixels)
    expected = head.predict_proba(task.features[:10])
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=1e-4)
    features = engine_class(data, dim=task.dim)(pixels)
    np.testing.assert_allclose(features, task.features[:10], rtol=1e-3, atol=1e-3)


def test_what_does_not_fit_is_refused(task):
    head = fitted("softmax", task.train, task.targets)
    with pytest.raises(ValueError, match="the graph gives 7 features, the head takes 1024"):
        fuse_head(identity(7), head, LABELS)
    with pytest.raises(ValueError, match="the head has 5 classes, got 4 labels"):
        fuse_head(task.model, head, LABELS[:4])
    with pytest.raises(ValueError, match="operator set 12; a head needs 13"):
        fuse_head(identity(task.dim, opset=12), head, LABELS)
    with pytest.raises(ValueError, match=r"one output \(n, dim\), found probabilities"):
        fuse_head(fuse_head(task.model, head, LABELS), head, LABELS)
    half = identity(task.dim)
    half.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(ValueError, match="features are float16"):
        fuse_head(half, head, LABELS)
    taken = identity(task.dim)
    taken.graph.initializer.append(numpy_helper.from_array(np.zeros(1), "edgetl_head_weights"))
    with pytest.raises(ValueError, match="already has 'edgetl_head_weights'"):
        fuse_head(taken, head, LABELS)


def test_weights_beyond_float32_are_refused():
    head = SoftmaxHead(C=1.0).fit(np.eye(4), [0, 1, 0, 1])
    head.coef_ = head.coef_ * 1e300
    with pytest.raises(ValueError, match="float32 can't hold"):
        fuse_head(identity(4), head, ("a", "b"))


def test_a_head_of_ones_own_is_refused(task):
    class Mine(type(HEADS["knn"]()).__mro__[1]):
        kind = "mine"
        _fit = _scores = _state = _restore = lambda self, *arguments: None

    head = Mine()
    head.n_features_in_, head.classes_, head.temperature_ = 4, np.arange(2), 1.0
    with pytest.raises(TypeError, match="a Mine can't be put into a graph"):
        fuse_head(identity(4), head, ("a", "b"))
