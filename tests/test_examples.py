"""Every example runs as a user would run it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgetl.backbones import load_backbone
from edgetl.bundle import Bundle, Manifest
from edgetl.decode import read_image
from edgetl.engines import OrtEngine
from edgetl.exporter.ends import stamp, with_uint8_input
from edgetl.exporter.fuse import fuse_head
from edgetl.exporter.ort_format import to_ort_format
from edgetl.heads import SoftmaxHead
from edgetl.runtime import Runtime

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *words, cwd):
    result = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, words)],
        cwd=cwd,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_adapt_and_predict(assets, tmp_path):
    printed = run(
        "adapt_and_predict.py",
        assets / "data" / "photo_sketch" / "photo",
        *("--weights", assets / "weights" / "tf_mobilenetv3_small_100.safetensors"),
        *("--backbone", "tf_mobilenetv3_small_100"),
        cwd=tmp_path,
    )
    assert "accuracy" in printed
    assert (tmp_path / "photos.edgetl" / "manifest.json").is_file()
    last = printed.rstrip().splitlines()[-3:]
    assert sum(float(line.split()[-1]) for line in last) <= 1.001


def test_ship_head_update(assets, copy_flowers, tmp_path):
    labels = ("daisy", "roses", "tulips")
    before = copy_flowers(tmp_path / "before", labels[:2], train=12, test=6)
    after = copy_flowers(tmp_path / "after", labels, train=12, test=6)
    printed = run(
        "ship_head_update.py",
        *(before, after),
        *("--weights", assets / "weights" / "tf_mobilenetv3_small_100.safetensors"),
        *("--backbone", "tf_mobilenetv3_small_100"),
        cwd=tmp_path,
    )
    assert "new: tulips" in printed
    assert "refused: the update was changed" in printed
    assert "generation 1: daisy, roses, tulips" in printed
    assert ".jpg: tulips" in printed
    assert printed.rstrip().endswith("rolled back: daisy, roses")
    assert (tmp_path / "update.etlh").stat().st_size < 10_000


@pytest.fixture(scope="module")
def bundle(assets, tmp_path_factory):
    """A bundle fitted to photos of flowers, and some others to ask about."""
    weights = assets / "weights" / "tf_mobilenetv3_small_100.safetensors"
    backbone = load_backbone("tf_mobilenetv3_small_100", weights=weights)
    path = tmp_path_factory.mktemp("bundle") / "backbone.onnx"
    backbone.to_onnx(path)
    folder = assets / "data" / "flower_photos"
    labels = tuple(sorted(item.name for item in (folder / "train").iterdir()))
    photos = [
        file for label in labels for file in sorted((folder / "train" / label).iterdir())[:15]
    ]
    images = [read_image(photo, preprocess=backbone.preprocess) for photo in photos]
    features = OrtEngine(path, dim=backbone.dim)(
        np.stack([backbone.preprocess.apply(image) for image in images])
    )
    head = SoftmaxHead().fit(features, np.repeat(np.arange(len(labels)), 15))
    manifest = Manifest(
        labels=labels,
        preprocess=backbone.preprocess,
        backbone="tf_mobilenetv3_small_100",
        dim=backbone.dim,
        graph="backbone.onnx",
        graph_fingerprint="0" * 64,
        head=head.kind,
    )
    asked = [sorted((folder / "test" / label).iterdir())[3] for label in labels]
    return Bundle(manifest, head, path), asked


@pytest.mark.parametrize("kind", ["float32", "uint8", "ort"])
def test_plain_onnxruntime(bundle, kind, tmp_path):
    bundle, photos = bundle
    model, preprocess = onnx.load(bundle.graph_path), bundle.preprocess
    if kind != "float32":
        model, preprocess = with_uint8_input(model, preprocess)
    model = stamp(fuse_head(model, bundle.head, bundle.labels), bundle.labels, preprocess)
    file = tmp_path / ("fused.ort" if kind == "ort" else "fused.onnx")
    if kind == "ort":
        to_ort_format(model.SerializeToString(), file)
    else:
        onnx.save(model, file)
    printed = run("plain_onnxruntime.py", file, *photos, cwd=tmp_path).splitlines()
    expected = Runtime(bundle).predict(photos)
    assert len(printed) == len(photos)
    for line, photo, answer in zip(printed, photos, expected, strict=True):
        name, label, probability = line.split()
        assert (name, label) == (f"{photo.name}:", answer.label)
        assert abs(float(probability) - answer.probability) < 1e-4


def test_plain_onnxruntime_imports_nothing_of_edgetl():
    text = (EXAMPLES / "plain_onnxruntime.py").read_text(encoding="utf-8")
    assert "import edgetl" not in text and "from edgetl" not in text


def test_learn_on_device(bundle, assets, tmp_path):
    bundle, _ = bundle
    path = bundle.save(tmp_path / "flowers.edgetl").path
    folder = assets / "data" / "photo_sketch" / "photo"
    label = sorted(item.name for item in folder.iterdir() if item.is_dir())[0]
    photos = sorted(file for file in (folder / label).rglob("*") if file.is_file())[:5]
    printed = run("learn_on_device.py", path, "something new", *photos, cwd=tmp_path)
    assert "saved as generation 1" in printed
    assert Bundle.load(path).labels == (*bundle.labels, "something new")
    assert "something new" in printed.split("after:")[1].splitlines()[0]


def test_every_example_has_a_test():
    text = Path(__file__).read_text(encoding="utf-8")
    for example in EXAMPLES.glob("*.py"):
        assert f'"{example.name}"' in text
