"""A section of the page: its heading, its anchor and what it holds."""

from __future__ import annotations

from dataclasses import dataclass

from edgetl.report.markup import Child, Markup, tag


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        slug: Its anchor, lower-case letters; with a capital, what links to it are called.
        title: Its heading.
        content: What follows the heading.
    """

    slug: str
    title: str
    content: tuple[Child, ...]

    def render(self) -> Markup:
        """The section as HTML."""
        return tag(
            "section",
            tag("h2", self.title, id=f"{self.slug}-title"),
            *self.content,
            id=self.slug,
            aria_labelledby=f"{self.slug}-title",
        )


def paragraph(*content: Child) -> Markup:
    """A paragraph of text."""
    return tag("p", *content)


def small(*content: Child) -> Markup:
    """A paragraph of detail."""
    return tag("p", *content, class_="small")
