"""Verifying an export again: with and without its original, and what it must not let pass."""

import collections
import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from export_kit import FLOWERS, KINDS, options

import edgetl
from edgetl.bundle import GateRecord, Limits
from edgetl.bundle.source import find_source
from edgetl.cli.main import main
from edgetl.decode import read_image
from edgetl.errors import CorruptError, DataError, ParityError
from edgetl.exporter import verify as verify_module
from edgetl.exporter.timing import Timing
from edgetl.exporter.verify import VerifyOptions
from edgetl.features.content import digest_bytes

QUICKLY = VerifyOptions(seconds=0.05)


def without_source(bundle, folder):
    """The bundle as it is where the one that it was exported from is not."""
    record = dataclasses.replace(bundle.manifest.export, source="/nowhere")
    manifest = dataclasses.replace(bundle.manifest, export=record)
    return dataclasses.replace(bundle, manifest=manifest).save(folder / "alone.edgetl").path


def test_verify_runs_the_gates_again(exported, adapted, photos, tmp_path, capsys):
    bundle = exported("int8", KINDS["int8"][0])
    command = ["verify", str(bundle.path), "--data", str(photos), "--seconds", "0.05"]
    assert main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["gates"]
    assert {row["name"] for row in rows} >= {"parity: features", "accuracy", "speed", "size"}
    assert main([*command, "--budget-mb", "0.01"]) == 6
    printed = capsys.readouterr()
    assert "failed the gate size: " in printed.err and "--budget-mb" in printed.err
    assert printed.out == ""
    assert main([*command, "--budget-mb", "0.01", "--json"]) == 6
    printed = capsys.readouterr()
    rows = {row["name"]: row["passed"] for row in json.loads(printed.out)["gates"]}
    assert rows["size"] is False and rows["accuracy"] is True
    assert "failed the gate size: " in printed.err
    for bad in (["--max-drop", "nan"], ["--budget-ms", "inf"]):
        assert main([*command, *bad]) == 2
        assert "must be a finite number" in capsys.readouterr().err
    assert main(["verify", str(adapted.path), "--data", str(photos)]) == 2
    assert "not exported" in capsys.readouterr().err

    # On a device, without the bundle it came from.
    alone = without_source(bundle, tmp_path)
    manifest = bundle.manifest
    found = edgetl.verify(alone, photos, options=QUICKLY)  # it has a budget in its limits
    assert all(gate.passed for gate in found)
    with pytest.raises(DataError, match="fitted on all of these 150"):
        edgetl.verify(alone, photos / "train")
    with pytest.raises(DataError, match="0 of the 64 samples"):
        edgetl.verify(alone, ([np.full((300, 300, 3), 7, np.uint8)] * 2, ["daisy", "roses"]))
    unlimited = dataclasses.replace(
        manifest,
        export=dataclasses.replace(
            manifest.export, limits=dataclasses.replace(manifest.export.limits, budget_ms=None)
        ),
    )
    unlimited = dataclasses.replace(
        unlimited, export=dataclasses.replace(unlimited.export, source="/nowhere")
    )
    with pytest.raises(ValueError, match="--budget-ms"):
        edgetl.verify(dataclasses.replace(bundle, manifest=unlimited), photos)


def test_verify_needs_nothing_that_a_device_lacks(exported, photos, cache, tmp_path):
    bundle = exported("int8", KINDS["int8"][0])
    blocked = ("torch", "torchvision", "timm", "onnx", "sklearn", "scipy", "lance", "pyarrow")
    code = f"""
import sys
for name in {(*blocked, "platformdirs")!r}:
    sys.modules[name] = None
from edgetl.cli.main import main
sys.exit(main(["verify", {str(bundle.path)!r}, "--data", {str(photos)!r}, "--seconds", "0.05"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "parity: features  passed" in result.stdout


def test_verify_catches_another_head(exported, photos, tmp_path):
    bundle = exported("int8", KINDS["int8"][0])
    head = type(bundle.head).from_arrays(bundle.head.arrays())
    head.coef_ = head.coef_[::-1].copy()
    files = {k: v for k, v in bundle.manifest.files.items() if k != "head.safetensors"}
    manifest = dataclasses.replace(bundle.manifest, files=files)
    with pytest.raises(ParityError, match="failed the gate parity: top-1"):
        edgetl.verify(
            dataclasses.replace(bundle, head=head, manifest=manifest), photos, options=QUICKLY
        )


def test_only_the_original_is_a_reference(exported, adapted, photos, tmp_path):
    bundle = exported("int8", KINDS["int8"][0])
    for strange in (bundle, bundle.path, exported("fp16", KINDS["fp16"][0])):
        with pytest.raises(ValueError, match="was exported itself"):
            edgetl.verify(bundle, photos, reference=strange)
    changed = dataclasses.replace(adapted.manifest, backbone="another", files={})
    other = dataclasses.replace(adapted, manifest=changed).save(tmp_path / "other.edgetl")
    with pytest.raises(ValueError, match="not the bundle that this one was exported from"):
        edgetl.verify(bundle, photos, reference=other.path)
    copied = adapted.save(tmp_path / "copied.edgetl").path
    found = edgetl.verify(bundle, photos, reference=copied, options=QUICKLY)
    assert all(gate.passed for gate in found)


@pytest.mark.parametrize("source", ["x" * 5000, "a\0b", "/dev/null", "", "~/" + "../" * 900])
def test_a_recorded_path_of_any_kind_is_no_obstacle(source, exported):
    record = exported("int8", KINDS["int8"][0]).manifest.export
    found, reason = find_source(dataclasses.replace(record, source=source))
    assert found is None
    assert "is not at hand" in reason or "does not say" in reason


def few(photos, root, **counts):
    """A folder of some of the photos: so many of each class in each part."""
    for part, count in counts.items():
        for label in FLOWERS:
            (root / part / label).mkdir(parents=True)
            for photo in sorted((photos / part / label).iterdir())[:count]:
                shutil.copy(photo, root / part / label)
    return root


def test_features_are_compared_on_64_samples_or_not_at_all(exported, adapted, photos, tmp_path):
    bundle = exported("int8", KINDS["int8"][0])
    short = few(photos, tmp_path / "short", test=12)
    with pytest.raises(DataError, match=r"on 60 of these 60 samples, 64 that can be read"):
        edgetl.verify(bundle, short, options=QUICKLY)
    alone = without_source(bundle, tmp_path)
    with pytest.raises(DataError, match=r"of the 64 samples that the export .* 64 are needed"):
        edgetl.verify(alone, short, options=QUICKLY)
    # Photos that the head was fitted on show how features compare, and nothing else.
    both = few(photos, tmp_path / "both", test=12, train=3)
    shutil.copytree(both / "train", tmp_path / "flat")
    shutil.copytree(both / "test", tmp_path / "flat", dirs_exist_ok=True)
    for data in (both, tmp_path / "flat"):
        found = {gate.name: gate for gate in edgetl.verify(bundle, data, options=QUICKLY)}
        assert "64 samples" in found["parity: features"].measured
        assert "60 samples" in found["accuracy"].measured
        assert "of 60 samples" in found["parity: top-1"].measured


def test_a_small_test_part_is_made_up_for_in_what_a_device_knows(adapted, photos, tmp_path):
    data = few(photos, tmp_path / "data", test=5, train=30)
    provenance = {**adapted.manifest.provenance, "data": str(data)}
    manifest = dataclasses.replace(adapted.manifest, provenance=provenance)
    made = edgetl.export(
        dataclasses.replace(adapted, manifest=manifest), max_drop=9.0, options=options()
    )
    checks = made.checks
    assert len(checks.reference_features) == len(checks.reference_digests) == 64
    fitted = np.isin(checks.reference_digests, checks.train_digests)
    np.testing.assert_array_equal(fitted, np.arange(64) >= 25)
    found = edgetl.verify(without_source(made, tmp_path), data, options=QUICKLY)
    measured = {gate.name: gate.measured for gate in found}
    assert "64 samples" in measured["parity: features"]
    assert ", 25 samples" in measured["accuracy"]


def test_what_a_device_compares_features_on_is_of_every_class(exported, photos):
    checks = exported("int8", KINDS["int8"][0]).checks
    names = {
        int.from_bytes(digest_bytes(file.read_bytes())[:8], "big"): file.parent.name
        for file in photos.glob("test/*/*.jpg")
    }
    seen = collections.Counter(names[d] for d in checks.reference_digests[:64].tolist())
    assert set(seen) == set(FLOWERS)
    assert max(seen.values()) - min(seen.values()) <= 1
    assert set(checks.reference_digests.tolist()) == set(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:, ::-1].copy(), "samples get another class"),
        (lambda rows: np.full_like(rows, np.nan), "64 of 64 samples are not finite"),
        (lambda rows: np.where(rows == rows.max(), np.nan, rows), "are not finite"),
        (lambda rows: rows + np.float32(0.002), "64 of 64 samples differ by up to 0.002"),
    ],
)
def test_the_head_inside_the_graph_has_to_answer_alike(
    change, words, exported, photos, monkeypatch
):
    bundle = exported("fp32-fused", KINDS["fp32-fused"][0], **KINDS["fp32-fused"][1])
    real = verify_module.bundle_engine

    def other(*arguments, **named):
        engine = real(*arguments, **named)
        return lambda batch: change(engine(batch))

    monkeypatch.setattr(verify_module, "bundle_engine", other)
    with pytest.raises(ParityError, match="failed the gate parity: the head inside") as caught:
        edgetl.verify(bundle, photos, options=QUICKLY)
    assert words in str(caught.value)


@pytest.mark.parametrize("target", [edgetl.OnnxRuntime(threads=1), edgetl.OpenVino()])
def test_what_must_not_be_faster_runs_in_the_same_engine(target, exported, photos, monkeypatch):
    if isinstance(target, edgetl.OpenVino):
        pytest.importorskip("openvino")
    bundle = exported("fp16", KINDS["fp16"][0])
    timed = []

    def watch(contestants, **_):
        for name, call in contestants.items():
            calls = dict(zip(call.__code__.co_freevars, call.__closure__, strict=True))
            timed.append((name, *(cell.cell_contents for cell in calls.values())))
        return {name: Timing((np.full(5, 0.01),)) for name in contestants}

    monkeypatch.setattr(verify_module, "interleaved", watch)
    edgetl.verify(bundle, photos, target=target, options=QUICKLY)
    runtimes = [next(x for x in row if isinstance(x, edgetl.Runtime)) for row in timed]
    assert [row[0] for row in timed] == ["exported", "original"]
    assert [runtime.target for runtime in runtimes] == [target, target]
    assert [runtime.bundle.manifest.graph for runtime in runtimes] == [
        "backbone.fp16.onnx",
        "backbone.onnx",
    ]


def test_each_photo_is_decoded_once_for_both_bundles(exported, photos, monkeypatch):
    bundle = exported("fp32-fused", KINDS["fp32-fused"][0], **KINDS["fp32-fused"][1])
    decoded = []
    for module in ("edgetl.exporter.compare", "edgetl.runtime.extractor"):

        def count(source, *, preprocess):
            if not isinstance(source, np.ndarray):
                decoded.append(source)
            return read_image(source, preprocess=preprocess)

        monkeypatch.setattr(f"{module}.read_image", count)
    assert all(gate.passed for gate in edgetl.verify(bundle, photos, options=QUICKLY))
    contents = {file.read_bytes() for file in photos.glob("test/*/*.jpg")}
    assert len(decoded) == len(contents) == 100
    assert set(decoded) == contents


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "is no JSON"),
        ('{"a', "is no JSON"),
        ("", "is no JSON"),
        ("[1]", r"is \[1\]"),
    ],
)
def test_damaged_metadata_is_a_failed_gate(text, words, exported, photos, tmp_path):
    bundle = exported("fp16", KINDS["fp16"][0])
    graph = onnx.load(bundle.graph_path)
    (stated,) = (item for item in graph.metadata_props if item.key == "edgetl.labels")
    stated.value = text
    onnx.save(graph, tmp_path / "graph.onnx")
    manifest = dataclasses.replace(bundle.manifest, files={})
    changed = dataclasses.replace(bundle, manifest=manifest, graph_path=tmp_path / "graph.onnx")
    path = changed.save(tmp_path / "changed.edgetl").path
    with pytest.raises(ParityError, match=f"failed the gate parity: metadata.*{words}"):
        edgetl.verify(path, photos, options=QUICKLY)


def test_an_ort_file_without_end_has_no_metadata(exported):
    whole = exported("int8-ort", KINDS["int8-ort"][0], format="ort").read_graph()
    assert verify_module.graph_metadata(whole)["edgetl.labels"]
    for broken in (whole[:100], whole[:8], whole[:8] + bytes(1000)):
        with pytest.raises(CorruptError, match=f"graph of {len(broken)} bytes can't be read"):
            verify_module.graph_metadata(broken)


def test_a_bundle_that_sets_its_own_exam_is_seen_doing_it(exported, photos, capsys, tmp_path):
    bundle = exported("int8", KINDS["int8"][0])
    lax = Limits(
        least_cosine=0, mean_cosine=0, agreement=0, max_drop=90, budget_ms=1e5, slower=True
    )
    gate = GateRecord(name="parity: \x1b[2J", passed=True, measured="\x07", limit="", exit_code=4)
    record = dataclasses.replace(bundle.manifest.export, limits=lax, gates=(gate,))
    manifest = dataclasses.replace(bundle.manifest, export=record, backbone="\x1b[31mred")
    path = dataclasses.replace(bundle, manifest=manifest).save(tmp_path / "lax.edgetl").path
    assert main(["verify", str(path), "--data", str(photos), "--seconds", "0.05"]) == 0
    rows = {row.partition("  ")[0]: row for row in capsys.readouterr().out.splitlines()}
    own = {"parity: features": "0.98 and 0.9", "parity: top-1": "90 %", "accuracy": "0.5 points"}
    for name, limit in own.items():
        assert f"(laxer than edgetl's own: {limit})" in rows[name]
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\x07" not in printed
    assert "parity: ?[2J" in printed and "?[31mred" in printed
