"""Bundles: written whole or not at all, and proved whole when opened."""

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from edgetl.bundle import MANIFEST, Bundle, Checks, Manifest, probe_batch
from edgetl.bundle.checks import short_digests
from edgetl.bundle.directory import replaced_directory
from edgetl.bundle.stamp import metadata_suffix
from edgetl.errors import CorruptError
from edgetl.heads import RidgeHead
from edgetl.preprocess import Preprocess

LABELS = ("daisy", "tulip", "gänse blümchen")


@pytest.fixture
def bundle(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 16)).astype(np.float32)
    targets = np.arange(60) % 3
    features[np.arange(60), targets] += 3
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"\x08\x08" + bytes(rng.integers(0, 256, 3000, dtype=np.uint8)))
    manifest = Manifest(
        labels=LABELS,
        preprocess=Preprocess(size=32, resize=40),
        backbone="tiny",
        dim=16,
        graph="backbone.onnx",
        graph_fingerprint="f" * 64,
        head="ridge",
        provenance={"data": "nowhere", "n": 60},
    )
    return Bundle(manifest, RidgeHead().fit(features, targets), graph)


@pytest.fixture
def saved(bundle, tmp_path):
    return bundle.save(tmp_path / "three.edgetl")


def test_round_trip(saved):
    opened = Bundle.load(saved.path)
    assert opened.manifest == saved.manifest
    assert opened.labels == LABELS
    assert opened.graph_path == saved.path / "backbone.onnx"
    assert {file.name for file in saved.path.iterdir()} == {
        "manifest.json",
        "backbone.onnx",
        "head.safetensors",
    }
    assert opened.size == sum(file.stat().st_size for file in saved.path.iterdir())
    probe = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
    np.testing.assert_allclose(
        opened.head.predict_proba(probe), saved.head.predict_proba(probe), rtol=1e-5
    )


def test_the_same_content_gives_the_same_bytes(bundle, tmp_path):
    one, two = bundle.save(tmp_path / "one.edgetl"), bundle.save(tmp_path / "two.edgetl")
    for file in one.path.iterdir():
        assert file.read_bytes() == (two.path / file.name).read_bytes()


def test_a_saved_bundle_can_be_saved_again_unchanged(saved, tmp_path):
    again = Bundle.load(saved.path).save(tmp_path / "again.edgetl")
    assert again.manifest == saved.manifest


@pytest.mark.parametrize("name", ["manifest.json", "backbone.onnx", "head.safetensors"])
def test_one_flipped_byte_anywhere_is_refused(saved, name):
    file = saved.path / name
    whole = file.read_bytes()
    step = max(1, len(whole) // 150)
    for position in [*range(0, len(whole), step), len(whole) - 1]:
        for bit in (1, 0x80):
            changed = bytearray(whole)
            changed[position] ^= bit
            file.write_bytes(changed)
            with pytest.raises(CorruptError, match=name):
                Bundle.load(saved.path)
    file.write_bytes(whole)
    Bundle.load(saved.path)


@pytest.mark.parametrize("name", ["manifest.json", "backbone.onnx", "head.safetensors"])
@pytest.mark.parametrize("change", ["shorter", "longer", "empty"])
def test_a_changed_length_is_refused(saved, name, change):
    file = saved.path / name
    whole = file.read_bytes()
    file.write_bytes({"shorter": whole[:-1], "longer": whole + b" ", "empty": b""}[change])
    with pytest.raises(CorruptError):
        Bundle.load(saved.path)


def test_a_missing_file_is_named(saved):
    (saved.path / "head.safetensors").unlink()
    with pytest.raises(CorruptError, match=r"head\.safetensors is missing"):
        Bundle.load(saved.path)


def test_a_file_that_is_not_listed_changes_nothing(saved):
    (saved.path / ".DS_Store").write_bytes(b"junk")
    assert Bundle.load(saved.path).labels == LABELS


def test_no_bundle(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a bundle"):
        Bundle.load(tmp_path)


def rewritten(manifest: Manifest, change) -> bytes:
    """The manifest with its JSON changed by someone who also mends the digest."""
    content = json.loads(manifest.to_bytes())
    change(content)
    content["digest"] = "0" * 64
    data = json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=4), "format 4"),
        (lambda c: c.update(format=None), "format None"),
        (lambda c: c.pop("labels"), "labels"),
        (lambda c: c.update(labels=["a", "a", "b"]), "distinct labels"),
        (lambda c: c["backbone"].update(graph="../../etc/passwd"), "no hash"),
        (lambda c: c["files"].update({"../out": {"sha256": "", "size": 0}}), "plain name"),
        (lambda c: c["preprocess"].update(size=0), "size"),
        (lambda c: c["backbone"].update(dim=float("inf")), "not JSON"),
        (lambda c: c["backbone"].update(dim="many"), "not a valid manifest"),
        (lambda c: c["preprocess"].update(surprise=1), "surprise"),
        (lambda c: c["preprocess"].update(dtype="float16"), "takes float32, or uint8 in nhwc"),
        (lambda c: c["preprocess"].update(dtype="uint8"), "preprocess gives uint8 in nchw"),
        (lambda c: c.update(backbone=[]), "not a valid manifest"),
        (lambda c: c.update(head={"kind": "softmax"}), "arrays"),
    ],
)
def test_a_hostile_manifest_is_refused(saved, change, message):
    (saved.path / MANIFEST).write_bytes(rewritten(saved.manifest, change))
    with pytest.raises(CorruptError, match=message):
        Bundle.load(saved.path)


def test_a_manifest_of_format_1_is_still_read(saved):
    """As edgetl wrote it before bundles could be exported: no "export", and its own digest."""
    content = json.loads((saved.path / MANIFEST).read_bytes())
    files = ",\n".join(
        f'    "{name}": {{"sha256": "{record["sha256"]}", "size": {record["size"]}}}'
        for name, record in sorted(content["files"].items())
    )
    text = f"""{{
  "format": 1,
  "digest": "{"0" * 64}",
  "labels": ["daisy", "tulip", "gänse blümchen"],
  "preprocess": {json.dumps(content["preprocess"])},
  "backbone": {{"name": "tiny", "dim": 16, "graph": "backbone.onnx", "fingerprint": "{"f" * 64}"}},
  "head": {{"kind": "ridge", "arrays": "head.safetensors"}},
  "files": {{
{files}
  }},
  "provenance": {{"data": "nowhere", "n": 60}},
  "evidence": null
}}
"""
    data = text.encode()
    digest = hashlib.sha256(data).hexdigest()
    (saved.path / MANIFEST).write_bytes(data.replace(b"0" * 64, digest.encode(), 1))
    opened = Bundle.load(saved.path)
    assert opened.manifest == saved.manifest
    assert opened.manifest.export is None
    changed = data.replace(b"0" * 64, digest.encode(), 1).replace(b'"n": 60', b'"n": 61')
    (saved.path / MANIFEST).write_bytes(changed)
    with pytest.raises(CorruptError, match="digest is wrong"):
        Bundle.load(saved.path)


def test_labels_must_fit_the_head(saved):
    data = rewritten(saved.manifest, lambda c: c.update(labels=["a", "b"]))
    (saved.path / MANIFEST).write_bytes(data)
    with pytest.raises(CorruptError, match="3 classes"):
        Bundle.load(saved.path)


def test_saving_replaces_a_bundle_but_nothing_else(saved, bundle, tmp_path):
    (saved.path / ".DS_Store").write_text("litter")
    bundle.save(saved.path)
    assert not (saved.path / ".DS_Store").exists()
    (tmp_path / "empty").mkdir()
    assert Bundle.load(bundle.save(tmp_path / "empty").path).labels == LABELS

    (saved.path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        bundle.save(saved.path)
    assert (saved.path / "notes.txt").read_text() == "mine"

    folder = tmp_path / "website"
    folder.mkdir()
    (folder / "precious.jpg").write_bytes(b"1")
    for manifest in (None, "{}", '{"name": "my site"}'):
        if manifest is not None:
            (folder / MANIFEST).write_text(manifest)
        with pytest.raises(FileExistsError, match="not a bundle"):
            bundle.save(folder)
        assert (folder / "precious.jpg").read_bytes() == b"1"
    with pytest.raises(FileExistsError, match="not a bundle"):
        bundle.save(folder / "precious.jpg")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_link_keeps_pointing_to_the_bundle(saved, bundle, tmp_path):
    link = tmp_path / "current.edgetl"
    link.symlink_to(saved.path, target_is_directory=True)
    bundle.save(link)
    assert link.is_symlink()
    assert Bundle.load(link).labels == LABELS
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_a_killed_writer_left_is_removed_in_time(saved, bundle, tmp_path):
    old, young = tmp_path / ".three.edgetl.aa.new", tmp_path / ".three.edgetl.bb.new"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    bundle.save(saved.path)
    assert not old.exists()
    assert young.exists()


def test_the_graph_is_proved_again_when_it_is_read(saved):
    opened = Bundle.load(saved.path)
    assert opened.read_graph() == opened.graph_path.read_bytes()
    content = bytearray(opened.graph_path.read_bytes())
    content[100] ^= 4
    opened.graph_path.write_bytes(content)
    with pytest.raises(CorruptError, match=r"backbone\.onnx was changed"):
        opened.read_graph()


def test_checks_survive_and_know_their_samples(bundle, tmp_path):
    digests = [hashlib.sha256(bytes([i])).digest() for i in range(20)]
    checks = Checks(
        probe_features=np.ones((1, 16), np.float32),
        train_digests=np.sort(short_digests(digests[:12])),
    )
    saved = dataclasses.replace(bundle, checks=checks).save(tmp_path / "checked.edgetl")
    opened = Bundle.load(saved.path)
    np.testing.assert_array_equal(opened.checks.probe_features, checks.probe_features)
    assert opened.checks.trained_on(digests).tolist() == [True] * 12 + [False] * 8
    (saved.path / "checks.safetensors").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"checks\.safetensors"):
        Bundle.load(saved.path)


def references(**changed):
    """Checks as an exported bundle has them."""
    rng = np.random.default_rng(0)
    arrays = {
        "probe_features": rng.normal(size=(1, 16)).astype(np.float32),
        "train_digests": np.arange(5, dtype=np.uint64),
        "reference_digests": rng.integers(0, 2**64, 9, dtype=np.uint64),
        "reference_classes": np.arange(9) % 3,
        "reference_features": rng.normal(size=(4, 16)).astype(np.float16),
    }
    return Checks(**(arrays | changed))


def test_reference_answers_survive(bundle, tmp_path):
    checks = references()
    saved = dataclasses.replace(bundle, checks=checks).save(tmp_path / "checked.edgetl")
    opened = Bundle.load(saved.path).checks
    assert opened.task_digests == {}
    for field in dataclasses.fields(Checks)[:-1]:
        found, wanted = getattr(opened, field.name), getattr(checks, field.name)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    plain = Checks(checks.probe_features, checks.train_digests)
    read = Checks.from_bytes(plain.to_bytes())
    assert len(read.reference_digests) == len(read.reference_classes) == 0
    assert len(read.reference_features) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reference_classes": np.zeros(8, np.int64)}, "9 reference digests, 8 classes"),
        ({"reference_digests": np.zeros(0, np.uint64)}, "0 reference digests, 9 classes"),
        ({"reference_features": np.zeros((10, 16), np.float16)}, "and 10 features"),
        ({"reference_features": np.zeros((4, 16), np.float32)}, "no usable array"),
        ({"reference_classes": np.zeros((9, 1), np.int64)}, "no usable array"),
        ({"train_digests": np.zeros(5, np.int64)}, "no usable array"),
        ({"reference_features": np.zeros((4, 15), np.float16)}, r"\[15, 16\] features"),
        ({"probe_features": np.zeros((1, 8), np.float32)}, r"\[8, 16\] features"),
        ({"reference_classes": np.arange(9) % 4}, "class 3, there are 3"),
        ({"reference_classes": np.arange(9) % 3 - 1}, "class -1, there are 3"),
    ],
)
def test_checks_that_contradict_each_other_are_refused(changed, message, bundle, tmp_path):
    checks = references(**changed)
    saved = dataclasses.replace(bundle, checks=checks).save(tmp_path / "checked.edgetl")
    with pytest.raises(CorruptError, match=message):
        Bundle.load(saved.path)


def test_the_probe_is_the_same_everywhere():
    probe = probe_batch((3, 5, 7))
    assert probe.shape == (1, 3, 5, 7)
    assert probe.dtype == np.float32
    assert -2 <= probe.min() < -1.8
    assert 1.8 < probe.max() < 2
    # 2654435761 / 2**30 - 2, and three times that modulo 2**32
    assert probe.ravel()[0] == np.float32(2654435761 / 2**30 - 2)
    assert probe.ravel()[2] == np.float32(3 * 2654435761 % 2**32 / 2**30 - 2)


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b'{"format": NaN}', b"[" * 100000, b"\xff"])
def test_a_file_that_is_no_manifest_is_corrupt(saved, text):
    (saved.path / MANIFEST).write_bytes(text)
    with pytest.raises(CorruptError, match=MANIFEST):
        Bundle.load(saved.path)


def test_an_array_of_a_type_numpy_lacks_is_corrupt(saved):
    header = b'{"coef":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    data = len(header).to_bytes(8, "little") + header + b"\0\0"
    (saved.path / "head.safetensors").write_bytes(data)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    changed = rewritten(saved.manifest, lambda c: c["files"].update({"head.safetensors": record}))
    (saved.path / MANIFEST).write_bytes(changed)
    with pytest.raises(CorruptError, match=r"head\.safetensors can't be read"):
        Bundle.load(saved.path)


def test_a_failed_write_leaves_the_old_content(tmp_path):
    target = tmp_path / "t"
    with replaced_directory(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), replaced_directory(target) as folder:
        (folder / "a").write_text("new")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is not there")
def test_killed_while_saving_over_and_over(tmp_path):
    """At whatever moment the writer dies, the folder holds one whole generation."""
    target = tmp_path / "t"
    code = f"""
from pathlib import Path
from edgetl.bundle.directory import replaced_directory
generation = 0
while True:
    with replaced_directory(Path({str(target)!r})) as folder:
        for name in "abc":
            (folder / name).write_text(str(generation))
    generation += 1
    if generation == 3:
        print("running", flush=True)
"""
    for delay in np.random.default_rng(0).uniform(0, 0.05, size=12):
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout.readline() == "running\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=delay)
            process.send_signal(signal.SIGKILL)
        assert len({(target / name).read_text() for name in "abc"}) == 1


def test_onnx_reads_the_stamped_metadata(tmp_path):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    shape = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in "xy"]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", shape[:1], shape[1:]))
    model.metadata_props.add(key="kept", value="yes")
    values = {"edgetl.labels": json.dumps(LABELS), "long": "x" * 70000, "empty": ""}
    data = model.SerializeToString() + metadata_suffix(values)
    read = onnx.load_model_from_string(data)
    onnx.checker.check_model(read)
    assert {p.key: p.value for p in read.metadata_props} == {"kept": "yes", **values}
