"""Samples that are in the training part and in the test part too.

It knows content digests and names; the digests come from the extraction, which reads every sample
anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Duplicate(NamedTuple):
    """Names of a training and a test sample with the same content."""

    train: str
    test: str


def find_duplicates(
    train_digests: Sequence[str | bytes],
    test_digests: Sequence[str | bytes],
    *,
    train_names: Sequence[str],
    test_names: Sequence[str],
) -> tuple[Duplicate, ...]:
    """Test samples whose content is in the training part, in the order of the test part.

    Each test sample is listed once, with the first training sample of the same digest.

    Raises:
        ValueError: There are more names than digests, or fewer.
    """
    first: dict[str | bytes, str] = {}
    for digest, name in zip(train_digests, train_names, strict=True):
        first.setdefault(digest, name)
    return tuple(
        Duplicate(first[digest], name)
        for digest, name in zip(test_digests, test_names, strict=True)
        if digest in first
    )
