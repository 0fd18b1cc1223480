"""Heads put into a bundle where it lies, and what a bundle keeps to learn on with."""

import dataclasses
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from edgetl.bundle import (
    MANIFEST,
    Bundle,
    ExportRecord,
    Fitted,
    Learning,
    Limits,
    Manifest,
    TaskRecord,
    base_fingerprint,
    commit,
    shipped,
    updated,
)
from edgetl.errors import CorruptError
from edgetl.heads import PrototypeHead
from edgetl.preprocess import Preprocess

DIM = 16


def head_of(classes, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(60, DIM)).astype(np.float32)
    return PrototypeHead().fit(features, np.arange(60) % classes)


def learning_of(classes):
    rng = np.random.default_rng(3)
    codes = np.arange(12) % classes
    return Learning(
        rng.normal(size=(12, DIM)).astype(np.float16),
        codes,
        np.full(12, 2.5, np.float32),
        rng.normal(size=(4, DIM)).astype(np.float16),
        codes[:4],
        {"total": np.array([3.0])},
        {"axes": np.ones((2, DIM))},
    )


@pytest.fixture
def saved(tmp_path):
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"\x08\x08" + bytes(3000))
    manifest = Manifest(
        labels=("daisy", "tulip", "rose"),
        preprocess=Preprocess(size=32, resize=40),
        backbone="tiny",
        dim=DIM,
        graph="backbone.onnx",
        graph_fingerprint="f" * 64,
        head="prototype",
        learning="learning.safetensors",
    )
    return Bundle(manifest, head_of(3), graph, learning=learning_of(3)).save(tmp_path / "b.edgetl")


def grown(bundle, generation=1, **more):
    labels = (*bundle.labels[:3], "rust")
    return updated(bundle, head_of(4, generation), labels, generation=generation, **more)


def test_what_is_kept_survives_storage(saved):
    kept, expected = Bundle.load(saved.path).learning, learning_of(3)
    for name, value in vars(expected).items():
        found = getattr(kept, name)
        if isinstance(value, dict):
            assert {key: array.tolist() for key, array in found.items()} == {
                key: array.tolist() for key, array in value.items()
            }
        else:
            np.testing.assert_array_equal(found, value)
            assert found.dtype == value.dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros(12, np.float32)}, "positive"),
        ({"weights": np.ones(11, np.float32)}, "do not belong together"),
        ({"features": np.full((12, DIM), np.nan, np.float16)}, "NaN"),
        ({"features": np.zeros((12, DIM), np.float32)}, "no usable array"),
        ({"features": np.zeros((12, 3), np.float16)}, "16 features"),
        ({"codes": np.arange(12)}, "there are 3"),
        ({"guard_codes": np.arange(4) - 1}, "there are 3"),
        ({"guard_features": np.zeros((3, DIM), np.float16)}, "do not belong together"),
    ],
)
def test_hostile_arrays_are_refused(change, message):
    damaged = dataclasses.replace(learning_of(3), **change)
    with pytest.raises(CorruptError, match=message):
        Learning.from_bytes(damaged.to_bytes(), "file").check_fit(DIM, 3, "file")


def test_a_head_is_put_in_place_without_touching_the_graph(saved):
    before = (saved.path / "backbone.onnx").stat()
    changed = commit(saved, grown(saved, samples=7, accuracy=(0.5, 0.75)))
    opened = Bundle.load(saved.path)
    assert opened.manifest == changed.manifest
    assert opened.labels == ("daisy", "tulip", "rose", "rust")
    assert opened.manifest.update.samples == 7
    assert (opened.manifest.update.accuracy_before, opened.manifest.update.accuracy_after) == (
        0.5,
        0.75,
    )
    after = (saved.path / "backbone.onnx").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    np.testing.assert_allclose(opened.head.prototypes_, head_of(4, 1).prototypes_, rtol=1e-6)
    assert base_fingerprint(opened) == base_fingerprint(saved)


def test_only_the_shipped_head_and_the_current_one_are_kept(saved):
    bundle = saved
    for generation in (1, 2, 3):
        bundle = commit(bundle, grown(bundle, generation))
    names = sorted(file.name for file in saved.path.glob("*head*"))
    assert len(names) == 2 and names[1] == "head.safetensors" and names[0].startswith("head-3-")
    original = shipped(Bundle.load(saved.path))
    assert original.labels == saved.labels
    np.testing.assert_array_equal(
        original.head.prototypes_,
        Bundle.load(original.save(saved.path.parent / "old.edgetl").path).head.prototypes_,
    )
    np.testing.assert_allclose(original.head.prototypes_, saved.head.prototypes_, rtol=1e-6)


def test_a_changed_bundle_is_saved_elsewhere_whole(saved, tmp_path):
    elsewhere = grown(saved).save(tmp_path / "c.edgetl")
    assert Bundle.load(elsewhere.path).labels[-1] == "rust"
    assert shipped(Bundle.load(elsewhere.path)).labels == saved.labels
    assert Bundle.load(saved.path).labels == saved.labels
    assert base_fingerprint(Bundle.load(elsewhere.path)) == base_fingerprint(saved)


def test_a_bundle_changed_by_another_process_is_not_overwritten(saved):
    commit(saved, grown(saved, 1))
    with pytest.raises(CorruptError, match="another process"):
        commit(saved, grown(saved, 2))
    assert Bundle.load(saved.path).manifest.update.generation == 1


def test_a_graph_with_its_head_inside_is_refused(saved):
    record = ExportRecord(
        engine="onnxruntime",
        precision="fp32",
        fused=True,
        limits=Limits(least_cosine=0.9, mean_cosine=0.9, agreement=0.9, max_drop=1),
        source="",
        source_digest="",
        float_bytes=1,
    )
    fused = dataclasses.replace(saved, manifest=dataclasses.replace(saved.manifest, export=record))
    with pytest.raises(ValueError, match="head inside"):
        grown(fused)


def test_labels_must_fit_the_head(saved):
    with pytest.raises(ValueError, match=r"4 classes .* 3 labels"):
        updated(saved, head_of(4), saved.labels, generation=1)


def test_further_tasks_are_stored_and_updated_alone(saved, tmp_path):
    record = TaskRecord(labels=("well", "ill"), head="prototype", arrays="head-health.safetensors")
    both = saved.with_fitted(record, Fitted(head_of(2)), "health").save(tmp_path / "both.edgetl")
    opened = Bundle.load(both.path)
    assert opened.fitted("health").head.classes_.tolist() == [0, 1]
    changed = updated(opened, head_of(3, 5), ("well", "ill", "dead"), generation=1, task="health")
    commit(opened, changed)
    again = Bundle.load(both.path)
    assert again.manifest.record("health").labels[-1] == "dead"
    assert again.labels == saved.labels and again.manifest.update is None
    assert base_fingerprint(again, "health") == base_fingerprint(opened, "health")
    with pytest.raises(ValueError, match="no task 'x'"):
        again.fitted("x")


def test_a_manifest_that_names_a_file_without_a_hash_is_refused(saved):
    manifest = dataclasses.replace(saved.manifest, learning="other.safetensors")
    (saved.path / MANIFEST).write_bytes(manifest.to_bytes())
    with pytest.raises(CorruptError, match="no hash of 'other"):
        Bundle.load(saved.path)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_commit_leaves_the_old_head_or_the_new_one(saved, tmp_path):
    code = f"""
import sys
import numpy as np
from edgetl.bundle import Bundle, commit, updated
from edgetl.heads import PrototypeHead
bundle = Bundle.load({str(saved.path)!r})
generation = 0
while True:
    generation += 1
    features = np.random.default_rng(generation).normal(size=(8, {DIM})).astype(np.float32)
    head = PrototypeHead().fit(features, np.arange(8) % 3)
    bundle = commit(bundle, updated(bundle, head, bundle.labels, generation=generation))
    print(generation, flush=True)
"""
    rng = np.random.default_rng(0)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        seen = "0"
        for _ in range(int(rng.integers(1, 30))):
            seen = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        last = int((rest.split() or [seen])[-1])
        update = Bundle.load(saved.path).manifest.update
        assert update.generation in (last, last + 1)


def test_what_a_stopped_commit_left_goes_with_the_next(saved):
    for name in (
        ".manifest.json.new",
        "head-7-0a0b0c0d.safetensors",
        ".learning-7.safetensors.new",
    ):
        (saved.path / name).write_bytes(b"half")
    saved.save(saved.path)  # such files are no reason to refuse
    (saved.path / ".manifest.json.new").write_bytes(b"half")
    (saved.path / "head-7-0a0b0c0d.safetensors").write_bytes(b"half")
    bundle = Bundle.load(saved.path)
    changed = commit(bundle, grown(bundle))
    found = {file.name for file in saved.path.iterdir()}
    assert found == {MANIFEST, *changed.manifest.files}
