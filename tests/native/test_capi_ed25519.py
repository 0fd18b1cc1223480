"""The C library's own hashes and signatures: they are judged as by others."""

import hashlib
import subprocess

import capi
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from test_capi_delta import RAW

ORDER = 2**252 + 27742317777372353535851937790883648493

_SHIM = """
#include "ed25519.h"
#include "sha2.h"
extern "C" __attribute__((visibility("default"))) int verify(
    const unsigned char* key, const unsigned char* text, size_t bytes, const unsigned char* sign) {
    return edgetl::capi::ed25519_verify(key, text, bytes, sign);
}
extern "C" __attribute__((visibility("default"))) void hash(
    const unsigned char* text, size_t bytes, unsigned char* out) {
    const auto small = edgetl::capi::sha256(text, bytes);
    for (size_t i = 0; i < 32; ++i) out[i] = small[i];
    edgetl::capi::Sha512 large;
    large.add(text, bytes / 3);
    large.add(text + bytes / 3, bytes - bytes / 3);
    const auto digest = large.digest();
    for (size_t i = 0; i < 64; ++i) out[32 + i] = digest[i];
}
"""


@pytest.fixture(scope="module")
def inside(installed, tmp_path_factory):
    """The library's own verification and hashes, which it does not export."""
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.cpp").write_text(_SHIM)
    include = f"-I{capi.ROOT / 'cpp_ext/capi'}"
    archive = installed / "prefix/lib/libedgetl.a"
    shared = folder / "shim.so"
    command = ["c++", "-std=c++17", "-shared", "-fPIC", include, folder / "shim.cpp", archive]
    subprocess.run([*command, "-o", shared], check=True)
    return capi.ctypes.CDLL(str(shared))


def test_hashes_equal_python_s(inside):
    rng = np.random.default_rng(0)
    out = capi.ctypes.create_string_buffer(96)
    for bytes_ in [*range(300), 4095, 100_001]:
        text = rng.bytes(bytes_)
        inside.hash(text, capi.ctypes.c_size_t(bytes_), out)
        assert out.raw == hashlib.sha256(text).digest() + hashlib.sha512(text).digest()


def test_signatures_are_judged_as_by_cryptography(inside):
    from cryptography.exceptions import InvalidSignature

    rng = np.random.default_rng(0)

    def judged(public, text, signature):
        return inside.verify(public, text, capi.ctypes.c_size_t(len(text)), signature) == 1

    for turn in range(1000):
        key = ed25519.Ed25519PrivateKey.from_private_bytes(rng.bytes(32))
        public, text = key.public_key().public_bytes(*RAW), rng.bytes(turn % 250)
        signature = key.sign(text)
        assert judged(public, text, signature)
        for flipped in (signature, public, text + b"."):
            place, by = int(rng.integers(len(flipped))), 1 << int(rng.integers(8))
            changed = bytes(b ^ by if i == place else b for i, b in enumerate(flipped))
            parts = [changed if given is flipped else given for given in (public, text, signature)]
            if flipped is not public and flipped is not signature:
                parts[1] = flipped
            try:
                ed25519.Ed25519PublicKey.from_public_bytes(parts[0]).verify(parts[2], parts[1])
                expected = True
            except (InvalidSignature, ValueError):
                expected = False
            assert judged(*parts) == expected
        # The same signature with the group's order added is refused, as RFC 8032 asks.
        more = int.from_bytes(signature[32:], "little") + ORDER
        assert not judged(public, text, signature[:32] + more.to_bytes(32, "little"))


PRIME = 2**255 - 19
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME


def plus(p, q):
    """The sum of two points of the curve (RFC 8032, 5.1.4), as coordinates."""
    product = CURVE * p[0] * q[0] * p[1] * q[1]
    x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + product, -1, PRIME)
    y = (p[1] * q[1] + p[0] * q[0]) * pow(1 - product, -1, PRIME)
    return x % PRIME, y % PRIME


def times(n, point):
    total = (0, 1)
    for bit in bin(n)[2:]:
        total = plus(total, total)
        total = plus(total, point) if bit == "1" else total
    return total


def written(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def at_height(y):
    """A point with this y."""
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, PRIME)
    x = pow(square, (PRIME + 3) // 8, PRIME)
    x = x if (x * x - square) % PRIME == 0 else x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert (x * x - square) % PRIME == 0
    return x, y


def test_the_equation_has_no_cofactor_as_in_cryptography(inside):
    """Verifiers that multiply by 8 would take all of these: the key has a share of order 8."""
    from cryptography.exceptions import InvalidSignature

    base = at_height(4 * pow(5, -1, PRIME) % PRIME)
    base = base if base[0] % 2 == 0 else (-base[0] % PRIME, base[1])
    low = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
    eighth = at_height(int.from_bytes(bytes.fromhex(low), "little"))
    assert times(8, eighth) == (0, 1) != times(4, eighth)
    assert times(ORDER, base) == (0, 1)
    secret, nonce = 2**200 + 3, 2**190 + 7
    public = written(plus(times(secret, base), eighth))
    first = written(times(nonce, base))
    seen = set()
    for turn in range(40):
        text = b"message %d" % turn
        k = int.from_bytes(hashlib.sha512(first + public + text).digest(), "little") % ORDER
        signature = first + ((nonce + k * secret) % ORDER).to_bytes(32, "little")
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
            expected = True
        except InvalidSignature:
            expected = False
        assert expected == (k % 8 == 0)
        size = capi.ctypes.c_size_t(len(text))
        assert (inside.verify(public, text, size, signature) == 1) == expected
        seen.add(expected)
    assert seen == {True, False}
