"""Tables with a path and a label per row: CSV and Parquet.

It knows columns and rows; it opens no photo. CSV is read as in RFC 4180: commas, double quotes,
UTF-8 with or without a byte order mark, any newlines; no other separator is guessed.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl._extras import require
from edgetl.data.listing import Listing, class_name, part_of
from edgetl.data.wording import counted, enumerated
from edgetl.errors import DataError

SUFFIXES = (".csv", ".parquet", ".pq")

_PROBED = 20
"""Rows whose files are looked for, to tell a wrong base folder from a few missing files."""
_WHOLE_FLOAT = re.compile(r"[+-]?\d+\.0")


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read; `split` may be absent from the table if it is the default.

    No groups are read where `group` is None.
    """

    path: str = "path"
    label: str = "label"
    split: str = "split"
    group: str | None = None


@dataclass(frozen=True)
class _Rows:
    """Cells of the wanted columns, with where each row is found in the file."""

    where: Sequence[int]
    paths: Sequence[Any]
    labels: Sequence[Any]
    parts: Sequence[Any] | None
    groups: Sequence[Any] | None

    @classmethod
    def of(cls, where: Sequence[int], cells: dict[str, Sequence[Any]], columns: Columns) -> _Rows:
        """The rows from the cells of each column that was read."""
        groups = None if columns.group is None else cells[columns.group]
        parts = cells.get(columns.split)
        return cls(where, cells[columns.path], cells[columns.label], parts, groups)


def read_table(path: Path, columns: Columns) -> Listing:
    """List the samples of a table.

    Relative paths are taken from the table's folder, ``~`` is the user's home. Labels are stripped
    of surrounding space and become text: a whole number is written without a fraction, so that
    ``3``, ``3.0`` in Parquet and ``3.0`` in CSV are one class ``"3"``. Names are the paths as
    written. A path with the same label and part twice counts once.

    Args:
        path: A file with one of `SUFFIXES`.
        columns: Which columns to read.

    Raises:
        DataError: The file can't be read, a column is missing, a path or label is empty, a split is
            none of train, val and test, a path has two labels, or none of the first files exists.
    """
    read = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
    try:
        rows = read(path, columns)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}") from error
    if not len(rows.where):
        raise DataError(f"{path} has a header and no rows")
    names = [_text(cell) for cell in rows.paths]
    labels = [class_name(_label(cell, csv=read is _read_csv)) for cell in rows.labels]
    _refuse_empty(path, columns.path, rows.where, names)
    _refuse_empty(path, columns.label, rows.where, labels)
    parts = _parts(path, columns.split, rows)
    groups = None
    if rows.groups is not None:
        groups = [class_name(_label(cell, csv=read is _read_csv)) for cell in rows.groups]
        if not any(groups):
            raise DataError(f"column {columns.group!r} of {path} is empty in every row")
    return _listing(path, rows.where, names, labels, parts, groups)


def _read_csv(path: Path, columns: Columns) -> _Rows:
    where: list[int] = []
    cells: list[list[str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            wanted = _positions(path, header, columns)
            for row in reader:
                if not row:
                    continue  # a blank line
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {counted(len(row), 'cell')} under "
                        f"{counted(len(header), 'column')}; a cell with a comma needs double quotes"
                    )
                where.append(reader.line_num)
                cells.append([row[index] for index in wanted])
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 ({error.reason}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file, line {reader.line_num}: {error}") from error
    read = zip(*cells, strict=True) if cells else ([] for _ in wanted)
    found = {header[index]: column for index, column in zip(wanted, read, strict=True)}
    return _Rows.of(where, found, columns)


def _read_parquet(path: Path, columns: Columns) -> _Rows:
    parquet = require("pyarrow.parquet", extra="cache")
    invalid = (require("pyarrow", extra="cache").ArrowException, UnicodeDecodeError)
    try:
        # One file, even where folders above are named like partitions ("split=train").
        with parquet.ParquetFile(path) as file:
            header = list(file.schema_arrow.names)
            wanted = [header[index] for index in _positions(path, header, columns)]
            table = file.read(columns=wanted)
            found = {name: table.column(name).to_pylist() for name in wanted}
            paths = found[columns.path]
    except invalid as error:
        raise DataError(f"{path} is no Parquet file, or a broken one: {error}") from error
    if paths and isinstance(paths[0], bytes | dict):
        raise DataError(
            f"column {columns.path!r} of {path} holds {type(paths[0]).__name__} values instead of "
            "paths; write the images to files, or pass (images, labels)"
        )
    return _Rows.of(range(1, len(paths) + 1), found, columns)


def _positions(path: Path, header: Sequence[str], columns: Columns) -> list[int]:
    """Where the path, the label and, if there are any, the split and the group column are."""
    wanted = [columns.path, columns.label]
    if columns.split in header or columns.split != Columns.split:
        wanted.append(columns.split)
    if columns.group is not None:
        wanted.append(columns.group)
    wanted = list(dict.fromkeys(wanted))  # groups may be the classes
    missing = [name for name in wanted if header.count(name) != 1]
    if not missing:
        return [header.index(name) for name in wanted]
    how = "`edgetl.load_dataset(path, path_column=..., label_column=...)`"
    if missing[0] == columns.group:
        how = "`--groups COLUMN`, or `edgetl.load_dataset(path, group_column=...)`"
    hint = ""
    if len(header) == 1 and any(sign in header[0] for sign in ";\t|"):
        hint = "; it seems to be separated by something else than commas"
    problem = "twice" if missing[0] in header else "not"
    raise DataError(
        f"column {missing[0]!r} is {problem} in {path}, which has: "
        f"{enumerated(list(header), limit=20) or 'nothing'}{hint}. "
        f"Say which columns to read: {how}"
    )


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _label(cell: Any, *, csv: bool) -> str:
    """A cell as the name of a class; "" if it is empty."""
    if isinstance(cell, float):
        if cell != cell:  # NaN is how data frames write a missing value
            return ""
        return str(int(cell)) if cell.is_integer() else repr(cell)
    text = _text(cell)
    # CSV has no types: "3.0" is how a data frame writes the number 3 in a column of floats.
    return text[:-2] if csv and _WHOLE_FLOAT.fullmatch(text) else text


def _refuse_empty(path: Path, column: str, where: Sequence[int], cells: Sequence[str]) -> None:
    empty = [str(row) for row, cell in zip(where, cells, strict=True) if not cell]
    if empty:
        listed = ", ".join(empty[:10]) + (", ..." if len(empty) > 10 else "")
        raise DataError(
            f"column {column!r} of {path} is empty in {counted(len(empty), 'row')} "
            f"({_unit(path)} {listed}); fill it in or remove the rows"
        )


def _parts(path: Path, column: str, rows: _Rows) -> list[str]:
    if rows.parts is None:
        return []
    parts = []
    for row, cell in zip(rows.where, rows.parts, strict=True):
        part = part_of(_text(cell))
        if part is None:
            raise DataError(
                f"column {column!r} of {path} says {_text(cell)!r} in {_unit(path)} {row}, "
                "expected train, val or test"
            )
        parts.append(part)
    return parts


def _listing(
    table: Path,
    where: Sequence[int],
    names: list[str],
    labels: list[str],
    parts: list[str],
    groups: list[str] | None,
) -> Listing:
    listing = Listing(what=str(table), groups=None if groups is None else [])
    folder = os.path.abspath(table.parent)  # noqa: PTH100 - Path.resolve would follow links
    seen: dict[str, tuple[str, str, set[str]]] = {}
    repeated = 0
    nothing = itertools.repeat("")
    for row, name, label, part, group in zip(
        where, names, labels, parts or nothing, groups or nothing, strict=False
    ):
        source = os.path.normpath(os.path.join(folder, _expanded(name)))  # noqa: PTH118
        first, first_group, in_parts = seen.setdefault(source, (label, group, set()))
        if first != label:
            raise DataError(
                f"{table} gives {name!r} two labels, {first!r} and {label!r} ({_unit(table)} "
                f"{row}); a sample has one"
            )
        if first_group != group:
            raise DataError(
                f"{table} puts {name!r} into two groups, {first_group!r} and {group!r} "
                f"({_unit(table)} {row}); a sample is in one"
            )
        if part in in_parts:
            repeated += 1
            continue
        # The same file in two parts stays in both: it is reported as a duplicate.
        listing.names.append(f"{name} ({part})" if in_parts else name)
        in_parts.add(part)
        listing.sources.append(Path(source))
        listing.classes.append(label)
        if part:
            listing.parts.append(part)
        if listing.groups is not None:
            listing.groups.append(group)
    if repeated:
        listing.notes.append(
            f"{counted(repeated, 'row')} of {table} not used, for repeating another's path"
        )
    _refuse_wrong_folder(table, folder, listing.sources)
    return listing


def _expanded(name: str) -> str:
    return str(Path(name).expanduser()) if name.startswith("~") else name


def _refuse_wrong_folder(table: Path, folder: str, sources: Iterable[Any]) -> None:
    probed = list(itertools.islice(sources, _PROBED))
    if not any(source.exists() for source in probed):
        raise DataError(
            f"none of the first {len(probed)} files of {table} exists, such as {probed[0]}; "
            f"relative paths are taken from the table's folder, {folder}"
        )


def _unit(path: Path) -> str:
    return "line" if path.suffix.lower() == ".csv" else "row"
