"""What `edgetl.select` found, as an object, as JSON and as a table for the terminal.

It knows figures and their layout; what it prints is safe to show whatever a name holds.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgetl.bundle.evidence_table import printable
from edgetl.errors import BudgetError
from edgetl.transfer.choice import Choice, Measured
from edgetl.transfer.strategy import Strategy

_NONE = "-"


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectReport:
    """Backbones measured on one training part of one data set, and which of them to take.

    Attributes:
        data: What the samples were read from, as text; None for samples in memory.
        n_train: Samples of the training part; nothing else was looked at.
        labels: Class names.
        rows: The candidates, in the order they were named.
        choice: The Pareto set, the recommendation and its reasons.
        strategy: How to adapt the recommended backbone; None if there is none.
        max_ms: The budget of latency, None if there was none.
        max_mb: The budget of size, likewise.
        engine: What ran the graphs.
        photo: Height and width of the photo that was timed.
        machine: Processor, cores and versions.
        seed: Of the split and of the folds.
        skipped: Samples that could not be read, with the reason.
        notes: Sentences about the data.
        seconds: What all of it took.
    """

    data: str | None
    n_train: int
    labels: tuple[str, ...]
    rows: tuple[Measured, ...]
    choice: Choice
    strategy: Strategy | None
    max_ms: float | None
    max_mb: float | None
    engine: str
    photo: tuple[int, int]
    machine: Mapping[str, str | int]
    seed: int
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def recommended(self) -> Measured | None:
        """The recommended backbone's figures."""
        return next((row for row in self.rows if row.name == self.choice.recommended), None)

    def require_recommendation(self) -> Measured:
        """The recommended backbone's figures.

        Raises:
            BudgetError: No candidate is within the budgets.
        """
        row = self.recommended
        if row is None:
            raise BudgetError(
                f"{self.choice.reasons[-1]}; name smaller candidates or raise --max-ms, --max-mb"
            )
        return row

    @property
    def next_step(self) -> str | None:
        """The command that adapts as recommended; None without one, or for samples in memory."""
        row = self.recommended
        if row is None or self.strategy is None or self.data is None:
            return None
        words = ["edgetl", "adapt", self.data, "--backbone", row.backbone]
        words += [] if row.weights is None else ["--weights", row.weights]
        if self.strategy.method == "head":
            words += ["--head", self.strategy.head]
        else:
            words += ["--method", self.strategy.method]
            words += [word for option in self.strategy.options for word in ("--set", option)]
        words += ["--seed", str(self.seed)]
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain types."""
        return {
            "data": self.data,
            "n_train": self.n_train,
            "classes": list(self.labels),
            "recommended": self.choice.recommended,
            "pareto": list(self.choice.pareto),
            "reasons": list(self.choice.reasons),
            "strategy": None if self.strategy is None else asdict(self.strategy),
            "next": self.next_step,
            "candidates": [_row_json(self, row) for row in self.rows],
            "max_ms": self.max_ms,
            "max_mb": self.max_mb,
            "engine": self.engine,
            "photo": list(self.photo),
            "machine": dict(self.machine),
            "seed": self.seed,
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }

    def __str__(self) -> str:
        """The tables for the terminal."""
        return render(self)


def render(report: SelectReport) -> str:
    """The tables, without a newline at the end."""
    height, width = report.photo
    heading = (
        f"{report.n_train} training samples of {len(report.labels)} classes; "
        f"photo of {width} x {height} to features by {report.engine} on "
        f"{report.machine.get('processor')}, {report.machine.get('cores')} cores"
    )
    sections = [[heading], _candidates(report), [printable(text) for text in report.choice.reasons]]
    if report.strategy is not None:
        ways = report.strategy.reasons
        rows = [[f"{name}:", printable(reason)] for name, reason in ways.items()]
        sections.append([f"how to adapt {printable(str(report.choice.recommended))}"])
        sections[-1] += _aligned(rows, left=2)
    sections.append([f"note: {printable(note)}" for note in report.notes])
    if report.next_step is not None:
        sections.append([f"next: {printable(report.next_step)} -o TASK.edgetl"])
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _candidates(report: SelectReport) -> list[str]:
    header = ["backbone", "", "accuracy", "95 %", "head", "LogME", "H-score", "kNN", "ridge"]
    rows = [[*header, "LEEP", "NCE", "dim", "ms", "MB", "verdict"]]
    for row in sorted(report.rows, key=lambda row: -row.merit):
        interval = row.interval
        scores = row.scores
        rows.append(
            [
                printable(row.name),
                "pareto" if row.name in report.choice.pareto else "",
                _percent(row.accuracy),
                _NONE if interval is None else f"{_percent(interval[0])}-{_percent(interval[1])}",
                row.head if row.way == "head" else row.way,
                f"{scores.logme:.3f}",
                f"{scores.h_score:.2f}",
                _percent(scores.knn),
                _percent(scores.ridge),
                _NONE if scores.leep is None else f"{scores.leep:.3f}",
                _NONE if scores.nce is None else f"{scores.nce:.3f}",
                str(row.dim),
                f"{row.milliseconds:.2f}",
                f"{row.megabytes:.2f}",
                report.choice.verdicts[row.name],
            ]
        )
    return _aligned(rows, left=2)


def _row_json(report: SelectReport, row: Measured) -> dict[str, Any]:
    low, high = row.interval or (None, None)
    return {
        "name": row.name,
        "backbone": row.backbone,
        "weights": row.weights,
        "dim": row.dim,
        "accuracy": row.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "n_held_out": len(row.hits),
        "head": row.head,
        "heads": row.heads,
        "way": row.way,
        "ways": {name: float(hits.mean()) for name, hits in row.ways.items()},
        **asdict(row.scores),
        "milliseconds": row.milliseconds,
        "milliseconds_p10": row.spread[0],
        "milliseconds_p90": row.spread[1],
        "megabytes": row.megabytes,
        "pareto": row.name in report.choice.pareto,
        "verdict": report.choice.verdicts[row.name],
    }


def _percent(value: float | None) -> str:
    return _NONE if value is None else f"{100 * value:.1f}"


def _aligned(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Columns padded to the widest cell: the first `left` and the last from the left."""
    last = len(rows[0]) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(last + 1)]
    return [
        "  ".join(
            cell.ljust(width) if column < left or column == last else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
