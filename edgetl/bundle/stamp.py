"""Adds metadata to an ONNX file, and reads it back, without the onnx package.

Fields may follow a serialized protobuf message, and repeated fields then join (Protocol Buffers,
"Encoding"). ``metadata_props`` is field 14 of ONNX's ``ModelProto``; an entry has a key (field 1)
and a value (field 2). Of a graph it knows only how long it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgetl.errors import CorruptError

_METADATA_PROPS = 14
_FIXED = {1: 8, 5: 4}
"""Bytes of a field, by its wire type."""


def metadata_suffix(values: Mapping[str, str]) -> bytes:
    """Bytes that, appended to a serialized ONNX model, add entries to its metadata.

    Args:
        values: The entries; a key must not be in the model yet, or readers may see either value.
    """
    return b"".join(
        _field(_METADATA_PROPS, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in values.items()
    )


def read_metadata(model: bytes) -> dict[str, str]:
    """The metadata of a serialized ONNX model; of a key that is there twice, the last value.

    Raises:
        CorruptError: The bytes are no protobuf message, or the metadata is no text.
    """
    found: dict[str, str] = {}
    try:
        for number, content in _fields(memoryview(model)):
            if number == _METADATA_PROPS:
                entry = dict(_fields(content))
                found[str(entry.get(1, b""), "utf-8")] = str(entry.get(2, b""), "utf-8")
    except (IndexError, ValueError) as error:
        raise CorruptError(
            f"the graph of {len(model)} bytes is no ONNX file: its metadata can't be read ({error})"
        ) from error
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each length-delimited field; the others are passed over.

    Raises:
        ValueError: A field has an unknown wire type, or is longer than the message.
        IndexError: The message ends within a number.
    """
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        kind = tag & 7
        if kind == 0:
            _, position = _read_varint(message, position)
            continue
        if kind == 2:
            size, position = _read_varint(message, position)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if position + size > len(message):
            raise ValueError(f"a field of {size} bytes at byte {position} of {len(message)}")
        if kind == 2:
            yield tag >> 3, message[position : position + size]
        position += size


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number, and where the next field begins."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {position}")


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
