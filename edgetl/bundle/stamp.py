"""Adds metadata to an ONNX file without the onnx package.

Fields may follow a serialized protobuf message, and repeated fields then join (Protocol Buffers,
"Encoding"). ``metadata_props`` is field 14 of ONNX's ``ModelProto``; an entry has a key (field 1)
and a value (field 2). It knows nothing about graphs.
"""

from __future__ import annotations

from collections.abc import Mapping

_METADATA_PROPS = 14


def metadata_suffix(values: Mapping[str, str]) -> bytes:
    """Bytes that, appended to a serialized ONNX model, add entries to its metadata.

    Args:
        values: The entries; a key must not be in the model yet, or readers may see either value.
    """
    return b"".join(
        _field(_METADATA_PROPS, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in values.items()
    )


def _field(number: int, content: bytes) -> bytes:
    """One length-delimited field (wire type 2)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
