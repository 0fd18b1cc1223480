"""Evidence as a table for the terminal: the figures one decides by, on about one screen.

It knows the layout only; plain text without colours, safe to print whatever a label or a file name
holds.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgetl.bundle.evidence_findings import group_notes, group_rows, verdict_row

if TYPE_CHECKING:
    from edgetl.bundle.evidence import Baseline, Evidence

_CLASSES = 24
"""More classes than this: only the worst ones are shown."""
_WORST = 12
_MATRIX = 12
"""More classes than this: the most frequent confusions instead of the matrix."""
_NAMES = 5
_LABEL_WIDTH = 28


def render(evidence: Evidence) -> str:
    """The table, without a newline at the end."""
    sections = (
        _headline(evidence),
        _candidates(evidence),
        _classes(evidence),
        _groups(evidence),
        _confusion(evidence),
        _circumstances(evidence),
    )
    return "\n\n".join("\n".join(lines) for lines in sections if lines)


def _headline(evidence: Evidence) -> list[str]:
    level = f"{100 * evidence.confidence:g} %"
    right = sum(n for true, predicted, n in evidence.confusion_counts if true == predicted)
    rows = [
        (
            "accuracy",
            f"{_percent(evidence.accuracy)}   {level} interval "
            f"{_interval(evidence.accuracy_low, evidence.accuracy_high)}, "
            f"{right} of {evidence.n_test} test images right",
        ),
        (
            "macro-F1",
            f"{_percent(evidence.macro_f1)}   {level} interval "
            f"{_interval(evidence.macro_f1_low, evidence.macro_f1_high)}",
        ),
    ]
    rows += [(f"  {name}", _against(base)) for name, base in evidence.baselines.items()]
    verdict = verdict_row(evidence.extra)
    if verdict:
        rows.append(("verdict", _clean(verdict, limit=400)))
    rows.append(("calibration", _calibration(evidence)))
    return _aligned(rows)


def _against(baseline: Baseline) -> str:
    """A baseline's accuracy and whether the model is better than it."""
    verdict = "no clear difference to it"
    if baseline.gain_low > 0:
        verdict = "the model is better"
    elif baseline.gain_high < 0:
        verdict = "the model is WORSE"
    return (
        f"{_percent(baseline.accuracy)}   baseline; {verdict}: "
        f"{100 * baseline.gain:+.1f} points "
        f"({100 * baseline.gain_low:+.1f} to {100 * baseline.gain_high:+.1f})"
    )


def _calibration(evidence: Evidence) -> str:
    before = ""
    if evidence.ece_uncalibrated is not None:
        before = (
            f" ({_percent(evidence.ece_uncalibrated).strip()} before temperature "
            f"{evidence.head.temperature:.3g})"
        )
    return (
        f"{_percent(evidence.ece)}   expected calibration error{before}; mean confidence "
        f"{_percent(evidence.mean_confidence).strip()}, log loss {evidence.log_loss:.3f}, "
        f"Brier {evidence.brier:.3f}"
    )


def _candidates(evidence: Evidence) -> list[str]:
    rows = evidence.head.candidates
    if not rows:
        return [f"head         {evidence.head.kind}"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = _table(
        [column.replace("_", " ") for column in columns],
        [[_value(row.get(column)) for column in columns] for row in rows],
    )
    how = "chosen" if len(rows) > 1 else "judged"
    title = f"head         {evidence.head.kind}, {how} by held-out training samples:"
    return [title, *(f"  {line}" for line in lines)]


def _classes(evidence: Evidence) -> list[str]:
    order = list(range(len(evidence.labels)))
    title = "class"
    if len(order) > _CLASSES:
        seen = [index for index in order if evidence.per_class[index].n]
        order = sorted(seen, key=lambda index: evidence.per_class[index].f1)[:_WORST]
        title = f"class (worst {len(order)} of {len(evidence.labels)})"
    rows = []
    for index in order:
        score = evidence.per_class[index]
        scores = (score.precision, score.recall, score.f1)
        rows.append(
            [
                _clean(evidence.labels[index]),
                *(_percent(value) if score.n else "-" for value in scores),
                str(score.n),
                str(score.n_train),
            ]
        )
    return _table([title, "precision", "recall", "F1", "test", "train"], rows)


def _groups(evidence: Evidence) -> list[str]:
    rows = group_rows(evidence.extra, _clean)
    notes = group_notes(evidence.extra, lambda text: _clean(text, limit=400))
    return [*(_table(rows[0], rows[1:]) if rows else []), *_aligned(notes)]


def _confusion(evidence: Evidence) -> list[str]:
    if len(evidence.labels) <= _MATRIX:
        numbers = [str(index + 1) for index in range(len(evidence.labels))]
        rows = [
            [f"{number} {_clean(label)}", *(str(count) if count else "." for count in counts)]
            for number, label, counts in zip(
                numbers, evidence.labels, evidence.confusion, strict=True
            )
        ]
        return _table(["true class, predicted as", *numbers], rows)
    wrong = [entry for entry in evidence.confusion_counts if entry[0] != entry[1]]
    wrong.sort(key=lambda entry: -entry[2])
    if not wrong:
        return ["no test image was confused"]
    rows = [
        [
            _clean(evidence.labels[true]),
            _clean(evidence.labels[predicted]),
            f"{count} of {evidence.per_class[true].n}",
        ]
        for true, predicted, count in wrong[:_WORST]
    ]
    return _table(["most confused", "taken for", "times"], rows, left=2)


def _method(evidence: Evidence) -> str:
    """A method's name and why it did what it did; nothing of the plain one."""
    record = evidence.extra.get("method")
    if not isinstance(record, dict) or record.get("name", "head") == "head":
        return ""
    name, reason = (_clean(str(record.get(key, "")), limit=400) for key in ("name", "reason"))
    return f"{name}: {reason}" if reason else name


def _circumstances(evidence: Evidence) -> list[str]:
    run = evidence.run
    rows = [
        ("method", _method(evidence)),
        ("data", f"{evidence.n_train} training and {evidence.n_test} test images"),
        ("skipped", _listed(run.n_skipped, (f"{_clean(n)} ({_clean(r)})" for n, r in run.skipped))),
        (
            "duplicates",
            _listed(
                run.n_duplicates,
                (f"{_clean(train)} = {_clean(test)}" for train, test in run.duplicates),
                tail=" (in training and test: the accuracy is too high)",
            ),
        ),
        *(("note", _clean(note, limit=400)) for note in run.notes),
        ("backbone", f"{_clean(run.backbone)} on {_clean(run.engine)}"),
        (
            "run",
            f"{run.seconds:.1f} s, {run.images_per_second:.4g} images/s, "
            f"{run.cache_hits} features cached, {run.cache_misses} computed",
        ),
        ("seed", f"{run.seed}" + (f", {_clean(run.started_at)}" if run.started_at else "")),
        (
            "versions",
            ", ".join(f"{_clean(name)} {_clean(text)}" for name, text in run.versions.items()),
        ),
    ]
    return _aligned([row for row in rows if row[1]])


def _listed(count: int, names: Iterable[str], *, tail: str = "") -> str:
    """A count with the first few names, or nothing where there are none."""
    if not count:
        return ""
    shown = list(names)[:_NAMES]
    more = f", and {count - len(shown)} more" if count > len(shown) else ""
    return f"{count}: " + ", ".join(shown) + more + tail


def _aligned(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name:<12} {text}" for name, text in rows]


def _table(header: list[str], rows: list[list[str]], *, left: int = 1) -> list[str]:
    """Columns as wide as their content; the first `left` ones aligned left, the others right."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(_width, column)) for column in columns]
    return [
        "  ".join(
            _padded(cell, width, left=index < left)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [header, *rows]
    ]


def _padded(text: str, width: int, *, left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if left else space + text


def _width(text: str) -> int:
    """Columns that a text takes in a terminal (Unicode Standard Annex 11)."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def printable(text: str) -> str:
    """A text without what could steer the terminal or break a line: ``?`` stands in its place."""
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else "?" for c in text)


def _clean(text: str, *, limit: int = _LABEL_WIDTH * 3) -> str:
    """Text that can't steer the terminal, shortened in its middle if it is long."""
    text = printable(text)
    if len(text) > limit:
        text = f"{text[: limit // 2]}...{text[len(text) - limit // 2 + 3 :]}"
    return text


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else _clean(str(value))


def _percent(value: float) -> str:
    return f"{100 * value:5.1f} %"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f} %"
