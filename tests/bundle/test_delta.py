"""Head updates: what they say, what they refuse, and that they are small."""

import dataclasses
import functools
import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetl.bundle import (
    Bundle,
    Delta,
    ExportRecord,
    Learning,
    Limits,
    Manifest,
    SigningKey,
    apply_delta,
    generate_keys,
    head_after,
    make_delta,
    roll_back,
)
from edgetl.bundle import delta_seal as container
from edgetl.bundle.delta import digest_of, head_digest
from edgetl.errors import (
    CorruptError,
    EdgetlError,
    ReplayError,
    SignatureError,
    WrongBaseError,
)
from edgetl.heads import HEADS, KnnHead, PrototypeHead, RidgeHead, SoftmaxHead, load_head
from edgetl.preprocess import Preprocess

DIM = 64
OLD = ("daisy", "rose", "tulip", "gänse")
NEW = ("daisy", "aster", "rose", "tulip", "gänse")


def samples(seed, count=200):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).gamma(0.5, 1, size=(5, DIM))
    codes = np.arange(count) % 5
    features = centres[codes] * rng.gamma(2, 0.5, size=(count, DIM))
    return features.astype(np.float32), codes


@functools.cache
def fitted(labels, kind, seed):
    """Features, codes and the arrays of a head that knows some of the 5 classes of `samples`."""
    names = np.array(["daisy", "rose", "tulip", "gänse", "aster"])
    features, codes = samples(seed)
    rows = np.isin(names[codes], labels)
    features = features[rows]
    codes = np.array([labels.index(name) for name in names[codes][rows]])
    return features, codes, HEADS[kind]().fit(features, codes).arrays()


def bundle_of(folder, labels, kind="softmax", *, seed=0, keep=60, graph="f" * 64, **manifest):
    """A saved bundle with the head of `fitted`."""
    folder.mkdir(parents=True, exist_ok=True)
    features, codes, arrays = fitted(tuple(labels), kind, seed)
    judged = slice(keep, keep + 40)
    learning = Learning(
        features[:keep].astype(np.float16),
        codes[:keep].astype(np.int64),
        np.ones(keep, np.float32),
        features[judged].astype(np.float16),
        codes[judged].astype(np.int64),
    )
    (folder / "graph.onnx").write_bytes(b"\x08\x08" + bytes(3000))
    whole = Manifest(
        labels=tuple(labels),
        preprocess=Preprocess(size=32, resize=40),
        backbone="tiny",
        dim=DIM,
        graph="backbone.onnx",
        graph_fingerprint=graph,
        head=kind,
        learning="learning.safetensors" if keep else None,
        **manifest,
    )
    head = load_head(kind, arrays)
    bundle = Bundle(whole, head, folder / "graph.onnx", learning=learning if keep else None)
    return Bundle.load(bundle.save(folder / "b.edgetl").path)


@pytest.fixture
def pair(tmp_path):
    return bundle_of(tmp_path / "old", OLD), bundle_of(tmp_path / "new", NEW, seed=1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    generate_keys(folder / "key.pem", folder / "pub.pem")
    return SigningKey.load(folder / "key.pem"), folder / "pub.pem"


def contents(bundle):
    """The SHA-256 of every file of a bundle's folder."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in bundle.path.iterdir()
    }


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_a_receiver_has_the_senders_head(tmp_path, kind):
    base = bundle_of(tmp_path / "old", OLD, kind)
    sender = bundle_of(tmp_path / "new", NEW, kind, seed=1)
    delta = make_delta(base, sender)
    data = delta.to_bytes(sign=None)
    after = apply_delta(base, Delta.load(data, trust=None))
    assert set(after.labels) == set(NEW)
    assert after.labels[:4] == OLD, "codes that a receiver keeps must stay what they are"
    opened = Bundle.load(base.path)
    assert opened.labels == after.labels
    assert head_digest(opened.head) == delta.result
    features, _ = samples(7)
    columns = [after.labels.index(label) for label in NEW]
    found = opened.head.predict_proba(features)[:, columns]
    wanted = sender.head.predict_proba(features)
    assert np.abs(found - wanted).max() < 0.005
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.98
    assert delta.evidence.difference <= delta.evidence.tolerance == 0.005
    exact = make_delta(base, sender, tolerance=0).to_bytes(sign=None)
    assert kind == "knn" or len(data) < 0.8 * len(exact)


def test_a_prototype_sends_the_new_row_alone(tmp_path):
    base = bundle_of(tmp_path / "old", OLD, "prototype")
    features, codes = samples(0)
    head = HEADS["prototype"].from_arrays(base.head.arrays())
    head.partial_fit(features[codes == 4], np.full((codes == 4).sum(), 4))
    grown = (*OLD, "aster")
    record = dataclasses.replace(base.manifest.record(), labels=grown)
    sender = base.with_fitted(record, dataclasses.replace(base.fitted(), head=head))
    delta = make_delta(base, sender)
    assert delta.arrays["head.prototypes/runs"][:, :2].tolist() == [[0, 4], [-1, 1]]
    assert delta.arrays["head.prototypes/runs"][0, 2] == 0
    assert (delta.added, delta.removed) == (("aster",), ())


def test_without_samples_nothing_is_rounded(tmp_path):
    base = bundle_of(tmp_path / "old", OLD, keep=0)
    sender = bundle_of(tmp_path / "new", NEW, seed=1, keep=0)
    delta = make_delta(base, sender)
    head = delta.head(base.head)
    order = [NEW.index(label) for label in delta.labels]
    np.testing.assert_array_equal(head.coef_, sender.head.coef_[order])
    assert delta.evidence.compared == 0
    rounded = make_delta(base, sender, features=samples(3)[0])
    assert rounded.evidence.compared == 200
    assert len(rounded.to_bytes(sign=None)) < 0.8 * len(delta.to_bytes(sign=None))


def test_a_smaller_tolerance_costs_bytes(pair):
    sizes = [len(make_delta(*pair, tolerance=t).to_bytes(sign=None)) for t in (0, 1e-4, 1e-2)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3
    exact = make_delta(*pair, tolerance=0)
    order = [NEW.index(label) for label in exact.labels]
    np.testing.assert_array_equal(exact.head(pair[0].head).coef_, pair[1].head.coef_[order])


def test_classes_go(tmp_path):
    base, sender = bundle_of(tmp_path / "old", NEW), bundle_of(tmp_path / "new", OLD, seed=1)
    delta = make_delta(base, sender)
    assert delta.removed == ("aster",)
    novelty = {
        "alpha": np.array(0.05),
        "shipped": np.arange(10, dtype=np.int8).reshape(5, 2),
        "shipped_codes": np.array([0, 1, 2, 1, 4]),
    }
    before = dataclasses.replace(base.learning, novelty=novelty)
    base = Bundle.load(dataclasses.replace(base, learning=before).save(tmp_path / "n.edgetl").path)
    after = apply_delta(base, delta)
    assert after.labels == OLD
    kept = Bundle.load(base.path).learning
    old = np.array(NEW)[before.codes]
    assert np.array(OLD)[kept.codes].tolist() == old[old != "aster"].tolist()
    assert kept.novelty["shipped"].tolist() == [[0, 1], [4, 5], [8, 9]]
    assert kept.novelty["shipped_codes"].tolist() == [0, 1, 3]
    back = roll_back(Bundle.load(base.path))
    assert back.labels == NEW
    np.testing.assert_array_equal(Bundle.load(base.path).learning.codes, before.codes)


def test_evidence_tells_what_was_forgotten(pair):
    base, sender = pair
    found = make_delta(base, sender).evidence
    truth = np.array(NEW)[sender.learning.guard_codes]
    features = sender.learning.guard_features.astype(np.float32)
    before = np.array(OLD)[base.head.predict(features)] == truth
    known = truth != "aster"
    assert found.guard == 40
    assert found.accuracy_before == pytest.approx(before.mean())
    assert found.known_before == pytest.approx(before[known].mean())
    assert found.known_before > found.accuracy_before
    assert found.accuracy_after > found.accuracy_before


def test_a_further_update_builds_on_either_head(pair, tmp_path):
    base, sender = pair
    shipped = bundle_of(tmp_path / "copy", OLD)
    first = make_delta(base, sender)
    later = bundle_of(tmp_path / "later", NEW, seed=2)
    second = make_delta(shipped, later, generation=2)
    device = apply_delta(base, first)
    third = make_delta(device, later, generation=5)
    for delta, number in ((second, 2), (third, 5)):
        device = Bundle.load(base.path)
        device = apply_delta(device, delta)
        assert device.manifest.update.generation == number
        assert head_digest(device.head) == delta.result


def test_rolling_back_gives_the_head_before_and_no_second_chance(pair):
    base, sender = pair
    before = head_digest(base.head)
    delta = make_delta(base, sender)
    device = apply_delta(base, delta)
    assert (device.manifest.update.generation, device.manifest.update.applied) == (1, 1)
    assert device.manifest.learning == base.manifest.learning, "kept samples are not written again"
    device = roll_back(Bundle.load(base.path))
    assert device.labels == OLD and head_digest(device.head) == before
    assert device.manifest.update.generation == 2
    device = Bundle.load(base.path)
    with pytest.raises(ReplayError, match="number 1, 1 was applied"):
        apply_delta(device, delta)
    with pytest.raises(ValueError, match="nothing to roll back"):
        roll_back(device)
    files = {file.name for file in base.path.iterdir()}
    assert files == set(device.manifest.files) | {"manifest.json"}, "no file is left over"
    moved = device.save(base.path.parent / "moved.edgetl")
    assert Bundle.load(moved.path).labels == OLD


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"graph": "e" * 64}, WrongBaseError, "for the backbone ffffffffffff"),
        ({"seed": 5}, WrongBaseError, "for the head"),
        ({"kind": "ridge"}, WrongBaseError, "for the head"),
        ({"task": "health"}, WrongBaseError, "for the task 'main'"),
        ({"labels": ("daisy", "rose", "gänse", "tulip")}, WrongBaseError, "for the head"),
    ],
)
def test_another_base_is_refused(pair, tmp_path, change, error, message):
    delta = make_delta(*pair)
    other = bundle_of(tmp_path / "other", change.pop("labels", OLD), **change)
    before = contents(other)
    with pytest.raises(error, match=message) as caught:
        apply_delta(other, delta)
    assert caught.value.exit_code == 8
    assert contents(other) == before


def test_other_preprocessing_is_refused(pair, tmp_path):
    other = dataclasses.replace(
        pair[0], manifest=dataclasses.replace(pair[0].manifest, preprocess=Preprocess(size=24))
    )
    with pytest.raises(WrongBaseError, match="prepared otherwise"):
        head_after(other, make_delta(*pair))


def test_other_names_of_the_same_head_are_refused(pair):
    renamed = dataclasses.replace(
        pair[0], manifest=dataclasses.replace(pair[0].manifest, labels=("a", "b", "c", "d"))
    )
    with pytest.raises(WrongBaseError, match="of the classes"):
        head_after(renamed, make_delta(*pair))


def test_older_and_equal_generations_are_refused(pair, tmp_path):
    base, sender = pair
    apply_delta(base, make_delta(base, sender, generation=7))
    device = Bundle.load(base.path)
    before = contents(device)
    shipped = bundle_of(tmp_path / "copy", OLD)
    for number in (1, 6, 7):
        with pytest.raises(ReplayError, match=f"number {number}, 7 was applied") as caught:
            apply_delta(device, make_delta(shipped, sender, generation=number))
        assert caught.value.exit_code == 8
    assert contents(device) == before
    apply_delta(device, make_delta(shipped, sender, generation=8))


def test_what_can_not_be_made(pair, tmp_path):
    base, sender = pair
    with pytest.raises(ValueError, match="nothing to send"):
        make_delta(base, base)
    with pytest.raises(ValueError, match="generation 0 is not above"):
        make_delta(base, sender, generation=0)
    with pytest.raises(ValueError, match="tolerance"):
        make_delta(base, sender, tolerance=1)
    with pytest.raises(ValueError, match="different backbones"):
        make_delta(base, bundle_of(tmp_path / "a", NEW, graph="e" * 64))
    with pytest.raises(ValueError, match="--head softmax"):
        make_delta(base, bundle_of(tmp_path / "b", NEW, "ridge"))
    export = ExportRecord(
        engine="onnxruntime",
        precision="fp32",
        fused=True,
        limits=Limits(least_cosine=0.9, mean_cosine=0.9, agreement=0.9, max_drop=1),
        source="",
        source_digest="",
        float_bytes=1,
    )
    fused = bundle_of(tmp_path / "c", NEW, seed=1, export=export)
    for two in ((base, fused), (fused, sender)):
        with pytest.raises(ValueError, match="head inside"):
            make_delta(*two)
    with pytest.raises(ValueError, match="head inside"):
        head_after(fused, make_delta(base, sender))


def test_signed_and_opened(pair, keys, tmp_path):
    key, public = keys
    delta = make_delta(*pair)
    size = delta.save(tmp_path / "x.etlh", sign=key)
    assert size == (tmp_path / "x.etlh").stat().st_size
    assert [file.name for file in tmp_path.glob("*.etlh*")] == ["x.etlh"]
    opened = Delta.load(tmp_path / "x.etlh", trust=public)
    assert opened.signer == key.id.hex()
    for field in dataclasses.fields(Delta):
        if field.name not in ("arrays", "signer"):
            assert getattr(opened, field.name) == getattr(delta, field.name)
    assert head_digest(opened.head(pair[0].head)) == delta.result


def test_the_layout_is_the_documented_one(pair, keys):
    """Read as the description of the file says, with nothing of the package."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    key, public = keys
    data = make_delta(*pair).to_bytes(sign=key)
    assert data[:8] == bytes.fromhex("8945544C480D0A1A")
    version, seal, name, m, a = struct.unpack("<II8sII", data[8:32])
    assert (version, seal, len(data)) == (1, 1, 32 + m + a + 64)
    known = load_pem_public_key(public.read_bytes())
    assert isinstance(known, Ed25519PublicKey)
    assert name == hashlib.sha256(known.public_bytes_raw()).digest()[:8]
    known.verify(data[-64:], b"edgetl.head-update.v1\0\0" + data[:-64])
    manifest = json.loads(data[32 : 32 + m])
    arrays = data[32 + m : 32 + m + a]
    (length,) = struct.unpack("<Q", arrays[:8])
    entries, body = json.loads(arrays[8 : 8 + length]), arrays[8 + length :]

    def numbers(entry, kind):
        start, stop = entries[entry]["data_offsets"]
        return np.frombuffer(body[start:stop], kind).reshape(entries[entry]["shape"])

    base = pair[0].head.arrays()["coef"]
    step = int(numbers("head.coef/step", "<i4")[0])
    packed, rows = numbers("head.coef/data", "u1").tobytes(), []
    for start, count, width in numbers("head.coef/runs", "<i4").tolist():
        for row in range(count):
            origin = base[start + row] if start >= 0 else np.zeros(DIM, np.float32)
            size = (DIM * width + 7) // 8
            bits, packed = int.from_bytes(packed[:size], "little"), packed[size:]
            made = []
            for j in range(DIM):
                q = bits >> (j * width) & ((1 << width) - 1)
                q -= (q >> (width - 1)) << width if width else 0
                made.append(
                    np.float32(origin[j]) + np.float32(q * 2.0**step) if width else origin[j]
                )
            rows.append(made)
    assert not packed
    head = make_delta(*pair).head(pair[0].head)
    np.testing.assert_array_equal(np.array(rows, np.float32), head.arrays()["coef"])
    digest = hashlib.sha256()
    for name, array in sorted(head.arrays().items()):
        kind = {"f4": b"F32", "f8": b"F64", "i8": b"I64"}[array.dtype.str[1:]]
        digest.update(name.encode() + b"\0" + kind + b"\0" + struct.pack("<I", array.ndim))
        digest.update(b"".join(struct.pack("<Q", n) for n in array.shape) + array.tobytes())
    assert digest.hexdigest() == manifest["result"]


def refused(base, data, trust, error=SignatureError):
    with pytest.raises(error) as caught:
        apply_delta(base, Delta.load(bytes(data), trust=trust))
    assert caught.value.exit_code == 8
    return str(caught.value)


def test_every_changed_byte_is_refused(pair, keys):
    key, public = keys
    data, before = make_delta(*pair).to_bytes(sign=key), contents(pair[0])
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(SignatureError):
            Delta.load(bytes(changed), trust=public)
    unsigned = make_delta(*pair).to_bytes(sign=None)
    for position in range(0, len(unsigned), 5):
        changed = bytearray(unsigned)
        changed[position] ^= 0x10
        with pytest.raises(SignatureError):
            Delta.load(bytes(changed), trust=None)
    assert contents(pair[0]) == before


def test_every_length_but_the_right_one_is_refused(pair, keys):
    key, public = keys
    data = make_delta(*pair).to_bytes(sign=key)
    for length in [*range(0, len(data), 7), len(data) - 1]:
        refused(pair[0], data[:length], public)
    refused(pair[0], data + b"\0", public)


def test_keys_that_do_not_count(pair, keys, tmp_path):
    key, public = keys
    other = tmp_path / "other.pem", tmp_path / "other-pub.pem"
    name = generate_keys(*other)
    data, before = make_delta(*pair).to_bytes(sign=key), contents(pair[0])
    message = refused(pair[0], data, other[1])
    assert key.id.hex() in message and name.hex() in message
    assert "no key to check it" in refused(pair[0], data, None)
    plain = make_delta(*pair).to_bytes(sign=None)
    assert "not signed" in refused(pair[0], plain, public)
    assert contents(pair[0]) == before
    stripped = bytearray(data[:-64])
    stripped[12:24] = bytes(12)
    seal = hashlib.sha256(b"edgetl.head-update.v1\0\0" + stripped).digest()
    assert "not signed" in refused(pair[0], bytes(stripped) + seal, public)
    assert Delta.load(data, trust=[other[1], public]).signer == key.id.hex()
    with pytest.raises(ValueError, match="trust=None"):
        Delta.load(data, trust=[])


def test_a_signature_over_anything_else_does_not_count(pair, keys):
    """The prefix keeps what the key signed elsewhere from passing as an update."""
    key, public = keys
    data = make_delta(*pair).to_bytes(sign=key)
    forged = data[:-64] + key.sign(data[:-64])
    assert "changed" in refused(pair[0], forged, public)


def test_an_unknown_format_says_so(pair, keys, monkeypatch):
    key, public = keys
    monkeypatch.setattr(container, "FORMAT", 2)
    data = make_delta(*pair).to_bytes(sign=key)
    monkeypatch.undo()
    with pytest.raises(CorruptError, match="format 2, this edgetl reads format 1"):
        Delta.load(data, trust=public)


def resealed(delta, **changes):
    return dataclasses.replace(delta, **changes).to_bytes(sign=None)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("head.coef/runs", np.array([[0, 4, 8], [-1, 2, 8]], np.int32), "bytes for 'coef'"),
        ("head.coef/runs", np.array([[0, 2**31 - 1, 0]], np.int32), "does not have"),
        ("head.coef/runs", np.array([[0, 4, 0], [1, 1, 0]], np.int32), "or twice"),
        ("head.coef/runs", np.array([[-1, 1, 0]], np.int32), "impossible run"),
        ("head.coef/runs", np.array([[-2, 1, 8]], np.int32), "impossible run"),
        ("head.coef/runs", np.array([[0, 0, 8]], np.int32), "impossible run"),
        ("head.coef/runs", np.array([[0, 1, 25]], np.int32), "impossible run"),
        ("head.coef/runs", np.array([[0, 1, -2]], np.int32), "impossible run"),
        ("head.coef/runs", np.zeros((0, 3), np.int32), "0 runs"),
        ("head.coef/runs", np.zeros((1, 2), np.int32), "expected"),
        ("head.coef/runs", np.zeros((1, 3), np.int64), "expected"),
        ("head.coef/step", np.array([105], np.int32), "step 105"),
        ("head.coef/step", np.array([-127], np.int32), "step -127"),
        ("head.coef/data", np.zeros(3, np.uint8), "bytes for 'coef'"),
        ("head.coef/more", np.zeros(3, np.uint8), "parts"),
        ("head.strength/keep", np.zeros(0, np.uint8), "parts"),
        ("head.other/keep", np.zeros(0, np.uint8), "does not have"),
        ("head.intercept", np.full(5, np.nan, np.float32), "should make the head"),
        ("head.intercept", np.zeros(5, np.float16), "type float16"),
    ],
)
def test_sealed_nonsense_is_an_error_of_the_tree(pair, name, array, message):
    delta = make_delta(*pair)
    data = resealed(delta, arrays={**delta.arrays, name: array})
    with pytest.raises(CorruptError, match=message):
        head_after(pair[0], Delta.load(data, trust=None))


def test_a_head_of_numbers_that_are_none_is_refused(pair):
    """Also by somebody who can make the digests right."""
    delta = make_delta(*pair, tolerance=0)
    arrays = dict(delta.arrays)
    arrays["head.intercept"] = np.full(5, np.nan, np.float32)
    made = {**delta.head(pair[0].head).arrays(), "intercept": arrays["head.intercept"]}
    data = resealed(delta, arrays=arrays, result=digest_of(made))
    with pytest.raises(CorruptError, match="NaN"):
        head_after(pair[0], Delta.load(data, trust=None))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("generation", 0),
        ("generation", True),
        ("generation", "1"),
        ("generation", 1e300),
        ("generation", 2**60),
        ("from_generation", -1),
        ("task", "../x"),
        ("task", 3),
        ("base", "ff"),
        ("base", None),
        ("labels", ["a"]),
        ("labels", ["a", "a"]),
        ("labels", ["a", 3]),
        ("labels", "ab"),
        ("labels", ["a", "\ud800"]),
        ("kind", ["softmax"]),
        ("evidence", None),
        ("evidence", {}),
    ],
)
def test_a_manifest_of_nonsense_is_refused(pair, name, value):
    delta = make_delta(*pair)
    content = {**delta._content(), name: value}
    data = container.seal(json.dumps(content).encode(), b"", None)
    with pytest.raises(CorruptError):
        Delta.load(data, trust=None)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"null", b"[" * 100_000, b'{"a": NaN}', b'{"a":1,"a":2}', b"\xff"]
)
def test_a_manifest_that_is_none_is_refused(text):
    with pytest.raises(CorruptError, match="manifest"):
        Delta.load(container.seal(text, b"", None), trust=None)


def test_an_unknown_kind_or_count_is_refused(pair):
    delta = make_delta(*pair)
    for changes in ({"kind": "forest"}, {"labels": ("a", "b", "c")}):
        with pytest.raises(EdgetlError):
            head_after(pair[0], Delta.load(resealed(delta, **changes), trust=None))


@pytest.fixture(scope="module", params=["softmax", "prototype", "knn"])
def target(request, tmp_path_factory):
    """A bundle and an update for it."""
    folder = tmp_path_factory.mktemp("target")
    base = bundle_of(folder / "old", OLD, request.param)
    sender = bundle_of(folder / "new", NEW, request.param, seed=1)
    return base, make_delta(base, sender).to_bytes(sign=None)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_hostile_content_is_never_anything_but_an_error_of_the_tree(target, data):
    """Sealed content with bytes changed, cut out, doubled or put in: from somebody trusted."""
    base, made = target
    _, _, _, _, m, a = struct.unpack_from("<8sII8sII", made)
    parts = [bytearray(made[32 : 32 + m]), bytearray(made[32 + m : 32 + m + a])]
    part = parts[data.draw(st.integers(0, 1))]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(part) - 1))
        length = data.draw(st.integers(0, 12))
        how = data.draw(st.sampled_from(["change", "cut", "double", "insert"]))
        if how == "change":
            part[at] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del part[at : at + length]
        elif how == "double":
            part[at:at] = part[at : at + length]
        else:
            part[at:at] = data.draw(st.binary(max_size=8))
        if not part:
            break
    try:
        opened = Delta.load(container.seal(bytes(parts[0]), bytes(parts[1]), None), trust=None)
        head = head_after(base, opened)
    except EdgetlError:
        return
    assert head_digest(head) == opened.result


@settings(max_examples=200, deadline=None)
@given(junk=st.binary(max_size=200))
def test_anything_else_is_no_update(junk):
    for data in (junk, b"\x89ETLH\r\n\x1a" + junk):
        with pytest.raises(SignatureError):
            Delta.load(data, trust=None)


def test_kinds_know_what_they_send():
    """Every array of every kind of head is one that an update knows how to code."""
    from edgetl.bundle.delta_make import _OF_CLASSES, _OF_SAMPLES

    features, codes = samples(0)
    for kind in (KnnHead, PrototypeHead, RidgeHead, SoftmaxHead, HEADS["lda"]):
        arrays = kind().fit(features, codes).arrays()
        with_rows = {name for name, array in arrays.items() if array.ndim} - {"classes"}
        assert with_rows <= _OF_CLASSES | _OF_SAMPLES


def test_numbers_go_on_from_what_was_applied(pair, tmp_path):
    """A later update, made from a device's copy, gets a number that the device takes."""
    base, sender = pair
    apply_delta(base, make_delta(base, sender, generation=7))
    later = bundle_of(tmp_path / "later", NEW, seed=2)
    device = roll_back(Bundle.load(base.path))
    delta = make_delta(Bundle.load(base.path), later)
    assert delta.generation == 9 and device.manifest.update.generation == 8
    apply_delta(device, delta)
    with pytest.raises(ValueError, match="not above the base's 9"):
        make_delta(Bundle.load(base.path), sender, generation=9)
