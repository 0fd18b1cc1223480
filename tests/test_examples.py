"""Every example runs as a user would run it: by itself, in a folder of its own, without network."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from colours import write_photos
from example_runs import DEVICE, EXAMPLES, TRAIN, run_example
from PIL import Image

import edgetl
from edgetl.bundle import Bundle
from edgetl.demo.parts import CLASSES, FURTHER, part_images
from edgetl.exporter.ends import stamp, with_uint8_input
from edgetl.exporter.fuse import fuse_head
from edgetl.exporter.ort_format import to_ort_format
from edgetl.runtime import Runtime

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs an example; features that one of them has computed are there for the others."""
    return functools.partial(run_example, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def workshop(run, tmp_path_factory):
    """The folder where the first example ran: drawn photos in `parts`, and `parts.edgetl`."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "printed").write_text(run("adapt_and_predict.py", cwd=folder, without=TRAIN))
    return folder


@pytest.fixture
def desk(workshop, tmp_path):
    """A folder with a copy of the bundle."""
    shutil.copytree(workshop / "parts.edgetl", tmp_path / "parts.edgetl")
    return tmp_path


def test_adapt_and_predict(workshop):
    printed = (workshop / "printed").read_text()
    assert "accuracy" in printed and "edgetl_nano" in printed
    assert Bundle.load(workshop / "parts.edgetl").labels == tuple(sorted(CLASSES))
    last = printed.rstrip().splitlines()[-4:]
    assert "parts/dent/0.png: " in last[0].replace("\\", "/")
    shares = [float(line.split()[-1]) for line in last[1:]]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 1.002


def test_adapt_and_predict_with_photos_of_ones_own(run, tmp_path):
    colours = {"red": (200, 40, 40), "blue": (40, 40, 200)}
    write_photos(tmp_path / "photos", colours, 10, np.random.default_rng(0), shade=20)
    printed = run("adapt_and_predict.py", "photos", "--bundle", "own.edgetl", cwd=tmp_path)
    assert Bundle.load(tmp_path / "own.edgetl").labels == ("blue", "red")
    assert "0.png: blue" in printed


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Files as cameras leave them: large, small, upright or not, with transparency."""
    folder = tmp_path_factory.mktemp("asked")
    drawn = [Image.fromarray(photo) for photo in part_images("scratch", "test", 4)]
    lying = Image.Exif()
    lying[0x0112] = 6
    drawn[0].resize((413, 250)).save(folder / "wide.jpg", quality=90)
    drawn[1].resize((97, 311)).save(folder / "lying.jpg", quality=95, exif=lying)
    drawn[2].convert("RGBA").save(folder / "transparent.png")
    drawn[3].resize((60, 50)).convert("L").save(folder / "small.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def fused(workshop, run):
    """What the command in the examples' text exports."""
    words = ("parts.edgetl", "--fused", "--input", "uint8", "-o", "fused.edgetl")
    for text, bundle in (("README.md", "plain.edgetl"), ("ten_lines_onnxruntime.py", words[0])):
        command = " ".join(("edgetl export", bundle, *words[1:]))
        assert f"{command}\n" in (EXAMPLES / text).read_text(encoding="utf-8")
    subprocess.run(
        # The machine that runs the tests is not the one to be fast on.
        [sys.executable, "-m", "edgetl", "export", *words, "--budget-ms", "10000"],
        cwd=workshop,
        env={**os.environ, "EDGETL_CACHE_DIR": str(run.keywords["cache"]), "EDGETL_OFFLINE": "1"},
        check=True,
        capture_output=True,
    )
    return workshop / "fused.edgetl"


def test_ten_lines_onnxruntime(run, fused, photos, tmp_path):
    expected = edgetl.load(fused).predict(photos)
    nothing = (*DEVICE, "edgetl")
    for photo, answer in zip(photos, expected, strict=True):
        graph = fused / "fused.onnx"
        printed = run("ten_lines_onnxruntime.py", graph, photo, cwd=tmp_path, without=nothing)
        label, share = printed.split()
        assert label == answer.label
        assert abs(float(share) - answer.probability) < 1e-5


def test_ten_lines_are_ten():
    text = (EXAMPLES / "ten_lines_onnxruntime.py").read_text(encoding="utf-8")
    code = [line for line in text.split('"""')[2].splitlines() if line]
    assert sum(not line.startswith(("import ", "from ")) for line in code) == 10


@pytest.mark.parametrize("kind", ["float32", "uint8", "ort"])
def test_plain_onnxruntime(run, workshop, photos, kind, tmp_path):
    bundle = Bundle.load(workshop / "parts.edgetl")
    model, preprocess = onnx.load(bundle.graph_path), bundle.preprocess
    if kind != "float32":
        model, preprocess = with_uint8_input(model, preprocess)
    model = stamp(fuse_head(model, bundle.head, bundle.labels), bundle.labels, preprocess)
    file = tmp_path / ("fused.ort" if kind == "ort" else "fused.onnx")
    if kind == "ort":
        to_ort_format(model.SerializeToString(), file)
    else:
        onnx.save(model, file)
    blocked = (*DEVICE, "edgetl")
    printed = run("plain_onnxruntime.py", file, *photos, cwd=tmp_path, without=blocked)
    expected = Runtime(bundle).predict(photos)
    for line, photo, answer in zip(printed.splitlines(), photos, expected, strict=True):
        name, label, probability = line.split()
        assert (name, label) == (f"{photo.name}:", answer.label)
        assert abs(float(probability) - answer.probability) < 1e-4


def test_learn_on_device(run, desk):
    printed = run("learn_on_device.py", cwd=desk, without=DEVICE)
    assert "saved as generation 1" in printed and "5 classes" in printed
    assert Bundle.load(desk / "parts.edgetl").labels == (*sorted(CLASSES), FURTHER)
    assert FURTHER in printed.split("after:")[1].splitlines()[0]


def test_learn_on_device_from_files(run, desk, photos):
    printed = run("learn_on_device.py", "parts.edgetl", "lost", *photos, cwd=desk, without=DEVICE)
    assert "saved as generation 1" in printed
    assert Bundle.load(desk / "parts.edgetl").labels == (*sorted(CLASSES), "lost")


def test_ship_head_update(run, tmp_path):
    printed = run("ship_head_update.py", cwd=tmp_path, without=TRAIN)
    before = ", ".join(sorted(CLASSES))
    assert f"new: {FURTHER}" in printed
    assert "refused: the update was changed" in printed
    assert f"generation 1: {before}, {FURTHER}\n" in printed
    found = re.search(rf"of 10 photos of {FURTHER}, (\d+) are called so\n", printed)
    assert found and int(found[1]) >= 6
    assert printed.rstrip().endswith(f"rolled back: {before}")
    assert (tmp_path / "update.etlh").stat().st_size < 10_000
    assert Bundle.load(tmp_path / "device.edgetl").labels == tuple(sorted(CLASSES))


def test_ship_head_update_from_folders(run, tmp_path):
    colours = {"red": (200, 40, 40), "blue": (40, 40, 200), "green": (40, 200, 40)}
    rng, few = np.random.default_rng(0), dict(list(colours.items())[:2])
    write_photos(tmp_path / "before", few, 10, rng, shade=20)
    write_photos(tmp_path / "after", colours, 10, rng, shade=20)
    printed = run("ship_head_update.py", "before", "after", cwd=tmp_path)
    assert "new: green" in printed and "of 10 photos of green, 10 are called so" in printed


def test_fleet_updates(run, tmp_path):
    printed = run("fleet_updates.py", cwd=tmp_path, without=TRAIN)
    lines = printed.splitlines()
    told = [line.split(maxsplit=1) for line in lines if line.startswith("  device-")]
    rounds = [dict(told[place : place + 5]) for place in range(0, len(told), 5)]
    assert [len(found) for found in rounds] == [5] * 4
    first, second, third, last = rounds
    for name in ("device-1", "device-2", "device-5"):
        assert re.match(r"5 classes, last update 1 +taken$", first[name])
        assert re.match(r"5 classes, last update 2 +taken back: ", second[name])
    assert first["device-3"] == second["device-3"] == "nothing heard"
    assert re.match(r"4 classes, last update 0 +refused: .*changed", first["device-4"])
    assert re.match(r"4 classes, last update 2 +taken back: ", second["device-4"])
    for name in first:
        assert re.match(r"5 classes, last update 3 +taken$", third[name])
        assert re.match(r"5 classes, last update 3 +nothing new$", last[name])
    found = [int(number) for number in lines[-1].split(": ")[1].split(", ")]
    assert len(found) == 5 and len(set(found)) == 1 and found[0] >= 6
    sizes = [int(size.replace(",", "")) for size in re.findall(r"([\d,]+) bytes", printed)]
    assert len(sizes) == 3 and max(sizes) < 20_000
    assert not list(tmp_path.iterdir())


def test_every_example_is_run_and_explained():
    tests = ROOT.glob("tests/test_examples*.py")
    here = "".join(file.read_text(encoding="utf-8") for file in tests)
    apps = (ROOT / "tests/native/test_apps.py").read_text(encoding="utf-8")
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for example in (file for file in EXAMPLES.rglob("*") if file.is_file()):
        if example.suffix == ".py":
            assert example.parent == EXAMPLES, "or have this test look elsewhere"
            called = re.search(rf'run(_example)?\(\s*"{re.escape(example.name)}"', here)
            assert called, f"no test runs {example.name}"
            assert example.name in readme, f"examples/README.md does not tell of {example.name}"
        elif example.name not in ("README.md", "CMakeLists.txt"):
            built = example.with_name("CMakeLists.txt")
            named = built.is_file() and example.stem in built.read_text(encoding="utf-8")
            assert named or example.name in apps, f"nothing builds {example}"
            assert f"{example.parent.name}/" in readme
