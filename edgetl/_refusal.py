"""Refusing an adaptation whose verdict is bad: an error, the evidence kept, and nothing shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeAlias

from edgetl.bundle import Evidence
from edgetl.errors import AccuracyError

Refuse: TypeAlias = Literal["never", "hurts", "no evidence"]
REFUSE: tuple[Refuse, ...] = ("never", "hurts", "no evidence")
"""``"no evidence"`` refuses what hurts too."""


def refuse_negative(evidence: Evidence, refuse: Refuse, *, output: Path | None, what: str) -> None:
    """Raise an error if the verdict in the evidence is one that is refused.

    Args:
        evidence: With the verdict of `edgetl.evaluate.judge` in its `extra`.
        refuse: Which verdicts are.
        output: Where a bundle would have been written; the evidence is written beside it, with
            ``.evidence.json`` added to its name. None writes nothing.
        what: What is refused, for the message.

    Raises:
        AccuracyError: It is refused; the error has the evidence.
    """
    verdict = evidence.extra["verdict"]
    bad = {"never": (), "hurts": ("hurts",), "no evidence": ("hurts", "no evidence")}[refuse]
    if verdict["verdict"] not in bad:
        return
    where = ""
    if output is not None:
        file = evidence_file(output)
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(evidence.to_json(), indent=2, ensure_ascii=False)
        file.write_text(text + "\n", encoding="utf-8")
        where = f"; no bundle was written, the evidence is in {file}"
    error = AccuracyError(f"{what} is refused: {verdict['sentence']}{where}")
    error.evidence = evidence
    raise error


def evidence_file(output: Path) -> Path:
    """Where the evidence of a refused adaptation goes."""
    return output.with_name(output.name + ".evidence.json")
