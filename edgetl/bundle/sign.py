"""Ed25519 keys in PEM files, and the seal of a file that is signed with one.

It knows bytes and keys, and nothing about what is signed. The package `cryptography` is imported
when a key is used, so that a device without signatures needs none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from edgetl._extras import require
from edgetl.errors import SignatureError

SIGNATURE_BYTES = 64
KEY_ID_BYTES = 8

KeySource: TypeAlias = str | Path | bytes
"""A PEM file's path, or its content as bytes."""
Trust: TypeAlias = KeySource | Sequence[KeySource]
"""One public key, or several of which any may have signed."""


@dataclass(frozen=True, eq=False)
class SigningKey:
    """A private key.

    Args:
        key: The library's key.
        id: (8,) bytes that name its public key.
    """

    key: Any
    id: bytes

    @classmethod
    def load(cls, source: KeySource, *, password: bytes | None = None) -> SigningKey:
        """Read a PKCS #8 private key.

        Args:
            source: A PEM file or its content.
            password: What the file is encrypted with, if it is.

        Raises:
            FileNotFoundError: There is no such file.
            MissingDependencyError: The package `cryptography` is not installed.
            SignatureError: It is no private Ed25519 key, or the password does not open it.
        """
        data, name = _read(source)
        serialization = _serialization()
        try:
            key = serialization.load_pem_private_key(data, password=password)
        except (ValueError, TypeError, _unsupported()) as error:
            if b"PUBLIC KEY" in data:
                raise SignatureError(
                    f"{name} holds a public key; sign with the private one"
                ) from None
            raise SignatureError(f"{name} can't be read as a private key: {error}") from None
        if not isinstance(key, _ed25519().Ed25519PrivateKey):
            raise SignatureError(f"{name} holds {_kind(key)}; {_MAKE}")
        return cls(key, key_id(raw_public(key.public_key())))

    def sign(self, content: bytes) -> bytes:
        """(64,) bytes: RFC 8032's pure Ed25519 over `content`."""
        return bytes(self.key.sign(content))


@dataclass(frozen=True, eq=False)
class TrustedKey:
    """A public key whose signatures count.

    Args:
        key: The library's key.
        id: (8,) bytes that name it.
    """

    key: Any
    id: bytes

    @classmethod
    def load(cls, source: KeySource) -> TrustedKey:
        """Read a SubjectPublicKeyInfo public key.

        Raises:
            FileNotFoundError: There is no such file.
            MissingDependencyError: The package `cryptography` is not installed.
            SignatureError: It is no public Ed25519 key.
        """
        data, name = _read(source)
        if b"PRIVATE KEY" in data:
            raise SignatureError(
                f"{name} holds a private key, which belongs to whoever signs; trust the public one"
            )
        try:
            key = _serialization().load_pem_public_key(data)
        except (ValueError, TypeError, _unsupported()) as error:
            raise SignatureError(f"{name} can't be read as a public key: {error}") from None
        if not isinstance(key, _ed25519().Ed25519PublicKey):
            raise SignatureError(f"{name} holds {_kind(key)}; {_MAKE}")
        return cls(key, key_id(raw_public(key)))

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `content`."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


def trusted_keys(trust: Trust) -> list[TrustedKey]:
    """The keys that are trusted, at least one.

    Raises:
        FileNotFoundError: A file is not there.
        MissingDependencyError: The package `cryptography` is not installed.
        SignatureError: One is no public Ed25519 key.
        ValueError: There is none.
    """
    sources = [trust] if isinstance(trust, str | Path | bytes) else list(trust)
    if not sources:
        raise ValueError("no key to trust was given; to take unsigned updates, say trust=None")
    return [TrustedKey.load(source) for source in sources]


def generate_keys(private: str | Path, public: str | Path) -> bytes:
    """Make a key pair: a private PEM file that only its owner may read, and a public one.

    Neither file is ever replaced.

    Returns:
        The (8,) bytes that name the public key.

    Raises:
        FileExistsError: One of the files exists; nothing was written.
        MissingDependencyError: The package `cryptography` is not installed.
    """
    private, public = Path(private), Path(public)
    serialization, key = _serialization(), _ed25519().Ed25519PrivateKey.generate()
    for path in (private, public):
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists; keys are never replaced, choose another path")
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _create(private, secret, mode=0o600)
    try:
        _create(public, shown, mode=0o644)
    except OSError:
        with contextlib.suppress(OSError):
            private.unlink()
        raise
    return key_id(raw_public(key.public_key()))


def key_id(raw: bytes) -> bytes:
    """(8,) bytes that name a public key, given as its 32 bytes."""
    return hashlib.sha256(raw).digest()[:KEY_ID_BYTES]


def raw_public(key: Any) -> bytes:
    """The 32 bytes of a public key (RFC 8032)."""
    serialization = _serialization()
    return bytes(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


_MAKE = "Ed25519 is needed, such as edgetl keygen makes"


def _create(path: Path, content: bytes, *, mode: int) -> None:
    """Write a new file; the mode holds from the first moment on."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read(source: KeySource) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, "the key"
    return Path(source).read_bytes(), str(source)


def _kind(key: object) -> str:
    return f"a {type(key).__name__.lstrip('_')}"


def _serialization() -> ModuleType:
    return require("cryptography.hazmat.primitives.serialization", extra="sign")


def _ed25519() -> ModuleType:
    return require("cryptography.hazmat.primitives.asymmetric.ed25519", extra="sign")


def _unsupported() -> type[Exception]:
    found: type[Exception] = require("cryptography.exceptions", extra="sign").UnsupportedAlgorithm
    return found
