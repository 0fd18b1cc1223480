"""The export job, end to end, on real weights and real photos."""

import dataclasses
import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from export_kit import FLOWERS, KINDS, options

import edgetl
from edgetl.bundle import Bundle
from edgetl.decode import read_image
from edgetl.errors import DataError


@pytest.mark.parametrize("kind", KINDS)
def test_what_ships_answers_alike_here_and_in_plain_onnxruntime(kind, exported, photos):
    target, graph, name = KINDS[kind]
    bundle = exported(kind, target, **graph)
    assert bundle.manifest.graph == name
    opened = Bundle.load(bundle.path)
    record = opened.manifest.export
    assert all(gate.passed for gate in record.gates), record.gates
    assert (record.precision, record.fused) == (target.precision or "fp32", "fused" in name)
    assert record.accuracy["shipped"] == opened.evidence.accuracy

    # Plain onnxruntime, with nothing of edgetl but its preprocessing.
    session = onnxruntime.InferenceSession(opened.graph_path, providers=["CPUExecutionProvider"])
    ends = {item.name for item in session.get_outputs()}
    assert ends == ({"probabilities", "features"} if "fused" in name else {"features"})
    stated = session.get_modelmeta().custom_metadata_map
    labels = json.loads(stated["edgetl.labels"])
    preprocess = edgetl.Preprocess.from_json(json.loads(stated["edgetl.preprocess"]))
    runtime = edgetl.load(bundle.path)
    tested = sorted(photos.glob("test/*/*.jpg"))[::4]
    for photo in tested:
        image = preprocess.apply(read_image(photo, preprocess=preprocess))[None]
        found = dict(
            zip(
                [i.name for i in session.get_outputs()],
                session.run(None, {"images": image}),
                strict=True,
            )
        )
        answer = runtime.predict(photo)
        if "fused" in name:
            assert labels[int(found["probabilities"][0].argmax())] == answer.label
        else:
            chances = opened.head.predict_proba(found["features"])
            assert labels[int(chances[0].argmax())] == answer.label


def test_int8_keeps_its_accuracy_and_is_smaller(exported, adapted):
    bundle = exported("int8", *KINDS["int8"][:1])
    record = bundle.manifest.export
    assert record.accuracy["shipped"] >= record.accuracy["float32"] - 0.02
    assert bundle.manifest.files["backbone.int8.onnx"].size < record.float_bytes / 3
    assert {row["verdict"] for row in record.search["candidates"]} != {None}
    assert record.search["tensor_sqnr_db"]
    operators = {node.op_type for node in onnx.load(bundle.graph_path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    assert record.source == str(adapted.path)


def test_an_ort_file_comes_with_its_operators(exported):
    bundle = exported("int8-ort", KINDS["int8-ort"][0], format="ort")
    text = (bundle.path / "required_operators.config").read_text()
    assert "com.microsoft;1;" in text and "QLinearConv" in text
    assert Bundle.load(bundle.path).read_compiled("required_operators.config") == text.encode()


def test_camera_bytes_go_in_as_they_are(exported):
    bundle = exported("int8-fused-bytes", KINDS["int8-fused-bytes"][0], fused=True, input="uint8")
    (image,) = onnx.load(bundle.graph_path).graph.input
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in image.type.tensor_type.shape.dim][1:] == [224, 224, 3]
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    assert edgetl.load(bundle.path).predict(frame).label in FLOWERS


def test_the_training_part_has_to_be_there_and_unchanged(adapted, photos, assets, tmp_path):
    copied = tmp_path / "photos"
    shutil.copytree(photos, copied)
    provenance = {**adapted.manifest.provenance, "data": str(copied)}
    manifest = dataclasses.replace(adapted.manifest, provenance=provenance)
    moved = dataclasses.replace(adapted, manifest=manifest)
    (copied / "train/daisy/more.jpg").write_bytes(
        sorted((assets / "data/flower_photos/train/daisy").iterdir())[100].read_bytes()
    )
    with pytest.raises(DataError, match=r"has changed.*--calibration"):
        edgetl.export(moved, options=options())
    shutil.rmtree(copied)
    with pytest.raises(DataError, match="--calibration"):
        edgetl.export(moved, options=options())
    with pytest.raises(DataError, match="--test"):
        edgetl.export(moved, calibration=photos / "train", options=options())
    made = edgetl.export(
        moved, calibration=photos / "train", test=photos / "test", options=options()
    )
    assert any("calibration photos" in note for note in made.evidence.run.notes)


def test_test_photos_among_the_calibration_are_not_used(adapted, photos, tmp_path):
    mixed = tmp_path / "mixed"
    for part in ("train", "test"):
        shutil.copytree(photos / part, mixed, dirs_exist_ok=True)
    made = edgetl.export(adapted, calibration=mixed, options=options())
    assert any("in the test part too" in note for note in made.evidence.run.notes)
    assert made.evidence.n_train == 150
