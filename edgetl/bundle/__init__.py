"""Bundles: what ships, written atomically and proved whole when opened."""

from __future__ import annotations

from edgetl.bundle.bundle import Bundle, Fitted, check_destination
from edgetl.bundle.checks import Checks, probe_batch
from edgetl.bundle.combine import combine, with_task
from edgetl.bundle.commit import base_fingerprint, check_learnable, commit, shipped, updated
from edgetl.bundle.delta import Delta, DeltaEvidence
from edgetl.bundle.delta_apply import apply_delta, head_after, roll_back, task_of
from edgetl.bundle.delta_make import make_delta
from edgetl.bundle.evidence import Evidence
from edgetl.bundle.export_record import ExportRecord, GateRecord, Limits
from edgetl.bundle.learning import Learning
from edgetl.bundle.manifest import FORMAT, MAIN, MANIFEST, FileRecord, Manifest
from edgetl.bundle.policy import with_policy
from edgetl.bundle.sign import SigningKey, TrustedKey, generate_keys
from edgetl.bundle.task_record import TaskRecord, UpdateRecord

__all__ = [
    "FORMAT",
    "MAIN",
    "MANIFEST",
    "Bundle",
    "Checks",
    "Delta",
    "DeltaEvidence",
    "Evidence",
    "ExportRecord",
    "FileRecord",
    "Fitted",
    "GateRecord",
    "Learning",
    "Limits",
    "Manifest",
    "SigningKey",
    "TaskRecord",
    "TrustedKey",
    "UpdateRecord",
    "apply_delta",
    "base_fingerprint",
    "check_destination",
    "check_learnable",
    "combine",
    "commit",
    "generate_keys",
    "head_after",
    "make_delta",
    "probe_batch",
    "roll_back",
    "shipped",
    "task_of",
    "updated",
    "with_policy",
    "with_task",
]
