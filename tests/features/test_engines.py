"""Extraction through ONNX Runtime: a small graph with a convolution and a matrix product."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgetl import Preprocess
from edgetl.decode import read_image
from edgetl.engines import OrtEngine
from edgetl.features import ExtractOptions, FeatureStore, extract, feature_key

DIM = 24
PREPROCESS = Preprocess(size=56, resize=64)


def graph(seed=0):
    """The bytes of an ONNX file: convolution, ReLU, global average, matrix product."""
    generator = np.random.default_rng(seed)
    weights = {
        "kernel": generator.standard_normal((16, 3, 5, 5)) / 9,
        "matrix": generator.standard_normal((16, DIM)),
        "bias": generator.standard_normal(DIM),
    }
    nodes = [
        helper.make_node("Conv", ["images", "kernel"], ["maps"], strides=[2, 2]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["features"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 56, 56])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", DIM])],
            [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def run(photos, cache):
    """Extract 40 photos with a new engine and the store that belongs to it."""

    def call(data=None, *, preprocess=PREPROCESS, dtype="float16", **options):
        engine = OrtEngine(graph() if data is None else data, dim=DIM)
        key = feature_key(engine, preprocess, dtype=dtype)
        with FeatureStore(cache, key, DIM, dtype=dtype) as store:
            result = extract(
                photos[:40],
                engine=engine,
                preprocess=preprocess,
                store=store,
                options=ExtractOptions(**options),
            )
        return result, engine

    return call


def test_features_are_those_of_the_engine(run, photos):
    result, engine = run(dtype="float32")
    images = [read_image(photo, preprocess=PREPROCESS) for photo in photos[:40]]
    expected = np.concatenate([engine(PREPROCESS.apply(image)[None]) for image in images])
    np.testing.assert_allclose(result.features, expected, rtol=1e-5, atol=1e-6)


def test_a_cached_run_never_loads_the_graph(run):
    first, _ = run()
    again, engine = run()
    assert (again.hits, engine._session) == (40, None)
    np.testing.assert_array_equal(first.features, again.features)


def test_threads_do_not_change_a_bit_and_batches_only_the_last(run, cache):
    """Which samples share a batch depends on the threads; the shape of the batches does not."""
    expected, _ = run(dtype="float32", batch_size=4, workers=1)
    for options, tolerance in (
        ({"workers": 3, "batch_size": 4}, 0),
        ({"workers": 2, "batch_size": 1}, 1e-5),
        ({"workers": 2, "batch_size": 64}, 1e-5),
    ):
        for store in cache.glob("*.lance"):
            store.rename(store.with_suffix(f".gone{options}"))
        result, _ = run(dtype="float32", **options)
        assert result.misses == 40
        np.testing.assert_allclose(
            result.features, expected.features, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(
    "change",
    [
        {"data": graph(seed=1)},
        {"dtype": "float32"},
        {"preprocess": dataclasses.replace(PREPROCESS, resize=70)},
        {"preprocess": dataclasses.replace(PREPROCESS, decode="scaled")},
    ],
    ids=["weights", "dtype", "resize", "decode"],
)
def test_what_changes_features_is_computed_anew(run, change):
    run()
    result, _ = run(**change)
    assert (result.hits, result.misses) == (0, 40)
    assert run()[0].hits == 40, "and the old ones are still there"


def test_bytes_give_the_features_of_floats(run, photos):
    """Extraction through a graph that normalises, with a batch of fixed length."""
    from edgetl.exporter.ends import fix_batch, with_uint8_input

    model, preprocess = with_uint8_input(onnx.load_model_from_string(graph()), PREPROCESS)
    data = fix_batch(model, 3).SerializeToString()
    result, _ = run(data, preprocess=preprocess, dtype="float32", batch_size=4, workers=2)
    expected, _ = run(dtype="float32")
    assert (result.hits, result.misses) == (0, 40), "another preprocessing is another store"
    np.testing.assert_allclose(result.features, expected.features, rtol=1e-4, atol=1e-5)
