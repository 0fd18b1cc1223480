"""ONNX Runtime's own format: the same features, labels and probabilities from a .ort file."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgetl import Preprocess
from edgetl.bundle import Bundle, Manifest
from edgetl.decode import read_image
from edgetl.engines import OpenVinoEngine, OrtEngine, cosines
from edgetl.errors import ParityError, WeightsError
from edgetl.exporter.ends import fix_batch, stamp, with_uint8_input
from edgetl.exporter.fuse import fuse_head
from edgetl.exporter.ort_format import required_operators, to_ort_format
from edgetl.heads import RidgeHead
from edgetl.runtime import load

LEVELS = ("portable", "mobile", "machine")
LABELS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


@pytest.fixture(scope="module")
def photos(assets):
    folder = assets / "data" / "flower_photos" / "test"
    return [
        read_image(file, preprocess=Preprocess())
        for label in LABELS
        for file in sorted((folder / label).iterdir())[:4]
    ]


@pytest.fixture(scope="module")
def expected(mobilenet, photos):
    """Features by torch."""
    backbone, _ = mobilenet
    return backbone.features(np.stack([backbone.preprocess.apply(photo) for photo in photos]))


@pytest.fixture(scope="module")
def exported(mobilenet, expected):
    """A graph with all at once: bytes in, a head inside, a stamp."""
    backbone, path = mobilenet
    head = RidgeHead().fit(expected, np.repeat(np.arange(5), 4))
    model, preprocess = with_uint8_input(onnx.load(path), backbone.preprocess)
    model = stamp(fuse_head(model, head, LABELS), LABELS, preprocess)
    return model, preprocess, head


def pixels(preprocess, photos):
    return np.stack([preprocess.apply(photo) for photo in photos])


@pytest.mark.parametrize("level", LEVELS)
def test_the_features_are_the_networks(level, exported, photos, expected, tmp_path):
    model, preprocess, head = exported
    path = tmp_path / "fused.ort"
    to_ort_format(model.SerializeToString(), path, level=level)
    assert [item.name for item in tmp_path.iterdir()] == ["fused.ort"]
    assert path.read_bytes()[4:8] == b"ORTM"
    images = pixels(preprocess, photos)
    for graph in (path, path.read_bytes()):
        features = OrtEngine(graph, dim=1024)(images)
        assert cosines(features, expected).min() > 1 - 1e-6
        assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()
    probabilities = OrtEngine(path, dim=5, output="probabilities")(images)
    np.testing.assert_allclose(probabilities, head.predict_proba(expected), atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_plain_onnxruntime_reads_it_and_its_metadata(level, exported, photos, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, preprocess, _ = exported
    path = tmp_path / "fused.ort"
    to_ort_format(model.SerializeToString(), path, level=level)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_outputs()] == ["probabilities", "features"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["edgetl.labels"]) == list(LABELS)
    assert Preprocess.from_json(json.loads(metadata["edgetl.preprocess"])) == preprocess
    (probabilities,) = session.run(["probabilities"], {"images": pixels(preprocess, photos)})
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_only_the_level_of_this_machine_has_its_layout(exported):
    """Files for other machines have no operator in a layout that theirs may lack."""
    data = exported[0].SerializeToString()
    for level in ("portable", "mobile"):
        assert "nchwc" not in required_operators(data, level=level)


def test_a_bundle_of_such_a_graph(exported, photos, expected, tmp_path):
    model, preprocess, head = exported
    to_ort_format(model.SerializeToString(), tmp_path / "graph.ort")
    manifest = Manifest(
        labels=LABELS,
        preprocess=preprocess,
        backbone="tf_mobilenetv3_small_100",
        dim=1024,
        graph="fused.ort",
        graph_fingerprint="0" * 64,
        head=head.kind,
        files={},
    )
    folder = tmp_path / "flowers.edgetl"
    write_bundle(folder, manifest, head, tmp_path / "graph.ort")
    runtime = load(folder)
    runtime.warm_up()
    answers = runtime.predict(photos[:3], features=True)
    wanted = head.predict_proba(expected[:3])
    for answer, row, features in zip(answers, wanted, expected, strict=False):
        np.testing.assert_allclose(answer.probabilities, row, atol=1e-4)
        np.testing.assert_allclose(answer.features, features, rtol=1e-3, atol=1e-3)
        assert answer.label == LABELS[row.argmax()]


def write_bundle(folder, manifest, head, graph):
    """As `Bundle.save`, which adds a stamp to graphs that were not exported, by bare means."""
    import dataclasses
    import hashlib

    import safetensors.numpy

    from edgetl.bundle.manifest import FileRecord

    folder.mkdir()
    content = {
        manifest.graph: graph.read_bytes(),
        manifest.arrays: safetensors.numpy.save(head.arrays()),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    records = {
        name: FileRecord(hashlib.sha256(data).hexdigest(), len(data))
        for name, data in content.items()
    }
    manifest = dataclasses.replace(manifest, files=records)
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    assert Bundle.load(folder).labels == manifest.labels


def test_a_fixed_batch_stays_fixed(exported, photos, expected, tmp_path):
    model, preprocess, _ = exported
    to_ort_format(fix_batch(model, 3).SerializeToString(), tmp_path / "fixed.ort")
    features = OrtEngine(tmp_path / "fixed.ort", dim=1024)(pixels(preprocess, photos[:4]))
    assert cosines(features, expected[:4]).min() > 1 - 1e-6


OFFICIAL = """
import sys
from pathlib import Path
from onnxruntime.tools import convert_onnx_models_to_ort as tool
folder, style = Path(sys.argv[1]), sys.argv[2]
tool.convert_onnx_models_to_ort(folder, optimization_styles=[tool.OptimizationStyle[style]])
print("".join(path.read_text() for path in folder.glob("required_operators*.config")))
"""


@pytest.mark.parametrize(("level", "style"), [("portable", "Fixed"), ("mobile", "Runtime")])
def test_required_operators_are_those_of_the_official_tool(level, style, exported, tmp_path):
    """It reads them out of the .ort file, where ours come from the optimised ONNX graph."""
    data = exported[0].SerializeToString()
    (tmp_path / "graph.onnx").write_bytes(data)
    result = subprocess.run(
        [sys.executable, "-c", OFFICIAL, str(tmp_path), style],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    theirs = [line for line in result.stdout.splitlines() if line.count(";") == 2]
    ours = required_operators(data, level=level).splitlines()
    assert [line for line in ours if not line.startswith("#")] == theirs
    assert ours[0].startswith("#") and len(theirs) > 3


def test_openvino_says_that_it_can_not_read_it(exported, tmp_path):
    pytest.importorskip("openvino")
    to_ort_format(exported[0].SerializeToString(), tmp_path / "graph.ort")
    for graph in (tmp_path / "graph.ort", (tmp_path / "graph.ort").read_bytes()):
        with pytest.raises(ValueError, match="which OpenVINO can't read; use OnnxRuntime"):
            OpenVinoEngine(graph, dim=1024)


def test_what_can_not_be_converted(exported, tmp_path):
    with pytest.raises(WeightsError, match="can't convert the graph"):
        to_ort_format(b"no graph", tmp_path / "graph.ort")
    with pytest.raises(ValueError, match="level must be one of"):
        to_ort_format(exported[0].SerializeToString(), tmp_path / "graph.ort", level="all")
    with pytest.raises(ValueError, match="level must be one of"):
        required_operators(exported[0].SerializeToString(), level="all")
    assert list(tmp_path.iterdir()) == []


def test_a_conversion_that_loses_something_is_refused(exported, tmp_path, monkeypatch):
    """As older versions of ONNX Runtime lose the metadata."""
    from edgetl.exporter import ort_format

    original = ort_format._optimise
    bare = onnx.ModelProto.FromString(exported[0].SerializeToString())
    del bare.metadata_props[:]
    monkeypatch.setattr(
        ort_format,
        "_optimise",
        lambda model, path, **options: original(bare.SerializeToString(), path, **options),
    )
    (tmp_path / "graph.ort").write_bytes(b"an older one")
    with pytest.raises(ParityError, match="the converted graph has the metadata"):
        to_ort_format(exported[0].SerializeToString(), tmp_path / "graph.ort")
    assert (tmp_path / "graph.ort").read_bytes() == b"an older one"
    assert len(list(tmp_path.iterdir())) == 1
