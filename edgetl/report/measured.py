"""Sections about what was measured: accuracy and baselines, classes, confusions, calibration.

They show the evidence of the bundle, and answers to samples where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgetl.bundle import Evidence
from edgetl.evaluate.metrics import wilson_interval
from edgetl.report.answers import Answers
from edgetl.report.charts import reliability
from edgetl.report.draw import Line, forest, strip, strip_scale
from edgetl.report.headline import gain_text
from edgetl.report.loose import number, numbers, objects, words
from edgetl.report.markup import (
    Child,
    Markup,
    chance,
    count,
    engine_name,
    interval,
    join,
    name_of,
    percent,
    tag,
)
from edgetl.report.section import Section, paragraph, small
from edgetl.report.subject import Subject
from edgetl.report.tables import folded, heat_map, table

_CLASSES = 40
"""More classes than this: the worst ones are shown and the others folded."""
_WORST = 20
_REST = 500
"""So many of the others at most, by rising F1: a page has to be opened by a phone."""
_MATRIX = 30
"""More classes than this: the most frequent confusions without the matrix."""
_CONFUSIONS = 8
_SIDE_BY_SIDE = 9
"""So many classes at most, and the matrix leaves room for the list beside it."""
_SHORT = {"majority": "most frequent class", "knn": "nearest neighbours"}
"""What baselines are called where there is little room; others go by their own name."""


def accuracy_section(subject: Subject) -> Section | None:
    """The accuracy beside the baselines', and the gain over each."""
    evidence = subject.evidence
    if evidence is None:
        return None
    panels = [_panel("Accuracy", _accuracies(evidence))]
    if evidence.baselines:
        panels.append(_panel("Gain over each baseline", _gains(evidence)))
    level = percent(evidence.confidence, 0)
    return Section(
        "evidence",
        "Evidence",
        (
            tag("div", panels, class_="panels"),
            small(
                f"Bars are {level} intervals: of the accuracy by Wilson, of the gain for paired "
                "answers (Bonett and Price). A gain is evidence where its bar stays clear of zero. "
                f"Log loss {evidence.log_loss:.3f}, Brier score {evidence.brier:.3f}. "
                f"{evidence.n_train:,} training and {evidence.n_test:,} test photos.",
            ),
            _tests(evidence),
        ),
    )


def _accuracies(evidence: Evidence) -> Markup:
    """The model and its baselines on one scale; of those the interval is ours, by the counts."""
    answered = {
        words(item, "name"): int(number(item, "n") or 0) or evidence.n_test
        for item in _comparisons(evidence)
    }
    model = (evidence.accuracy, evidence.accuracy_low, evidence.accuracy_high)
    lines = [_accuracy(tag("strong", "this model"), model, "accent")]
    for name, base in evidence.baselines.items():
        n = answered.get(name, evidence.n_test)
        ends = wilson_interval(round(base.accuracy * n), n, confidence=evidence.confidence)
        lines.append(_accuracy(_baseline(name), (base.accuracy, *ends), "plain"))
    return forest(lines, strip_scale(0, 1), unit="test photos answered right, %")


def _accuracy(label: Child, figures: tuple[float, float, float], tone: str) -> Line:
    value, low, high = figures
    note = f"{percent(value)}, {interval(low, high)}"
    return Line(label=label, note=note, value=value, low=low, high=high, tone=tone)


def _gains(evidence: Evidence) -> Markup:
    """The gains over the baselines, around zero."""
    lines = []
    for name, base in evidence.baselines.items():
        verdict, tone = "no clear difference", "plain"
        if base.gain_low > 0:
            verdict, tone = "better", "accent"
        elif base.gain_high < 0:
            verdict, tone = "worse", "warm"
        lines.append(
            Line(
                label=join("over ", _baseline(name)),
                note=f"{gain_text(base.gain, base.gain_low, base.gain_high)}: {verdict}",
                value=base.gain,
                low=base.gain_low,
                high=base.gain_high,
                tone=tone,
            )
        )
    least = min(0.0, *(base.gain_low for base in evidence.baselines.values()))
    most = max(0.0, *(base.gain_high for base in evidence.baselines.values()))
    room = 0.06 * (most - least) + 0.005
    scale = strip_scale(max(-1.0, least - room), min(1.0, most + room))
    return forest(lines, scale, unit="percentage points, on the same photos", zero=0.0)


def _tests(evidence: Evidence) -> Markup | None:
    """The paired tests behind a verdict that the evidence carries."""
    rows: list[list[Child]] = []
    for item in _comparisons(evidence):
        figures = numbers(item, "gained", "lost", "p_value", "p_adjusted")
        if figures is None:
            continue
        gained, lost, p, adjusted = figures
        rows.append(
            [
                _baseline(words(item, "name")),
                words(item, "role"),
                f"{gained:,.0f}",
                f"{lost:,.0f}",
                chance(p),
                chance(adjusted),
            ]
        )
    if not rows:
        return None
    columns = ["baseline", "role", "only the model right", "only it right", "p", "corrected p"]
    return folded(
        "The tests behind the verdict",
        table("Exact McNemar tests, corrected by Holm", columns, rows, left=(0, 1)),
    )


def _comparisons(evidence: Evidence) -> list[Mapping[str, Any]]:
    """What the verdict says of each baseline, which may have answered some of the samples only."""
    stated = evidence.extra.get("verdict")
    return objects(stated, "comparisons") if isinstance(stated, Mapping) else []


def _panel(title: str, content: Markup) -> Markup:
    return tag("div", tag("h3", title), content, class_="panel")


def classes_section(subject: Subject) -> Section | None:
    """Precision, recall and F1 of each class."""
    evidence = subject.evidence
    if evidence is None:
        return None
    order = list(range(len(evidence.labels)))
    title = "Every class, with the share of its test photos that were found"
    rest: list[int] = []
    if len(order) > _CLASSES:
        seen = [index for index in order if evidence.per_class[index].n]
        seen.sort(key=lambda index: (evidence.per_class[index].f1, index))
        chosen = seen[:_WORST]
        others = set(order) - set(chosen)
        rest = sorted(others, key=lambda index: (evidence.per_class[index].f1, index))[:_REST]
        order = chosen
        title = f"The {len(chosen)} classes with the lowest F1, of {len(evidence.labels)}"
    return Section(
        "classes",
        "Classes",
        (
            paragraph(title, "."),
            _class_table(evidence, order, title),
            folded(
                f"{count(len(rest), 'more class', 'more classes')}",
                _class_table(evidence, rest, "More classes", drawn=False),
            )
            if rest
            else None,
        ),
    )


def confusion_section(subject: Subject) -> Section | None:
    """What was taken for what."""
    evidence = subject.evidence
    if evidence is None:
        return None
    wrong = sorted(
        (entry for entry in evidence.confusion_counts if entry[0] != entry[1]),
        key=lambda entry: (-entry[2], entry),
    )
    matrix: list[Child] = []
    if len(evidence.labels) <= _MATRIX:
        matrix = [
            paragraph(
                "Each row is a true class, each column an answer. ",
                tag("span", "Blue", class_="key right5"),
                " is right, ",
                tag("span", "orange", class_="key wrong4"),
                " is wrong; the stronger, the larger the share of the row.",
            ),
            heat_map(evidence.labels, evidence.confusion, "Confusion matrix: true class by answer"),
        ]
    if not wrong:
        return Section("confusion", "Confusions", (*matrix, paragraph("None was confused.")))
    most = 3 * _CONFUSIONS if not matrix else _CONFUSIONS
    rows = [
        [
            name_of(evidence.labels[true]),
            name_of(evidence.labels[predicted]),
            f"{n} of {evidence.per_class[true].n} ({percent(n / evidence.per_class[true].n, 0)})",
        ]
        for true, predicted, n in wrong[:most]
    ]
    columns = ["true class", "taken for", "times"]
    caption = "Most frequent confusions"
    listed = [tag("h3", caption), table(caption, columns, rows, left=(0, 1))]
    if matrix and len(evidence.labels) <= _SIDE_BY_SIDE:
        panels = [tag("div", matrix[1:], class_="panel"), tag("div", listed, class_="panel")]
        both = (matrix[0], tag("div", panels, class_="panels"))
        return Section("confusion", "Confusions", both)
    return Section("confusion", "Confusions", (*matrix, *listed))


def calibration_section(subject: Subject) -> Section | None:
    """Whether probabilities can be taken at their word."""
    evidence, answers = subject.evidence, subject.answers
    if evidence is None:
        return None
    before = ""
    if evidence.ece_uncalibrated is not None:
        before = (
            f" It was {percent(evidence.ece_uncalibrated)} before the scores were divided by the "
            f"temperature {evidence.head.temperature:.3g}."
        )
    gap = evidence.mean_confidence - evidence.accuracy
    side = "too sure" if gap > 0 else "too modest"
    verdict = f"{side} by {100 * abs(gap):.1f} points" if abs(gap) >= 0.005 else "as it should be"
    words = paragraph(
        f"On average the model is {percent(evidence.mean_confidence)} sure and "
        f"{percent(evidence.accuracy)} right: {verdict}. The expected "
        f"calibration error, over 15 bins, is {percent(evidence.ece)}.{before}",
    )
    if answers is None:
        return Section(
            "calibration", "Calibration", (words, small("No reliability plot: ", subject.silence))
        )
    return Section(
        "calibration",
        "Calibration",
        (words, _reliability(answers), small(_about(subject, answers))),
    )


def _reliability(answers: Answers) -> Markup:
    bins = answers.bins()
    rows = [
        [
            f"{percent(item.low, 0)} to {percent(item.high, 0)}",
            str(item.n),
            percent(item.confidence),
            percent(item.accuracy),
            interval(*item.interval),
        ]
        for item in bins
    ]
    label = (
        "Reliability diagram: share of right answers against the probability given, with "
        f"intervals, in {len(bins)} bins of {len(answers.samples):,} answers; the figures are in "
        "the table below it."
    )
    return tag(
        "figure",
        reliability(bins, label=label),
        tag(
            "figcaption",
            "Above: points on the dashed line are calibrated; below it the model is too sure, "
            "above it too modest. Bars are 95 % intervals. Below: how many answers there are.",
        ),
        folded(
            "The same as a table",
            table(
                "Reliability",
                ["probability given", "answers", "on average", "right", "95 % interval"],
                rows,
            ),
        ),
    )


def _about(subject: Subject, answers: Answers) -> Child:
    """Where the answers come from, and how they agree with the evidence."""
    evidence = subject.evidence
    right, error = percent(float(answers.right.mean())), percent(answers.ece)
    text = (
        f"From {count(len(answers.samples), 'photo')} at {answers.place}, answered again when this "
        f"page was made, by {engine_name(answers.engine)}: {right} right, "
        f"expected calibration error {error}."
    )
    if answers.skipped:
        text += f" {answers.skipped:,} more could not be read."
    if answers.trained:
        text += (
            f" {answers.trained:,} of them were trained on: what is said of those says little of "
            "new ones."
        )
    if evidence is None or subject.measured_now:
        return text
    if answers.recorded and not subject.changed:
        if answers.confusion_counts() == evidence.confusion_counts:
            return f"{text} Every count is the same as in the bundle's evidence."
        return (
            f"{text} The counts differ from the bundle's evidence: the photos, or what runs the "
            "backbone, are not quite what they were."
        )
    return f"{text} These are not the answers that the bundle's evidence is about."


def _class_table(
    evidence: Evidence, order: list[int], caption: str, *, drawn: bool = True
) -> Markup:
    scale = strip_scale(0, 1)
    rows: list[list[Child]] = []
    for index in order:
        score = evidence.per_class[index]
        if score.n:
            right = round(score.recall * score.n)
            low, high = wilson_interval(right, score.n, confidence=evidence.confidence)
            ends = tag("span", f"({interval(low, high)})", class_="muted")
            bar: Child = tag(
                "div",
                tag("span", f"{percent(score.recall)} ", ends),
                strip(scale, score.recall, low, high) if drawn else None,
                class_="share",
            )
        else:
            bar = tag("span", "not tested", class_="muted")
        figures = [percent(value) if score.n else "\u2014" for value in (score.precision, score.f1)]
        rows.append(
            [
                name_of(evidence.labels[index]),
                bar,
                *figures,
                f"{score.n:,}",
                f"{score.n_train:,}",
            ]
        )
    columns = ["class", "found (recall)", "precision", "F1", "test", "train"]
    return table(caption, columns, rows, left=(0, 1))


def _baseline(name: str) -> Child:
    return _SHORT.get(name) or name_of(name)
