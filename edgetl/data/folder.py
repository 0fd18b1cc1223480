"""Folders of class folders, with or without parts.

It knows names of files and folders; it opens no file. Which of them are photos is found out when
they are decoded, so that a wrong file is reported by name instead of vanishing for its suffix.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edgetl.data.listing import Listing, class_name, part_of
from edgetl.data.wording import counted, enumerated
from edgetl.errors import DataError

_IGNORED_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
_IGNORED_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
_SIDECARS = (".xmp", ".aae")
"""Edits that photo software keeps beside a photo."""


def read_folder(root: Path) -> Listing:
    """List the samples of a folder.

    Two layouts are understood: ``root/class/**/file`` and ``root/part/class/**/file``, where a part
    is named train, training, test, testing, val, valid or validation in any case. Every file in a
    class folder, at any depth, is a sample, except hidden ones, those that operating systems leave
    behind (Thumbs.db, desktop.ini, ...) and the sidecars .xmp and .aae. Links are followed, but
    no folder is listed twice for a class. Names are relative to `root`, with slashes.

    Raises:
        DataError: A folder can't be listed, no class folder is there, all are empty, or the layout
            can be read in two ways.
    """
    root = Path(os.path.abspath(root))  # noqa: PTH100 - Path.resolve would follow links in names
    listing = Listing(what=str(root))
    folders, files = _children(root)
    parts = _part_folders(root, folders)
    if parts:
        others = [name for name in folders if name not in parts]
        if others:
            listing.notes.append(f"folders beside the parts are not used: {enumerated(others)}")
        for name, part in parts.items():
            _read_part(listing, root / name, prefix=f"{_readable(name)}/", part=part)
    else:
        if not folders:
            raise DataError(_no_classes(root, files))
        _read_part(listing, root, prefix="", part=None)
    if not listing.names:
        raise DataError(
            f"{root} has {counted(len(folders), 'folder')} ({enumerated(folders)}) and not one "
            "sample in them"
        )
    return listing


def read_unlabelled_folder(root: Path) -> Listing:
    """List every file at any depth of a folder, whatever its folders are called.

    Where `root` is divided into parts of class folders, as `read_folder` understands them, those of
    the test part are left out, with a note. What is no photo is found out when it is decoded.

    Raises:
        DataError: A folder can't be listed, or there is no file.
    """
    root = Path(os.path.abspath(root))  # noqa: PTH100 - Path.resolve would follow links in names
    listing = Listing(what=str(root))
    parts = {name: part_of(name) for name in _children(root)[0]}
    tests = [f"{name}/" for name, part in parts.items() if part == "test"]
    if "train" not in parts.values():
        tests = []
    left_out = 0
    for path, below in _walk(root, listing):
        if below.startswith(tuple(tests)):
            left_out += 1
            continue
        listing.names.append(_readable(below))
        listing.sources.append(Path(path))
    if left_out:
        listing.notes.append(
            f"{counted(left_out, 'file')} of the test part in {root} not used as unlabelled"
        )
    if not listing.names:
        raise DataError(f"{root} holds no file")
    return listing


def _part_folders(root: Path, folders: list[str]) -> dict[str, str]:
    """Folder name to part, or nothing where the folders are classes.

    A part holds folders, so that a class may be called "train" as long as it holds its photos
    directly.
    """
    named = {name: part for name in folders if (part := part_of(name)) is not None}
    parts = {name: part for name, part in named.items() if _children(root / name)[0]}
    kinds = set(parts.values())
    others = [name for name in folders if name not in parts]
    if len(kinds) == 1 and [name for name in others if name not in named]:
        raise DataError(
            f"{root} can be read in two ways: {enumerated(list(parts))} holds folders as a part "
            f"does, and beside it are {enumerated(others)}; move either elsewhere"
        )
    if named and not kinds and len(named) == len(folders):
        raise DataError(
            f"{root} holds the parts {enumerated(folders)}, and no class folders in them; put the "
            "photos of each class into a folder named after it"
        )
    return parts


def _read_part(listing: Listing, folder: Path, *, prefix: str, part: str | None) -> None:
    classes, files = _children(folder)
    if files:
        listing.notes.append(
            f"{counted(len(files), 'file')} directly in {folder} not used, for want of a class: "
            f"{enumerated([_readable(name) for name in files])}"
        )
    for name in classes:
        before = len(listing.names)
        for path, below in _walk(folder / name, listing):
            listing.names.append(f"{prefix}{_readable(name)}/{_readable(below)}")
            listing.sources.append(Path(path))
        found = len(listing.names) - before
        listing.classes += [class_name(_readable(name))] * found
        if part is not None:
            listing.parts += [part] * found
        if not found:
            listing.notes.append(f"class folder {prefix + _readable(name)!r} is empty")


def _walk(folder: Path, listing: Listing) -> Iterator[tuple[str, str]]:
    """Path of every sample below a folder, and the same relative to it; in order of name."""
    visited: set[tuple[int, int]] = set()
    waiting = [(str(folder), "")]
    while waiting:
        path, prefix = waiting.pop()
        identity = _identity(path)
        if identity in visited:
            continue
        visited.add(identity)
        below = []
        for entry in _scan(path):
            kind = _kind(entry)
            if kind == "folder":
                below.append((entry.path, f"{prefix}{entry.name}/"))
            elif kind == "file":
                yield entry.path, prefix + entry.name
            elif kind == "special":
                listing.notes.append(f"{_readable(entry.path)} is no regular file and is not used")
        waiting += reversed(below)


def _children(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files directly in a folder."""
    entries = [(entry.name, _kind(entry)) for entry in _scan(str(folder))]
    return (
        [name for name, kind in entries if kind == "folder"],
        [name for name, kind in entries if kind == "file"],
    )


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder} can't be listed: {error.strerror}") from error


def _identity(folder: str) -> tuple[int, int]:
    """Device and number of a folder, the same by whatever link it was reached."""
    status = os.stat(folder)  # noqa: PTH116 - one per folder, none per file
    return status.st_dev, status.st_ino


def _kind(entry: os.DirEntry[str]) -> str:
    """``"folder"``, ``"file"``, ``"ignored"`` or ``"special"``, without a stat where possible."""
    name = entry.name.lower()
    if name.startswith("."):
        return "ignored"
    try:
        if entry.is_dir():
            return "ignored" if name in _IGNORED_FOLDERS else "folder"
        if entry.is_file():
            skipped = name in _IGNORED_NAMES or name.endswith(_SIDECARS)
            return "ignored" if skipped else "file"
    except OSError:  # a link to itself
        return "file"
    # A link to nothing counts as a file, so that it is reported as one that can't be read.
    return "file" if entry.is_symlink() else "special"


def _no_classes(root: Path, files: list[str]) -> str:
    if not files:
        return f"{root} is empty; put the photos of each class into a folder named after it"
    names = enumerated([_readable(name) for name in files])
    return (
        f"{root} holds {counted(len(files), 'file')} ({names}) and no folders; put the photos "
        "of each class into a folder named after it"
    )


def _readable(name: str) -> str:
    """A file name that can be written as UTF-8, whatever bytes the file system has there."""
    if name.isascii():
        return name
    return os.fsencode(name).decode("utf-8", "backslashreplace")
