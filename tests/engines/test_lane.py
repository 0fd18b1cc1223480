"""Lanes: memory that an engine reads and writes in place."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgetl.engines import OpenVinoEngine, OrtEngine, available_cores
from edgetl.engines.lane import CallLane, Lanes, open_lane
from edgetl.engines.ort import _Bound, _Ends

FLOAT = np.dtype(np.float32)


@pytest.fixture(params=[OrtEngine, OpenVinoEngine], ids=["ort", "openvino"])
def engine_class(request):
    pytest.importorskip({OrtEngine: "onnxruntime", OpenVinoEngine: "openvino"}[request.param])
    return request.param


@pytest.fixture
def any_size(tmp_path):
    """A graph that takes images of any size, and gives the mean of each channel."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    ends = (("images", ["batch", 3, "height", "width"]), ("features", ["batch", 3]))
    images, features = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends
    )
    graph = helper.make_graph(nodes, "backbone", [images], [features])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path / "any_size.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def fixed(graph, tmp_path):
    """The graph with a fixed batch length of 3."""
    from edgetl.exporter.ends import fix_batch

    path = tmp_path / "fixed.onnx"
    onnx.save(fix_batch(onnx.load(graph), 3), path)
    return path


@pytest.mark.parametrize("count", [1, 4])
def test_each_run_reads_the_batch_as_it_is_then(engine_class, graph, reference, count):
    lane = open_lane(engine_class(graph, dim=6, purpose="serve"), (count, 3, 8, 8), FLOAT)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3):
        lane.batch[:] = rng.standard_normal(lane.batch.shape)
        features = lane.run()
        np.testing.assert_allclose(features, reference(lane.batch), atol=1e-6)
        found.append(features)
    assert found[0].shape == (count, 6)
    assert np.shares_memory(found[0], found[2]), "a run must not allocate its features"


@pytest.mark.parametrize("count", [1, 3, 5])
def test_graphs_of_a_fixed_batch_length(engine_class, fixed, reference, count):
    lane = open_lane(engine_class(fixed, dim=6, purpose="serve"), (count, 3, 8, 8), FLOAT)
    for seed in (0, 1):
        lane.batch[:] = np.random.default_rng(seed).standard_normal(lane.batch.shape)
        features = lane.run()
        assert features.shape == (count, 6)
        np.testing.assert_allclose(features, reference(lane.batch), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        ((1, 3, 8, 9), np.float32, ValueError),
        ((0, 3, 8, 8), np.float32, ValueError),
        ((1, 3, 8, 8), np.uint8, TypeError),
    ],
)
def test_batches_that_the_graph_does_not_take(engine_class, graph, shape, dtype, error):
    with pytest.raises(error):
        open_lane(engine_class(graph, dim=6), shape, np.dtype(dtype))


def test_an_engine_that_ties_no_memory():
    lane = open_lane(lambda batch: batch.sum((2, 3)), (2, 3, 4, 4), FLOAT)
    assert isinstance(lane, CallLane)
    lane.batch[:] = 2
    np.testing.assert_array_equal(lane.run(), np.full((2, 3), 32))


def test_memory_used_again_for_another_shape(engine_class, any_size):
    """A call must not take the batch at an old address for the old batch."""
    engine = engine_class(any_size, dim=3)
    memory = np.arange(2 * 3 * 4 * 9, dtype=np.float32)
    for shape in ((2, 3, 4, 9), (2, 3, 9, 4), (2, 3, 6, 6), (2, 3, 2, 9)):
        batch = memory[: np.prod(shape)].reshape(shape)
        np.testing.assert_allclose(engine(batch), batch.mean((2, 3)), rtol=1e-6)


class _Gpu:
    """The part of a session's interface that a GPU's has another meaning of: binding copies."""

    def __init__(self):
        self.runs = []

    def io_binding(self):
        return self

    def bind_cpu_input(self, name, batch):
        del name
        self.copied = batch.copy()

    def bind_output(self, *words):
        pass

    def run_with_iobinding(self, binding):
        assert binding is self
        self.runs.append(self.copied.copy())


@pytest.mark.parametrize("in_place", [False, True])
def test_a_batch_that_binding_copies_is_bound_for_each_run(in_place):
    session, batch = _Gpu(), np.zeros((1, 2), np.float32)
    bound = _Bound(session, _Ends("images", "features", (2,), FLOAT, 0), batch, 3, in_place)
    for value in (1, 2):
        batch.fill(value)
        bound.run()
    seen = [float(run[0, 0]) for run in session.runs]
    assert seen == ([0, 0] if in_place else [1, 2])


def test_lanes_are_lent_to_one_caller_at_a_time_and_used_again(engine_class, graph, reference):
    lanes = Lanes(engine_class(graph, dim=6, purpose="serve"), (1, 3, 8, 8), FLOAT)
    images = np.random.default_rng(0).standard_normal((200, 1, 3, 8, 8), np.float32)
    started, most = [], 4

    def ask(image):
        lane = lanes.take()
        try:
            started.append(id(lane))
            lane.batch[:] = image
            return lane.run().copy()
        finally:
            lanes.give(lane)

    with ThreadPoolExecutor(most) as pool:
        found = list(pool.map(ask, images))
    for image, features in zip(images, found, strict=True):
        np.testing.assert_allclose(features, reference(image), atol=1e-6)
    assert len(set(started)) <= most, "never more lanes than callers"
    assert 1 <= len(lanes) <= most


def test_threads_that_die_give_their_memory_back(graph):
    """Threads of which each predicts once, as a server's may, share the lanes there are."""
    lanes = Lanes(OrtEngine(graph, dim=6, purpose="serve"), (1, 3, 8, 8), FLOAT)
    memory = []

    def ask():
        lane = lanes.take()
        memory.append(weakref.ref(lane.batch))
        lane.run()
        lanes.give(lane)

    for _ in range(20):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert len(lanes) == 1
    assert len({id(reference()) for reference in memory}) == 1


def test_no_more_lanes_are_kept_than_cores_can_use(graph):
    lanes = Lanes(OrtEngine(graph, dim=6, purpose="serve"), (1, 3, 8, 8), FLOAT)
    taken = [lanes.take() for _ in range(2 * available_cores() + 5)]
    references = [weakref.ref(lane.batch) for lane in taken]
    while taken:
        lanes.give(taken.pop())
    gc.collect()
    assert len(lanes) == 2 * available_cores()
    assert sum(reference() is not None for reference in references) == len(lanes)
