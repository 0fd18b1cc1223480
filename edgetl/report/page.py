"""The page: its frame, the order of its sections, and what keeps it to itself.

A content security policy forbids everything but the page's own style sheet and the pictures inside
it, so that nothing a label or a file name could say can load or run anything.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from edgetl.report.groups import groups_section
from edgetl.report.headline import header
from edgetl.report.making import backbones_section, export_section, learning_section, method_section
from edgetl.report.markup import Markup, join, moment, tag, visible
from edgetl.report.measured import (
    accuracy_section,
    calibration_section,
    classes_section,
    confusion_section,
)
from edgetl.report.mistakes import mistakes_section
from edgetl.report.origin import further_section, limits_section, origin_section
from edgetl.report.subject import Subject

_SECTIONS = (
    *(accuracy_section, classes_section, confusion_section, calibration_section),
    *(mistakes_section, groups_section, method_section, backbones_section, export_section),
    *(learning_section, further_section, origin_section, limits_section),
)


def render(subject: Subject) -> str:
    """The whole page; the same text for the same subject."""
    sections = [section for make in _SECTIONS if (section := make(subject)) is not None]
    links = [tag("li", tag("a", item.slug.capitalize(), href=f"#{item.slug}")) for item in sections]
    body = tag(
        "body",
        tag("a", "Skip to the report", class_="skip", href="#content"),
        tag(
            "div",
            header(subject),
            tag("nav", tag("ul", links), aria_label="Sections"),
            tag("main", [item.render() for item in sections], id="content", tabindex=-1),
            _footer(subject),
            class_="sheet",
        ),
    )
    page = tag("html", _head(subject), body, lang="en")
    return f"<!doctype html>\n{page}\n"


def _head(subject: Subject) -> Markup:
    style = resources.files("edgetl.report").joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{visible(subject.name)} \u2013 edgetl report"),
        # The style sheet is ours, and its digest is of these very bytes.
        tag("style", Markup(style)),
    )


def _footer(subject: Subject) -> Markup:
    evidence = subject.evidence
    made = (
        ""
        if evidence is None
        else f" Measured {moment(evidence.run.started_at) or 'at an unknown time'}."
    )
    return tag(
        "footer",
        tag(
            "p",
            join(
                "Made by ",
                tag("code", "edgetl report"),
                f" from the bundle alone, its manifest, and the photos named above.{made} The page "
                "loads nothing and runs nothing.",
            ),
        ),
    )
