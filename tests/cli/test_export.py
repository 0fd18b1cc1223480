"""``edgetl export`` on the command line: refusals at once, and how others are printed."""

import json
import shutil

import pytest
from colours import save_mean_colours

import edgetl
from edgetl.cli.main import main

LABELS = ("daisy", "roses")


@pytest.fixture
def adapted(assets, tmp_path):
    """A bundle whose features are the means of the colours."""
    for part, count in (("train", 25), ("test", 10)):
        for label in LABELS:
            folder = tmp_path / "photos" / part / label
            folder.mkdir(parents=True)
            for photo in sorted((assets / "data/flower_photos" / part / label).iterdir())[:count]:
                shutil.copy(photo, folder)
    edgetl.adapt(
        tmp_path / "photos",
        backbone=save_mean_colours(tmp_path / "colour.onnx"),
        head="prototype",
        output=tmp_path / "colour.edgetl",
        options=edgetl.AdaptOptions(preprocess=edgetl.Preprocess(size=16, resize=16)),
    )
    return tmp_path / "colour.edgetl"


INT8 = ["--precision", "int8"]
TENSORRT = ["--target", "tensorrt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ort-level", "portable"], "--ort-level goes with --format ort"),
        (["--ort-level", "mobile", *INT8], "--ort-level goes with --format ort"),
        (["--calibration-images", "64"], "goes with --precision int8, and this is fp32"),
        (["--calibration-images", "64", "--precision", "fp16"], "and this is fp16"),
        (["--calibration-images", "0", *INT8], "calibration_images must be positive, got 0"),
        (["--search-rounds", "0"], "--target onnxruntime --precision int8"),
        (["--search-rounds", "1", "--precision", "fp16"], "--precision int8"),
        (["--search-rounds", "1", *TENSORRT, *INT8], "--target onnxruntime --precision int8"),
        (["--search-rounds", "-1", *INT8], "search.rounds must be 0 or more, got -1"),
        (["--portable"], "--target onnxruntime --precision int8"),
        (["--portable", *TENSORRT, *INT8], "--target onnxruntime --precision int8"),
        (["--seed", "-3"], "seed must be 0 or more, got -3"),
    ],
)
def test_options_without_effect_are_refused_at_once(words, message, capsys, monkeypatch):
    monkeypatch.setattr("edgetl._export.export", None)
    assert main(["export", "nowhere.edgetl", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_failed_gate_is_printed_as_json_too(adapted, capsys, tmp_path):
    output = tmp_path / "out.edgetl"
    command = ["export", str(adapted), "-o", str(output), "--quiet", "--budget-ms", "10000"]
    assert main([*command, "--budget-mb", "0.0001", "--json"]) == 6
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["bundle"], found["exit_code"]) == (None, 6)
    assert "failed the gate size" in found["error"] and "\n" not in found["error"]
    gates = {gate["name"]: gate for gate in found["gates"]}
    assert gates["size"]["passed"] is False and gates["accuracy"]["passed"] is True
    assert "FAILED" in printed.err
    assert not output.exists()

    assert main([*command, "--budget-mb", "0.0001"]) == 6
    assert capsys.readouterr().out == ""

    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bundle"] == str(output)
    assert all(gate["passed"] for gate in found["export"]["gates"])
    assert edgetl.load(output).labels == LABELS
