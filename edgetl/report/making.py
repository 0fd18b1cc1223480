"""Sections about how the bundle came about: method, heads, backbones, export, learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgetl.bundle import ExportRecord, GateRecord
from edgetl.report.charts import Contender, contest
from edgetl.report.loose import number, numbers, objects, outline, words
from edgetl.report.markup import (
    Child,
    Markup,
    count,
    engine_name,
    interval,
    join,
    megabytes,
    moment,
    name_of,
    percent,
    tag,
    value_text,
)
from edgetl.report.section import Section, paragraph, small
from edgetl.report.subject import Subject
from edgetl.report.tables import facts, folded, table

_PLAIN = "head"
"""The name of the method that leaves the network as it is."""
_TOLD = {"options": "Its options", "details": "What it told"}
_TRIED = 40
"""So many rows of a search are shown."""
_SHARES = {"accuracy", "accuracy_low", "accuracy_high"}


def method_section(subject: Subject) -> Section | None:
    """How the network or the head was adapted, and which heads there were to choose from."""
    evidence = subject.evidence
    if evidence is None:
        return None
    content: list[Child] = []
    method = subject.extra.get("method")
    if isinstance(method, Mapping):
        content += _method(method)
    rows = evidence.head.candidates
    chosen = evidence.head.kind
    if len(rows) > 1:
        columns = list(dict.fromkeys(key for row in rows for key in row if key != "chosen"))
        marked = [position for position, row in enumerate(rows) if row.get("chosen") is True]
        content += [
            paragraph(
                "Head: ",
                tag("strong", chosen),
                f", chosen among {len(rows)} by held-out samples of the training part alone.",
            ),
            table(
                "Heads that were tried",
                [column.replace("_", " ") for column in columns],
                [[_cell(column, row.get(column)) for column in columns] for row in rows],
                kinds=dict.fromkeys(marked, "chosen"),
            ),
        ]
    else:
        content.append(paragraph("Head: ", tag("strong", chosen), "."))
    return Section("method", "How it was adapted", tuple(content))


def _method(method: Mapping[str, Any]) -> Iterator[Child]:
    """A method's name, options and what it told; of the plain one only why it chose its head."""
    name, paper, reason = (words(method, key) for key in ("name", "paper", "reason"))
    if name and name != _PLAIN:
        source = f" ({paper})" if paper else ""
        yield paragraph("Adapted by ", tag("strong", name_of(name)), f"{source}.")
    elif name:
        yield paragraph("A head on the frozen network.")
    if reason:
        yield paragraph(f"{reason[:1].upper()}{reason[1:]}".rstrip("."), ".")
    for key, value in method.items():
        if key not in ("name", "paper", "reason", "plain_head", "learns") and value:
            title = _TOLD.get(key, key)
            yield folded(title, outline(value, f"{name} {key}"))


def backbones_section(subject: Subject) -> Section | None:
    """The backbones that were measured on the same task, and what was recommended."""
    select = subject.select
    if select is None:
        return None
    recommended = words(select, "recommended")
    rows = objects(select, "candidates")
    rows.sort(key=lambda row: (-(number(row, "accuracy") or 0.0), words(row, "name")))
    contenders = [
        item
        for mark, row in enumerate(rows, start=1)
        if (item := _contender(row, str(mark), recommended)) is not None
    ]
    content: list[Child] = [paragraph(text, ".") for text in _sentences(select)]
    if contenders:
        label = (
            f"Cross-validated accuracy against latency of {len(contenders)} backbones, with "
            "intervals; the figures are in the table below it."
        )
        content.append(
            tag(
                "figure",
                contest(contenders, budget=number(select, "max_ms"), label=label),
                tag(
                    "figcaption",
                    "The line joins the backbones that no other one beats in both; the ring is the "
                    "recommended one. Upright bars: 95 % intervals; level ones: from the fastest "
                    "to the slowest tenth of the calls.",
                ),
            )
        )
    content += [_backbone_table(rows, recommended), _select_notes(subject, select)]
    return Section("backbones", "Backbones compared", tuple(content))


def export_section(subject: Subject) -> Section | None:
    """The gates that an exported bundle passed, and what was tried."""
    record = subject.manifest.export
    if record is None:
        return None
    gates = [
        [
            gate.name,
            tag("span", _outcome(gate), class_="good" if gate.passed else "bad"),
            gate.measured,
            join(tag("span", "asked: ", class_="phone"), gate.limit),
        ]
        for gate in record.gates
    ]
    accuracy = {
        "float32": "before the export",
        "before refit": "exported, the head as it was",
        "shipped": "as shipped",
    }
    shares = [
        f"{accuracy.get(name, name)} {percent(value)}" for name, value in record.accuracy.items()
    ]
    options = {key: value for key, value in record.options.items() if value not in (None, False)}
    options.pop("engine_stamp", None)
    return Section(
        "export",
        "Export and its gates",
        (
            paragraph(
                f"Exported for {engine_name(record.engine)} in {record.precision}",
                ", with the head inside the graph" if record.fused else "",
                ". What is here passed every gate on the machine that exported it.",
            ),
            table(
                "Gates of the export",
                ["gate", "outcome", "measured", "asked"],
                gates,
                left=(0, 1, 2, 3),
                stacked=True,
            ),
            facts(
                {
                    "accuracy": "; ".join(shares),
                    "graph": _graph_size(subject, record),
                    "machine": ", ".join(f"{k} {v}" for k, v in record.machine.items()),
                    "options": ", ".join(f"{k} {value_text(v)}" for k, v in options.items()),
                    "search": words(record.search, "reason"),
                    "made from": name_of(record.source, limit=80) if record.source else None,
                    "its manifest": _digest(record.source_digest),
                }
            ),
            _search(record),
        ),
    )


def learning_section(subject: Subject) -> Section | None:
    """What the bundle can learn on from, what it has learned, and its further tasks."""
    manifest, record = subject.manifest, subject.record
    learning = subject.bundle.fitted(subject.task).learning
    rows: dict[str, Child] = {}
    if record.fixed_by:
        rows["learns"] = f"no: the method {record.fixed_by} made its head"
    elif learning is None:
        rows["memory"] = "none: it keeps no samples to learn on from"
    else:
        kept = len(learning.features)
        rows["memory"] = (
            f"{count(kept, 'sample')} kept as features, {len(learning.guard_features):,} more to "
            "judge updates by"
        )
        rows["novelty"] = "says when a photo is like none it knows" if learning.novelty else "no"
    update = record.update
    if update is None:
        rows["updates"] = "none: the head is the one that was shipped"
    else:
        new = [name for name in record.labels if name not in update.base_labels]
        gone = [name for name in update.base_labels if name not in record.labels]
        rows |= {
            "updates": f"generation {update.generation}, {moment(update.created)}",
            "samples learned": f"{update.samples:,}",
            "new classes": ", ".join(new),
            "classes forgotten": ", ".join(gone),
            "on kept samples": _before_after(update.accuracy_before, update.accuracy_after),
            "signed head update": f"number {update.applied}" if update.applied else "",
            "shipped head": _digest(update.base),
        }
    others = [name for name in (manifest.task, *manifest.tasks) if name != subject.task]
    if others:
        rows["further tasks"] = "; ".join(_task(subject, name) for name in others)
    return Section("learning", "Learning and updates", (facts(rows),))


def _cell(column: str, value: Any) -> Child:
    if column in _SHARES and isinstance(value, float):
        return percent(value)
    return value_text(value)


def _contender(row: Mapping[str, Any], mark: str, recommended: str) -> Contender | None:
    figures = numbers(row, "accuracy", "accuracy_low", "accuracy_high", "milliseconds")
    if figures is None or figures[3] <= 0:
        return None
    accuracy, low, high, milliseconds = figures
    name = words(row, "name")
    return Contender(
        mark=mark,
        name=name,
        accuracy=accuracy,
        low=low,
        high=high,
        milliseconds=milliseconds,
        fast=number(row, "milliseconds_p10") or milliseconds,
        slow=number(row, "milliseconds_p90") or milliseconds,
        pareto=row.get("pareto") is True,
        recommended=bool(name) and name == recommended,
    )


def _sentences(select: Mapping[str, Any]) -> list[str]:
    reasons = select.get("reasons")
    found = [text for text in reasons if isinstance(text, str)] if isinstance(reasons, list) else []
    return [text.rstrip(".") for text in found[:8]]


def _backbone_table(rows: list[Mapping[str, Any]], recommended: str) -> Markup:
    cells: list[list[Child]] = []
    for mark, row in enumerate(rows, start=1):
        ends = numbers(row, "accuracy_low", "accuracy_high")
        accuracy = number(row, "accuracy")
        cells.append(
            [
                join(f"{mark}. ", name_of(words(row, "name"))),
                "\u2014" if accuracy is None else percent(accuracy),
                "\u2014" if ends is None else interval(*ends),
                _figure(row, "milliseconds", ".2f"),
                _figure(row, "megabytes", ".1f"),
                words(row, "head") or "\u2014",
                _figure(row, "logme", ".3f"),
                "\u2014" if not number(row, "dim") else f"{number(row, 'dim'):,.0f}",
                words(row, "verdict") or "\u2014",
            ]
        )
    columns = ["backbone", "accuracy", "95 % interval", "ms", "MB", "head", "LogME", "features", ""]
    best = [position for position, row in enumerate(rows) if words(row, "name") == recommended]
    return table(
        "Figures of each backbone",
        [*columns[:-1], "verdict"],
        cells,
        left=(0, 5, 8),
        kinds=dict.fromkeys(best, "chosen"),
    )


def _figure(row: Mapping[str, Any], key: str, form: str) -> str:
    value = number(row, key)
    return "\u2014" if value is None else format(value, form).replace("-", "\u2212")


def _select_notes(subject: Subject, select: Mapping[str, Any]) -> Markup:
    machine = select.get("machine")
    where = ""
    if isinstance(machine, Mapping):
        where = (
            f", on {value_text(machine.get('processor'))}, {value_text(machine.get('cores'))} cores"
        )
    names = {
        words(row, key) for row in objects(select, "candidates") for key in ("name", "backbone")
    }
    other, engine = "", engine_name(words(select, "engine")) or "its engine"
    if subject.manifest.backbone not in names:
        other = f" This bundle's backbone, {subject.manifest.backbone}, was not among them."
    return small(
        f"Accuracy is cross-validated on {int(number(select, 'n_train') or 0):,} training photos, "
        f"latency that of one photo by {engine}{where}.{other}"
    )


def _outcome(gate: GateRecord) -> str:
    return {True: "\u2713 passed", False: "\u2717 failed", None: "not run"}[gate.passed]


def _graph_size(subject: Subject, record: ExportRecord) -> str:
    file = subject.manifest.files.get(subject.manifest.graph)
    if file is None:
        return ""
    before = f" after {megabytes(record.float_bytes)} in float32" if record.float_bytes else ""
    return f"{megabytes(file.size)}{before}"


def _search(record: ExportRecord) -> Markup | None:
    rows = objects(record.search, "candidates")
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    shown = rows[:_TRIED]
    more = "" if len(rows) == len(shown) else f", the first {len(shown)} shown"
    return folded(
        f"What was tried: {count(len(rows), 'candidate')}{more}",
        table(
            "What was tried",
            [column.replace("_", " ") for column in columns],
            [[_cell(column, row.get(column)) for column in columns] for row in shown],
            left=(0, len(columns) - 1),
        ),
    )


def _before_after(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    return f"accuracy {percent(before)} before, {percent(after)} after"


def _task(subject: Subject, name: str) -> str:
    record = subject.manifest.record(name)
    evidence = record.evidence
    figure = "" if evidence is None else f", accuracy {percent(evidence.accuracy)}"
    return f"{name} ({count(len(record.labels), 'class', 'classes')}{figure})"


def _digest(digest: str) -> Markup | None:
    return tag("code", digest) if digest else None
