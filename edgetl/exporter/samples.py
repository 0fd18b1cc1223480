"""The samples an export needs: the training part again, photos to calibrate on, and a test part.

It finds them by what the bundle recorded when it was made, and never falls back to others in
silence. It knows data sets and digests; it opens no photo.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle
from edgetl.data import Dataset, load_dataset
from edgetl.errors import DataError, EdgetlError

TEST_DATA = "test_data"
"""Key of a bundle's provenance: where test photos came from that were given apart from the data."""
REPLACED = (
    "the head is refitted on the calibration photos: the recorded data is gone or has changed"
)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What was found.

    Args:
        train: What the head is fitted to again.
        calibration: What ranges are taken from; `train` itself if nothing else was given.
        test: What accuracy is measured on.
        recorded: Whether `train` is the part that the bundle recorded, which must be unchanged.
        test_recorded: Whether `test` is the part that the bundle recorded.
        notes: What a reader of the evidence should know.
    """

    train: Dataset
    calibration: Dataset
    test: Dataset
    recorded: bool
    test_recorded: bool
    notes: tuple[str, ...] = ()


def find_samples(bundle: Bundle, *, calibration: Any = None, test: Any = None) -> Samples:
    """Find the samples for an export.

    Args:
        bundle: What is exported.
        calibration: Labelled samples as for `adapt`, of which the training part is used; the
            training part that the bundle recorded if None.
        test: Labelled samples to measure on, of which the test part is used; the test part that the
            bundle recorded if None.

    Raises:
        DataError: What was recorded is not there any more and nothing was given instead.
    """
    recorded = _recorded(bundle, needed=calibration is None or test is None)
    labels = bundle.labels
    notes: list[str] = []
    given = None
    if calibration is not None:
        loaded = load_dataset(calibration, labels=labels)
        given = loaded.part("train")
        if recorded is not None and loaded.parts is None and _is_recorded(bundle, calibration):
            given = recorded[0]  # the bundle's own data, without a split, is split as it was then
    if recorded is None and given is None:
        raise DataError(f"{_where(bundle)}; name the training photos: --calibration FOLDER")
    train = given if recorded is None else recorded[0]
    assert train is not None  # one of the two was found
    if recorded is None:
        notes.append(REPLACED)
    known = recorded is not None and test is None
    if test is not None:
        loaded = load_dataset(test, labels=labels)
        measured = loaded.part("test")
        if recorded is not None and recorded[1] is not None and _is_recorded(bundle, test):
            measured, known = recorded[1], True
    elif recorded is not None and recorded[1] is not None:
        measured = recorded[1]
    elif recorded is not None:
        raise DataError(
            "the photos that the bundle was measured on were given apart from its data, and are "
            "not where they were; name photos to measure on: --test FOLDER"
        )
    else:
        raise DataError(f"{_where(bundle)}; name photos to measure on: --test FOLDER")
    return Samples(
        train=train,
        calibration=train if given is None else given,
        test=measured,
        recorded=recorded is not None,
        test_recorded=known,
        notes=tuple(notes),
    )


def check_unchanged(bundle: Bundle, digests: Iterable[bytes]) -> None:
    """Refuse a training part that is not the one the bundle was fitted on.

    Args:
        bundle: Says what its training part was.
        digests: Of the content of the samples found where the bundle says.

    Raises:
        DataError: They are others.
    """
    found = list(digests)
    known = bundle.manifest.provenance.get("train_digest")
    if hashlib.sha256(b"".join(sorted(found))).hexdigest() != known:
        same = 0 if bundle.checks is None else int(bundle.checks.trained_on(found).sum())
        raise DataError(
            f"the training part at {bundle.manifest.provenance.get('data')} has changed since the "
            f"bundle was made: {same} of the {len(found)} samples there were trained on; restore "
            "it, adapt again, or name the training photos: --calibration FOLDER"
        )


def spread(targets: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """Positions of up to `count` samples, as many of each class as there are, in random order.

    Args:
        targets: (n,) class of each sample.
        count: How many to choose.
        seed: Which ones.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    classes = targets[order]
    # The how-manieth of its class each one is; all first ones come first, then all second ones.
    turn = np.empty(len(order), np.int64)
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        turn[members] = np.arange(len(members))
    return np.asarray(order[np.argsort(turn, kind="stable")[:count]])


def _recorded(bundle: Bundle, *, needed: bool) -> tuple[Dataset, Dataset | None] | None:
    """Training and test part of the data that the bundle was made from, if it is still there.

    Args:
        bundle: Says where it was.
        needed: Whether nothing else will do. If not, data that is there and can't be listed any
            more counts as gone.

    Raises:
        DataError: It is there and can't be listed any more.
    """
    provenance = bundle.manifest.provenance
    place = provenance.get("data")
    try:
        if not isinstance(place, str) or not Path(place).exists():
            return None
        dataset = load_dataset(place, labels=bundle.labels, group_column=group_column(bundle))
        if TEST_DATA in provenance:
            return dataset.part("train"), _separate(bundle)
        return split_as_recorded(dataset, provenance)
    except (EdgetlError, OSError, ValueError) as error:
        if not needed:
            return None
        raise DataError(
            f"the data that the bundle was made from, at {place:.200}, has changed: {error}; name "
            "photos with --calibration FOLDER and --test FOLDER"
        ) from error


def _separate(bundle: Bundle) -> Dataset | None:
    """The test part that was given apart from the data; None where it is gone or was in memory."""
    place = bundle.manifest.provenance.get(TEST_DATA)
    if not isinstance(place, str) or not Path(place).exists():
        return None
    return load_dataset(place, labels=bundle.labels, group_column=group_column(bundle)).part("test")


def split_as_recorded(dataset: Dataset, provenance: Mapping[str, Any]) -> tuple[Dataset, Dataset]:
    """Training and test part of the data of a bundle, as `adapt` split them.

    Args:
        dataset: What lies where the bundle says; parts that it has itself stay.
        provenance: What the bundle, or one of its tasks, recorded of its data.
    """
    return dataset.split(
        test_fraction=provenance.get("test_fraction", 0.2), seed=provenance.get("seed", 0)
    )


def group_column(bundle: Bundle) -> str | None:
    """The column of groups that the bundle's evidence has a report by; None without one."""
    known = {} if bundle.evidence is None else bundle.evidence.extra
    groups = known.get("groups")
    column = groups.get("column") if isinstance(groups, Mapping) else None
    return column if isinstance(column, str) and column else None


def _is_recorded(bundle: Bundle, data: Any) -> bool:
    """Whether data that were given are those that the bundle was made from, or measured on."""
    provenance = bundle.manifest.provenance
    places = (provenance.get("data"), provenance.get(TEST_DATA))
    return isinstance(data, str | Path) and str(Path(data).resolve()) in places


def _where(bundle: Bundle) -> str:
    place = bundle.manifest.provenance.get("data")
    if place is None:
        return "the bundle was made from data in memory, and does not say where it is"
    return f"the data that the bundle was made from is not at {place!s:.200} any more"
