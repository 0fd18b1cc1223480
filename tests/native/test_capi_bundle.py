"""Bundles opened, changed and damaged: the C library against Python on the same folders."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import capi
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
    commit,
    updated,
    with_policy,
)
from edgetl.heads import HEADS, KnnHead, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead
from edgetl.preprocess import Preprocess

DIM = 19
LABELS = ("daisy", "Löwenzahn \U0001f33c", 'rose "red"')
KINDS = [SoftmaxHead, RidgeHead, LdaHead, PrototypeHead, KnnHead]


def drawn(seed, codes):
    centres = np.random.default_rng(99).normal(size=(8, DIM))
    features = 1.5 * centres[codes] + np.random.default_rng(seed).normal(size=(len(codes), DIM))
    return features.astype(np.float16).astype(np.float32)


def fitted(kind, seed=0, classes=3):
    codes = np.arange(60) % classes
    features = drawn(seed, codes)
    head = kind().fit(features, codes)
    halves = features.astype(np.float16)
    ones = np.ones(60, np.float32)
    novelty = {"limit": np.array([0.5]), "levels": np.ones((2, DIM), np.int8)}
    return Fitted(head, Learning(halves, codes, ones, halves[:8], codes[:8], novelty=novelty))


def bundle_of(tmp_path, kind=PrototypeHead, **more):
    graph = tmp_path / "graph.onnx"
    graph.write_bytes(b"\x08\x08" + bytes(3000))
    part = fitted(kind)
    preprocess = Preprocess(
        size=32, resize=40, mean=(0.48145466, 0.4578275, 0.40821073), interpolation="bilinear"
    )
    values = {
        "labels": LABELS,
        "preprocess": preprocess,
        "backbone": "tiny",
        "dim": DIM,
        "graph": "backbone.onnx",
        "graph_fingerprint": "f" * 64,
        "head": kind.kind,
        "learning": "learning.safetensors",
        "provenance": {
            "note": "tab\t, back\\slash, \x1f, é, 1e-7",
            "numbers": [1e-7, -0.0, 12, []],
        },
    }
    manifest = Manifest(**{**values, **more})
    return Bundle(manifest, part.head, graph, learning=part.learning).save(tmp_path / "b.edgetl")


def refusal(library, folder, task=None):
    with pytest.raises(capi.RefusedError) as refused:
        capi.open_bundle(library, folder, task)
    return refused.value.status


def rewrite(folder, change, *, seal=True):
    """Change the manifest's JSON; with a digest that fits, if `seal`."""
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    content["digest"] = "0" * 64
    data = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    if seal:
        digest = hashlib.sha256(data).hexdigest().encode()
        data = data.replace(b'"digest": "' + b"0" * 64, b'"digest": "' + digest, 1)
    (folder / MANIFEST).write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_says_what_python_says(library, tmp_path, kind):
    bundle = bundle_of(tmp_path, kind)
    queries = drawn(4, np.arange(12) % 5)
    with capi.open_bundle(library, bundle.path) as opened:
        head = capi.head_of(library, opened)
        assert capi.names(library, head) == list(LABELS)
        assert library.edgetl_head_name(head, capi.ctypes.c_size_t(3)) is None
        assert capi.KINDS[library.edgetl_head_kind(head)] == kind.kind
        assert library.edgetl_bundle_generation(opened.value) == 0
        assert library.edgetl_bundle_graph(opened.value) == bytes(bundle.path / "backbone.onnx")
        assert library.edgetl_bundle_check_graph(opened.value) == capi.OK
        expected = Bundle.load(bundle.path).head.predict_proba(queries)
        found = capi.probabilities(library, head, queries)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
        assert options_of(library, opened) == (32, 40, 1, 0, 0, 0)
        (bundle.path / "backbone.onnx").write_bytes(bytes(3002))
        assert library.edgetl_bundle_check_graph(opened.value) == capi.CORRUPT


def options_of(library, opened):
    options = capi.Options(capi.ctypes.sizeof(capi.Options))
    given = capi.ctypes.byref(options)
    capi.check(library, library.edgetl_bundle_preprocess(opened.value, given))
    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
    assert list(options.mean) == mean.tolist()
    assert list(options.std) == np.array([0.229, 0.224, 0.225], np.float32).tolist()
    names = ("size", "resize", "interpolation", "fit", "layout", "dtype")
    return tuple(getattr(options, name) for name in names)


def test_exported_bundles_with_bytes_as_input_give_their_options(library, tmp_path):
    preprocess = Preprocess(
        mean=(0.48145466, 0.4578275, 0.40821073), dtype="uint8", layout="nhwc", fit="squash"
    )
    bundle = bundle_of(tmp_path, preprocess=preprocess)
    with capi.open_bundle(library, bundle.path) as opened:
        assert options_of(library, opened) == (224, 256, 0, 1, 1, 2)


@pytest.mark.parametrize("format", [1, 2])
def test_older_formats_are_read_and_become_the_third_when_changed(library, tmp_path, format):
    bundle = bundle_of(tmp_path)

    def older(content):
        content["format"] = format
        for name in ("task", "learning", "update", "tasks"):
            del content[name]
        del content["files"]["learning.safetensors"]
        if format == 1:
            del content["export"]

    rewrite(bundle.path, older)
    assert Bundle.load(bundle.path).learning is None
    with (
        capi.open_bundle(library, bundle.path) as opened,
        capi.Learner.of_bundle(library, opened) as learner,
    ):
        learner.learn(drawn(1, np.array([3])), ["rust"])
        with learner.commit(opened) as changed:
            assert library.edgetl_bundle_generation(changed.value) == 1
    again = Bundle.load(bundle.path)
    assert again.labels == (*LABELS, "rust")
    assert again.manifest.update.base_labels == LABELS
    assert again.manifest.provenance == bundle.manifest.provenance


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learned_is_python_s_too(library, tmp_path, kind):
    bundle = bundle_of(tmp_path, kind)
    (first, second), queries = (drawn(7, np.array([3, 0])), drawn(8, np.arange(20) % 4))
    head, learning = bundle.head, bundle.learning
    if head.needs_statistics:
        head.prepare_learning(learning.features.astype(np.float32), learning.codes)
    head.partial_fit(first[None], [3]).partial_fit(second[None], [0])
    with (
        capi.open_bundle(library, bundle.path) as opened,
        capi.Learner.of_bundle(library, opened) as learner,
    ):
        learner.learn(first[None], ["rust"])
        with learner.commit(opened) as once:
            learner.learn(second[None], [LABELS[0]])
            with learner.commit(once) as twice:
                found = capi.probabilities(library, capi.head_of(library, twice), queries)
                assert library.edgetl_bundle_generation(twice.value) == 2
            with pytest.raises(capi.RefusedError, match="not made from this bundle"):
                learner.commit(once)
        with capi.Learner.of_bundle(library, opened) as late:
            late.learn(first[None], ["rust"])
            with pytest.raises(capi.RefusedError, match="no longer the bundle") as refused:
                late.commit(opened)
            assert refused.value.status == capi.STALE
    again = Bundle.load(bundle.path)
    np.testing.assert_allclose(found, head.predict_proba(queries), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, again.head.predict_proba(queries), rtol=1e-9, atol=1e-12)
    update = again.manifest.update
    assert (update.generation, update.samples, update.base_head) == (2, 2, kind.kind)
    assert update.base_labels == LABELS
    assert update.base == bundle.manifest.files["head.safetensors"].sha256
    assert {entry.name for entry in bundle.path.iterdir()} == {
        MANIFEST,
        "backbone.onnx",
        "head.safetensors",
        again.manifest.arrays,
        again.manifest.learning,
    }
    # Python goes on from there.
    assert set(again.learning.novelty) == {"limit", "levels"}
    if head.needs_statistics:
        again.head.restore_learning(again.learning.statistics)
    more = drawn(9, np.array([1, 3]))
    np.testing.assert_allclose(
        again.head.partial_fit(more, [1, 3]).predict_proba(queries),
        head.partial_fit(more, [1, 3]).predict_proba(queries),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_forgotten_class_goes_from_all_that_is_kept(library, tmp_path):
    bundle = bundle_of(tmp_path, RidgeHead)
    with (
        capi.open_bundle(library, bundle.path) as opened,
        capi.Learner.of_bundle(library, opened) as learner,
    ):
        learner.forget(LABELS[1])
        learner.commit(opened).__exit__()
    again = Bundle.load(bundle.path)
    assert again.labels == (LABELS[0], LABELS[2])
    assert again.head.classes_.tolist() == [0, 1]
    assert len(again.learning.codes) == 40
    assert not again.learning.novelty
    again.head.restore_learning(again.learning.statistics)


def test_heads_that_python_put_in_place_are_read(library, tmp_path):
    bundle = bundle_of(tmp_path)
    part = fitted(PrototypeHead, seed=5, classes=4)
    changed = updated(bundle, part.head, (*LABELS, "rust"), generation=4, learning=part.learning)
    commit(bundle, changed)
    with capi.open_bundle(library, bundle.path) as opened:
        assert library.edgetl_bundle_generation(opened.value) == 4
        head = capi.head_of(library, opened)
        assert capi.names(library, head) == [*LABELS, "rust"]


def test_further_tasks_have_heads_of_their_own(library, tmp_path):
    bundle = bundle_of(tmp_path)
    part = fitted(RidgeHead, seed=6, classes=2)
    record = TaskRecord(
        labels=("ill", "well"),
        head="ridge",
        arrays="head-health.safetensors",
        learning="learning-health.safetensors",
    )
    both = bundle.with_fitted(record, part, "health").save(tmp_path / "both.edgetl")
    queries = drawn(4, np.arange(5))
    with (
        capi.open_bundle(library, both.path, b"health") as opened,
        capi.Learner.of_bundle(library, opened) as learner,
    ):
        learner.learn(drawn(1, np.array([3])), ["rust"])
        with learner.commit(opened) as changed:
            head = capi.head_of(library, changed)
            found = capi.probabilities(library, head, queries)
    again = Bundle.load(both.path)
    assert again.labels == LABELS
    assert again.manifest.update is None
    assert again.manifest.record("health").labels == ("ill", "well", "rust")
    expected = again.tasks["health"].head.predict_proba(queries)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(
        again.head.predict_proba(queries), bundle.head.predict_proba(queries), rtol=1e-5
    )
    assert refusal(library, both.path, b"colour") == capi.INVALID


def test_damage_is_noticed(library, tmp_path):
    bundle = bundle_of(tmp_path)

    def copy():
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        return shutil.copytree(bundle.path, tmp_path / "c")

    assert refusal(library, tmp_path / "nowhere") == capi.IO
    for name in ("head.safetensors", "learning.safetensors", MANIFEST):
        size = (bundle.path / name).stat().st_size
        for place in np.random.default_rng(0).choice(size, 20).tolist():
            folder = copy()
            data = bytearray((folder / name).read_bytes())
            data[place] ^= 1 << place % 8
            (folder / name).write_bytes(data)
            # A format that is not known yet may prove itself otherwise.
            assert refusal(library, folder) in (capi.CORRUPT, capi.UNSUPPORTED)
    for change, status in (
        (lambda m: m["labels"].append("x"), capi.CORRUPT),
        (lambda m: m.update(labels=["x", "x", "y"]), capi.CORRUPT),
        (lambda m: m["labels"].__setitem__(0, "a\0b"), capi.CORRUPT),
        (lambda m: m.update(format=4), capi.UNSUPPORTED),
        (lambda m: m["head"].update(kind="tree"), capi.UNSUPPORTED),
        (lambda m: m["head"].update(kind="knn"), capi.CORRUPT),
        (lambda m: m["head"].update(arrays="../head.safetensors"), capi.CORRUPT),
        (lambda m: m["files"].pop("learning.safetensors"), capi.CORRUPT),
        (lambda m: m["backbone"].update(dim=18), capi.CORRUPT),
        (lambda m: m["backbone"].update(dim=18.5), capi.CORRUPT),
        (lambda m: m["preprocess"].update(size=50), capi.CORRUPT),
        (lambda m: m["preprocess"].update(mean=[0, 1]), capi.CORRUPT),
        (lambda m: m["preprocess"].update(dtype="float16"), capi.UNSUPPORTED),
        (lambda m: m["preprocess"].update(dtype="uint8"), capi.CORRUPT),
    ):
        folder = copy()
        rewrite(folder, change)
        assert refusal(library, folder) == status
    folder = copy()
    rewrite(folder, lambda m: m.update(labels=["x", "y", "z"]), seal=False)
    assert refusal(library, folder) == capi.CORRUPT


def test_a_network_with_the_head_inside_refuses_to_learn(library, tmp_path):
    limits = Limits(least_cosine=0.9, mean_cosine=0.9, agreement=0.9, max_drop=1.0)
    record = ExportRecord(engine="onnxruntime", precision="fp32", fused=True, limits=limits)
    bundle = bundle_of(tmp_path, export=record)
    with capi.open_bundle(library, bundle.path) as opened:
        with pytest.raises(capi.RefusedError, match="fused") as refused:
            capi.Learner.of_bundle(library, opened)
        assert refused.value.status == capi.UNSUPPORTED


def test_a_head_that_a_method_fitted_to_more_than_samples_does_not_learn(library, tmp_path):
    bundle = bundle_of(tmp_path, provenance={"method": {"name": "coral", "learns": False}})
    assert bundle.manifest.record(None).fixed_by == "coral"
    with capi.open_bundle(library, bundle.path) as opened:
        with pytest.raises(capi.RefusedError, match="made by the method coral") as refused:
            capi.Learner.of_bundle(library, opened)
        assert refused.value.status == capi.UNSUPPORTED
    for further in ({"name": "few", "learns": True}, {"name": "older"}, "text", None):
        rewrite(bundle.path, lambda m, method=further: m["provenance"].update(method=method))
        with capi.open_bundle(library, bundle.path) as opened:
            capi.Learner.of_bundle(library, opened).__exit__(None, None, None)


def test_a_policy_is_refused_in_words_and_the_head_beside_it_answers(library, tmp_path):
    made = with_policy(bundle_of(tmp_path), ["keep", "sell"], features=drawn(1, [0] * 20))
    path = made.save(tmp_path / "policy.edgetl").path
    with pytest.raises(capi.RefusedError, match="a kind that this version does not know") as found:
        capi.open_bundle(library, path, b"policy")
    assert found.value.status == capi.UNSUPPORTED
    with capi.open_bundle(library, path) as opened:
        assert opened is not None


@pytest.mark.parametrize("start", ["/x", "/xy"])
def test_words_about_an_error_end_with_a_whole_character(library, start):
    with pytest.raises(capi.RefusedError, match=r"can't open /xy?é*$") as refused:
        capi.open_bundle(library, Path(start + "é" * 400))
    assert refused.value.status == capi.IO
    assert len(library.edgetl_last_error()) in (510, 511)
    assert library.edgetl_head_load_file(b"/\xff\xc3", capi.ctypes.byref(capi.ctypes.c_void_p()))
    assert library.edgetl_last_error() == b"can't open /??"


_KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import capi
from pathlib import Path
library = capi.load(Path(sys.argv[2]))
row = np.ones((1, int(sys.argv[4])), np.float32)
bundle = capi.open_bundle(library, Path(sys.argv[3]))
learner = capi.Learner.of_bundle(library, bundle)
print("ready", flush=True)
while True:
    learner.learn(row, ["rust"])
    bundle = learner.commit(bundle)
"""


def test_a_kill_at_any_moment_leaves_a_whole_bundle(library, installed, tmp_path):
    folder = bundle_of(tmp_path).path
    here = str(Path(__file__).parent)
    rng = np.random.default_rng(0)
    generations = [0]
    for _ in range(12):
        command = [sys.executable, "-P", "-c", _KILLED, here, str(installed), str(folder), str(DIM)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                process.wait(rng.uniform(0.005, 0.2))
            except subprocess.TimeoutExpired:
                process.kill()
        loaded = Bundle.load(folder)
        with capi.open_bundle(library, folder) as opened:
            generations.append(library.edgetl_bundle_generation(opened.value))
        assert (
            loaded.manifest.update is None or loaded.manifest.update.generation == generations[-1]
        )
    assert generations == sorted(generations)
    assert generations[-1] > 0


def test_all_kinds_are_known():
    assert set(HEADS) == set(capi.KINDS[1:])
