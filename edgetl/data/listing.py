"""What every kind of input is read into, and how that becomes a `Dataset`.

It knows the rules that hold for folders, tables and arrays alike: which classes there must be, what
the parts mean, and how samples are matched to the classes of an existing model. It opens no file.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from edgetl.data.dataset import Dataset
from edgetl.data.wording import counted, enumerated
from edgetl.errors import DataError

if TYPE_CHECKING:
    from edgetl.decode import Source

PART_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
"""Names of parts, compared without case."""


@dataclass
class Listing:
    """Samples as they were found; lists of the same length, filled by one reader.

    Args:
        what: The input, for messages.
        names: What reports call a sample; unique.
        sources: What is decoded.
        classes: Class name of each sample.
        parts: ``"train"``, ``"val"`` or ``"test"`` of each sample; empty where there is no split.
        notes: What a reader of the report should know.
        groups: Group of each sample, ``""`` for none; None where there is no such column.
    """

    what: str
    names: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    groups: list[str] | None = None


def part_of(name: str) -> str | None:
    """``"train"``, ``"val"`` or ``"test"`` if that is what a folder or a table's cell says."""
    return PART_NAMES.get(name.strip().casefold())


def class_name(text: str) -> str:
    """A class name in the form that is compared: Unicode NFC, as macOS writes folders in NFD."""
    return unicodedata.normalize("NFC", text)


def to_dataset(
    listing: Listing, labels: Sequence[str] | None, untrained: Sequence[str] = ()
) -> Dataset:
    """Check the classes and parts of a listing and number its classes.

    Args:
        listing: At least one sample.
        labels: Classes to use, in their order; None takes those found, sorted.
        untrained: Classes that may have test samples alone.

    Raises:
        DataError: There is no sample; a class is not among `labels`; or, without `labels`, there
            are fewer than two classes, or one has test samples but no training samples.
    """
    if not listing.names:
        raise DataError(f"{listing.what} holds no samples")
    counts = Counter(listing.classes)
    known = labels is not None
    if labels is None:
        labels = sorted(counts)
        _refuse_single(listing.what, counts)
    else:
        labels = [class_name(label) for label in labels]
        _refuse_unknown(listing.what, counts, labels)
    position = {label: index for index, label in enumerate(labels)}
    targets = np.fromiter((position[name] for name in listing.classes), np.int64)
    parts, notes = _settled_parts(listing)
    if known:
        notes += _absent(labels, counts)
    elif parts is not None:
        notes += _compared_parts(listing.what, parts, listing.classes, untrained)
    return Dataset(
        names=tuple(listing.names),
        sources=tuple(listing.sources),
        targets=targets,
        labels=tuple(labels),
        parts=parts,
        notes=(*listing.notes, *notes, *_case_notes(labels)),
        groups=None if listing.groups is None else tuple(listing.groups),
    )


def remapped(dataset: Dataset, labels: Sequence[str]) -> Dataset:
    """The same samples numbered by other labels.

    Raises:
        DataError: A class that has samples is not among `labels`.
    """
    used = Counter(dataset.labels[target] for target in dataset.targets.tolist())
    _refuse_unknown("the dataset", used, labels)
    position = {label: index for index, label in enumerate(labels)}
    numbers = np.array([position.get(label, -1) for label in dataset.labels], dtype=np.int64)
    return Dataset(
        dataset.names,
        dataset.sources,
        numbers[dataset.targets],
        tuple(labels),
        dataset.parts,
        dataset.notes,
        dataset.groups,
    )


def refuse_unfit(dataset: Dataset, untrained: Sequence[str] = ()) -> None:
    """Refuse a dataset that no head can be trained on, as `to_dataset` does with a listing.

    Raises:
        DataError: It has no sample, fewer than two classes, a class without samples, or one that
            has test samples but no training samples.
    """
    what = "the dataset"
    classes = [dataset.labels[target] for target in dataset.targets.tolist()]
    if not classes:
        raise DataError(f"{what} holds no samples")
    counts = Counter(classes)
    _refuse_single(what, counts)
    unused = [label for label in dataset.labels if label not in (*counts, *untrained)]
    if unused:
        raise DataError(
            f"{what} has {counted(len(unused), 'class', 'classes')} without samples: "
            f"{enumerated(unused)}; add samples, or name the other classes: "
            "`edgetl.load_dataset(dataset, labels=...)`"
        )
    if dataset.parts is not None:
        _compared_parts(what, dataset.parts, classes, untrained)


def _refuse_unknown(what: str, counts: Counter[str], labels: Sequence[str]) -> None:
    known = set(labels)
    unknown = sorted(name for name in counts if name not in known)
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], labels, n=1)
    hint = f"; did you mean {near[0]!r} by {unknown[0]!r}?" if near else ""
    raise DataError(
        f"{what} has {counted(len(unknown), 'class', 'classes')} that the model does not know: "
        f"{enumerated(unknown)}; "
        f"it knows {len(labels)}: {enumerated(labels)}{hint}"
    )


def _settled_parts(listing: Listing) -> tuple[tuple[str, ...] | None, list[str]]:
    """Training and test part from the parts found, of which there may be one, two or three.

    Where there is a test part, validation samples are trained on, since heads are chosen by
    cross-validation; where there is none, they are the test part.
    """
    found = set(listing.parts)
    if not found:
        return None, []
    if len(found) == 1:
        (only,) = found
        note = f"there is a {only} part only, so its samples count as not split"
        return None, [note]
    meaning = {"train": "train", "test": "test", "val": "train" if "test" in found else "test"}
    notes = []
    if "val" in found:
        notes.append(
            f"the validation part ({counted(listing.parts.count('val'), 'sample')}) is "
            + ("trained on" if "test" in found else "the test part")
        )
    return tuple(meaning[part] for part in listing.parts), notes


def _refuse_single(what: str, counts: Counter[str]) -> None:
    if len(counts) < 2:
        ((label, n),) = counts.items()
        raise DataError(
            f"{what} holds one class only, {label!r} with {counted(n, 'sample')}; at least two "
            "classes are needed"
        )


def _compared_parts(
    what: str, parts: Iterable[str], names: Iterable[str], untrained: Sequence[str]
) -> list[str]:
    """Refuse classes that can't be learned; note those that can't be tested."""
    classes: dict[str, set[str]] = {"train": set(), "test": set()}
    for part, name in zip(parts, names, strict=True):
        classes[part].add(name)
    unseen = sorted(classes["test"] - classes["train"] - set(map(class_name, untrained)))
    if unseen:
        raise DataError(
            f"{what} has {counted(len(unseen), 'class', 'classes')} with test samples "
            f"and no training samples: {enumerated(unseen)}; add training samples or remove them"
        )
    untested = sorted(classes["train"] - classes["test"])
    if not untested:
        return []
    count = counted(len(untested), "class has", "classes have")
    return [f"{count} no test samples: {enumerated(untested)}"]


def _absent(labels: Sequence[str], counts: Counter[str]) -> list[str]:
    absent = [label for label in labels if label not in counts]
    if not absent:
        return []
    count = counted(len(absent), "class has", "classes have")
    return [f"{count} no samples here: {enumerated(absent)}"]


def _case_notes(labels: Sequence[str]) -> list[str]:
    folded: dict[str, list[str]] = {}
    for label in labels:
        folded.setdefault(label.casefold(), []).append(label)
    return [
        f"classes that differ only in case are kept apart: {enumerated(same)}"
        for same in folded.values()
        if len(same) > 1
    ]
