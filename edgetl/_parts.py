"""Parts of a data set on their way through an engine: what the jobs have in common.

It knows data, features and the cache; it does not know what the features are for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgetl._paths import cache_dir
from edgetl.data import Dataset
from edgetl.decode import read_image
from edgetl.engines import Engine
from edgetl.errors import DataError
from edgetl.features import Extraction, ExtractOptions, extract, feature_key
from edgetl.features.opening import open_store
from edgetl.features.pipeline import Tap
from edgetl.preprocess import Preprocess

_PROBE = 8
"""Samples on which a graph is compared with its network, and an engine with ONNX Runtime."""


@dataclass(frozen=True)
class Part:
    """The samples of one part that could be used, with their features."""

    samples: Dataset
    names: tuple[str, ...]
    targets: NDArray[np.int64]
    counts: NDArray[np.int64]
    features: NDArray[np.float32]
    digests: tuple[bytes, ...]


def extract_parts(
    parts: Sequence[Dataset],
    engine: Engine,
    preprocess: Preprocess,
    *,
    options: ExtractOptions,
    storage: Literal["float16", "float32"],
    cache: bool,
    about: str,
    tap: Tap | None = None,
) -> Extraction:
    """Extract all parts in one go, through the cache unless it is switched off."""
    with contextlib.ExitStack() as stack:
        store = None
        if cache:
            opened = open_store(
                cache_dir() / "features",
                feature_key(engine, preprocess, dtype=storage),
                engine.dim,
                dtype=storage,
                about=about,
                say=options.progress,
            )
            store = stack.enter_context(opened)
        return extract(
            [source for part in parts for source in part.sources],
            names=[name for part in parts for name in part.names],
            engine=engine,
            preprocess=preprocess,
            store=store,
            options=options,
            tap=tap,
        )


def usable(extraction: Extraction, parts: Sequence[Dataset]) -> list[Part]:
    """Cut an extraction into its parts again, without the samples that were skipped.

    Raises:
        DataError: A part is left without a sample, or the training part without one of a class.
    """
    results = []
    start = 0
    for part in parts:
        rows = np.flatnonzero((extraction.index >= start) & (extraction.index < start + len(part)))
        kept = part.subset(extraction.index[rows] - start)
        start += len(part)
        empty = [
            label
            for label, before, after in zip(part.labels, part.counts, kept.counts, strict=True)
            if before and not after
        ]
        if not len(kept) or (part is parts[0] and len(parts) > 1 and empty):
            which = "a part" if not len(kept) else f"class {empty[0]!r}"
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in extraction.skipped[:5])
            raise DataError(f"{which} is left without a readable sample ({reasons})")
        digests = tuple(extraction.digests[row] for row in rows)
        results.append(
            Part(kept, kept.names, kept.targets, kept.counts, extraction.features[rows], digests)
        )
    return results


def check_classes(train: Dataset, *, known: Sequence[str] = ()) -> None:
    """Require a training sample of every class, so that the head's columns are the labels.

    Args:
        train: The training part.
        known: Classes that a method knows otherwise.

    Raises:
        DataError: A class has none.
    """
    for label, count in zip(train.labels, train.counts, strict=True):
        if not count and label not in known:
            raise DataError(
                f"class {label!r} has no training sample; add some, or leave its test samples out"
            )


def probe_images(train: Dataset, preprocess: Preprocess) -> NDArray[np.float32]:
    """The first training samples that can be read, preprocessed: (at most 8, ...) float32."""
    images: list[NDArray[np.float32]] = []
    reasons: list[str] = []
    for name, source in zip(train.names, train.sources, strict=True):
        try:
            images.append(preprocess.apply(read_image(source, preprocess=preprocess)))
        except (DataError, ValueError) as error:  # the latter for an array without pixels
            reasons.append(f"{name}: {error}")  # all are named later, unless these were all
        if len(images) == _PROBE:
            break
    if not images:
        shown = "; ".join(reasons[:5])
        raise DataError(f"none of the {len(train)} training samples can be read ({shown} ...)")
    return np.stack(images)
