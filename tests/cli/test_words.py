"""Classes from words on the command line, and the heads of methods through an export."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import edgetl
from edgetl.cli.main import main

LABELS = ("blue", "green_grass", "red")
UNTIMED = edgetl.ExportOptions(
    graph=edgetl.GraphOptions(search=edgetl.SearchOptions(allow_slower=True)), verify_seconds=0.05
)
COLOURS = {"blue": (60, 70, 190), "green_grass": (60, 170, 70), "red": (190, 60, 70)}


def draw(root, count, *, seed=0):
    """So many noisy photos of each of three colours."""
    generator = np.random.default_rng(seed)
    for label, colour in COLOURS.items():
        folder = root / label
        folder.mkdir(parents=True)
        for place in range(count):
            pixels = generator.normal(colour, 40, (36, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{place}.png")
    return root


@pytest.fixture
def photos(tmp_path):
    return draw(tmp_path / "photos", 24)


def run(capsys, *words):
    """Exit code, stdout and stderr of the command line."""
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_words_make_a_bundle_measured_or_not(photos, open_clip_pair, tmp_path, capsys):
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps({"red": ["something red", "a tomato"]}))
    words = (
        *("--backbone", f"open_clip/{open_clip_pair}", "--method", "zeroshot"),
        *("--template", "a photo of a {}", "--template", "the colour {}"),
        *("--prompts", prompts, "--quiet", "--offline"),
    )
    first = tmp_path / "measured.edgetl"
    code, out, err = run(capsys, "adapt", photos, *words, "-o", first, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["classes"] == list(LABELS) and found["head"] == "softmax"
    method = found["evidence"]["extra"]["method"]
    assert method["name"] == "zeroshot" and "from words alone" in method["reason"]
    assert method["details"]["sentences"] == {
        "blue": ["a photo of a blue", "the colour blue"],
        "green_grass": ["a photo of a green grass", "the colour green grass"],
        "red": ["something red", "a tomato"],
    }
    assert "no adaptation" in found["evidence"]["baselines"]

    second = tmp_path / "named.edgetl"
    names = ("--labels", "red, blue,green_grass")
    code, out, err = run(capsys, "adapt", *names, *words, "-o", second)
    assert code == 0, err
    assert "not measured" in out and f"edgetl evaluate {second} PHOTOS" in out
    code, out, err = run(capsys, "adapt", *names, *words, "-o", tmp_path / "third.edgetl", "--json")
    assert code == 0, err
    assert json.loads(out)["accuracy"] is None and json.loads(out)["evidence"] is None
    bundles = [edgetl.Bundle.load(path) for path in (first, second)]
    assert bundles[1].labels == LABELS
    assert bundles[1].evidence is None
    for name, array in bundles[0].head.arrays().items():
        np.testing.assert_array_equal(bundles[1].head.arrays()[name], array)

    # Measured afterwards, on the photos that the first one kept for its test part and the others.
    code, out, err = run(capsys, "evaluate", second, photos, "--json", "--quiet")
    assert code == 0, err
    all_photos = json.loads(out)
    assert all_photos["n_test"] == 72 and 0 <= all_photos["accuracy"] <= 1
    right = found["accuracy"] * found["n_test"]
    held = method_row(found)["accuracy"] * found["n_train"]
    assert all_photos["accuracy"] * 72 == pytest.approx(right + held)

    code, _, err = run(capsys, "export", second, "-o", tmp_path / "x.edgetl")
    assert code == 1 and "--calibration FOLDER" in err
    assert run(capsys, "inspect", second)[0] == 0


def method_row(found):
    (row,) = [row for row in found["evidence"]["head"]["candidates"] if row["chosen"]]
    return row


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "zeroshot"], "name DATA, or with --method zeroshot classes"),
        (["DATA", "--method", "zeroshot", "--labels", "a,b"], "--labels goes without DATA"),
        (["--labels", "a,b"], "go with --method zeroshot, not head"),
        (["DATA", "--template", "a {}", "--method", "few"], "go with --method zeroshot, not few"),
        (["--method", "zeroshot", "--labels", "a,b", "--test", "x"], "--test has no use without"),
        (
            ["--method", "zeroshot", "--labels", "a,b", "--fail-on-negative"],
            "--fail-on-negative has no use without DATA",
        ),
        (
            ["--method", "zeroshot", "--labels", "a,b", "--groups", "site"],
            "--groups has no use without DATA",
        ),
        (["--method", "zeroshot", "--labels", "a,b", "--head", "knn"], "--head has no use"),
        (["--method", "zeroshot", "--labels", "a,b", "--set", "blend=true"], "need labelled"),
        (["--method", "zeroshot", "--labels", "a,b", "--template", "a"], r"needs \{\}"),
    ],
)
def test_words_that_do_not_fit(words, message, tmp_path, capsys):
    more = ("--backbone", "mobilenetv2_100", "-o", tmp_path / "x.edgetl")
    code, _, err = run(capsys, "adapt", *words, *more)
    assert code == 2
    assert re.search(message, err)


def test_fewer_than_two_classes(tmp_path, capsys):
    for labels in ("a", "a,a"):
        code, _, err = run(
            *(capsys, "adapt", "--labels", labels, "--method", "zeroshot"),
            *("--backbone", "mobilenetv2_100", "-o", tmp_path / "x.edgetl"),
        )
        assert code == 1 and "two or more different classes" in err


def test_an_export_keeps_the_head_that_a_method_made(photos, open_clip_pair, tmp_path, capsys):
    path = tmp_path / "few.edgetl"
    code, out, err = run(
        *(capsys, "adapt", photos, "--backbone", f"open_clip/{open_clip_pair}"),
        *("--method", "few", "-o", path, "--quiet", "--json"),
    )
    assert code == 0, err
    assert json.loads(out)["evidence"]["extra"]["method"]["details"] == {"chosen": "cosine"}
    before = edgetl.Bundle.load(path)
    assert not before.head.center
    exported = edgetl.export(
        before,
        edgetl.OnnxRuntime(),
        options=UNTIMED,
    )
    for name, array in before.head.arrays().items():
        np.testing.assert_array_equal(exported.head.arrays()[name], array)
    assert any("kept as the method few made it" in note for note in exported.evidence.run.notes)

    named = edgetl.from_words(LABELS, backbone=f"open_clip/{open_clip_pair}")
    exported = edgetl.export(
        named,
        edgetl.OnnxRuntime(),
        calibration=photos,
        test=draw(tmp_path / "others", 3, seed=1),
        options=UNTIMED,
    )
    assert exported.evidence.n_test == 9
    for name, array in named.head.arrays().items():
        np.testing.assert_array_equal(exported.head.arrays()[name], array)
    assert not any("refitted" in note for note in exported.evidence.run.notes)
