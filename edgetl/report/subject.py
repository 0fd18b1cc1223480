"""What a report is about: one head of a bundle, with all that is known when the page is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgetl.bundle import Bundle, Evidence, Manifest, TaskRecord
from edgetl.report.answers import Answers


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One head of a bundle.

    Args:
        name: What the page calls the bundle.
        bundle: The bundle.
        task: Whose head.
        evidence: What was measured; None where the bundle has nothing and no samples were at hand.
        measured_now: Whether `evidence` comes from `answers`, since the bundle has none.
        answers: Answers to the samples of the test part; None without samples.
        silence: Why there are no answers, as a sentence; empty if there are.
        select: What ``edgetl select --json`` printed, or None.
        mistakes: How many of the worst mistakes are shown.
    """

    name: str
    bundle: Bundle
    task: str
    evidence: Evidence | None
    measured_now: bool = False
    answers: Answers | None = None
    silence: str = ""
    select: Mapping[str, Any] | None = None
    mistakes: int = 24

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self.bundle.manifest

    @property
    def record(self) -> TaskRecord:
        """What is said about the head."""
        return self.manifest.record(self.task)

    @property
    def changed(self) -> bool:
        """Whether the head is another one than the evidence was measured on."""
        return self.record.update is not None and not self.measured_now

    @property
    def extra(self) -> Mapping[str, Any]:
        """What further parts measured."""
        return {} if self.evidence is None else self.evidence.extra
