"""The top of the page: what the bundle is, how good it is, and what one has to know at once.

It puts figures into sentences for readers who won't see the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edgetl.bundle import Evidence
from edgetl.report.loose import words
from edgetl.report.markup import (
    Child,
    Markup,
    count,
    engine_name,
    interval,
    join,
    megabytes,
    name_of,
    percent,
    points,
    tag,
)
from edgetl.report.subject import Subject

Tone = Literal["good", "fair", "bad"]
_STATED: dict[str, tuple[Tone, str]] = {
    "helps": ("good", "It helps"),
    "no evidence": ("fair", "No evidence that it helps"),
    "hurts": ("bad", "It hurts"),
}
_MATCHED = {"knn"}
"""Baselines that have to be matched, not beaten."""
_MARKS = {"good": "\u2713", "fair": "\u2248", "bad": "\u2717"}
_NAMED = 8
"""So many classes are named at the top; the others are counted."""
BASELINES = {
    "majority": "always answering the most frequent class",
    "knn": "asking the nearest neighbours, without training",
    "raw pixels": "a head on raw pixels",
    "no adaptation": "the same head without the adaptation",
}
"""What baselines are called in a sentence; others go by their own name."""


@dataclass(frozen=True)
class Verdict:
    """What the comparison with the baselines comes to.

    Attributes:
        tone: How good that is.
        title: In a few words.
        text: In a sentence.
    """

    tone: Tone
    title: str
    text: str


def verdict_of(evidence: Evidence) -> Verdict | None:
    """The verdict that the evidence carries, else one by the intervals of the gains.

    None without baselines. Nearest neighbours on the same features need not be beaten: that they do
    as well speaks for the features, not against the model.
    """
    stated = evidence.extra.get("verdict")
    if isinstance(stated, Mapping) and words(stated, "verdict") in _STATED:
        tone, title = _STATED[words(stated, "verdict")]
        head, _, rest = words(stated, "sentence").partition(": ")
        text = rest if head.casefold() == title.casefold() else words(stated, "sentence")
        return Verdict(tone, title, f"{text[:1].upper()}{text[1:]}.")
    if not evidence.baselines:
        return None
    worse = [name for name, base in evidence.baselines.items() if base.gain_high < 0]
    better = [name for name, base in evidence.baselines.items() if base.gain_low > 0]
    level = [name for name in evidence.baselines if name not in (*worse, *better)]
    texts = [f"Better than {_listed(better)}"] if better else []
    if level:
        texts.append(f"{'no' if texts else 'No'} clear difference to {_listed(level)}")
    if worse:
        return Verdict("bad", "Worse than a baseline", f"Worse than {_listed(worse)}.")
    if better and set(level) <= _MATCHED:
        return Verdict("good", "It helps", f"{'; '.join(texts)}.")
    return Verdict("fair", "No evidence that it helps", f"{'; '.join(texts)}.")


def header(subject: Subject) -> Markup:
    """The headline with its figures, the verdict, and what is odd about them."""
    return tag(
        "header",
        tag("p", "edgetl report", class_="eyebrow"),
        tag("h1", name_of(subject.name)),
        tag("p", _what(subject), class_="lead"),
        _tiles(subject),
        _verdict(subject),
        _warnings(subject),
        class_="top",
    )


def sentence(evidence: Evidence) -> Markup:
    """The accuracy in words that need no statistics."""
    right = sum(n for true, predicted, n in evidence.confusion_counts if true == predicted)
    shown = tag("strong", f"{right:,} of {evidence.n_test:,}")
    return join(
        shown,
        f" test photos were answered right. Of 100 new photos like these, about "
        f"{100 * evidence.accuracy:.0f} would be; with so many test photos, anything from "
        f"{100 * evidence.accuracy_low:.0f} to {100 * evidence.accuracy_high:.0f} is compatible "
        f"with what was seen ({percent(evidence.confidence, 0)} confidence).",
    )


def _what(subject: Subject) -> Markup:
    labels = subject.record.labels
    named: list[Child] = []
    for position, label in enumerate(labels[:_NAMED]):
        named += [", " if position else None, name_of(label)]
    more = f", and {len(labels) - _NAMED} more" if len(labels) > _NAMED else ""
    task = f", task {subject.task}" if subject.manifest.tasks else ""
    export = subject.manifest.export
    where = (
        ""
        if export is None
        else f", exported for {engine_name(export.engine)} in {export.precision}"
    )
    return join(
        f"Tells {count(len(labels), 'class', 'classes')} apart: ",
        *named,
        f"{more}. Head {subject.record.head} on {subject.manifest.backbone}{where}{task}.",
    )


def _tiles(subject: Subject) -> Markup:
    evidence = subject.evidence
    tiles = []
    if evidence is not None:
        tiles.append(
            _tile(
                "accuracy",
                percent(evidence.accuracy),
                interval(evidence.accuracy_low, evidence.accuracy_high),
                main=True,
            )
        )
        tiles.append(
            _tile(
                "mean F1 of the classes",
                percent(evidence.macro_f1),
                interval(evidence.macro_f1_low, evidence.macro_f1_high),
            )
        )
        tiles.append(
            _tile(
                "calibration error",
                percent(evidence.ece),
                f"{percent(evidence.mean_confidence)} sure on average",
            )
        )
    tiles += _export_tiles(subject)
    return tag("dl", tiles, class_="tiles")


def _export_tiles(subject: Subject) -> Iterator[Markup]:
    """Size and, where an export was timed, latency."""
    export, size = subject.manifest.export, megabytes(subject.bundle.size)
    graph = subject.manifest.files.get(subject.manifest.graph)
    if export is None or graph is None or not export.float_bytes:
        yield _tile("size", size, "graph, head and evidence")
        return
    smaller = export.float_bytes / graph.size
    note = f"graph {smaller:.1f}\u00d7 smaller" if smaller >= 1.05 else "graph, head and evidence"
    yield _tile("size", size, note)
    speed = next((gate.measured for gate in export.gates if gate.name == "speed"), "")
    latency = re.search(r"([0-9.]+) ms a photo", speed)
    ratio = re.search(r"([0-9.]+) times as fast", speed)
    if latency is not None:
        note = "where it was exported" if ratio is None else f"{ratio[1]}\u00d7 as fast as float32"
        yield _tile("latency", f"{latency[1]}\u00a0ms", note)


def _tile(name: str, value: str, note: str, *, main: bool = False) -> Markup:
    return tag(
        "div",
        tag("dt", name),
        tag("dd", value, class_="value"),
        tag("dd", note, class_="aside") if note else None,
        class_="tile main" if main else "tile",
    )


def _verdict(subject: Subject) -> Markup | None:
    evidence = subject.evidence
    if evidence is None:
        return tag(
            "p",
            "This bundle holds no evidence: nothing is known about how good it is. ",
            "Name labelled photos with --data to measure it.",
            class_="verdict bad",
        )
    verdict = verdict_of(evidence)
    return tag(
        "div",
        tag("span", _MARKS[verdict.tone], class_="mark", aria_hidden="true") if verdict else None,
        tag(
            "div",
            tag("p", tag("strong", verdict.title), ". ", verdict.text) if verdict else None,
            tag("p", sentence(evidence)),
        ),
        class_=f"verdict {verdict.tone if verdict else 'fair'}",
    )


def _warnings(subject: Subject) -> Markup | None:
    items = [tag("li", text) for text in warnings(subject)]
    if not items:
        return None
    return tag(
        "section",
        tag("h2", "Know this first"),
        tag("ul", items),
        class_="first",
        aria_label="Know this first",
    )


def warnings(subject: Subject) -> Iterator[Child]:
    """What makes the figures say less than they seem to."""
    evidence, record = subject.evidence, subject.record
    if subject.measured_now:
        yield "The bundle holds no evidence; these figures were measured when this page was made."
    if subject.changed and record.update is not None:
        yield (
            f"The head has changed since it was measured (generation {record.update.generation}, "
            f"{count(record.update.samples, 'sample')} learned): the evidence is about the head "
            "that was shipped."
        )
    if evidence is None:
        return
    run = evidence.run
    if run.n_duplicates:
        lie = "lies" if run.n_duplicates == 1 else "lie"
        yield (
            f"{count(run.n_duplicates, 'test photo')} also {lie} in the training part: the "
            "accuracy is too high."
        )
    if run.n_skipped:
        were = "was" if run.n_skipped == 1 else "were"
        yield f"{count(run.n_skipped, 'sample')} could not be read and {were} left out."
    few = [
        label
        for label, score in zip(evidence.labels, evidence.per_class, strict=True)
        if score.n < 10
    ]
    if few:
        yield (
            f"{count(len(few), 'class has', 'classes have')} fewer than 10 test photos: "
            "their own figures are rough."
        )
    yield from run.notes


def _listed(names: list[str]) -> str:
    spoken = [BASELINES.get(name, name) for name in names]
    return spoken[0] if len(spoken) == 1 else f"{', '.join(spoken[:-1])} and {spoken[-1]}"


def gain_text(gain: float, low: float, high: float) -> str:
    """A gain with its interval, in points."""
    return f"{points(gain)} points ({points(low)} to {points(high)})"
