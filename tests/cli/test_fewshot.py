"""``edgetl fewshot`` on photos: its tables, its JSON, what it refuses."""

import json
import shutil

import numpy as np
import pytest
from colours import save_mean_colours, write_photos

import edgetl
from edgetl.cli.main import main


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A data set of two colours, a backbone of mean colours, and its preprocessing."""
    root = tmp_path_factory.mktemp("fewshot")
    generator = np.random.default_rng(0)
    two = {"red": (190, 90, 60), "green": (90, 170, 70)}
    write_photos(root / "photos/train", two, 6, generator, noise=50)
    write_photos(root / "photos/test", two, 5, generator, noise=50)
    definition = edgetl.Preprocess(size=8, resize=8)
    said = {"edgetl.preprocess": json.dumps(definition.to_json())}
    return root / "photos", save_mean_colours(root / "means.onnx", size=8, **said), definition


def options(definition, **changed):
    return edgetl.FewShotOptions(
        **{"shots": (1, 2), "seeds": 6, "adapt": edgetl.AdaptOptions(preprocess=definition)}
        | changed
    )


def test_from_python(colours):
    photos, backbone, definition = colours
    report = edgetl.fewshot(photos, backbone=backbone, options=options(definition))
    assert report.labels == ("green", "red")
    assert (report.n_train, report.n_test, report.seeds) == (12, 10, 6)
    assert {score.shots for score in report.scores} == {1, 2}
    best = max(score.accuracy.median for score in report.scores if score.shots == 2)
    assert best > 0.8
    assert json.loads(json.dumps(report.to_json()))["confidence"] == 0.95
    text = str(report)
    assert "2 shots" in text and "soft-kmeans*" in text and "tip+" in text and "auto" in text


def test_a_draw_of_most_of_a_class_is_remarked(colours):
    photos, backbone, definition = colours
    report = edgetl.fewshot(
        photos, backbone=backbone, options=options(definition, shots=(5,), methods=("ridge",))
    )
    assert "5 shots are more than half of the 6 training samples" in report.notes[-1]
    with pytest.raises(edgetl.EdgetlError, match="fewer than 7 shots"):
        edgetl.fewshot(
            photos, backbone=backbone, options=options(definition, shots=(7,), methods=("ridge",))
        )


def test_queries_that_are_training_samples_are_remarked(colours, tmp_path):
    photos, backbone, definition = colours
    copy = shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(copy / "train/red/0.png", copy / "test/red/again.png")
    report = edgetl.fewshot(copy, backbone=backbone, options=options(definition, methods=("tip",)))
    (note,) = (note for note in report.notes if "training part too" in note)
    assert note.startswith("1 query is") and "again.png" in note


@pytest.mark.parametrize(
    "changed", [{"methods": ("x",)}, {"baseline": "x"}, {"shots": (0,)}, {"seeds": 1}]
)
def test_options_are_checked(changed):
    with pytest.raises(ValueError, match=r"must be|at least"):
        edgetl.FewShotOptions(**changed)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--shots", "1,a"], "--shots must be whole numbers"),
        (["--methods", "cosine,magic"], "['magic']"),
        (["--seeds", "1"], "at least 2 seeds"),
    ],
)
def test_usage_errors(more, message, capsys):
    assert main(["fewshot", "nowhere", "--backbone", "x", *more]) == 2
    assert message in capsys.readouterr().err


def test_on_the_command_line(colours, capsys):
    photos, backbone, _ = colours
    words = ["fewshot", str(photos), "--backbone", str(backbone), "--offline", "--quiet"]
    words += ["--seeds", "6", "--shots", "1,2", "--methods", "auto,laplacian"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "2 shots" in printed.out and "against prototype" in printed.out
    assert "+" not in printed.out.splitlines()[-1]
    assert printed.err == ""
    assert main([*words, "--json", "--baseline", "auto"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in found["scores"]] == ["auto", "laplacian"] * 2
    assert found["scores"][0]["gain"] is None
    assert len(found["scores"][1]["accuracies"]) == 6
    assert found["scores"][1]["transductive"] is True
