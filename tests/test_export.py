"""The export job, end to end, on real weights and real photos, and what its gates must catch."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import edgetl
from edgetl.bundle import Bundle
from edgetl.cli.main import main
from edgetl.decode import read_image
from edgetl.errors import AccuracyError, BudgetError, DataError, ParityError
from edgetl.exporter import artefact as artefact_module
from edgetl.exporter import job_draft
from edgetl.exporter.artefact import GraphOptions
from edgetl.exporter.gates import LIMITS
from edgetl.exporter.search import SearchOptions

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
# The machine that runs the tests is not the one to be fast on.
QUICK = SearchOptions(rounds=0, seconds=0.05, allow_slower=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(autouse=True)
def shared_cache(cache, private_cache, monkeypatch):
    """Features are computed once for this file."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))


@pytest.fixture(scope="module")
def photos(assets, tmp_path_factory):
    """Real photos of five classes: 30 to train on and 20 to test on of each."""
    root = tmp_path_factory.mktemp("photos")
    for part, count in (("train", 30), ("test", 20)):
        for label in FLOWERS:
            folder = root / part / label
            folder.mkdir(parents=True)
            for photo in sorted((assets / "data/flower_photos" / part / label).iterdir())[:count]:
                shutil.copy(photo, folder)
    return root


@pytest.fixture(scope="module")
def adapted(photos, assets, cache, tmp_path_factory):
    """A SqueezeNet adapted to them: its weights do not lie on an int8 grid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETL_CACHE_DIR", str(cache))
        return edgetl.adapt(
            photos,
            backbone="torchvision/squeezenet1_1",
            weights=assets / "weights/squeezenet1_1.safetensors",
            head="ridge",
            output=tmp_path_factory.mktemp("bundles") / "flowers.edgetl",
        )


def options(**graph):
    return edgetl.ExportOptions(
        graph=GraphOptions(search=QUICK, calibration_images=24, **graph),
        verify_seconds=0.05,
        budget_ms=10_000,
    )


@pytest.fixture(scope="module")
def exported(adapted, cache, tmp_path_factory):
    """What each kind of export gives; every one is made once."""
    made = {}

    def export(name, target, **graph):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGETL_CACHE_DIR", str(cache))
                made[name] = edgetl.export(
                    adapted,
                    target,
                    output=tmp_path_factory.mktemp("exports") / f"{name}.edgetl",
                    max_drop=2.0,
                    options=options(**graph),
                )
        return made[name]

    return export


KINDS = {
    "int8": (edgetl.OnnxRuntime(precision="int8"), {}, "backbone.int8.onnx"),
    "fp16": (edgetl.OnnxRuntime(precision="fp16"), {}, "backbone.fp16.onnx"),
    "int8-fused-bytes": (
        edgetl.OnnxRuntime(precision="int8"),
        {"fused": True, "input": "uint8"},
        "fused.int8.onnx",
    ),
    "fp32-fused": (edgetl.OnnxRuntime(), {"fused": True, "batch": 1}, "fused.onnx"),
    "int8-ort": (edgetl.OnnxRuntime(precision="int8"), {"format": "ort"}, "backbone.int8.ort"),
    "fp32-ort-fused": (edgetl.OnnxRuntime(), {"format": "ort", "fused": True}, "fused.ort"),
}


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


def _other_graph(change):
    """A `finish` that ships a graph which something went wrong with."""

    def finish(made, labels, chosen):
        content = artefact_module.finish(made, labels, chosen)
        return change(content, labels, made)

    return finish


def swapped_channels(content, labels, made):
    model = onnx.load_model_from_string(content)
    weights = {item.name: item for item in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = weights[first.input[1]]
    values = numpy_helper.to_array(weight)[:, ::-1]
    weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weight.name))
    return model.SerializeToString()


def corrupted_weight(content, labels, made):
    model = onnx.load_model_from_string(content)
    weight = max(model.graph.initializer, key=lambda item: len(item.raw_data))
    values = numpy_helper.to_array(weight).copy()
    values.flat[: values.size // 8] = values.flat[0] + 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model.SerializeToString()


def other_labels(content, labels, made):
    model = onnx.load_model_from_string(content)
    for item in model.metadata_props:
        if item.key == "edgetl.labels":
            item.value = json.dumps([*labels[1:], labels[0]])
    return model.SerializeToString()


@pytest.mark.parametrize("change", [swapped_channels, corrupted_weight, other_labels])
def test_a_broken_float_graph_is_refused(change, adapted, monkeypatch, tmp_path):
    monkeypatch.setattr(job_draft, "finish", _other_graph(change))
    with pytest.raises(ParityError, match="FAILED"):
        edgetl.export(adapted, output=tmp_path / "broken.edgetl", options=options())
    assert list(tmp_path.iterdir()) == []


def test_a_broken_int8_graph_is_refused(adapted, monkeypatch, tmp_path):
    build = artefact_module.search_int8

    def broken(model, *rest, **more):
        result = build(model, *rest, **more)
        graph = onnx.load_model_from_string(result.chosen.graph)
        # Red and blue change places in the quantized weights of the first convolution.
        weights = {item.name: item for item in graph.graph.initializer}
        first = next(node for node in graph.graph.node if node.op_type == "Conv")
        makers = {node.output[0]: node for node in graph.graph.node}
        weight = weights[makers[first.input[1]].input[0]]
        values = np.ascontiguousarray(numpy_helper.to_array(weight)[:, ::-1])
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        chosen = dataclasses.replace(result.chosen, graph=graph.SerializeToString())
        return dataclasses.replace(result, chosen=chosen)

    monkeypatch.setattr(artefact_module, "search_int8", broken)
    with pytest.raises(ParityError, match="parity: features"):
        edgetl.export(
            adapted,
            edgetl.OnnxRuntime(precision="int8"),
            output=tmp_path / "broken.edgetl",
            options=options(),
        )
    assert list(tmp_path.iterdir()) == []


OTHER_STATISTICS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


@pytest.mark.parametrize(
    ("precision", "wrong"),
    [
        ("fp32", OTHER_STATISTICS),
        ("int8", OTHER_STATISTICS),
        ("fp32", {"interpolation": "bicubic"}),
        ("fp32", {"resize": 224}),
    ],
)
def test_other_preprocessing_is_refused(wrong, precision, adapted, monkeypatch, tmp_path):
    draft = job_draft.draft_of

    def broken(*arguments):
        made = draft(*arguments)
        preprocess = dataclasses.replace(made.preprocess, **wrong)
        manifest = dataclasses.replace(made.manifest, preprocess=preprocess)
        return dataclasses.replace(made, manifest=manifest)

    monkeypatch.setattr("edgetl._export.draft_of", broken)
    with pytest.raises(ParityError, match="metadata"):
        edgetl.export(
            adapted,
            edgetl.OnnxRuntime(precision=precision),
            output=tmp_path / "broken.edgetl",
            options=options(),
        )
    assert list(tmp_path.iterdir()) == []


def test_wrong_mean_and_std_inside_the_graph_are_refused(adapted, monkeypatch, tmp_path):
    real = artefact_module.with_uint8_input

    def broken(model, preprocess):
        other = dataclasses.replace(preprocess, mean=(0.5,) * 3, std=(0.5,) * 3)
        graph, _ = real(model, other)
        return graph, real(model, preprocess)[1]

    monkeypatch.setattr(artefact_module, "with_uint8_input", broken)
    with pytest.raises(ParityError, match="prepared float graph"):
        edgetl.export(adapted, output=tmp_path / "broken.edgetl", options=options(input="uint8"))
    assert list(tmp_path.iterdir()) == []


def test_labels_of_the_manifest_in_another_order_are_refused(adapted, monkeypatch, tmp_path):
    draft = job_draft.draft_of

    def broken(*arguments):
        made = draft(*arguments)
        labels = (*made.labels[1:], made.labels[0])
        manifest = dataclasses.replace(made.manifest, labels=labels, evidence=made.evidence)
        return dataclasses.replace(made, manifest=manifest)

    monkeypatch.setattr("edgetl._export.draft_of", broken)
    with pytest.raises(ParityError, match="top-1"):
        edgetl.export(adapted, output=tmp_path / "broken.edgetl", options=options())


def test_lost_accuracy_has_its_own_error(adapted, monkeypatch, tmp_path):
    monkeypatch.setattr(job_draft, "finish", _other_graph(corrupted_weight))
    lax = dataclasses.replace(LIMITS["fp32"], least_cosine=-1, mean_cosine=-1, agreement=0)
    with pytest.raises(AccuracyError, match="a drop of"):
        edgetl.export(
            adapted,
            output=tmp_path / "broken.edgetl",
            options=dataclasses.replace(options(), limits=lax),
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("budget", [{"budget_ms": 1e-6}, {"budget_mb": 0.001}])
def test_budgets_are_kept(budget, adapted, tmp_path):
    with pytest.raises(BudgetError, match="FAILED"):
        edgetl.export(
            adapted,
            output=tmp_path / "large.edgetl",
            options=dataclasses.replace(options(), **budget),
        )
    assert list(tmp_path.iterdir()) == []


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


def test_impossible_requests_are_refused_at_once(adapted, exported, tmp_path):
    with pytest.raises(ValueError, match="exported already"):
        edgetl.export(exported("fp16", KINDS["fp16"][0]), options=options())
    with pytest.raises(TypeError, match="no target"):
        edgetl.export(adapted, edgetl.OpenVino())
    with pytest.raises(ValueError, match="ahead_of_time"):
        edgetl.export(adapted, options=dataclasses.replace(options(), ahead_of_time=True))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        edgetl.export(adapted, output=tmp_path, options=options())
    with pytest.raises(ValueError, match="the target asks for int8"):
        edgetl.load(adapted.path, target=edgetl.OnnxRuntime(precision="int8"))


def test_verify_runs_the_gates_again(exported, adapted, photos, tmp_path, capsys):
    bundle = exported("int8", KINDS["int8"][0])
    command = ["verify", str(bundle.path), "--data", str(photos), "--seconds", "0.05"]
    assert main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["gates"]
    assert {row["name"] for row in rows} >= {"parity: features", "accuracy", "speed", "size"}
    assert main([*command, "--budget-mb", "0.01"]) == 6
    assert "FAILED" in capsys.readouterr().err
    assert main(["verify", str(adapted.path), "--data", str(photos)]) == 2
    assert "not exported" in capsys.readouterr().err

    # On a device, without the bundle it came from.
    alone = tmp_path / "alone.edgetl"
    manifest = dataclasses.replace(
        bundle.manifest, export=dataclasses.replace(bundle.manifest.export, source="/nowhere")
    )
    dataclasses.replace(bundle, manifest=manifest).save(alone)
    found = edgetl.verify(alone, photos)  # it has a budget in its limits
    assert all(gate.passed for gate in found)
    with pytest.raises(DataError, match="fitted on all of these 150"):
        edgetl.verify(alone, photos / "train")
    with pytest.raises(DataError, match="0 of the 64 samples"):
        edgetl.verify(alone, ([np.full((300, 300, 3), 7, np.uint8)] * 2, ["daisy", "roses"]))
    unlimited = dataclasses.replace(
        manifest,
        export=dataclasses.replace(
            manifest.export, limits=dataclasses.replace(manifest.export.limits, budget_ms=None)
        ),
    )
    with pytest.raises(ValueError, match="--budget-ms"):
        edgetl.verify(dataclasses.replace(bundle, manifest=unlimited), photos)


def test_verify_needs_nothing_that_a_device_lacks(exported, photos, cache, tmp_path):
    bundle = exported("int8", KINDS["int8"][0])
    blocked = ("torch", "torchvision", "timm", "onnx", "sklearn", "scipy", "lance", "pyarrow")
    code = f"""
import sys
for name in {(*blocked, "platformdirs")!r}:
    sys.modules[name] = None
from edgetl.cli.main import main
sys.exit(main(["verify", {str(bundle.path)!r}, "--data", {str(photos)!r}, "--seconds", "0.05"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "parity: features  passed" in result.stdout


def test_verify_catches_another_head(exported, photos, tmp_path):
    bundle = exported("int8", KINDS["int8"][0])
    head = type(bundle.head).from_arrays(bundle.head.arrays())
    head.coef_ = head.coef_[::-1].copy()
    files = {k: v for k, v in bundle.manifest.files.items() if k != "head.safetensors"}
    manifest = dataclasses.replace(bundle.manifest, files=files)
    with pytest.raises(ParityError, match="top-1"):
        edgetl.verify(dataclasses.replace(bundle, head=head, manifest=manifest), photos)


def test_the_command_line_exports_and_refuses(adapted, photos, tmp_path, capsys):
    output = tmp_path / "small.edgetl"
    command = ["export", str(adapted.path), "-o", str(output), "--quiet"]
    assert main([*command, "--budget-mb", "0.01"]) == 6
    assert "size" in capsys.readouterr().err
    assert not output.exists()
    assert main([*command, "--precision", "bf16"]) == 2
    assert main([*command, "--max-batch", "4"]) == 2
    capsys.readouterr()
    small = ["--precision", "fp16", "--calibration", str(photos / "train"), "--max-drop", "1"]
    assert main([*command, *small, "--allow-slower", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["graph"] == "backbone.fp16.onnx"
    assert set(printed["accuracy"]) == {"float32", "before refit", "shipped"}
    assert main(["inspect", str(output)]) == 0
    assert "parity: features" in capsys.readouterr().out
