"""Samples without labels, from whatever holds them. It knows the readers, not how they read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.data.arrays import read_images
from edgetl.data.dataset import Dataset
from edgetl.data.folder import read_unlabelled_folder
from edgetl.data.listing import Listing
from edgetl.data.load import load_dataset
from edgetl.data.table import SUFFIXES
from edgetl.errors import DataError

UNLABELLED = "(unlabelled)"
"""The one class of samples that have none."""


def load_unlabelled(data: Any) -> Dataset:
    """List samples whose classes are not known, or not to be looked at; no photo is opened.

    | `data` | gives |
    | --- | --- |
    | a folder | every file at any depth, but those of a test part beside a train part |
    | a .csv or .parquet file | every row that is not of the test part |
    | a sequence of images | all of them; as in `edgetl.data.arrays.read_images` |
    | a pair, or a `Dataset` | what `load_dataset` gives, but for its test part |

    Raises:
        DataError: There is nothing at the path, or no sample.
        TypeError: `data` is none of these.
    """
    if isinstance(data, Dataset):
        return without_labels(data)
    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        if path.is_dir():
            return _dataset(read_unlabelled_folder(path))
        if path.suffix.lower() in SUFFIXES or not path.exists():
            return without_labels(load_dataset(path))
        raise DataError(f"{path} is neither a folder nor a table ({', '.join(SUFFIXES)})")
    if isinstance(data, tuple) and len(data) == 2:
        return without_labels(load_dataset(data))
    if isinstance(data, Sequence | np.ndarray) and len(data):
        return _dataset(read_images(data))
    raise TypeError(
        f"unlabelled data is a {type(data).__name__}; expected a folder, a table, a sequence of "
        "images or a Dataset"
    )


def without_labels(dataset: Dataset) -> Dataset:
    """The samples of a data set, but for those of its test part, with their classes taken off."""
    train = dataset.part("train")
    return dataclasses.replace(
        train, targets=np.zeros(len(train), dtype=np.int64), labels=(UNLABELLED,)
    )


def _dataset(listing: Listing) -> Dataset:
    return Dataset(
        names=tuple(listing.names),
        sources=tuple(listing.sources),
        targets=np.zeros(len(listing.names), dtype=np.int64),
        labels=(UNLABELLED,),
        notes=tuple(listing.notes),
    )
