"""What an adaptation is compared with, as far as it needs the samples once more: raw pixels.

It knows parts, the cache and the engine that makes photos small; `edgetl.evaluate` knows what the
comparison means.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgetl._paths import cache_dir
from edgetl.data import Dataset
from edgetl.evaluate.pixels import pixel_predictions
from edgetl.evaluate.verdict import Guesses
from edgetl.features import Extraction, ExtractOptions, FeatureStore, extract, feature_key
from edgetl.features.opening import open_store
from edgetl.features.pixels import PixelEngine, PixelTap
from edgetl.preprocess import Preprocess

if TYPE_CHECKING:
    from edgetl.decode import Source

MOST = 5000
"""Samples of each part that the baseline sees at most, drawn at random: it is to stay cheap."""


class PixelBaseline:
    """The raw-pixel baseline of one adaptation; made before the features are extracted.

    Photos whose features are computed in this run are made small on the way (`tap`). The others,
    whose features are cached, were made small by an earlier run, and are read from the cache too;
    only where they were not are they decoded again.

    Args:
        parts: What goes into the extraction, in its order: first the samples to fit to, second
            those to predict, then whatever else.
        preprocess: How photos become the network's input.
        seed: Of the draw where a part has more than `MOST` samples.
    """

    def __init__(self, parts: Sequence[Dataset], preprocess: Preprocess, *, seed: int = 0) -> None:
        self._train, self._test = parts[:2]
        self._preprocess = preprocess
        generator = np.random.default_rng(seed)
        wanted = [_some(len(part), generator) for part in parts[:2]]
        wanted += [np.zeros(len(part), dtype=np.bool_) for part in parts[2:]]
        self.tap = PixelTap(PixelEngine(preprocess), np.concatenate(wanted))

    def baseline(
        self, extraction: Extraction, *, options: ExtractOptions, cache: bool
    ) -> dict[str, Guesses]:
        """`predictions` under the baseline's name; nothing where no test sample was answered."""
        places, guesses = self.predictions(extraction, options=options, cache=cache)
        return {"raw pixels": (places, guesses)} if len(places) else {}

    def predictions(
        self, extraction: Extraction, *, options: ExtractOptions, cache: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Answers to test samples by a head fitted to training samples.

        Args:
            extraction: Of all parts, in one go.
            options: As for the extraction; unreadable samples are left out in any case.
            cache: Whether rows are kept.

        Returns:
            Positions among the usable test samples (m,), and the classes (m,) given to them.
        """
        train = self._train
        usable = np.flatnonzero(self.tap.wanted[extraction.index])
        rows, had = self._rows(extraction, usable, options, cache)
        usable = usable[had]
        places = extraction.index[usable]
        training = places < len(train)
        if not training.any() or training.all():
            return np.empty(0, np.int64), np.empty(0, np.int64)
        first = int((extraction.index < len(train)).sum())
        guesses = pixel_predictions(
            rows[training], train.targets[places[training]], rows[~training]
        )
        return usable[~training] - first, guesses

    def _rows(
        self,
        extraction: Extraction,
        usable: NDArray[np.int64],
        options: ExtractOptions,
        cache: bool,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Rows of what could be had, and a mask (m,) of that among `usable`."""
        engine = self.tap.engine
        places = extraction.index[usable].tolist()
        rows = np.zeros((len(usable), engine.dim), np.float32)
        had = np.array([place in self.tap.rows for place in places], dtype=np.bool_)
        for at in np.flatnonzero(had).tolist():
            # Rounded, so that it makes no difference whether a row is computed or read.
            rows[at] = self.tap.rows[places[at]].astype(np.float16)
        rest = np.flatnonzero(~had)
        with contextlib.ExitStack() as stack:
            store = None
            if cache:
                key = feature_key(engine, self._preprocess, dtype="float16")
                folder = cache_dir() / "features"
                store = stack.enter_context(open_store(folder, key, engine.dim, about="raw pixels"))
                if store is not None:
                    _keep(store, extraction, usable[had], rows[had])
            if len(rest):
                found = extract(
                    [self._source(places[at]) for at in rest.tolist()],
                    engine=engine,
                    preprocess=self._preprocess,
                    store=store,
                    options=dataclasses.replace(
                        options, batch_size=None, strict=False, progress=False
                    ),
                )
                rows[rest[found.index]] = found.features.astype(np.float16)
                had[rest[found.index]] = True
        return rows[had], had

    def _source(self, place: int) -> Source:
        first = len(self._train)
        return self._train.sources[place] if place < first else self._test.sources[place - first]


def _some(count: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """(count,) at most `MOST` of them."""
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[generator.permutation(count)[:MOST]] = True
    return chosen


def _keep(
    store: FeatureStore,
    extraction: Extraction,
    usable: NDArray[np.int64],
    rows: NDArray[np.float32],
) -> None:
    """Put rows into the store that are not there yet."""
    if not len(usable):
        return
    digests = np.frombuffer(b"".join(extraction.digests[at] for at in usable.tolist()), np.uint8)
    digests = digests.reshape(len(usable), -1)
    store.refresh()
    _, first = np.unique(digests, axis=0, return_index=True)
    new = first[store.find(digests[first]) < 0]
    store.add(digests[new], rows[new].astype(np.float16))
    store.commit()
    store.tidy(last=True)
