"""The container of a head update: found, and proved to be what a trusted key signed.

`edgetl.bundle.delta` describes its bytes. Nothing here looks into what was signed.
"""

from __future__ import annotations

import hashlib
import struct

from edgetl.bundle.sign import KEY_ID_BYTES, SIGNATURE_BYTES, SigningKey, Trust, trusted_keys
from edgetl.errors import CorruptError, SignatureError

FORMAT = 1
_MAGIC = b"\x89ETLH\r\n\x1a"
_PREFIX = b"edgetl.head-update.v1\0\0"
"""Keeps a signature from counting for anything else that the key may sign."""
_HEADER = struct.Struct(f"<8sII{KEY_ID_BYTES}sII")
_UNSIGNED, _SIGNED = 0, 1
_SEAL_BYTES = {_UNSIGNED: 32, _SIGNED: SIGNATURE_BYTES}
_MOST_MANIFEST, _MOST_ARRAYS = 1 << 20, 1 << 30
MOST_BYTES = _HEADER.size + _MOST_MANIFEST + _MOST_ARRAYS + SIGNATURE_BYTES
"""Of a file."""


def seal(text: bytes, arrays: bytes, sign: SigningKey | None) -> bytes:
    """The file of a manifest and arrays.

    Raises:
        ValueError: They are too large.
    """
    if len(text) > _MOST_MANIFEST or len(arrays) > _MOST_ARRAYS:
        raise ValueError(
            f"an update of {len(text):,} bytes of text and {len(arrays):,} of arrays is too "
            f"large; at most {_MOST_MANIFEST:,} and {_MOST_ARRAYS:,} are possible"
        )
    kind, key = (_UNSIGNED, bytes(KEY_ID_BYTES)) if sign is None else (_SIGNED, sign.id)
    content = _HEADER.pack(_MAGIC, FORMAT, kind, key, len(text), len(arrays)) + text + arrays
    if sign is None:
        return content + hashlib.sha256(_PREFIX + content).digest()
    return content + sign.sign(_PREFIX + content)


def unseal(data: bytes, trust: Trust | None) -> tuple[bytes, bytes, str | None]:
    """Manifest, arrays and signer, out of bytes that are what somebody trusted sealed.

    Args:
        data: A file's content.
        trust: As for `edgetl.bundle.Delta.load`.

    Raises:
        MissingDependencyError: The package `cryptography` is not installed.
        SignatureError: The bytes are not what a trusted key signed.
        CorruptError: The format is not known.
    """
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise SignatureError(f"this is no head update: {len(data)} bytes, not an .etlh file")
    _, version, seal, key, manifest, arrays = _HEADER.unpack_from(data)
    size = _HEADER.size + manifest + arrays + _SEAL_BYTES.get(seal, 0)
    if manifest > _MOST_MANIFEST or arrays > _MOST_ARRAYS or len(data) != size:
        raise SignatureError(
            f"the update was changed or cut short: it has {len(data)} bytes, its header says {size}"
        )
    if seal not in _SEAL_BYTES:
        raise SignatureError(f"the update has the unknown kind of seal {seal}")
    content, stated = data[: -_SEAL_BYTES[seal]], data[-_SEAL_BYTES[seal] :]
    signer = _verified(content, stated, seal, key, trust)
    if version != FORMAT:
        raise CorruptError(f"the update has format {version}, this edgetl reads format {FORMAT}")
    body = content[_HEADER.size :]
    return body[:manifest], body[manifest:], signer


def _verified(
    content: bytes, stated: bytes, seal: int, key: bytes, trust: Trust | None
) -> str | None:
    """The name of the key that signed, once that is proved; None for an unsigned file."""
    if trust is None:
        if seal != _UNSIGNED:
            raise SignatureError(
                f"the update is signed, by the key {key.hex()}, and there is no key to check it "
                "with; give the public one (--trust)"
            )
        if hashlib.sha256(_PREFIX + content).digest() != stated:
            raise SignatureError("the update was changed: its SHA-256 is another")
        return None
    if seal == _UNSIGNED:
        raise SignatureError("the update is not signed; have it signed by a key that is trusted")
    keys = trusted_keys(trust)
    for known in keys:
        if known.signed(_PREFIX + content, stated):
            return known.id.hex()
    if key not in {known.id for known in keys}:
        raise SignatureError(
            f"the update is signed by the key {key.hex()}, trusted is "
            + ", ".join(known.id.hex() for known in keys)
        )
    raise SignatureError("the update was changed: the signature does not match its content")
