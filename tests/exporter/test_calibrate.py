"""Calibration: the ranges of onnxruntime's own calibrater, the means of numpy, flat memory."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from int8_parts import SQUEEZENET, network
from networks import run
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

from edgetl.backbones import load_backbone
from edgetl.errors import DataError, EdgetlError
from edgetl.exporter.calibrate import calibrate
from edgetl.exporter.ends import with_uint8_input
from edgetl.exporter.prepare import prepare


@pytest.fixture(scope="module")
def squeezenet(assets, networks_folder):
    return network(SQUEEZENET, assets, networks_folder)


class Photos(CalibrationDataReader):
    def __init__(self, photos):
        self.rest = iter(photos)

    def get_next(self):
        photo = next(self.rest, None)
        return None if photo is None else {"images": photo[None]}


def test_ranges_are_those_of_onnxruntime(squeezenet, tmp_path):
    path = tmp_path / "float.onnx"
    onnx.save(squeezenet.model, path)
    theirs = create_calibrator(path, augmented_model_path=tmp_path / "augmented.onnx")
    theirs.collect_data(Photos(squeezenet.photos[:8]))
    found = squeezenet.ranges("minmax")
    compared = 0
    for name, data in theirs.compute_data().items():
        low, high = (float(value.item()) for value in data.range_value)
        # They run the graph with its nodes fused, which rounds otherwise.
        np.testing.assert_allclose(found[name], (low, high), rtol=1e-4, atol=1e-5)
        compared += 1
    assert compared > 60
    assert squeezenet.calibration.samples == 8


def test_channel_means_are_those_of_numpy(squeezenet):
    names = [node.output[0] for node in squeezenet.model.graph.node][3:30:5]
    copy = onnx.ModelProto()
    copy.CopyFrom(squeezenet.model)
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    values = run(copy, squeezenet.photos[:8], names=names)
    for name, value in zip(names, values, strict=True):
        wanted = value.astype(np.float64).mean(axis=(0, 2, 3))
        scale = np.abs(value).mean()
        found = squeezenet.calibration.channel_means[name]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * scale)


def test_the_size_of_the_batches_changes_nothing(squeezenet):
    halves = calibrate(squeezenet.model, (squeezenet.photos[:4], squeezenet.photos[4:8]))
    found, wanted = halves.ranges(), squeezenet.ranges("minmax")
    assert list(found) == list(wanted)
    for name, mean in squeezenet.calibration.channel_means.items():
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(halves.channel_means[name], mean, rtol=1e-3, atol=1e-4)


def test_a_graph_of_bytes_is_calibrated_inside(squeezenet, assets):
    weights = assets / "weights/squeezenet1_1.safetensors"
    backbone = load_backbone(SQUEEZENET, weights)
    preprocess = backbone.preprocess
    model, _ = with_uint8_input(squeezenet.model, preprocess)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    found = calibrate(prepare(model), [pixels])
    assert "images" not in found.histograms
    mean, std = (np.array(values, np.float32) for values in (preprocess.mean, preprocess.std))
    inside = ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)
    floats = calibrate(squeezenet.model, [inside]).ranges()
    for name, node in ((node.output[0], node) for node in squeezenet.model.graph.node):
        if node.op_type == "Conv":
            np.testing.assert_allclose(found.ranges()[name], floats[name], rtol=1e-4, atol=1e-4)
    # The network's first tensor, which in the float graph is its input.
    assert floats["images"] in [pytest.approx(item, rel=1e-5) for item in found.ranges().values()]


def test_memory_does_not_grow_with_the_samples(squeezenet, assets, tmp_path):
    """What is kept of a photo is nothing: its tensors are 30 MB, its counted values 8 MB."""
    onnx.save(squeezenet.model, tmp_path / "float.onnx")
    code = f"""
from pathlib import Path
import onnx, psutil
from edgetl.decode import read_image
from edgetl.exporter.calibrate import calibrate
from edgetl.preprocess import Preprocess
preprocess, process, resident = Preprocess(), psutil.Process(), []
photos = sorted(Path({str(assets / "data/flower_photos/train")!r}).glob("*/*"))[::8][:80]
def batches():
    for photo in photos:
        yield preprocess.apply(read_image(photo, preprocess=preprocess))[None]
        resident.append(process.memory_info().rss / 2**20)
found = calibrate(onnx.load({str(tmp_path / "float.onnx")!r}), batches(), threads=1)
print(found.samples, max(resident[:20]), max(resident[20:]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    samples, early, late = map(float, result.stdout.split())
    assert samples == 80
    assert late < early + 30


def graph(operator, *, shape=("batch", 4), **attributes):
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("images", "y")]
    node = helper.make_node(operator, ["images"], ["y"], **attributes)
    made = helper.make_graph([node], "g", ends[:1], ends[1:])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(DataError, match="at least one sample"):
        calibrate(graph("Relu"), [])


def test_numbers_that_are_not_finite_are_refused_by_name():
    positive, negative = np.ones((1, 4), np.float32), -np.ones((1, 4), np.float32)
    assert calibrate(graph("Log"), [positive]).ranges() == {"images": (1, 1), "y": (0, 0)}
    with pytest.raises(DataError, match="the tensor y takes values from nan"):
        calibrate(graph("Log"), [positive, negative])
    with pytest.raises(DataError, match="the tensor images"):
        calibrate(graph("Relu"), [np.full((1, 4), np.inf, np.float32)])


def test_a_graph_that_does_not_run_says_so():
    with pytest.raises(EdgetlError, match="does not run"):
        calibrate(graph("Relu"), [np.zeros((1, 5, 2), np.float32)])
    with pytest.raises(EdgetlError, match="can't be loaded"):
        calibrate(graph("NoSuchOperator"), [np.zeros((1, 4), np.float32)])


def test_scalars_and_empty_tensors_are_no_obstacle():
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["largest"], keepdims=0),
        helper.make_node("Slice", ["images", "from", "to"], ["nothing"]),
        helper.make_node("Div", ["images", "largest"], ["y"]),
    ]
    places = [
        helper.make_tensor(name, TensorProto.INT64, [2], values)
        for name, values in (("from", [0, 4]), ("to", [9, 9]))
    ]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 4]) for n in ("images", "y")
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], places)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    found = calibrate(model, [np.array([[1, 2, 3, 4]], np.float32)])
    assert found.ranges()["largest"] == (4, 4)
    assert found.ranges()["y"] == (0.25, 1)
    assert "nothing" not in found.histograms
