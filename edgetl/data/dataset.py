"""Labelled samples: the one form every kind of input becomes.

It knows names, sources, class indices and given parts; it opens no file. What each kind of input
looks like is known by `edgetl.data.folder`, `edgetl.data.table` and `edgetl.data.arrays`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.data.splits import stratified_split
from edgetl.data.wording import counted, enumerated
from edgetl.errors import DataError

if TYPE_CHECKING:
    from edgetl.decode import Source

Part = Literal["train", "test"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples with their classes.

    Args:
        names: What reports call each sample, such as ``"daisy/123.jpg"``; unique.
        sources: What is decoded: a path, the bytes of a file, or an (h, w[, 3]) uint8 array.
        targets: (n,) index of each sample's class in `labels`.
        labels: Class names, distinct; a class may be without samples.
        parts: ``"train"`` or ``"test"`` of each sample where the data came with a split, else None.
        notes: Sentences about the data that belong into a report.
        groups: What group each sample belongs to, for a report by group, ``""`` for none; None
            where there are no groups.

    Raises:
        ValueError: Lengths that differ, names or labels that repeat, a target or part out of range.
    """

    names: tuple[str, ...]
    sources: tuple[Source, ...]
    targets: NDArray[np.int64]
    labels: tuple[str, ...]
    parts: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("names", "sources", "labels", "notes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        targets = np.array(self.targets, dtype=np.int64)
        targets.setflags(write=False)
        object.__setattr__(self, "targets", targets)
        if self.parts is not None:
            object.__setattr__(self, "parts", tuple(self.parts))
        if self.groups is not None:
            object.__setattr__(self, "groups", tuple(self.groups))
        self._check()

    def _check(self) -> None:
        n = len(self.names)
        parts = self.parts if self.parts is not None else self.names
        if not len(self.sources) == len(parts) == n or self.targets.shape != (n,):
            raise ValueError(
                f"{n} names, {len(self.sources)} sources, targets of shape {self.targets.shape} "
                f"and {len(parts)} parts do not belong together"
            )
        if self.groups is not None and len(self.groups) != n:
            raise ValueError(f"{len(self.groups)} groups for {n} samples")
        if len(set(self.names)) != n or len(set(self.labels)) != len(self.labels):
            raise ValueError("names and labels must each be distinct")
        if n and not 0 <= self.targets.min() <= self.targets.max() < len(self.labels):
            raise ValueError(
                f"targets go from {self.targets.min()} to {self.targets.max()}, "
                f"there are {len(self.labels)} labels"
            )
        if self.parts is not None and not set(self.parts) <= {"train", "test"}:
            raise ValueError(f"parts must be 'train' or 'test', got {sorted(set(self.parts))}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(C,) samples of each class."""
        return np.bincount(self.targets, minlength=len(self.labels))

    def subset(self, index: ArrayLike) -> Dataset:
        """The samples at some positions, in that order; labels are kept, notes are not.

        Args:
            index: Positions, distinct; or (n,) bool.
        """
        chosen = np.asarray(index)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise ValueError(f"a mask of shape {chosen.shape} for {len(self)} samples")
            chosen = np.flatnonzero(chosen)
        # An empty list is float64 to numpy; any other float is a caller's mistake.
        casting: Literal["same_kind", "unsafe"] = "same_kind" if chosen.size else "unsafe"
        positions = chosen.astype(np.int64, casting=casting)
        return Dataset(
            names=tuple(self.names[i] for i in positions.tolist()),
            sources=tuple(self.sources[i] for i in positions.tolist()),
            targets=self.targets[positions],
            labels=self.labels,
            parts=None if self.parts is None else tuple(self.parts[i] for i in positions.tolist()),
            groups=(
                None if self.groups is None else tuple(self.groups[i] for i in positions.tolist())
            ),
        )

    def part(self, name: Part) -> Dataset:
        """The samples of one part, or all of them where the data came without a split.

        The result has no parts any more; it keeps the notes.

        Raises:
            DataError: The part has no sample.
        """
        if self.parts is None:
            return self
        chosen = self.subset([i for i, part in enumerate(self.parts) if part == name])
        if not len(chosen):
            raise DataError(f"no sample belongs to the {name} part")
        return dataclasses.replace(chosen, parts=None, notes=self.notes)

    def split(self, *, test_fraction: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
        """The training and the test part: as the data came, else stratified and seeded.

        Every class keeps its share: of n samples, about ``test_fraction * n`` go to the test part,
        at least 1 and at most n - 1. A class with one sample is trained on and can't be tested; the
        training part's notes name it.

        Args:
            test_fraction: Share of the test part, between 0 and 1; unused where a split was given.
            seed: Which split; unused where one was given. The same samples give the same split in
                whatever order they come: files are known by their names, arrays and bytes by their
                content.

        Returns:
            Training part with all notes, and test part.

        Raises:
            ValueError: `test_fraction` is not between 0 and 1.
            DataError: One part would be empty.
        """
        if self.parts is not None:
            return self.part("train"), self.part("test")
        in_test = stratified_split(
            self._identities(), self.targets, test_fraction=test_fraction, seed=seed
        )
        train, test = self.subset(~in_test), self.subset(in_test)
        if not len(test):
            raise DataError(
                f"none of {counted(len(self.labels), 'class', 'classes')} has two samples, so none "
                "can be kept for testing; add samples"
            )
        return dataclasses.replace(train, notes=(*self.notes, *self._untested())), test

    def _identities(self) -> Iterator[bytes]:
        """The content of samples in memory, else the name, so that nothing is read for a split."""
        for name, source in zip(self.names, self.sources, strict=True):
            if isinstance(source, bytes):
                yield source
            elif isinstance(source, np.ndarray):
                yield repr(source.shape).encode() + source.tobytes()
            else:
                yield name.encode()

    def _untested(self) -> Iterator[str]:
        single = [self.labels[i] for i in np.flatnonzero(self.counts == 1)]
        if single:
            yield (
                f"{counted(len(single), 'class has', 'classes have')} a single sample, which is "
                f"trained on and can't be tested: {enumerated(single)}"
            )
