"""The ends of a graph: bytes give the features that floats gave; batches of any or one length."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgetl.decode import read_image
from edgetl.engines import OrtEngine, cosines
from edgetl.exporter.ends import fix_batch, operator_set, stamp, with_uint8_input
from edgetl.preprocess import Preprocess

SIZE = 32
NCHW = Preprocess(size=SIZE, resize=36)
NHWC = Preprocess(size=SIZE, resize=36, layout="nhwc", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def build(preprocess, *, batch="batch", reshape=(-1, 12)):
    """A small convolutional network for either layout."""
    weights = np.random.default_rng(0).standard_normal((12, 3, 3, 3)).astype(np.float32)
    nodes, image = [], "images"
    if preprocess.layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["images"], ["planes"], perm=[0, 3, 1, 2]))
        image = "planes"
    nodes += [
        helper.make_node("Conv", [image, "weights"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["features"]),
    ]
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", kind, [batch, *preprocess.shape])],
        [helper.make_tensor_value_info("features", kind, [batch, 12])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(reshape), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def shapes(model):
    return [
        [item.dim_value or item.dim_param for item in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]


@pytest.fixture(scope="module")
def photos(assets):
    files = sorted((assets / "data" / "flower_photos" / "test").rglob("*.jpg"))[::25]
    return [read_image(file, preprocess=NCHW) for file in files]


def stack(preprocess, photos):
    return np.stack([preprocess.apply(photo) for photo in photos])


@pytest.mark.parametrize("preprocess", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_bytes_give_the_features_of_floats(preprocess, photos):
    model = build(preprocess)
    before = model.SerializeToString()
    bytes_model, bytes_preprocess = with_uint8_input(model, preprocess)
    assert model.SerializeToString() == before, "the model given must stay as it was"
    assert (bytes_preprocess.dtype, bytes_preprocess.layout) == ("uint8", "nhwc")
    assert (bytes_preprocess.mean, bytes_preprocess.std) == (preprocess.mean, preprocess.std)
    assert shapes(bytes_model) == [["batch", SIZE, SIZE, 3], ["batch", 12]]
    assert bytes_model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    assert bytes_model.opset_import == model.opset_import
    onnx.checker.check_model(bytes_model, full_check=True)

    floats, pixels = stack(preprocess, photos), stack(bytes_preprocess, photos)
    (expected,) = ReferenceEvaluator(model).run(None, {"images": floats})
    features = OrtEngine(bytes_model.SerializeToString(), dim=12)(pixels)
    assert cosines(features, expected).min() > 1 - 1e-10
    assert np.abs(features - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("preprocess", [NCHW, NHWC], ids=["nchw", "nhwc"])
def test_normalisation_in_the_graph_rounds_as_outside(preprocess, photos):
    """Step by step the same as `Preprocess`, so what the old graph sees is the same to the bit."""
    model, bytes_preprocess = with_uint8_input(build(preprocess), preprocess)
    normal = model.graph.node[4 if preprocess.layout == "nchw" else 3].output[0]
    inner = onnx.ModelProto.FromString(model.SerializeToString())
    del inner.graph.output[:]
    inner.graph.output.append(helper.make_tensor_value_info(normal, TensorProto.FLOAT, None))
    (values,) = ReferenceEvaluator(inner).run(None, {"images": stack(bytes_preprocess, photos)})
    np.testing.assert_array_equal(values, stack(preprocess, photos))


def test_bytes_on_a_real_network(mobilenet, photos):
    backbone, path = mobilenet
    model, preprocess = with_uint8_input(onnx.load(path), backbone.preprocess)
    expected = backbone.features(stack(backbone.preprocess, photos))  # by torch
    engine = OrtEngine(model.SerializeToString(), dim=backbone.dim)
    features = engine(stack(preprocess, photos))
    assert cosines(features, expected).min() > 1 - 1e-6
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_bytes_are_put_in_once_and_where_they_fit():
    model, preprocess = with_uint8_input(build(NCHW), NCHW)
    with pytest.raises(ValueError, match="already normalises"):
        with_uint8_input(model, preprocess)
    with pytest.raises(ValueError, match="already normalises"):
        with_uint8_input(model, NCHW)
    with pytest.raises(ValueError, match=r"preprocess gives \(n, 32, 32, 3\)"):
        with_uint8_input(build(NCHW), NHWC)
    other = build(NCHW)
    other.graph.input[0].name = "data"
    with pytest.raises(ValueError, match="one input 'images' of 4 dimensions, found data"):
        with_uint8_input(other, NCHW)


@pytest.mark.parametrize("n", [1, 3])
def test_a_fixed_batch(n, photos):
    model = build(NCHW)
    fixed = fix_batch(model, n)
    assert shapes(fixed) == [[n, 3, SIZE, SIZE], [n, 12]]
    inside = {item.name: item.type.tensor_type.shape.dim[0] for item in fixed.graph.value_info}
    assert set(inside) == {"maps", "positive", "pooled"}
    assert all(item.dim_value == n for item in inside.values())
    images = stack(NCHW, photos)
    (expected,) = ReferenceEvaluator(model).run(None, {"images": images})
    for count in (1, 2, 3, 7, len(images)):  # the engine fills up and cuts
        features = OrtEngine(fixed.SerializeToString(), dim=12)(images[:count])
        np.testing.assert_allclose(features, expected[:count], rtol=1e-5, atol=1e-6)


def test_a_fixed_batch_can_be_freed(photos):
    images = stack(NCHW, photos)
    (expected,) = ReferenceEvaluator(build(NCHW)).run(None, {"images": images})
    # The last one has the batch built into a reshape, as some exporters do it.
    for model in (fix_batch(build(NCHW), 4), build(NCHW, batch=4, reshape=(4, 12))):
        free = fix_batch(model, None)
        assert shapes(free) == [["batch", 3, SIZE, SIZE], ["batch", 12]]
        assert not any(
            item.type.tensor_type.shape.dim[0].HasField("dim_value")
            for item in free.graph.value_info
        )
        (features,) = ReferenceEvaluator(free).run(None, {"images": images})
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_batches_that_can_not_be():
    with pytest.raises(ValueError, match="at least 1 sample, got 0"):
        fix_batch(build(NCHW), 0)
    with pytest.raises(ValueError, match=r"batch length 4 built in, not 2|batches of 2"):
        fix_batch(build(NCHW, batch=4, reshape=(4, 12)), 2)


def test_stamps_replace_older_ones():
    model = build(NCHW)
    model.metadata_props.add(key="edgetl.labels", value='["old"]')
    model.metadata_props.add(key="edgetl.name", value="small")
    _, preprocess = with_uint8_input(model, NCHW)
    assert stamp(model, ("rose", "tülip"), preprocess, precision="int8") is model
    entries = [(item.key, item.value) for item in model.metadata_props]
    assert len(entries) == len(dict(entries)) == 4, "readers may see either of two values"
    found = dict(entries)
    assert json.loads(found["edgetl.labels"]) == ["rose", "tülip"]
    assert Preprocess.from_json(json.loads(found["edgetl.preprocess"])) == preprocess
    assert (found["edgetl.name"], found["edgetl.precision"]) == ("small", "int8")


def test_the_operator_set():
    assert operator_set(build(NCHW)) == 17
    with pytest.raises(ValueError, match="does not say"):
        operator_set(onnx.ModelProto())
