"""The demo's folder: taken if it is empty or an earlier demo's, refused if it is somebody's own.

It knows which names the demo gives its files, and nothing about what is in them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

MARKER = ".edgetl-demo"
"""The file that says a folder is a demo's."""

_OWN = re.compile(
    r"README\.txt|photos|new|keys|report\.html|(update|tampered)\.etlh"
    r"|((parts|digits)(-int8|-fp32)?|((second|third)-)?device)\.edgetl"
)
_HALF_WRITTEN = re.compile(rf"\.({_OWN.pattern})(\.\w+)+")
"""What a demo that was killed leaves: its own files, not yet renamed."""
_PHOTO = re.compile(r"(synthetic|digit)-\d{4}\.(jpg|png)")
_KEY = re.compile(r"(own-)?(key|pub)\.pem")
_INSIDE = {"photos": _PHOTO, "new": _PHOTO, "keys": _KEY}
"""What files are called in the folders that somebody may have put something into."""
_LEFT_BEHIND = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What file managers leave where somebody has looked."""


def take_folder(folder: Path) -> None:
    """Make a folder the demo's own, empty but for the marker.

    Raises:
        FileExistsError: It is a file, or holds what no demo made; nothing was changed.
    """
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder: edgetl demo FOLDER")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    if found and not (folder / MARKER).is_file():
        raise FileExistsError(
            f"{folder} holds {found[0].name!r} and was not made by edgetl demo; name another "
            "folder: edgetl demo FOLDER"
        )
    strange = _strange(found)
    if strange is not None:
        raise FileExistsError(
            f"{strange} is not of the demo's making, and the demo would replace it; move it away, "
            "or name another folder: edgetl demo FOLDER"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("edgetl demo\n", encoding="utf-8")  # first: a stop here is no harm
    for entry in found:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARKER:
            entry.unlink()


def _strange(found: list[Path]) -> Path | None:
    """The first file that no demo wrote."""
    for entry in found:
        if entry.name in {MARKER, *_LEFT_BEHIND}:
            continue
        if _HALF_WRITTEN.fullmatch(entry.name):
            continue
        if not _OWN.fullmatch(entry.name):
            return entry
        names = _INSIDE.get(entry.name)
        if names is None:
            continue
        for file in sorted(entry.rglob("*")):
            known = file.is_dir() or file.name in _LEFT_BEHIND or names.fullmatch(file.name)
            if not known:
                return file
    return None
