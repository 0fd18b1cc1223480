"""The section of the worst mistakes: photos that were answered wrong with the most confidence."""

from __future__ import annotations

from edgetl.report.answers import Answers
from edgetl.report.markup import Child, Markup, count, join, name_of, percent, tag
from edgetl.report.section import Section, paragraph, small
from edgetl.report.subject import Subject

_BYTES = 700_000
"""All thumbnails together take at most so many bytes of the page."""
_HARDEST = 8


def mistakes_section(subject: Subject) -> Section | None:
    """Thumbnails of the worst mistakes; of the least certain answers where there is none."""
    answers = subject.answers
    if answers is None:
        if subject.evidence is None:
            return None
        return Section("mistakes", "Worst mistakes", (paragraph("Not shown: ", subject.silence),))
    wrong = int((~answers.right).sum())
    if subject.mistakes == 0:
        return None
    if not wrong:
        return Section(
            "mistakes",
            "Hardest photos",
            (
                paragraph(
                    f"All {len(answers.samples):,} photos were answered right; these with the "
                    "least confidence.",
                ),
                _gallery(subject, answers, answers.hardest(min(_HARDEST, subject.mistakes))),
            ),
        )
    shown = answers.worst(subject.mistakes)
    every = "all of them" if len(shown) == wrong else f"the {len(shown)} most confident ones"
    return Section(
        "mistakes",
        "Worst mistakes",
        (
            paragraph(
                f"{count(wrong, 'photo')} of {len(answers.samples):,} "
                f"{'was' if wrong == 1 else 'were'} answered wrong; {every}, the surest first. A "
                "confident mistake is often a photo with the wrong label, or one that shows "
                "several things: look at those first.",
            ),
            _gallery(subject, answers, shown),
            small("Probabilities are those of the answer and of the true class."),
        ),
    )


def _gallery(subject: Subject, answers: Answers, positions: list[int]) -> Markup:
    labels = subject.record.labels
    room = _BYTES
    figures = []
    for position in positions:
        name = answers.samples.names[position]
        picture: Markup | None = None
        data = answers.thumbnail(position) if room > 0 else None
        if data is not None and len(data) <= room:
            room -= len(data)
            picture = tag("img", src=data, alt=f"photo {name}", width=168, height=168)
        true = int(answers.samples.targets[position])
        predicted = int(answers.predictions[position])
        chances = answers.probabilities[position]
        figures.append(
            tag(
                "li",
                tag(
                    "figure",
                    picture or tag("div", "no picture", class_="blank"),
                    tag(
                        "figcaption",
                        _verdict(labels, true, predicted, chances[true], chances[predicted]),
                        tag("span", name_of(name, limit=44), class_="file"),
                    ),
                ),
            )
        )
    return tag("ul", figures, class_="gallery")


def _verdict(
    labels: tuple[str, ...], true: int, predicted: int, true_chance: float, chance: float
) -> Child:
    answer = (tag("b", name_of(labels[predicted])), f", {percent(float(chance), 0)}")
    if true == predicted:
        return tag("span", *answer)
    truth = tag("span", "is ", name_of(labels[true]), f", {percent(float(true_chance), 0)}")
    return join(tag("span", "said ", *answer, class_="wrong"), truth)
