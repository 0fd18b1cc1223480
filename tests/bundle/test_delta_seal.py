"""Sealed head updates: the layout, signatures, and what hostile files come to."""

import dataclasses
import hashlib
import json
import struct

import numpy as np
import pytest
from delta_kit import DIM, NEW, OLD, bundle_of, contents
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetl.bundle import (
    Delta,
    apply_delta,
    generate_keys,
    head_after,
    make_delta,
)
from edgetl.bundle import delta_seal as container
from edgetl.bundle.delta import digest_of, head_digest
from edgetl.errors import (
    CorruptError,
    EdgetlError,
    SignatureError,
)


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
