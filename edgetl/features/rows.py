"""Rows of a feature table in Arrow and in numpy, and the checksum that each has.

It knows nothing about files.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.features.content import DIGEST_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ["digest", "feature", "check"]


def row_checks(digests: NDArray[np.uint8], features: NDArray[Any]) -> NDArray[np.uint32]:
    """CRC-32 of each row's digest followed by its feature, (n,)."""
    crc = zlib.crc32
    return np.fromiter(
        (crc(feature, crc(digest)) for digest, feature in zip(digests, features, strict=True)),
        dtype=np.uint32,
        count=len(digests),
    )


def to_arrow(digests: NDArray[np.uint8], features: NDArray[Any], about: str) -> pa.Table:
    """Rows as an Arrow table: digests (n, 32), features (n, dim), and their checksums."""
    arrow = require("pyarrow", extra="cache")
    feature = arrow.list_(arrow.from_numpy_dtype(features.dtype), features.shape[1])
    data = arrow.py_buffer(np.ascontiguousarray(digests))
    columns = [
        arrow.FixedSizeBinaryArray.from_buffers(
            arrow.binary(DIGEST_BYTES), len(digests), [None, data]
        ),
        arrow.FixedSizeListArray.from_arrays(arrow.array(features.reshape(-1)), type=feature),
        arrow.array(row_checks(digests, features)),
    ]
    schema = arrow.schema(
        [arrow.field(*column, False) for column in zip(COLUMNS, map(_type, columns), strict=True)],
        metadata={"about": about},
    )
    return arrow.Table.from_arrays(columns, schema=schema)


def to_digests(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint8]:
    """(n, 32) from an Arrow column."""
    parts = [np.empty((0, DIGEST_BYTES), np.uint8)]
    for chunk in _chunks(column):
        data = np.frombuffer(chunk.buffers()[1], np.uint8)
        start = chunk.offset * DIGEST_BYTES
        part = data[start : start + len(chunk) * DIGEST_BYTES]
        parts.append(part.reshape(len(chunk), DIGEST_BYTES))
    return np.concatenate(parts)


def to_features(column: pa.Array | pa.ChunkedArray, dim: int) -> NDArray[Any]:
    """(n, dim) from an Arrow column; without a copy if it is in one piece."""
    parts = [
        chunk.flatten().to_numpy(zero_copy_only=True).reshape(-1, dim) for chunk in _chunks(column)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def fits(schema: pa.Schema, dim: int, dtype: np.dtype[Any]) -> bool:
    """Whether a schema is ours, as far as it matters (Lance changes the nullability)."""
    arrow = require("pyarrow", extra="cache")
    if schema.names != COLUMNS:
        return False
    digest, feature, check = schema.types
    return bool(
        digest == arrow.binary(DIGEST_BYTES)
        and arrow.types.is_fixed_size_list(feature)
        and feature.list_size == dim
        and feature.value_type == arrow.from_numpy_dtype(dtype)
        and check == arrow.uint32()
    )


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return getattr(column, "chunks", None) or [column]


def _type(column: pa.Array) -> pa.DataType:
    return column.type
