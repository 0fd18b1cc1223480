"""A `BenchReport` as aligned tables for the terminal.

It knows the layout and nothing about the measuring; what it prints is safe to show whatever a path
holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgetl.bundle.evidence_table import printable

if TYPE_CHECKING:
    from edgetl.exporter.bench_report import BenchReport, Side
    from edgetl.exporter.timing import Ratio

_WHAT = {
    "predict": "predict (photo)",
    "engine": "engine (tensor)",
    "bare": "bare onnxruntime",
}
_NONE = "-"


def render(report: BenchReport) -> str:
    """The tables, without a newline at the end."""
    names = _names(report)
    sections = (
        _heading(report, names),
        _latency(report, names),
        _throughput(report, names),
        _cold_start(report, names),
        [f"note: {printable(note)}" for note in report.notes],
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _names(report: BenchReport) -> dict[Side, str]:
    """What the two bundles are called: by precision where that tells them apart."""
    precisions = [subject.precision for subject in report.subjects]
    if len(set(precisions)) == len(precisions):
        return {subject.side: subject.precision for subject in report.subjects}
    return {"bundle": "this", "against": "against"}


def _heading(report: BenchReport, names: dict[Side, str]) -> list[str]:
    """The bundles with their sizes, and the circumstances."""
    rows = [
        [
            names[subject.side],
            printable(subject.path),
            printable(subject.backbone),
            f"{subject.graph} {_megabytes(subject.graph_bytes)}",
            f"bundle {_megabytes(subject.bundle_bytes)}",
        ]
        for subject in report.subjects
    ]
    versions = ", ".join(
        f"{key} {value}"
        for key, value in report.machine.items()
        if key not in {"processor", "cores", "system"}
    )
    height, width = report.photo
    return [
        *_aligned(rows, numbers=0),
        f"{report.engine}; photo of {width} x {height}",
        f"{report.machine.get('processor')}, {report.machine.get('cores')} cores, {versions}",
    ]


def _latency(report: BenchReport, names: dict[Side, str]) -> list[str]:
    compared = names.get("against", "")
    rows = [["one image, ms", "", "p50", "p90", "p99", "calls", "speed / bare"]]
    if len(report.subjects) > 1:
        rows[0].append(f"speed / {compared}")
    for row in report.latency:
        cells = [
            names[row.side],
            _WHAT[row.what],
            *(f"{1e3 * value:.2f}" for value in (row.p50, row.p90, row.p99)),
            f"{row.calls:,}",
            _ratio(row.vs_bare),
        ]
        if len(report.subjects) > 1:
            cells.append(_ratio(row.vs_against))
        rows.append(cells)
    return _aligned(rows, numbers=2)


def _throughput(report: BenchReport, names: dict[Side, str]) -> list[str]:
    """Rows are bundle and threads, columns are batch sizes."""
    batches = sorted({row.batch for row in report.throughput})
    if not batches:
        return []
    rows = [["images per second", "", *(f"batch {batch}" for batch in batches)]]
    for side in dict.fromkeys(row.side for row in report.throughput):
        own = [row for row in report.throughput if row.side == side]
        for threads in dict.fromkeys(row.threads for row in own):
            rates = {row.batch: row for row in own if row.threads == threads}
            rows.append(
                [
                    names[side],
                    _threads(threads),
                    *(
                        f"{rates[batch].images_per_second:.1f}" if batch in rates else _NONE
                        for batch in batches
                    ),
                ]
            )
            if any(row.vs_against for row in rates.values()):
                speeds = (rates[batch].vs_against if batch in rates else None for batch in batches)
                rows.append(["", f"speed / {names['against']}", *map(_short, speeds)])
    return _aligned(rows, numbers=2)


def _cold_start(report: BenchReport, names: dict[Side, str]) -> list[str]:
    """The parts need not add up to the whole: starting the interpreter is in the whole only."""
    if not report.cold_start:
        return []
    rows = [["fresh process", "", "s", "import", "load", "first", "resident", "peak", "starts"]]
    for row in report.cold_start:
        rows.append(
            [
                names[row.side],
                _WHAT[row.what],
                f"{row.seconds:.3f}",
                f"{row.importing:.3f}",
                f"{row.loading:.3f}",
                f"{row.answering:.3f}",
                _megabytes(row.resident_bytes),
                _megabytes(row.peak_bytes),
                str(row.starts),
            ]
        )
    return _aligned(rows, numbers=2)


def _threads(threads: int | None) -> str:
    if threads is None:
        return ""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _ratio(value: Ratio | None) -> str:
    """``1.62 (1.55-1.70)``: the median and the spread over the rounds."""
    return _NONE if value is None else f"{value.median:.2f} ({value.low:.2f}-{value.high:.2f})"


def _short(value: Ratio | None) -> str:
    return _NONE if value is None else f"{value.median:.2f}x"


def _megabytes(size: int | None) -> str:
    return _NONE if size is None else f"{size / 1e6:.1f} MB"


def _aligned(rows: Sequence[Sequence[str]], *, numbers: int) -> list[str]:
    """Columns padded to the widest cell; those from the second on right-aligned from `numbers`."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if numbers and column >= numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
