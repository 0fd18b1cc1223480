"""Every example runs as a user would run it: by itself, in a folder of its own, without network."""

import itertools
import json
import os
import queue
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from colours import bundle_of, image, write_photos
from PIL import Image

import edgetl
from edgetl._distill_teachers import gather
from edgetl.backbones import load_backbone
from edgetl.backbones.recorded import read_record, save_recorded
from edgetl.bundle import Bundle
from edgetl.demo.parts import CLASSES, FURTHER, part_images
from edgetl.engines import OrtEngine
from edgetl.exporter.ends import stamp, with_uint8_input
from edgetl.exporter.fuse import fuse_head
from edgetl.exporter.ort_format import to_ort_format
from edgetl.runtime import Runtime

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DEVICE = ("torch", "timm", "sklearn", "onnx")
"""What a device does not have."""
TRAIN = ("torch", "timm", "torchvision", "onnxscript")
"""What a workstation without the extra `train` does not have."""
BLOCKING = """
import runpy, sys
blocked, name, *words = sys.argv[1:]
sys.modules.update(dict.fromkeys(filter(None, blocked.split(","))))
sys.argv = [name, *words]
runpy.run_path(name, run_name="__main__")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """For examples: features that one of them has computed are there for the others."""
    return {"EDGETL_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "EDGETL_OFFLINE": "1"}


@pytest.fixture(scope="module")
def run(environment):
    """Runs an example to its end; what it printed."""

    def run(name, *words, cwd, without=(), **more):
        result = subprocess.run(
            command(name, *words, without=without),
            cwd=cwd,
            env={**os.environ, **environment, **more},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


def command(name, *words, without=()):
    return [sys.executable, "-c", BLOCKING, ",".join(without), EXAMPLES / name, *map(str, words)]


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


SUMMARY = re.compile(r"(\d+) frames, (\d+) dropped, ([\d.]+) answers per second")


def test_camera_loop_simulates_where_there_is_no_opencv(run, desk):
    words = ("parts.edgetl", "--camera", 0, "--parts", 3, "--rate", 300)
    printed = run("camera_loop.py", *words, cwd=desk, without=(*DEVICE, "cv2"))
    taken, dropped, rate = SUMMARY.search(printed).groups()
    assert int(taken) == 3 * 16 and 0 <= int(dropped) < 48 and float(rate) > 0
    assert re.search(r"from frame to answer: [\d.]+ ms \(median\), [\d.]+ ms", printed)
    assert "DriftMonitor(" in printed


def test_camera_loop_makes_a_bundle_where_there_is_none(run, workshop, tmp_path):
    del workshop  # whose features are found again
    run("camera_loop.py", "--parts", 2, "--rate", 300, cwd=tmp_path, without=TRAIN)
    assert Bundle.load(tmp_path / "parts.edgetl").labels == tuple(sorted(CLASSES))


@pytest.fixture
def colours(tmp_path):
    """A folder with a bundle that knows red, green and blue."""
    return bundle_of(tmp_path)


def test_camera_loop_answers_the_photos_of_a_folder(run, colours, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for place in range(12):
        Image.fromarray(image("green")).save(folder / f"{place:02}.png")
    words = (colours, "--frames", folder, "--rate", 20)
    printed = run("camera_loop.py", *words, cwd=tmp_path, without=DEVICE)
    assert SUMMARY.search(printed).group(1) == "12"


def test_camera_loop_smooths_over_frames(colours, tmp_path, capsys):
    watch = runpy.run_path(str(EXAMPLES / "camera_loop.py"))["watch"]
    strange = tmp_path / "strange.txt"
    strange.write_text("no photo")
    shown = [*["green"] * 10, "red", *["green"] * 10, strange, *["blue"] * 10]
    room, took = queue.Queue(), []
    for frame in shown:
        room.put((0.0, image(frame) if isinstance(frame, str) else frame))
    room.put(None)
    watch(edgetl.load(colours), None, room, took)
    said, errors = capsys.readouterr()
    assert [line.split()[2] for line in said.splitlines()] == ["green", "blue"]
    assert "strange.txt" in errors and len(took) == 31


OPENCV = """
import numpy as np
COLOR_BGR2RGB = 4
def cvtColor(frame, code):
    assert code == COLOR_BGR2RGB
    return frame[..., ::-1].copy()
class VideoCapture:
    # 25 frames each time that it is opened; nobody is there the third time.
    opened = 0
    def __init__(self, source):
        assert source in (0, "film.mp4")
        VideoCapture.opened += 1
        self.left = 0 if VideoCapture.opened == 3 else 25
    def read(self):
        if self.left == 0:
            return False, None
        self.left -= 1
        frame = np.full((20, 30, 3), 10, np.uint8)
        frame[..., 0] = 240  # blue
        return True, frame
    def release(self):
        self.left = 0
"""


@pytest.fixture
def opencv(tmp_path):
    """The environment with a stand-in for OpenCV."""
    (tmp_path / "opencv").mkdir()
    (tmp_path / "opencv/cv2.py").write_text(OPENCV)
    return {"PYTHONPATH": str(tmp_path / "opencv")}


def test_camera_loop_opens_a_lost_camera_again_and_ends_by_ctrl_c(
    colours, opencv, environment, tmp_path
):
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "camera_loop.py", colours, "--camera", "0"],
        cwd=tmp_path,
        env={**os.environ, **environment, **opencv},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # It looks whether the camera answers, has frames, finds nobody, and has frames again.
    for line in itertools.islice(process.stderr, 3):
        assert line == "camera 0 is lost, trying again\n"
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "stopped" in printed.splitlines()
    assert SUMMARY.search(printed).group(1) == "50"


def test_camera_loop_watches_a_film_to_its_end(run, colours, opencv, tmp_path):
    words = (colours, "--frames", "film.mp4", "--rate", 50)
    printed = run("camera_loop.py", *words, cwd=tmp_path, **opencv)
    assert SUMMARY.search(printed).group(1) == "25"


def test_camera_loop_gives_red_first(opencv, monkeypatch):
    monkeypatch.syspath_prepend(opencv["PYTHONPATH"])
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    filmed = runpy.run_path(str(EXAMPLES / "camera_loop.py"))["filmed"]
    try:
        for frame in filmed("film.mp4", again=False):
            assert frame[0, 0].tolist() == [10, 10, 240]
    finally:
        sys.modules.pop("cv2", None)


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
def fused(workshop, environment):
    """What the command in the examples' text exports."""
    words = ("parts.edgetl", "--fused", "--input", "uint8", "-o", "fused.edgetl")
    for text in (EXAMPLES / "README.md", EXAMPLES / "ten_lines_onnxruntime.py"):
        assert f"edgetl export {' '.join(words)}\n" in text.read_text(encoding="utf-8")
    subprocess.run(
        # The machine that runs the tests is not the one to be fast on.
        [sys.executable, "-m", "edgetl", "export", *words, "--budget-ms", "10000"],
        cwd=workshop,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    return workshop / "fused.edgetl"


def test_ten_lines_onnxruntime(run, fused, photos, tmp_path):
    expected = edgetl.load(fused).predict(photos)
    for photo, answer in zip(photos, expected, strict=True):
        words = ("ten_lines_onnxruntime.py", fused / "fused.onnx", photo)
        label, share = run(*words, cwd=tmp_path, without=(*DEVICE, "edgetl")).split()
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
    assert f"a photo of {FURTHER}: {FURTHER}\n" in printed
    assert printed.rstrip().endswith(f"rolled back: {before}")
    assert (tmp_path / "update.etlh").stat().st_size < 10_000
    assert Bundle.load(tmp_path / "device.edgetl").labels == tuple(sorted(CLASSES))


def test_ship_head_update_from_folders(run, tmp_path):
    colours = {"red": (200, 40, 40), "blue": (40, 40, 200), "green": (40, 200, 40)}
    rng, few = np.random.default_rng(0), dict(list(colours.items())[:2])
    write_photos(tmp_path / "before", few, 10, rng, shade=20)
    write_photos(tmp_path / "after", colours, 10, rng, shade=20)
    printed = run("ship_head_update.py", "before", "after", cwd=tmp_path)
    assert "new: green" in printed and "a photo of green: green" in printed


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
    answers = lines[-1].split(": ")[1].split(", ")
    assert len(answers) == 5 and len(set(answers)) == 1
    sizes = [int(size.replace(",", "")) for size in re.findall(r"([\d,]+) bytes", printed)]
    assert len(sizes) == 3 and max(sizes) < 20_000
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def trainer():
    """What `train_nano.py` defines."""
    return runpy.run_path(str(EXAMPLES / "train_nano.py"))


@pytest.fixture
def stand_ins(tmp_path):
    """A folder laid out as the assets of `train_nano.py` are, with drawings for photos."""
    data, drawn = tmp_path / "assets/data", list(part_images("ok", "train", 40))
    places = [
        *(f"unlabelled_photos/{n}.jpg" for n in range(12)),
        *(f"flower_photos/{part}/roses/{n}.jpg" for part in ("train", "test") for n in range(4)),
        *(f"bccd/JPEGImages/{n}.jpg" for n in range(4)),
        *(f"nuclei/{part}/images/{n}.png" for part in ("train", "test") for n in range(3)),
    ]
    for place, photo in zip(places, drawn, strict=False):
        file = data / place
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(file)
    (data / "bccd/ImageSets/Main").mkdir(parents=True)
    (data / "bccd/ImageSets/Main/trainval.txt").write_text("0\n2\n")
    (data / "cifar10_small").mkdir()
    small = np.stack([photo[:32, :32] for photo in drawn[-6:]])
    np.savez(data / "cifar10_small/cifar10_small.npz", x_train=small, x_test=small[:2] // 2)
    return tmp_path / "assets"


def test_train_nano_sees_training_parts_alone(trainer, stand_ins):
    found = gather(trainer["photos"](stand_ins / "data"))
    files = [Path(source) for source in found.sources if isinstance(source, str | Path)]
    assert not any("test" in file.parts for file in files)
    assert {file.name for file in files if "bccd" in file.parts} == {"0.jpg", "2.jpg"}
    tiles = trainer["TILES"] * 4
    assert len(found.sources) == 12 + 4 + tiles + 6 + 2 + 3


def test_train_nano_s_tiles_are_parts_of_the_photos(trainer, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (50, 71, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    windows = np.lib.stride_tricks.sliding_window_view(photo, (25, 25, 3)).squeeze(2)
    for tile in trainer["tiles"]([tmp_path / "photo.png"]):
        assert tile.shape == (25, 25, 3)
        assert (windows == tile).all(axis=(2, 3, 4)).sum() == 1


def test_train_nano_writes_the_plain_network(trainer, tmp_path):
    torch = pytest.importorskip("torch")
    begin = trainer["untrained_nano"](seed=3)
    torch.manual_seed(0)
    for norm in (m for m in begin.module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 2)
    more = {"edgetl.distill": json.dumps({"seed": 3})}
    trained, output = tmp_path / "branched.safetensors", tmp_path / "nano.safetensors"
    save_recorded(trained, begin.module, name=begin.name, preprocess=begin.preprocess, more=more)
    trainer["fold"](trained, output)
    assert output.stat().st_size < 3_000_000
    plain, batch = load_backbone("edgetl_nano", output), torch.rand(2, 3, 96, 96) * 2 - 1
    assert plain.preprocess == begin.preprocess
    plain.to_onnx(tmp_path / "nano.onnx")
    found = OrtEngine(tmp_path / "nano.onnx", dim=plain.dim)(batch.numpy())
    with torch.no_grad():
        expected = begin.module.eval()(batch).numpy()
    np.testing.assert_allclose(found, expected, atol=0.01 * expected.max())  # in float16


def test_train_nano_from_photos_to_the_file(run, stand_ins, tmp_path):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    (stand_ins / "weights").mkdir()
    teacher = timm.create_model("test_byobnet").state_dict()
    save_file(teacher, stand_ins / "weights/test_byobnet.safetensors")
    output = tmp_path / "nano.safetensors"
    short = ("--teachers", "test_byobnet", "--epochs", 1, "--views", 2)
    run("train_nano.py", stand_ins, "--output", output, *short, cwd=tmp_path)
    assert load_backbone("edgetl_nano", output).dim == 256
    recipe = json.loads(read_record(output)["edgetl.distill"])["recipe"]
    assert (recipe["epochs"], recipe["relational"]) == (1, 1.0)


def test_every_example_is_run_and_explained():
    here = Path(__file__).read_text(encoding="utf-8")
    apps = (ROOT / "tests/native/test_apps.py").read_text(encoding="utf-8")
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for example in (file for file in EXAMPLES.rglob("*") if file.is_file()):
        if example.suffix == ".py":
            assert example.parent == EXAMPLES, "or have this test look elsewhere"
            assert f'"{example.name}"' in here, f"no test runs {example.name}"
            assert example.name in readme, f"examples/README.md does not tell of {example.name}"
        elif example.name not in ("README.md", "CMakeLists.txt"):
            built = example.with_name("CMakeLists.txt")
            named = built.is_file() and example.stem in built.read_text(encoding="utf-8")
            assert named or example.name in apps, f"nothing builds {example}"
            assert f"{example.parent.name}/" in readme
