"""The main job, end to end, on real weights and real photos."""

import dataclasses
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
from edgetl.errors import CorruptError, DataError, ParityError
from edgetl.features import ExtractOptions
from edgetl.heads import RidgeHead

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
def photos(assets, tmp_path):
    """A few photos of three classes, without a split, in a folder that tests may change."""
    for label in FLOWERS[:3]:
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for photo in sorted((assets / "data/flower_photos/train" / label).iterdir())[:12]:
            shutil.copy(photo, folder)
    return tmp_path / "photos"


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


def test_adapt_from_python_with_trouble_in_the_folder(photos, weights, tmp_path):
    (photos / "daisy" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (photos / "roses" / "empty.png").touch()
    copied = sorted((photos / "daisy").glob("*.jpg"))[0]
    for number in range(8):  # some of the copies fall on either side of the split
        shutil.copy(copied, photos / "daisy" / f"copy{number}.jpg")
    bundle = edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights, head="ridge")
    run = bundle.evidence.run
    assert bundle.path is None
    assert {name for name, _ in run.skipped} == {"daisy/broken.jpg", "roses/empty.png"}
    assert run.n_skipped == 2
    assert run.n_duplicates >= 1
    assert bundle.evidence.n_train + bundle.evidence.n_test == 36 + 8
    assert bundle.evidence.head.kind == "ridge"
    assert "accuracy" in str(bundle.evidence)
    saved = bundle.save(tmp_path / "later.edgetl")
    assert edgetl.Bundle.load(saved.path).evidence == bundle.evidence


def test_strict_makes_a_bad_file_an_error(photos, weights):
    (photos / "daisy" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    options = edgetl.AdaptOptions(extract=ExtractOptions(strict=True))
    with pytest.raises(DataError, match=r"daisy/broken\.jpg"):
        edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights, options=options)


def test_a_class_left_empty_is_named(photos, weights):
    for photo in (photos / "roses").iterdir():
        photo.write_bytes(b"gone")
    with pytest.raises(DataError, match="'roses' is left without"):
        edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights)


def test_another_engine_gives_the_same_answers_or_is_refused(photos, weights, monkeypatch):
    one = edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights, head="ridge")
    two = edgetl.adapt(
        photos, backbone="mobilenetv2_100", weights=weights, head="ridge", target=edgetl.Torch()
    )
    assert two.evidence.accuracy == one.evidence.accuracy
    assert two.evidence.run.cache_misses == 36, "another engine has another cache key"
    from edgetl.engines.torch import TorchEngine

    honest = TorchEngine.__call__
    monkeypatch.setattr(TorchEngine, "__call__", lambda self, x: honest(self, x)[:, ::-1])
    with pytest.raises(ParityError):
        edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights, target=edgetl.Torch())


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


def test_the_output_is_checked_before_the_work(photos, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "letter.txt").touch()
    with pytest.raises(FileExistsError, match="not a bundle"):
        edgetl.adapt(photos, backbone="no such network", output=tmp_path / "precious")


def test_a_seed_decides_everything(photos, weights):
    def figures(seed):
        options = edgetl.AdaptOptions(seed=seed)
        bundle = edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights, options=options)
        evidence = bundle.evidence.to_json()
        del evidence["run"]
        return evidence, {k: v.tobytes() for k, v in bundle.head.arrays().items()}

    assert figures(3) == figures(3)
    assert figures(3)[1] != figures(4)[1]


def test_evaluate_names_a_class_the_bundle_does_not_know(flowers, photos):
    (photos / "daisy").rename(photos / "thistle")
    with pytest.raises(DataError, match="thistle"):
        edgetl.evaluate_bundle(flowers[0], photos)


def test_evaluating_on_what_was_trained_on_is_said(photos, weights, capsys, tmp_path):
    """A folder without a split: adapt keeps a fifth for testing, evaluate gets all of it."""
    bundle = edgetl.adapt(photos, backbone="mobilenetv2_100", weights=weights, head="ridge")
    evidence = edgetl.evaluate_bundle(bundle, photos)
    assert evidence.n_test == 36
    assert evidence.run.n_duplicates == bundle.evidence.n_train
    assert f"{bundle.evidence.n_train} of these 36 samples were trained on" in str(evidence)
    path = bundle.save(tmp_path / "b.edgetl").path
    assert main(["evaluate", str(path), str(photos), "--quiet"]) == 0
    shown = capsys.readouterr().err
    assert "were trained on" in shown
    more = bundle.evidence.n_train - 10
    assert shown.count("the same content") == 10 and f"and {more} more; --json" in shown


def test_a_table_and_arrays_give_what_the_folder_gives(photos, weights, tmp_path):
    files = sorted(photos.glob("*/*.jpg"))
    rows = [f"{f},{f.parent.name},{'train' if i % 3 else 'test'}" for i, f in enumerate(files)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    by_table = edgetl.adapt(
        tmp_path / "table.csv", backbone="mobilenetv2_100", weights=weights, head="lda"
    )
    assert (by_table.evidence.n_train, by_table.evidence.n_test) == (24, 12)
    assert by_table.evidence.accuracy > 0.6
    images = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    labels = [file.parent.name for file in files]
    by_array = edgetl.adapt(
        (images, labels), backbone="mobilenetv2_100", weights=weights, head="lda"
    )
    assert by_array.evidence.accuracy > 0.6
    assert by_array.labels == by_table.labels


def test_bfloat16_is_allowed_with_its_own_tolerance(photos, weights):
    target = edgetl.Torch(precision="bf16")
    bundle = edgetl.adapt(
        photos, backbone="mobilenetv2_100", weights=weights, head="ridge", target=target
    )
    assert "bfloat16" in " ".join(bundle.evidence.run.notes)
    assert edgetl.evaluate_bundle(bundle, photos).accuracy > 0.8


def test_the_storage_of_a_bundle_is_kept_when_it_is_evaluated(photos, weights):
    bundle = edgetl.adapt(
        photos,
        backbone="mobilenetv2_100",
        weights=weights,
        head="ridge",
        options=edgetl.AdaptOptions(storage="float32"),
    )
    assert edgetl.evaluate_bundle(bundle, photos).run.cache_misses == 0


def test_decoding_follows_the_given_preprocessing(photos, weights):
    def decoding(**options):
        bundle = edgetl.adapt(
            photos,
            backbone="mobilenetv2_100",
            weights=weights,
            head="ridge",
            options=edgetl.AdaptOptions(**options),
        )
        return bundle.preprocess.decode

    scaled = edgetl.Preprocess(decode="scaled")
    assert decoding() == "full"
    assert decoding(preprocess=scaled) == "scaled"
    assert decoding(preprocess=scaled, decode="full") == "full"


def test_a_head_is_checked_before_the_work(photos):
    with pytest.raises(ValueError, match="no head is called 'svm'"):
        edgetl.adapt(photos, backbone="no such network", head="svm")

    class Own(RidgeHead):
        pass

    with pytest.raises(TypeError, match="Own"):
        edgetl.adapt(photos, backbone="no such network", head=Own())


def test_a_folder_of_nothing_readable_names_some(tmp_path, weights):
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text {name}")
    with pytest.raises(DataError, match=r"[ab]/[12]\.jpg: .*image"):
        edgetl.adapt(tmp_path, backbone="mobilenetv2_100", weights=weights)


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
    assert "edgetl[train]" in result.stderr
    assert "Traceback" not in result.stderr


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        edgetl.AdaptOptions().seed = 1
