"""Bundles: what ships, written atomically and proved whole when opened."""

from __future__ import annotations

from edgetl.bundle.bundle import Bundle, check_destination
from edgetl.bundle.checks import Checks, probe_batch
from edgetl.bundle.evidence import Evidence
from edgetl.bundle.export_record import ExportRecord, GateRecord, Limits
from edgetl.bundle.manifest import FORMAT, MANIFEST, FileRecord, Manifest

__all__ = [
    "FORMAT",
    "MANIFEST",
    "Bundle",
    "Checks",
    "Evidence",
    "ExportRecord",
    "FileRecord",
    "GateRecord",
    "Limits",
    "Manifest",
    "check_destination",
    "probe_batch",
]
