"""Signed updates in the C library: Python's files, files made by hand, and everything amiss."""

import hashlib
import json
import struct

import capi
import numpy as np
import pytest
import safetensors.numpy
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from test_capi_bundle import DIM, LABELS, bundle_of, drawn

from edgetl.bundle import Bundle
from edgetl.bundle.delta_apply import apply_delta, roll_back
from edgetl.bundle.delta_make import make_delta
from edgetl.bundle.sign import SigningKey, key_id
from edgetl.heads import KnnHead, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead

RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def new_key(seed=1):
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    return key, key.public_key().public_bytes(*RAW)


def digest_of(arrays):
    """As the text of edgetl/bundle/delta.py describes it."""
    digest = hashlib.sha256()
    types = {"float32": b"F32", "float64": b"F64", "int64": b"I64"}
    for name, array in sorted(arrays.items()):
        digest.update(name.encode() + b"\0" + types[array.dtype.name] + b"\0")
        digest.update(struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape))
        digest.update(array.tobytes())
    return digest.hexdigest()


def file_of(content, arrays, key, *, format=1, seal=1):
    """An .etlh file, as that text describes it."""
    public = key.public_key().public_bytes(*RAW)
    text = json.dumps(content, ensure_ascii=False).encode()
    body = safetensors.numpy.save(arrays)
    head = b"\x89ETLH\r\n\x1a" + struct.pack("<II", format, seal)
    head += hashlib.sha256(public).digest()[:8] + struct.pack("<II", len(text), len(body))
    signed = head + text + body
    return signed + key.sign(b"edgetl.head-update.v1\0\0" + signed)


def content_of(bundle, result, labels, generation=1):
    preprocess = json.dumps(bundle.preprocess.to_json(), sort_keys=True, separators=(",", ":"))
    return {
        "task": "main",
        "generation": generation,
        "from_generation": 0,
        "backbone": bundle.manifest.graph_fingerprint,
        "preprocess": hashlib.sha256(preprocess.encode()).hexdigest(),
        "kind": bundle.manifest.head,
        "base": digest_of(bundle.head.arrays()),
        "base_labels": list(bundle.labels),
        "result": digest_of(result),
        "labels": list(labels),
        "created": "",
        "evidence": {"samples": 7, "accuracy_before": 0.5, "accuracy_after": None},
    }


def by_hand(tmp_path, generation=1):
    """A bundle, the arrays of a prototype head with a class more, and the update to it."""
    bundle = Bundle.load(bundle_of(tmp_path).path)
    old = bundle.head.arrays()
    rng = np.random.default_rng(2)
    packed = rng.integers(-100, 100, (2, DIM))  # 8 bits: of base row 2, and of none
    step = np.float32(2.0**-9)
    rows = [
        old["prototypes"][2] + packed[0].astype(np.float32) * step,
        old["prototypes"][0],
        np.float32(0) + packed[1].astype(np.float32) * step,
        rng.normal(size=DIM).astype(np.float32),
    ]
    new = {
        **old,
        "prototypes": np.array(rows, np.float32),
        "counts": np.arange(1.0, 5.0),
        "classes": np.arange(4),
    }
    data = packed[0].astype(np.int8).tobytes() + packed[1].astype(np.int8).tobytes()
    data += rows[3].tobytes()
    none = np.zeros(0, np.uint8)
    arrays = {
        "head.prototypes/runs": np.array([[2, 1, 8], [0, 1, 0], [-1, 1, 8], [-1, 1, -1]], np.int32),
        "head.prototypes/step": np.array([-9], np.int32),
        "head.prototypes/data": np.frombuffer(data, np.uint8),
        "head.counts": new["counts"],
        "head.classes": new["classes"],
        "head.temperature/keep": none,
        "head.scale/keep": none,
        "head.center/keep": none,
        "other": none,
    }
    labels = (LABELS[2], LABELS[0], "rust", "mildew")
    return bundle, new, content_of(bundle, new, labels, generation), arrays


def apply(library, bundle, data, public):
    with capi.open_bundle(library, bundle.path) as opened:
        return capi.Handle(
            library,
            "bundle",
            lambda to: library.edgetl_delta_apply(
                opened.value, data, capi.ctypes.c_size_t(len(data)), public, to
            ),
        )


def test_a_file_made_by_hand_is_applied(library, tmp_path):
    key, public = new_key()
    bundle, new, content, arrays = by_hand(tmp_path, generation=5)
    with apply(library, bundle, file_of(content, arrays, key), public) as changed:
        assert library.edgetl_bundle_generation(changed.value) == 5
        assert capi.names(library, capi.head_of(library, changed)) == content["labels"]
    again = Bundle.load(bundle.path)
    update = again.manifest.update
    assert (update.generation, update.applied, update.samples) == (5, 5, 7)
    assert (update.accuracy_before, update.accuracy_after) == (0.5, None)
    assert update.previous.labels == LABELS
    assert again.labels == tuple(content["labels"])
    for name, array in new.items():
        np.testing.assert_array_equal(again.head.arrays()[name], array)
    # Of the kept samples those of the class that is gone went; the others have new places.
    before = bundle.learning.codes
    expected = [{0: 1, 2: 0}[code] for code in before.tolist() if code != 1]
    assert again.learning.codes.tolist() == expected
    # A newer one may go on from the head that was shipped; no other may be taken.
    for number, status in ((5, capi.STALE), (4, capi.STALE)):
        older = file_of({**content, "generation": number}, arrays, key)
        assert refused(library, bundle, older, public) == status
    newer = file_of({**content, "generation": 6}, arrays, key)
    with apply(library, bundle, newer, public) as changed:
        assert library.edgetl_bundle_generation(changed.value) == 6


def refused(library, bundle, data, public):
    before = {entry.name: entry.read_bytes() for entry in bundle.path.iterdir()}
    with pytest.raises(capi.RefusedError) as error:
        apply(library, bundle, data, public)
    assert {entry.name: entry.read_bytes() for entry in bundle.path.iterdir()} == before
    return error.value.status


def test_what_is_not_signed_by_the_key_is_refused(library, tmp_path):
    (key, public), (_, other) = new_key(), new_key(2)
    bundle, _, content, arrays = by_hand(tmp_path)
    data = file_of(content, arrays, key)
    assert refused(library, bundle, data, other) == capi.SIGNATURE
    assert refused(library, bundle, data, bytes(32)) == capi.SIGNATURE  # a key of small order
    places = np.random.default_rng(0).choice(len(data), 60).tolist()
    for place in [*range(32), *range(len(data) - 64, len(data)), *places]:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 8
        assert refused(library, bundle, bytes(changed), public) == capi.SIGNATURE
    for length in (0, 7, 31, 32, 95, len(data) - 1):
        assert refused(library, bundle, data[:length], public) == capi.SIGNATURE
    assert refused(library, bundle, data + b"x", public) == capi.SIGNATURE
    assert refused(library, bundle, file_of(content, arrays, key, seal=0), public) == capi.SIGNATURE
    later = file_of(content, arrays, key, format=2)
    assert refused(library, bundle, later, public) == capi.UNSUPPORTED


def test_what_is_for_another_bundle_is_refused(library, tmp_path):
    key, public = new_key()
    bundle, _, content, arrays = by_hand(tmp_path)
    for change in (
        {"task": "other"},
        {"backbone": "e" * 64},
        {"preprocess": "0" * 64},
        {"base": "0" * 64},
        {"base_labels": ["x", "y", "z"]},
    ):
        data = file_of({**content, **change}, arrays, key)
        assert refused(library, bundle, data, public) == capi.BASE
    for change in (
        {"result": "0" * 64},
        {"kind": "ridge"},
        {"labels": ["a", "b", "c"]},
        {"labels": ["a", "b", "c", "c"]},
        {"generation": "2"},
        {"generation": 2**60},
        {"evidence": {**content["evidence"], "samples": -1}},
        {"evidence": {**content["evidence"], "accuracy_before": 1.5}},
    ):
        data = file_of({**content, **change}, arrays, key)
        assert refused(library, bundle, data, public) == capi.CORRUPT
    del content["evidence"], content["generation"]
    assert refused(library, bundle, file_of(content, arrays, key), public) == capi.CORRUPT


def test_arrays_that_no_sender_makes_are_refused(library, tmp_path):
    key, public = new_key()
    bundle, _, content, arrays = by_hand(tmp_path)
    name = "head.prototypes"

    def status(**parts):
        changed = {f"{name}/{part}": array for part, array in parts.items()}
        kept = {key: array for key, array in {**arrays, **changed}.items() if array is not None}
        return refused(library, bundle, file_of(content, kept, key), public)

    def runs(*table):
        return np.array(table, np.int32)

    data = arrays[f"{name}/data"]
    many = 2**31 - 1
    for table in (
        [[2, 1, 8], [0, 1, 0], [-1, 1, 8]],
        [[2, 1, 8], [2, 1, 0], [-1, 1, 8], [-1, 1, -1]],
        [[2, 2, 8], [0, 1, 0], [-1, 1, 8], [-1, 1, -1]],
        [[3, 1, 8], [0, 1, 0], [-1, 1, 8], [-1, 1, -1]],
        [[-2, 1, 8], [0, 1, 0], [-1, 1, 8], [-1, 1, -1]],
        [[-1, many, 0]],
        [[-1, many, 24], [-1, many, 24]],
        [[-1, many, -1]],
        [[-1, 0, 8]],
        [[-1, -5, 8]],
        [[0, 1, 25]],
        [[0, 1, -2]],
    ):
        assert status(runs=runs(*table)) == capi.CORRUPT
    assert status(runs=np.zeros((0, 3), np.int32)) == capi.CORRUPT
    assert status(runs=np.zeros((2, 2), np.int32)) == capi.CORRUPT
    assert status(step=np.array([105], np.int32)) == capi.CORRUPT
    assert status(step=np.array([-9, -9], np.int32)) == capi.CORRUPT
    assert status(step=None) == capi.CORRUPT
    assert status(data=data[:-1]) == capi.CORRUPT
    assert status(keep=np.zeros(0, np.uint8)) == capi.CORRUPT
    # 7 bits of 19 numbers leave three over, which must be 0.
    narrow = runs([2, 1, 7], [0, 1, 0], [-1, 1, 8], [-1, 1, -1])
    assert status(runs=narrow, data=np.append(np.full(17, 255, np.uint8), data[19:])) == (
        capi.CORRUPT
    )


@pytest.mark.parametrize("kind", [SoftmaxHead, RidgeHead, LdaHead, PrototypeHead, KnnHead])
def test_updates_of_python_give_python_s_heads(library, tmp_path, kind):
    key, public = new_key()
    bundle = Bundle.load(bundle_of(tmp_path, kind).path)
    (tmp_path / "sender").mkdir()
    sender = bundle_of(tmp_path / "sender", kind)
    with (
        capi.open_bundle(library, sender.path) as theirs,
        capi.Learner.of_bundle(library, theirs) as learner,
    ):
        learner.learn(drawn(3, np.array([4, 4, 1])), ["rust", "rust", LABELS[1]])
        learner.commit(theirs).__exit__()
    delta = make_delta(bundle, Bundle.load(sender.path), generation=3)
    data = delta.to_bytes(sign=SigningKey(key, key_id(public)))
    expected = delta.head(bundle.head).arrays()
    apply(library, bundle, data, public).__exit__()
    again = Bundle.load(bundle.path)
    assert again.labels == (*LABELS, "rust")
    for name, array in expected.items():
        np.testing.assert_array_equal(again.head.arrays()[name], array)


@pytest.mark.parametrize("kind", [SoftmaxHead, RidgeHead, LdaHead, PrototypeHead, KnnHead])
def test_python_takes_back_what_was_applied(library, tmp_path, kind):
    key, public = new_key()
    shipped = Bundle.load(bundle_of(tmp_path, kind).path)
    (tmp_path / "sender").mkdir()
    sender = bundle_of(tmp_path / "sender", kind)
    for path, code in ((sender.path, 4), (shipped.path, 5)):  # each learns something else
        with (
            capi.open_bundle(library, path) as opened,
            capi.Learner.of_bundle(library, opened) as learner,
        ):
            learner.learn(drawn(3, np.array([code, code, 1])), [f"new {code}"] * 2 + [LABELS[1]])
            learner.commit(opened).__exit__()
    before = Bundle.load(shipped.path)
    delta = make_delta(shipped, Bundle.load(sender.path), generation=3)
    data = delta.to_bytes(sign=SigningKey(key, key_id(public)))
    with apply(library, before, data, public) as changed:
        assert library.edgetl_bundle_generation(changed.value) == 3
    applied = Bundle.load(shipped.path)
    assert applied.labels == (*LABELS, "new 4")
    assert applied.manifest.update.samples == delta.evidence.samples
    back = roll_back(applied)
    for found in (back, Bundle.load(shipped.path)):
        assert found.labels == before.labels
        assert (found.manifest.update.generation, found.manifest.update.applied) == (4, 3)
        for name, array in before.head.arrays().items():
            np.testing.assert_array_equal(found.head.arrays()[name], array)
        np.testing.assert_array_equal(found.learning.features, before.learning.features)
        assert set(found.learning.statistics) == set(before.learning.statistics)
    assert refused(library, back, data, public) == capi.STALE


@pytest.mark.parametrize("kind", [RidgeHead, LdaHead])
def test_what_a_head_with_statistics_learns_next_does_not_undo_the_update(library, tmp_path, kind):
    key, public = new_key()
    paths = []
    for name in ("sender", "by_c", "by_python"):
        (tmp_path / name).mkdir()
        paths.append(bundle_of(tmp_path / name, kind).path)
    with (
        capi.open_bundle(library, paths[0]) as theirs,
        capi.Learner.of_bundle(library, theirs) as learner,
    ):
        learner.learn(drawn(3, np.array([4, 4, 1])), ["rust", "rust", LABELS[1]])
        learner.commit(theirs).__exit__()
    delta = make_delta(Bundle.load(paths[1]), Bundle.load(paths[0]), generation=3, tolerance=0)
    data = delta.to_bytes(sign=SigningKey(key, key_id(public)))
    apply(library, Bundle.load(paths[1]), data, public).__exit__()
    apply_delta(Bundle.load(paths[2]), delta)
    mine, theirs = Bundle.load(paths[1]).learning, Bundle.load(paths[2]).learning
    assert set(mine.statistics) == set(theirs.statistics)
    np.testing.assert_array_equal(mine.features, theirs.features)
    np.testing.assert_array_equal(mine.guard_features, theirs.guard_features)
    for name, array in theirs.statistics.items():
        np.testing.assert_allclose(mine.statistics[name], array, rtol=1e-7, atol=1e-9)
    queries = drawn(9, np.arange(40) % 5)
    answers = Bundle.load(paths[1]).head.predict_proba(queries).argmax(axis=1)
    assert np.count_nonzero(answers == len(LABELS)) > 4
    with capi.open_bundle(library, paths[1]) as opened:
        if kind is LdaHead:
            with pytest.raises(capi.RefusedError, match="came by an update"):
                capi.Learner.of_bundle(library, opened)
            return
        with capi.Learner.of_bundle(library, opened) as learner:
            learner.learn(drawn(5, np.array([0])), [LABELS[0]])
            learner.commit(opened).__exit__()
    head = Bundle.load(paths[1]).head
    assert np.mean(head.predict_proba(queries).argmax(axis=1) == answers) >= 0.9


def test_a_replaced_head_is_a_base_and_goes_with_the_next_update(library, tmp_path):
    key, public = new_key()
    bundle, _, content, arrays = by_hand(tmp_path, generation=2)
    apply(library, bundle, file_of(content, arrays, key), public).__exit__()
    with (
        capi.open_bundle(library, bundle.path) as opened,
        capi.Learner.of_bundle(library, opened) as learner,
    ):
        learner.learn(drawn(3, np.array([4])), ["rust"])
        learner.commit(opened).__exit__()
    learned = Bundle.load(bundle.path)
    assert learned.manifest.update.previous is None
    # Python's update to what was learned here, applied twice: by way of the head replaced last.
    (tmp_path / "sender").mkdir()
    sender = bundle_of(tmp_path / "sender")
    for number in (4, 5):
        delta = make_delta(learned, sender, generation=number)
        data = delta.to_bytes(sign=SigningKey(key, key_id(public)))
        if number == 4:
            apply(library, bundle, data, public).__exit__()
    apply(library, bundle, data, public).__exit__()
    again = Bundle.load(bundle.path)
    assert again.manifest.update.previous.generation == 4
    named = {*again.manifest.files, "manifest.json"}
    assert {entry.name for entry in bundle.path.iterdir()} == named
