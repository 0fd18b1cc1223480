"""The script that trained edgetl_nano: its photos, its network, and a run of some seconds."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from example_runs import EXAMPLES, run_example
from PIL import Image

from edgetl._distill_teachers import gather
from edgetl.backbones import load_backbone
from edgetl.backbones.recorded import read_record, save_recorded
from edgetl.demo.parts import part_images
from edgetl.engines import OrtEngine


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


def test_train_nano_from_photos_to_the_file(stand_ins, tmp_path):
    torch = pytest.importorskip("torch")
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    (stand_ins / "weights").mkdir()
    teacher = timm.create_model("test_byobnet").state_dict()
    save_file(teacher, stand_ins / "weights/test_byobnet.safetensors")
    output = tmp_path / "nano.safetensors"
    short = ("--teachers", "test_byobnet", "--epochs", 1, "--views", 2)
    run_example("train_nano.py", stand_ins, "--output", output, *short, cwd=tmp_path)
    assert load_backbone("edgetl_nano", output).dim == 256
    recipe = json.loads(read_record(output)["edgetl.distill"])["recipe"]
    assert (recipe["epochs"], recipe["relational"]) == (1, 1.0)
