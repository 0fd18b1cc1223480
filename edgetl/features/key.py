"""The key of a feature store: everything that decides a feature, apart from the sample itself.

It knows nothing about stores or samples; see `edgetl.features.content` for the sample's part.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from edgetl import decode

if TYPE_CHECKING:
    from edgetl.preprocess import Preprocess

Dtype: TypeAlias = Literal["float16", "float32"]

FORMAT = 1
"""Raised when a store's rows are laid out differently; stores of another format are never read."""

MAX_ROUNDING = 2.0**-8
"""How far rounding to the dtype may move a sample's features, relative to their length (L2)."""


class Fingerprinted(Protocol):
    """What the key needs to know of an engine."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the engine's features may."""


def feature_key(engine: Fingerprinted, preprocess: Preprocess, *, dtype: Dtype) -> str:
    """Name the features that `engine` gives for photos prepared by `preprocess`.

    The decoders' versions are part of the key, since two versions of a codec may round differently.

    Args:
        engine: What computes the features.
        preprocess: How photos become the engine's input.
        dtype: How features are stored, ``"float16"`` or ``"float32"``.

    Returns:
        64 hexadecimal digits.

    Raises:
        ValueError: `dtype` is neither of the two.
    """
    check_dtype(dtype)
    parts = [FORMAT, engine.fingerprint, preprocess.fingerprint, decode.DECODER, dtype]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=32).hexdigest()


def check_dtype(dtype: str) -> None:
    """Raise ValueError unless `dtype` is one that features can be stored in."""
    if dtype not in ("float16", "float32"):
        raise ValueError(f"dtype must be 'float16' or 'float32', got {dtype!r}")
