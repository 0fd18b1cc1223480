"""Adapting from Python: every kind of data and every choice, on a few real photos."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

import edgetl
from edgetl.cli.main import main
from edgetl.errors import DataError, ParityError
from edgetl.features import ExtractOptions
from edgetl.heads import RidgeHead

FLOWERS = ["daisy", "dandelion", "roses"]


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
    found = copy_flowers(tmp_path, FLOWERS, train=12) / "train"
    return found.rename(tmp_path / "photos")


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


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        edgetl.AdaptOptions().seed = 1
