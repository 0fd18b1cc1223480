"""One entrance for every kind of data. It knows which reader takes what, not how they read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from edgetl.data.arrays import read_arrays
from edgetl.data.dataset import Dataset
from edgetl.data.folder import read_folder
from edgetl.data.listing import Listing, refuse_unfit, remapped, to_dataset
from edgetl.data.table import SUFFIXES, Columns, read_table
from edgetl.errors import DataError

Data: TypeAlias = str | Path | tuple[Any, Any] | Dataset
"""A folder, a table, a pair (images, labels), or a dataset."""


def load_dataset(
    data: Data,
    *,
    labels: Sequence[str] | None = None,
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = "split",
    group_column: str | None = None,
    untrained: Sequence[str] = (),
) -> Dataset:
    """List labelled samples; no photo is opened.

    | `data` | is |
    | --- | --- |
    | a folder | class folders, or parts (train, test or val) of class folders |
    | a .csv or .parquet file | one row per sample, with a path, a label and maybe a split |
    | a pair (images, labels) | in memory; see `edgetl.data.arrays.read_arrays` |
    | a `Dataset` | returned as it is, its classes matched to `labels` if given |

    The parts become two: where there are train, val and test, val is trained on (heads are chosen
    by cross-validation, which needs no part of its own); where there is no test, val is the test
    part. A single part counts as no split. A class that has training samples and no test samples is
    noted, one with test samples only is an error. Class names are compared as Unicode NFC and with
    case, and sorted by code point (``"10"`` before ``"2"``).

    Args:
        data: See the table.
        labels: Classes of an existing model: samples are numbered by them, in their order. None
            takes the classes found, of which there must be two.
        path_column: Column with the paths of a table's samples.
        label_column: Column with their classes.
        split_column: Column with ``train``, ``val`` or ``test``; not needed under its default name.
        group_column: Column with the group of each sample, for reports by group; a sample with an
            empty cell is in none. None reads no groups; a `Dataset` keeps its own.
        untrained: Classes that may have test samples alone, as they are known otherwise.

    Raises:
        DataError: There is nothing at the path, no sample in it, a table with gaps; groups are
            asked for of what is no table; a class is not
            among `labels`; or, without `labels`, there is one class only, or one that has test
            samples and no training samples, or in a `Dataset` one that has no samples; or an array
            has no pixels.
        TypeError: `data` is none of these.
        ValueError: Images and labels of a pair do not fit.
    """
    if isinstance(data, Dataset):
        if group_column is not None and data.groups is None:
            raise DataError(
                f"the dataset has no groups, so there is no {group_column!r} among them"
            )
        if labels is not None:
            return remapped(data, labels)
        refuse_unfit(data, untrained)
        return data
    columns = Columns(path_column, label_column, split_column, group_column)
    return to_dataset(_listing(data, columns), labels, untrained)


def _listing(data: Any, columns: Columns) -> Listing:
    if isinstance(data, tuple) and len(data) == 2:
        _refuse_groups("a pair of images and labels", columns)
        return read_arrays(*data)
    if not isinstance(data, str | Path):
        raise TypeError(
            f"data is a {type(data).__name__}; expected a folder, a table, a pair (images, labels) "
            "or a Dataset"
        )
    path = Path(data).expanduser()
    if path.is_dir():
        _refuse_groups(f"{path}, a folder,", columns)
        return read_folder(path)
    if not path.exists():
        raise DataError(f"there is nothing at {path}")
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"{path} is neither a folder nor a table; tables end in {', '.join(SUFFIXES)}"
        )
    return read_table(path, columns)


def _refuse_groups(what: str, columns: Columns) -> None:
    if columns.group is not None:
        raise DataError(
            f"{what} has no column {columns.group!r}; groups are a column of a table: list the "
            "samples in a .csv or .parquet file with path, label and group"
        )
