"""What teachers make of photos: their features of every view, through the cache.

It knows photos, graphs and the cache of features; it does not know what is learned from them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._parts import Part
from edgetl._paths import cache_dir
from edgetl._shipped import Shipped, ship
from edgetl.backbone import Backbone
from edgetl.data import Dataset, load_unlabelled
from edgetl.data.unlabelled import UNLABELLED
from edgetl.errors import DataError
from edgetl.features import FeatureStore, extract, feature_key
from edgetl.features.views import PhotoViews, of_views
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime, Target, Torch
from edgetl.transfer.distill_options import DistillOptions

LEAST = 20
"""Photos that a distillation needs."""


@dataclass(frozen=True, eq=False)
class Taught:
    """Photos, and what the teachers see in them.

    Attributes:
        photos: Those that could be read, each content once.
        views: Their random views; none where only the plain one is wanted.
        features: For each teacher (n, views, dim): of the plain photo, then of the random views.
        skipped: What could not be read, and why.
        repeated: How many were left out since another one has the same content.
    """

    photos: Part
    views: PhotoViews
    features: tuple[NDArray[np.floating[Any]], ...]
    skipped: tuple[tuple[str, str], ...]
    repeated: int

    @property
    def digest(self) -> str:
        """Of the content of all photos, in whatever order they came."""
        return hashlib.sha256(b"".join(sorted(self.photos.digests))).hexdigest()


def gather(data: Any) -> Dataset:
    """One set of unlabelled samples from one source, or from a list of folders, tables and sets.

    Raises:
        DataError: There is nothing, or no sample.
        TypeError: It is none of what `edgetl.data.load_unlabelled` takes.
    """
    if not isinstance(data, list) or not data or not all(map(_is_set, data)):
        return load_unlabelled(data)
    parts = [load_unlabelled(one) for one in data]
    if len(parts) == 1:
        return parts[0]
    named = [f"{place}/{name}" for place, part in enumerate(parts, start=1) for name in part.names]
    return Dataset(
        names=tuple(named),
        sources=tuple(source for part in parts for source in part.sources),
        targets=np.zeros(len(named), dtype=np.int64),
        labels=(UNLABELLED,),
        notes=tuple(note for part in parts for note in part.notes),
    )


def teach(samples: Dataset, teachers: Sequence[Backbone], options: DistillOptions) -> Taught:
    """Extract every teacher's features of every view, or find them in the cache.

    Raises:
        DataError: There are fewer than 20 different photos that can be read.
        ParityError: A teacher's graph computes other features than its network.
    """
    first = _ship(teachers[0], samples, options)
    (part,) = first.parts
    first_with: dict[bytes, int] = {}
    for row, digest in enumerate(part.digests):
        first_with.setdefault(digest, row)
    distinct = np.array(list(first_with.values()), dtype=np.int64)
    if len(distinct) < LEAST:
        raise DataError(
            f"{len(distinct)} different photos can be read; distillation needs {LEAST}, and "
            "better thousands"
        )
    photos = part.samples.subset(distinct)
    kept = Part(
        photos,
        photos.names,
        photos.targets,
        photos.counts,
        part.features[distinct],
        tuple(part.digests[row] for row in distinct),
    )
    views = PhotoViews(
        photos.sources,
        kept.digests,
        count=options.views - 1,
        seed=options.seed,
        decoding=_decoding(teachers),
        options=options.view,
    )
    features = []
    for place, teacher in enumerate(teachers):
        shipped = first if place == 0 else _ship(teacher, photos, options)
        plain = kept.features if place == 0 else shipped.parts[0].features
        if len(plain) != len(photos):  # read a moment ago
            raise DataError(f"{teacher.name} can't use {len(photos) - len(plain)} of the photos")
        seen = _of_views(shipped, teacher, views, photos, options)
        whole = np.concatenate([plain[:, None], seen.reshape(len(plain), -1, plain.shape[1])], 1)
        features.append(whole.astype(options.storage))
    return Taught(
        kept,
        views,
        tuple(features),
        tuple((skip.name, skip.reason) for skip in first.extraction.skipped),
        len(part.names) - len(distinct),
    )


def _is_set(item: Any) -> bool:
    if isinstance(item, str | Path):
        path = Path(item).expanduser()
        return path.is_dir() or path.suffix.lower() in (".csv", ".parquet")
    return isinstance(item, Dataset)


def _say(text: str, options: DistillOptions) -> None:
    if options.extract.progress:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _ship(teacher: Backbone, samples: Dataset, options: DistillOptions) -> Shipped:
    _say(f"{teacher.name}: photos as they are", options)
    return ship(
        teacher,
        [samples],
        _target(teacher, options),
        decode=None,
        options=options.extract,
        storage=options.storage,
        cache=options.cache,
    )


def _target(teacher: Backbone, options: DistillOptions) -> Target:
    on_device = options.device != "cpu" and hasattr(teacher, "module")
    return Torch(device=options.device) if on_device else OnnxRuntime()


def _decoding(teachers: Sequence[Backbone]) -> Preprocess:
    """How photos are decoded for views: large ones at a reduced size that still has enough."""
    largest = max(teacher.preprocess.resize for teacher in teachers)
    return Preprocess(size=1, resize=math.ceil(largest), decode="scaled")


def _of_views(
    shipped: Shipped,
    teacher: Backbone,
    views: PhotoViews,
    photos: Dataset,
    options: DistillOptions,
) -> NDArray[np.float32]:
    """Features (len(views), dim) through the engine that saw the plain photos."""
    if not len(views):
        return np.empty((0, teacher.dim), np.float32)
    _say(f"{teacher.name}: random views", options)
    names = [f"{name}, view {view}" for name in photos.names for view in range(1, options.views)]
    preprocess = of_views(shipped.preprocess)
    with contextlib.ExitStack() as stack:
        store = None
        if options.cache:
            key = feature_key(shipped.engine, preprocess, dtype=options.storage)
            store = FeatureStore(
                cache_dir() / "features",
                key,
                teacher.dim,
                dtype=options.storage,
                about=f"{teacher.name}, views",
            )
            stack.enter_context(store)
        found = extract(
            views,
            names=names,
            engine=shipped.engine,
            preprocess=preprocess,
            store=store,
            options=dataclasses.replace(options.extract, strict=True),
        )
    return found.features
