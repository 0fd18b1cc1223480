"""Keys: made once, readable by their owner, and told apart."""

import os
import stat
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edgetl.bundle import SigningKey, TrustedKey, generate_keys
from edgetl.errors import MissingDependencyError, SignatureError


@pytest.fixture
def pair(tmp_path):
    generate_keys(tmp_path / "key.pem", tmp_path / "pub.pem")
    return tmp_path / "key.pem", tmp_path / "pub.pem"


def pem(key, password=None):
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def test_a_pair_signs_and_checks(pair):
    key, trusted = SigningKey.load(pair[0]), TrustedKey.load(pair[1])
    assert key.id == trusted.id
    signature = key.sign(b"some bytes")
    assert len(signature) == 64
    assert trusted.signed(b"some bytes", signature)
    assert not trusted.signed(b"some bytes.", signature)
    assert not trusted.signed(b"some bytes", bytes(64))


def test_a_known_answer(tmp_path):
    """RFC 8032, section 7.1, test 3."""
    secret = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
    key = SigningKey.load(pem(ed25519.Ed25519PrivateKey.from_private_bytes(secret)))
    assert key.sign(bytes.fromhex("af82")).hex() == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )


@pytest.mark.skipif(os.name == "nt", reason="no such modes")
def test_only_the_owner_reads_the_private_key(pair):
    assert stat.S_IMODE(pair[0].stat().st_mode) == 0o600


@pytest.mark.parametrize("taken", [0, 1])
def test_keys_are_never_replaced(tmp_path, taken):
    files = tmp_path / "key.pem", tmp_path / "pub.pem"
    files[taken].write_text("precious")
    with pytest.raises(FileExistsError, match="never replaced"):
        generate_keys(*files)
    assert files[taken].read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_to_nowhere_is_not_followed(tmp_path):
    (tmp_path / "key.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        generate_keys(tmp_path / "key.pem", tmp_path / "pub.pem")
    assert not (tmp_path / "elsewhere").exists()


def test_a_failed_pair_leaves_no_half(tmp_path):
    with pytest.raises(OSError, match="pub"):
        generate_keys(tmp_path / "key.pem", tmp_path / "nowhere" / "pub.pem")
    assert not list(tmp_path.iterdir())


def test_an_encrypted_key_needs_its_password():
    data = pem(ed25519.Ed25519PrivateKey.generate(), b"secret")
    assert SigningKey.load(data, password=b"secret").sign(b"")
    for password in (None, b"wrong"):
        with pytest.raises(SignatureError, match="private key"):
            SigningKey.load(data, password=password)


def test_what_is_no_key_is_said(pair, tmp_path):
    other = ec.generate_private_key(ec.SECP256R1())
    for load, data, message in (
        (SigningKey.load, pair[1], "a public key"),
        (TrustedKey.load, pair[0], "holds a private key"),
        (SigningKey.load, pem(other), r"holds a .*; Ed25519 is needed"),
        (TrustedKey.load, public_pem(other), r"holds a .*; Ed25519 is needed"),
        (SigningKey.load, b"", "can't be read"),
        (TrustedKey.load, b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "can't be read"),
        (TrustedKey.load, b"\xff" * 100, "can't be read"),
    ):
        with pytest.raises(SignatureError, match=message) as caught:
            load(data)
        assert caught.value.exit_code == 8
    with pytest.raises(FileNotFoundError):
        TrustedKey.load(tmp_path / "nowhere.pem")


def test_without_cryptography_the_extra_is_named(tmp_path):
    code = """
import sys
for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
    del sys.modules[name]
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "cryptography":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from edgetl.bundle import Delta, generate_keys
from edgetl.cli.main import main
sys.exit(main(["keygen", "-o", "key.pem"]))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == MissingDependencyError.exit_code == 3, result.stderr
    assert "edgetl[sign]" in result.stderr
