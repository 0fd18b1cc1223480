"""What an exported bundle and its original say of the same samples, one small batch at a time.

Every photo is read from its bytes, as the runtime reads it, and decoded once for both; no more than
a batch of them is in memory. It knows runtimes and what an export recorded of its original; whether
the answers are alike enough is `edgetl.exporter.gates`' matter.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Checks
from edgetl.bundle.checks import short_digests
from edgetl.data import Dataset
from edgetl.decode import Source, read_image
from edgetl.engines import Engine
from edgetl.errors import DataError
from edgetl.exporter.samples import spread
from edgetl.features.pipeline import load
from edgetl.runtime import Runtime

LEAST_SAMPLES = 64
"""Samples on which features are compared at the least."""
_BATCH = 8


@dataclass(frozen=True)
class _Sample:
    """A photo as each of the two bundles decodes it."""

    image: NDArray[np.uint8]
    original: NDArray[np.uint8]
    digest: int
    truth: str | None


@dataclass(frozen=True)
class _Expected:
    """What the original says of a sample; the features only where they are known."""

    label: str
    features: NDArray[np.floating] | None


@dataclass
class Seen:
    """What both bundles say of the samples that could be read and are known to both.

    Args:
        truth: True class of each tested sample.
        classes: What the exported bundle calls it.
        expected_classes: What the original calls it.
        features: Of the exported bundle, for each sample whose original features are known.
        expected_features: Of the original, for the same.
        beside: (n_classes,) probabilities from the head beside the graph, of some samples.
        inside: The same from the head inside the graph, where there is one.
        photo: The first photo that was read, decoded.
    """

    truth: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    expected_classes: list[str] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    expected_features: list[NDArray[np.floating]] = field(default_factory=list)
    beside: list[NDArray[np.float32]] = field(default_factory=list)
    inside: list[NDArray[np.float32]] = field(default_factory=list)
    photo: NDArray[np.uint8] | None = None


def compare(
    runtime: Runtime,
    original: Runtime | None,
    data: Dataset,
    *,
    extra: Sequence[Source] = (),
    inside: Engine | None = None,
) -> Seen:
    """Predict samples with both bundles, or look up what the original said.

    Args:
        runtime: Runs the exported bundle.
        original: Runs the one it was exported from; None to look its answers up.
        data: Labelled samples; those that the bundle was fitted on only count for features.
        extra: Further samples, of which as many are compared as features are still missing.
        inside: Runs the head inside the graph.

    Raises:
        DataError: Nothing is left to test on, or features can't be compared on enough samples.
    """
    both = _Both(runtime, original, inside)
    fitted = both.test(data)
    # In the end, what tells nothing about accuracy: as many as features are still missing.
    order = spread(data.targets[fitted], len(fitted), seed=0)
    rest = [data.sources[fitted[i]] for i in order.tolist()]
    more = both.read([*extra, *rest])
    while missing := max(0, LEAST_SAMPLES - len(both.seen.features)):
        piece = list(itertools.islice(more, min(missing, _BATCH)))
        if not piece:
            break
        both.add(piece)
    found = len(both.seen.features)
    if found < LEAST_SAMPLES:
        raise DataError(_too_few(runtime, original, found, len(data) + len(extra)))
    return both.seen


def _too_few(runtime: Runtime, original: Runtime | None, found: int, given: int) -> str:
    """Why features can't be compared, and what to do."""
    if original is not None:
        return (
            f"features can be compared on {found} of these {given} samples, {LEAST_SAMPLES} that "
            "can be read are needed; give more photos"
        )
    checks = runtime.bundle.checks
    known = 0 if checks is None else len(checks.reference_features)
    return (
        f"{found} of the {known} samples that the export was compared on are among these {given}, "
        f"{LEAST_SAMPLES} are needed; give the data it was made with, its training part too, or "
        "the bundle it was exported from: --reference BUNDLE"
    )


class _Both:
    """The two bundles side by side, and what they have said so far."""

    def __init__(self, runtime: Runtime, original: Runtime | None, inside: Engine | None) -> None:
        self.runtime, self.original, self.inside = runtime, original, inside
        self.checks = runtime.bundle.checks
        self.seen = Seen()
        self._taken: set[int] = set()
        fitted, known = ([], []) if self.checks is None else _lists(self.checks)
        self._fitted_on = frozenset(fitted)
        # Of equal samples the first one: only the first ones have features.
        self._rows = {digest: row for row, digest in reversed(list(enumerate(known)))}
        self._apart = original is not None and not _decode_alike(runtime, original)

    def test(self, data: Dataset) -> list[int]:
        """Add the labelled samples; positions of those that the bundle was fitted on.

        Raises:
            DataError: None is left.
        """
        fitted: list[int] = []
        reasons: list[str] = []
        for piece in _pieces(self._labelled(data, fitted, reasons)):
            self.add(piece)
        if self.seen.truth:
            return fitted
        if fitted and len(fitted) + len(reasons) == len(data):
            raise DataError(
                f"the bundle was fitted on all of these {len(fitted)} samples, so they show "
                "nothing; give others"
            )
        if len(reasons) == len(data):
            raise DataError(f"no sample can be read ({'; '.join(reasons[:5])})")
        raise DataError(_too_few(self.runtime, self.original, 0, len(data)))

    def _labelled(self, data: Dataset, fitted: list[int], reasons: list[str]) -> Iterator[_Sample]:
        """The tested samples; what is none goes into one of the lists, or is unknown."""
        for position, (source, code) in enumerate(
            zip(data.sources, data.targets.tolist(), strict=True)
        ):
            try:
                content, digest = self._load(source)
                if digest in self._fitted_on:
                    fitted.append(position)
                    continue
                sample = self._decoded(content, digest, data.labels[code])
            except (DataError, ValueError) as error:
                reasons.append(f"{data.names[position]}: {error}")
                continue
            if sample is not None:
                yield sample

    def read(self, sources: Iterable[Source]) -> Iterator[_Sample]:
        """The samples that can be read, are known to the original, and were not seen before."""
        for source in sources:
            try:
                content, digest = self._load(source)
                sample = None if digest in self._taken else self._decoded(content, digest, None)
            except (DataError, ValueError):
                continue
            if sample is not None:
                yield sample

    def _load(self, source: Source) -> tuple[Source, int]:
        content, digest, _ = load(source, self.runtime.bundle.preprocess)
        return content, int(short_digests([digest])[0])

    def _decoded(self, content: Source, digest: int, truth: str | None) -> _Sample | None:
        """A sample from its bytes; None if the original's answer can't be had."""
        if self.original is None and digest not in self._rows:
            return None
        image = read_image(content, preprocess=self.runtime.bundle.preprocess)
        other = image
        if self.original is not None and self._apart:
            other = read_image(content, preprocess=self.original.bundle.preprocess)
        self._taken.add(digest)
        return _Sample(image, other, digest, truth)

    def add(self, samples: list[_Sample]) -> None:
        """Ask both about a batch."""
        seen = self.seen
        if seen.photo is None:
            seen.photo = samples[0].image
        answers = self.runtime.predict([sample.image for sample in samples], features=True)
        for sample, answer, expected in zip(samples, answers, self._expected(samples), strict=True):
            if expected.features is not None and answer.features is not None:
                seen.features.append(answer.features)
                seen.expected_features.append(expected.features)
            if sample.truth is not None:
                seen.truth.append(sample.truth)
                seen.classes.append(answer.label)
                seen.expected_classes.append(expected.label)
            if self.inside is not None and len(seen.inside) < LEAST_SAMPLES:
                batch = self.runtime.bundle.preprocess.apply(sample.image)[None]
                seen.inside.append(self.inside(batch)[0])
                seen.beside.append(answer.probabilities)

    def _expected(self, samples: list[_Sample]) -> list[_Expected]:
        if self.original is not None:
            images = [sample.original for sample in samples]
            return [
                _Expected(answer.label, answer.features)
                for answer in self.original.predict(images, features=True)
            ]
        assert self.checks is not None  # a sample was found there
        found = []
        for sample in samples:
            row = self._rows[sample.digest]
            label = self.runtime.labels[self.checks.reference_classes[row]]
            features = self.checks.reference_features
            found.append(_Expected(label, features[row] if row < len(features) else None))
        return found


def _lists(checks: Checks) -> tuple[list[int], list[int]]:
    """Digests of what a bundle was fitted on, and of what its original's answers are known of."""
    return checks.train_digests.tolist(), checks.reference_digests.tolist()


def _decode_alike(runtime: Runtime, original: Runtime) -> bool:
    """Whether both bundles decode a photo to the same pixels; what follows may differ."""
    ours, theirs = runtime.bundle.preprocess, original.bundle.preprocess
    return dataclasses.replace(ours, layout=theirs.layout, dtype=theirs.dtype) == theirs


def _pieces(samples: Iterator[_Sample]) -> Iterator[list[_Sample]]:
    while piece := list(itertools.islice(samples, _BATCH)):
        yield piece
