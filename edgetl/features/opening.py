"""Opening the cache of features, or going without it where its packages are not installed.

They are larger than all else that adapting without torch takes, and only save time.
"""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from edgetl._extras import CACHE, missing
from edgetl.features.key import Dtype
from edgetl.features.store import FeatureStore


def open_store(
    root: Path, key: str, dim: int, *, dtype: Dtype = "float16", about: str = "", say: bool = False
) -> AbstractContextManager[FeatureStore | None]:
    """Open a `FeatureStore`, or nothing where pylance and pyarrow are not installed.

    Args:
        root: As for `FeatureStore`, like the next four.
        key: What `feature_key` gave.
        dim: Number of features of a sample.
        dtype: Their precision.
        about: A line about them.
        say: Whether to say on stderr that features are not kept.
    """
    absent = missing(*CACHE)
    if not absent:
        return FeatureStore(root, key, dim, dtype=dtype, about=about)
    if say:
        sys.stderr.write(
            f"features are not kept for the next run, since {' and '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not installed: pip install 'edgetl[cache]'\n"
        )
    return contextlib.nullcontext()
