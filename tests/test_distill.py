"""Distillation from photos to a weights file that is used as any other."""

import json
import shutil

import numpy as np
import pytest
import torch
from colours import save_mean_colours, write_photos
from PIL import Image
from safetensors.torch import load_file

import edgetl
from edgetl.backbones import load_backbone
from edgetl.backbones.load import untrained_backbone
from edgetl.backbones.recorded import read_record
from edgetl.cli.main import main
from edgetl.errors import DataError
from edgetl.transfer import distill_train

RECIPE = edgetl.DistillRecipe(epochs=3, batch_size=8, learning_rate=3e-3, ema=0.8)
STUDENT = "test_byobnet"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Photos of two colours and no class, a teacher of their means, and its preprocessing."""
    root = tmp_path_factory.mktemp("distill")
    generator = np.random.default_rng(0)
    for place in range(40):
        folder = root / "photos" / ("train", "loose")[place % 2] / str(place % 4)
        folder.mkdir(parents=True, exist_ok=True)
        colour = generator.integers(40, 200, 3)
        noise = generator.integers(-30, 30, (24, 20, 3))
        pixels = (noise + colour).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    definition = json.dumps(edgetl.Preprocess(size=16, resize=16).to_json())
    save_mean_colours(root / "means.onnx", **{"edgetl.preprocess": definition})
    return root / "photos", edgetl.SourceModel(root / "means.onnx")


def options(**changed):
    base = {"recipe": RECIPE, "views": 2, "untrained": True, "size": 32, "held_out": 0.2}
    return edgetl.DistillOptions(**base | changed)


def test_from_photos_to_a_backbone(world, tmp_path):
    photos, teacher = world
    file = tmp_path / "student.safetensors"
    report = edgetl.distill(
        photos, teachers=teacher, student=STUDENT, output=file, options=options()
    )
    assert (report.n_train, report.n_held_out, report.views, report.size) == (32, 8, 2, 32)
    assert len(report.cosines) == 3 and 1 <= report.best_epoch <= 3
    (score,) = report.teachers
    assert score.cosine_after > 0.8 and 0 <= score.neighbours_after <= 1
    assert json.loads(json.dumps(report.to_json()))["student"] == STUDENT
    assert f"--backbone {STUDENT} --weights {file}" in str(report)
    assert [item.name for item in tmp_path.iterdir()] == [file.name]

    loaded = load_backbone(STUDENT, file)
    assert loaded.preprocess.size == 32 and loaded.preprocess.resize == round(
        32 * untrained_backbone(STUDENT, seed=0).preprocess.resize / 160
    )
    kept = json.loads(read_record(file)["edgetl.distill"])
    assert kept["teachers"][0]["fingerprint"] == score.fingerprint
    assert kept["data_digest"] == report.data_digest and kept["recipe"]["epochs"] == 3
    assert kept["teachers"][0]["cosine_after"] == score.cosine_after
    assert "output" not in kept and "seconds" not in kept


def test_the_file_does_not_tell_where_the_photos_lay(world, tmp_path):
    photos, teacher = world
    shutil.copytree(photos / "train", tmp_path / "photos" / "train")
    shutil.copytree(photos / "loose", tmp_path / "photos" / "test")
    report = edgetl.distill(
        tmp_path / "photos",
        teachers=teacher,
        student=STUDENT,
        output=tmp_path / "student.safetensors",
        options=options(recipe=edgetl.DistillRecipe(epochs=1, batch_size=8), held_out=0.1),
    )
    assert any(str(tmp_path) in note for note in report.notes)
    assert str(tmp_path) not in " ".join(read_record(tmp_path / "student.safetensors").values())


def test_it_is_the_same_again_wherever_it_was_interrupted(world, tmp_path, monkeypatch):
    photos, teacher = world
    files = [tmp_path / f"{name}.safetensors" for name in ("whole", "interrupted")]

    def run(file):
        return edgetl.distill(
            photos, teachers=[teacher], student=STUDENT, output=file, options=options()
        )

    run(files[0])
    measure = distill_train._Run.measure

    def interrupted(self, pool):
        if self.epoch == 1:
            raise KeyboardInterrupt
        measure(self, pool)

    with monkeypatch.context() as patch:
        patch.setattr(distill_train._Run, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(files[1])
    left = files[1].with_name("interrupted.safetensors.unfinished")
    assert left.is_file() and not files[1].exists()
    report = run(files[1])
    assert report.resumed and not left.exists()
    # Not the bytes: safetensors writes metadata in an order of its own.
    assert read_record(files[0]) == read_record(files[1])
    tensors = [load_file(file) for file in files]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(value, tensors[1][name]) for name, value in tensors[0].items())


def test_several_sources_and_teachers_and_a_backbone_of_ones_own(world, tmp_path):
    photos, teacher = world
    (tmp_path / "broken.png").write_bytes(b"no photo")
    folder = tmp_path / "more"
    folder.mkdir()
    for copy in sorted((photos / "loose/1").iterdir())[:3]:
        shutil.copy(copy, folder)
    (folder / "broken.png").write_bytes(b"no photo")
    own = untrained_backbone(STUDENT, seed=1, preprocess=edgetl.Preprocess(size=32, resize=32))
    before = own.fingerprint
    shown = edgetl.SourceModel(
        teacher.backbone,
        preprocess=edgetl.Preprocess(size=16, resize=20),
        name="closer",
    )
    report = edgetl.distill(
        [photos, folder],
        teachers=[teacher, shown],
        student=own,
        output=tmp_path / "student.safetensors",
        options=options(untrained=False, size=None, views=1),
    )
    assert [score.name for score in report.teachers] == [str(teacher.backbone), "closer"]
    assert (report.repeated, report.n_train + report.n_held_out) == (3, 40)
    assert report.skipped[0][0].startswith("2/broken.png")
    assert own.fingerprint == before
    assert load_backbone(STUDENT, report.output).preprocess == own.preprocess


def test_mistakes_are_refused_before_any_work(world, tmp_path):
    photos, teacher = world
    file = tmp_path / "student.safetensors"

    def refuse(error, message, **changed):
        arguments = {"teachers": teacher, "student": STUDENT, "output": file, "options": options()}
        with pytest.raises(error, match=message):
            edgetl.distill(photos, **arguments | changed)

    refuse(ValueError, "safetensors", output=tmp_path / "student.pth")
    refuse(FileNotFoundError, "does not exist", output=tmp_path / "no" / "s.safetensors")
    refuse(ValueError, "can't be a student", student="model.onnx")
    refuse(ValueError, "can't be a student", student="open_clip/ViT-B-32")
    refuse(ValueError, "no torch device", options=options(device="abacus"))
    refuse(ValueError, "random weights", weights=file)
    refuse(ValueError, "brings its weights", student=untrained_backbone(STUDENT, seed=0))
    refuse(TypeError, "a student is", student=3)
    refuse(TypeError, "teachers must be", teachers=3)
    with pytest.raises(ValueError, match="not both"):
        options(preprocess=edgetl.Preprocess())


def test_too_few_photos(world, tmp_path):
    photos, teacher = world
    pixels = [np.asarray(Image.open(p)) for p in sorted(photos.rglob("*.png"))[:12]]
    with pytest.raises(DataError, match="12 different photos can be read; distillation needs 20"):
        edgetl.distill(
            pixels * 2,
            teachers=teacher,
            student=STUDENT,
            output=tmp_path / "s.safetensors",
            options=options(),
        )


def test_on_the_command_line_and_adapted(world, tmp_path, capsys):
    photos, teacher = world
    generator = np.random.default_rng(1)
    root, file = tmp_path / "labelled", tmp_path / "student.safetensors"
    two = {"red": (190, 90, 60), "green": (90, 170, 70)}
    for part, count in (("train", 6), ("test", 3)):
        write_photos(root / part, two, count, generator, noise=40)
    words = ["distill", str(photos), str(root), "--teacher", str(teacher.backbone)]
    words += ["--student", STUDENT, "--untrained", "--size", "32", "--epochs", "1", "--views", "1"]
    words += ["--step-size", "8", "--offline", "--quiet", "-o", str(file)]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "47 photos, 1 view of each, 5 held out" in printed.out  # 40, and 12 to train on
    assert "6 files of the test part" in printed.err

    bundle = tmp_path / "colours.edgetl"
    words = ["adapt", str(root), "--backbone", STUDENT, "--weights", str(file), "--offline"]
    assert main([*words, "--quiet", "-o", str(bundle)]) == 0
    assert edgetl.Bundle.load(bundle).manifest.preprocess == load_backbone(STUDENT, file).preprocess


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--teacher", "b", "--teacher-weights", "f"], "1 --teacher-weights for 2 --teacher"),
        (["--teacher-weights", "f", "--epochs", "0"], "epochs must be 1 or more"),
        (["--size", "2"], "size must be 8"),
    ],
)
def test_usage_errors(more, message, capsys):
    words = ["distill", "photos", "--teacher", "a", "--student", "s", "-o", "s.safetensors"]
    assert main([*words, *more]) == 2
    assert message in capsys.readouterr().err
    assert main([*words[:3], "a=f", *words[4:], "--teacher-weights", "f"]) == 2
    assert "names its weights already" in capsys.readouterr().err
