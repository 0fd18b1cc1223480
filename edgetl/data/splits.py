"""Stratified, seeded splits that depend on the samples and not on their order.

It knows identities and class indices, nothing about files or datasets. Each sample draws a number
from a hash of the seed and its identity; the smallest numbers of each class are the test part. So
the split is the same on every machine and numpy version, and adding samples moves few of the others
to the other part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def stratified_split(
    identities: Iterable[bytes],
    targets: NDArray[np.int64],
    *,
    test_fraction: float,
    seed: int,
) -> NDArray[np.bool_]:
    """Choose the test part, class by class.

    Of n samples of a class ``test_fraction * n`` are chosen, rounded to the nearest, but at least 1
    and at most n - 1; of a single sample none.

    Args:
        identities: What tells a sample from the others, for each of n samples. Samples of equal
            identity and class are interchangeable.
        targets: (n,) class indices.
        test_fraction: Share of the test part, between 0 and 1.
        seed: Which split.

    Returns:
        (n,) whether a sample is in the test part.

    Raises:
        ValueError: `test_fraction` is not between 0 and 1.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
    start = hashlib.blake2b(f"edgetl split {seed}\0".encode(), digest_size=8)
    draws = np.fromiter(
        (_draw(start.copy(), identity) for identity in identities), np.uint64, len(targets)
    )
    in_test = np.zeros(len(targets), dtype=np.bool_)
    order = np.lexsort((draws, targets))
    borders = np.flatnonzero(np.diff(targets[order])) + 1
    for members in np.split(order, borders):
        n = len(members)
        chosen = min(max(int(n * test_fraction + 0.5), 1), n - 1)
        in_test[members[: max(chosen, 0)]] = True
    return in_test


def _draw(state: hashlib.blake2b, identity: bytes) -> int:
    state.update(identity)
    return int.from_bytes(state.digest(), "big")
