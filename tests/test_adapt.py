"""The main job, end to end, on real weights and real photos."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import edgetl
from edgetl.cli.main import main
from edgetl.errors import CorruptError, DataError

KEYS = {
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "macro_f1",
    "ece",
    "n_train",
    "n_test",
    "classes",
    "head",
    "seconds",
    "images_per_second",
    "cache_hits",
    "cache_misses",
    "skipped",
}
FLOWERS = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


@pytest.fixture(scope="module")
def cache(make_cache):
    return make_cache()


@pytest.fixture(autouse=True)
def shared_cache(cache, private_cache, monkeypatch):
    """Features are computed once for this file."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))


@pytest.fixture
def weights(assets):
    return assets / "weights" / "mobilenetv2_100.safetensors"


@pytest.fixture
def photos(copy_flowers, tmp_path):
    """A few photos of three classes, without a split, in a folder that tests may change."""
    found = copy_flowers(tmp_path, FLOWERS[:3], train=12) / "train"
    return found.rename(tmp_path / "photos")


@pytest.fixture(scope="module")
def flowers(assets, cache, tmp_path_factory):
    """A bundle adapted to the whole set, by the command line, with its printed JSON."""
    path = tmp_path_factory.mktemp("bundles") / "flowers.edgetl"
    command = [
        *(sys.executable, "-m", "edgetl", "adapt", assets / "data/flower_photos"),
        *("--backbone", "mobilenetv2_100"),
        *("--weights", assets / "weights/mobilenetv2_100.safetensors"),
        *("-o", path, "--json", "--offline"),
    ]
    result = subprocess.run(
        command,
        cwd=path.parent,
        env={**os.environ, "EDGETL_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return path, json.loads(result.stdout)


def test_adapt_prints_its_evidence(flowers):
    _, printed = flowers
    assert set(printed) >= KEYS
    assert printed["classes"] == FLOWERS
    assert (printed["n_train"], printed["n_test"]) == (750, 250)
    assert printed["cache_misses"] == 1000
    assert printed["skipped"] == []
    # The linear probe of this backbone is known to reach .916 here.
    assert printed["accuracy"] > 0.88
    assert printed["accuracy_low"] < printed["accuracy"] < printed["accuracy_high"]
    assert printed["ece"] < 0.1
    assert printed["accuracy"] > printed["evidence"]["baselines"]["majority"]["accuracy"] + 0.5


def test_evaluate_gives_the_same_figures_from_the_cache(flowers, assets, capsys):
    path, adapted = flowers
    assert main(["evaluate", str(path), str(assets / "data/flower_photos/test"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) >= KEYS
    for key in ("accuracy", "accuracy_low", "macro_f1", "ece", "n_test", "head"):
        assert printed[key] == adapted[key]
    assert (printed["cache_hits"], printed["cache_misses"]) == (250, 0)


def test_inspect_and_predict(flowers, assets, capsys):
    path, _ = flowers
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "mobilenetv2_100, 1280 features" in shown
    assert "accuracy" in shown
    photo = sorted((assets / "data/flower_photos/test/sunflowers").iterdir())[0]
    assert main(["predict", str(path), str(photo), "--json", "--top", "2"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["label"] == "sunflowers"
    assert answer["top"][0]["label"] == "sunflowers"
    assert len(answer["top"]) == 2


def test_predict_answers_the_rest_when_a_photo_is_bad(flowers, assets, tmp_path, capsys):
    path, _ = flowers
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    good = sorted((assets / "data/flower_photos/test/roses").iterdir())[0]
    assert main(["predict", str(path), str(bad), str(good), "--json"]) == 1
    printed = capsys.readouterr()
    first, second = json.loads(printed.out)
    assert "error" in first
    assert "label" in second
    assert "bad.jpg" in printed.err


def test_the_runtime_takes_every_kind_of_sample(flowers, assets):
    path, _ = flowers
    runtime = edgetl.load(path)
    photo = sorted((assets / "data/flower_photos/test/tulips").iterdir())[0]
    with Image.open(photo) as image:
        pixels = np.asarray(image.convert("RGB"))
        answers = [
            runtime.predict(str(photo)),
            runtime.predict(photo),
            runtime.predict(photo.read_bytes()),
            runtime.predict(image),
            runtime.predict(pixels),
        ]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.probabilities, answers[0].probabilities)
    many = runtime.predict([photo] * 11, features=True)
    assert len(many) == 11
    np.testing.assert_allclose(many[10].probabilities, answers[0].probabilities, atol=1e-5)
    assert many[0].features.shape == (1280,)
    assert answers[0].features is None
    assert runtime.predict([]) == []
    assert sum(p for _, p in answers[0].top(5)) == pytest.approx(1, abs=1e-5)
    assert answers[0].top(1) == [(answers[0].label, answers[0].probability)]
    with pytest.raises(ValueError, match="at least 1"):
        answers[0].top(0)
    with pytest.raises(TypeError):
        runtime.predict(3.14)
    with pytest.raises(DataError, match=r"sample 1"):
        runtime.predict([photo.read_bytes(), b""])


def test_the_runtime_agrees_with_the_evidence(flowers, assets):
    """Prediction on the device gives the accuracy that was measured on cached features."""
    path, printed = flowers
    runtime = edgetl.load(path)
    photos = sorted((assets / "data/flower_photos/test").glob("*/*.jpg"))
    answers = runtime.predict(photos)
    right = sum(a.label == p.parent.name for a, p in zip(answers, photos, strict=True))
    assert right / len(photos) == pytest.approx(printed["accuracy"], abs=1 / 250)


def test_openvino_predicts_the_same(flowers, assets):
    pytest.importorskip("openvino")
    path, _ = flowers
    photo = sorted((assets / "data/flower_photos/test/daisy").iterdir())[0]
    one = edgetl.load(path).predict(photo)
    two = edgetl.load(path, target=edgetl.OpenVino()).predict(photo)
    np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-3)


def test_prediction_needs_no_workstation(flowers, assets, tmp_path):
    path, _ = flowers
    photo = sorted((assets / "data/flower_photos/test/daisy").iterdir())[0]
    code = f"""
import sys
blocked = ["torch", "torchvision", "timm", "onnx", "onnxscript", "sklearn", "scipy", "lance",
           "pyarrow", "platformdirs"]
for name in blocked:
    sys.modules[name] = None
import edgetl
print(edgetl.load({str(path)!r}).predict({str(photo)!r}).label)
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "daisy"


@pytest.mark.parametrize("name", ["manifest.json", "backbone.onnx", "head.safetensors"])
def test_a_flipped_byte_stops_every_verb(flowers, assets, tmp_path, capsys, name):
    path = shutil.copytree(flowers[0], tmp_path / "flowers.edgetl")
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(CorruptError, match=name):
        edgetl.load(path)
    photo = str(sorted((assets / "data/flower_photos/test/daisy").iterdir())[0])
    assert main(["predict", str(path), photo]) == 7
    assert main(["inspect", str(path)]) == 7
    assert main(["evaluate", str(path), str(assets / "data/flower_photos")]) == 7
    assert name in capsys.readouterr().err


def test_the_graph_carries_labels_and_preprocessing(flowers):
    onnx = pytest.importorskip("onnx")
    path, _ = flowers
    model = onnx.load(path / "backbone.onnx")
    onnx.checker.check_model(model)
    metadata = [(entry.key, entry.value) for entry in model.metadata_props]
    assert len(dict(metadata)) == len(metadata)
    assert json.loads(dict(metadata)["edgetl.labels"]) == FLOWERS
    runtime = edgetl.load(path)
    stored = edgetl.Preprocess.from_json(json.loads(dict(metadata)["edgetl.preprocess"]))
    assert stored == runtime.bundle.preprocess


def test_an_onnx_file_is_a_backbone(flowers, photos, weights, tmp_path, capsys):
    """The graph of a bundle says how photos become its input; a bare one has to be told."""
    path, _ = flowers
    words = ["adapt", str(photos), "--head", "ridge", "--quiet", "--json"]
    graph = str(path / "backbone.onnx")
    assert main([*words, "--backbone", graph, "-o", str(tmp_path / "one.edgetl")]) == 0
    by_file = json.loads(capsys.readouterr().out)
    by_name = edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights, head="ridge")
    assert by_file["accuracy"] == by_name.evidence.accuracy
    assert by_file["evidence"]["log_loss"] == pytest.approx(by_name.evidence.log_loss, abs=1e-4)

    onnx = pytest.importorskip("onnx")
    model = onnx.load(graph)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    words += ["--backbone", str(tmp_path / "bare.onnx"), "-o", str(tmp_path / "two.edgetl")]
    assert main(words) == 2
    assert "how images become its input" in capsys.readouterr().err
    assert main([*words, "--preprocess", '{"size": 224, "resize": 232}']) == 0
    assert edgetl.load(tmp_path / "two.edgetl").bundle.preprocess.resize == 232


def test_evaluate_names_a_class_the_bundle_does_not_know(flowers, photos):
    (photos / "daisy").rename(photos / "thistle")
    with pytest.raises(DataError, match="thistle"):
        edgetl.evaluate_bundle(flowers[0], photos)


@pytest.mark.parametrize("verb", ["evaluate", "cache"])
def test_a_device_is_told_what_a_workstation_verb_needs(flowers, verb, tmp_path):
    words = [verb, "info"] if verb == "cache" else [verb, str(flowers[0]), str(tmp_path)]
    blocked = ["torch", "timm", "onnx", "lance", "pyarrow", "platformdirs", "sklearn"]
    code = f"""
import sys
for name in {blocked!r}:
    sys.modules[name] = None
from edgetl.cli.main import main
sys.exit(main({words!r}))
"""
    for label in ("daisy", "tulips"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "1.png")
    environment = {k: v for k, v in os.environ.items() if k != "EDGETL_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 3, result.stderr
    assert "edgetl[demo]" in result.stderr
    assert "Traceback" not in result.stderr
