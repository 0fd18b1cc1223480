"""Exports that are refused for what was asked, or for what they cost."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from export_kit import FLOWERS, KINDS, options

import edgetl
from edgetl.cli.main import main
from edgetl.errors import BudgetError, DataError
from edgetl.exporter.timing import Timing, interleaved


@pytest.mark.parametrize(
    ("budget", "gate"), [({"budget_ms": 1e-6}, "speed"), ({"budget_mb": 0.001}, "size")]
)
def test_budgets_are_kept(budget, gate, adapted, tmp_path):
    with pytest.raises(BudgetError, match=f"failed the gate {gate}: "):
        edgetl.export(
            adapted,
            output=tmp_path / "large.edgetl",
            options=dataclasses.replace(options(), **budget),
        )
    assert list(tmp_path.iterdir()) == []


def test_impossible_requests_are_refused_at_once(adapted, exported, tmp_path, monkeypatch):
    made = exported("fp16", KINDS["fp16"][0])

    def too_late(*_):
        pytest.fail("features were extracted first")

    monkeypatch.setattr("edgetl._export.reference_parts", too_late)
    with pytest.raises(ValueError, match="exported already"):
        edgetl.export(made, options=options())
    with pytest.raises(TypeError, match="no target"):
        edgetl.export(adapted, edgetl.OpenVino())
    with pytest.raises(ValueError, match="ahead_of_time"):
        edgetl.export(adapted, options=dataclasses.replace(options(), ahead_of_time=True))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        edgetl.export(adapted, output=tmp_path, options=options())
    with pytest.raises(ValueError, match="max_drop must be a finite number"):
        edgetl.export(adapted, max_drop=float("nan"))
    with pytest.raises(ValueError, match="budget_ms must be a finite number"):
        edgetl.export(adapted, options=edgetl.ExportOptions(budget_ms=float("inf")))
    with pytest.raises(ValueError, match="the target asks for int8"):
        edgetl.load(adapted.path, target=edgetl.OnnxRuntime(precision="int8"))


def test_the_bundle_that_is_exported_is_not_written_over(adapted, tmp_path):
    before = {file.name: file.read_bytes() for file in adapted.path.iterdir()}
    link = tmp_path / "link.edgetl"
    link.symlink_to(adapted.path)
    for place in (adapted.path, link, adapted.path / "inside.edgetl"):
        with pytest.raises(ValueError, match="name another place"):
            edgetl.export(adapted, output=place, options=options())
    assert main(["export", str(link), "-o", str(adapted.path), "--quiet"]) == 2
    assert {file.name: file.read_bytes() for file in adapted.path.iterdir()} == before


def test_too_few_photos_to_compare_features_on_are_refused(adapted, photos, tmp_path):
    for part in ("train", "test"):
        for label in FLOWERS:
            (tmp_path / part / label).mkdir(parents=True)
            for photo in sorted((photos / part / label).iterdir())[:6]:
                shutil.copy(photo, tmp_path / part / label)
    elsewhere = {**adapted.manifest.provenance, "data": str(tmp_path / "gone")}
    manifest = dataclasses.replace(adapted.manifest, provenance=elsewhere)
    moved = dataclasses.replace(adapted, manifest=manifest)
    with pytest.raises(DataError, match=r"60 different samples together.*compared on 64"):
        edgetl.export(moved, calibration=tmp_path, test=tmp_path, options=options())


def test_int8_that_does_not_pay_exits_6_with_the_table(adapted, tmp_path, monkeypatch, capsys):
    def timed(contestants, **_):
        """As on a machine where int8 takes twice as long."""
        return {
            name: Timing((np.full(5, 0.010 if name == "float" else 0.020),)) for name in contestants
        }

    monkeypatch.setattr("edgetl.exporter.contest.interleaved", timed)
    output = tmp_path / "slow.edgetl"
    command = ["export", str(adapted.path), "--precision", "int8", "-o", str(output), "--quiet"]
    assert main([*command, "--search-rounds", "0", "--calibration-images", "8"]) == 6
    message = capsys.readouterr().err
    assert "the fastest int8 graph runs at 0.50 times the speed of float32" in message
    rows = message.partition("this was tried:\n")[2].splitlines()
    assert "configuration" in rows[0] and rows[1].split()[:2] == ["10.00", "1.00"]
    assert len(rows) > 5
    assert all(row.split()[:2] == ["20.00", "0.50"] for row in rows[2:6])
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_exports_and_refuses(adapted, photos, tmp_path, monkeypatch, capsys):
    def shortly(contestants, **options):
        return interleaved(contestants, **{**options, "seconds": 0.05})

    monkeypatch.setattr("edgetl.exporter.verify.interleaved", shortly)
    output = tmp_path / "small.edgetl"
    command = ["export", str(adapted.path), "-o", str(output), "--quiet"]
    assert main([*command, "--budget-mb", "0.01"]) == 6
    assert "size" in capsys.readouterr().err
    assert not output.exists()
    assert main([*command, "--precision", "bf16"]) == 2
    assert main([*command, "--max-batch", "4"]) == 2
    capsys.readouterr()
    small = ["--precision", "fp16", "--calibration", str(photos / "train"), "--max-drop", "1"]
    assert main([*command, *small, "--allow-slower", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["graph"] == "backbone.fp16.onnx"
    assert set(printed["accuracy"]) == {"float32", "before refit", "shipped"}
    assert main(["inspect", str(output)]) == 0
    assert "parity: features" in capsys.readouterr().out
