"""The bundle that another one was exported from: whether it is here and still that one.

It knows paths, records and hashes. What the two are compared for is not its business.
"""

from __future__ import annotations

import dataclasses
import hashlib

from edgetl.bundle.bundle import Bundle
from edgetl.bundle.export_record import ExportRecord
from edgetl.bundle.manifest import MANIFEST
from edgetl.errors import EdgetlError


def find_source(record: ExportRecord | None) -> tuple[Bundle | None, str]:
    """The bundle that a record names, or why it can't be had.

    The record may be a stranger's: no path in it makes this fail.

    Args:
        record: Of an exported bundle; None of one that was not exported.

    Returns:
        The bundle and ``""``, or None and the reason: words that follow "the bundle that this was
        exported from" or, of a record without a path, a sentence.
    """
    if record is None or not record.source:
        return None, "this one does not say that it was exported from another"
    named = f"the one that this was exported from, {record.source:.200},"
    try:
        source = Bundle.load(record.source)
        digests = manifest_digests(source)
    except (EdgetlError, OSError, ValueError) as error:
        # A path may also be too long for the system, or hold a null byte.
        return None, f"{named} is not at hand ({error!s:.300})"
    if record.source_digest not in digests:
        return None, f"{named} is another one by now"
    return source, ""


def check_source(record: ExportRecord, given: Bundle) -> None:
    """Refuse a bundle that is not the one that a record names.

    Args:
        record: Of an exported bundle.
        given: What is to be its reference.

    Raises:
        ValueError: It is an export itself, or another bundle.
    """
    where = given.path or "a bundle in memory"
    if given.manifest.export is not None:
        raise ValueError(
            f"{where} was exported itself, so it can't be what an export is compared with; give "
            "the bundle that adapt made (--reference BUNDLE)"
        )
    digests = manifest_digests(given)
    if record.source_digest not in digests:
        found = " or ".join(sorted(digest[:12] for digest in digests))
        raise ValueError(
            f"{where} is not the bundle that this one was exported from: its manifest has the hash "
            f"{found}, recorded was {record.source_digest[:12] or 'none'}; give the one from "
            f"{record.source or 'memory'!r:.200}, unchanged"
        )


def manifest_digests(bundle: Bundle) -> set[str]:
    """SHA-256 of a bundle's manifest, by which the record of an export knows its source.

    As the file lies there, as it would be written today where its format is older, and as it was
    while the bundle was only in memory, without files.
    """
    manifest = bundle.manifest
    contents = (manifest.to_bytes(), dataclasses.replace(manifest, files={}).to_bytes())
    return {manifest_digest(bundle), *(hashlib.sha256(content).hexdigest() for content in contents)}


def manifest_digest(bundle: Bundle) -> str:
    """SHA-256 of a manifest as it lies there; one of an older format has other bytes than ours."""
    path = bundle.path
    content = bundle.manifest.to_bytes() if path is None else (path / MANIFEST).read_bytes()
    return hashlib.sha256(content).hexdigest()
