"""The style sheet: contrast of every pair of colours that text stands on, in both schemes."""

import itertools
import re
from importlib import resources

import pytest

STYLE = resources.files("edgetl.report").joinpath("page.css").read_text(encoding="utf-8")
BLOCKS = re.findall(r":root\s*\{([^}]*)\}", STYLE)
LIGHT, DARK, PRINT = (dict(re.findall(r"--([a-z0-9-]+):\s*(#[0-9a-f]{6})", b)) for b in BLOCKS)
PAIRS = [
    *[
        (ink, ground)
        for ink in ("ink", "muted", "accent", "warm", "bad")
        for ground in ("sheet", "ground")
    ],
    *[("ink", ground) for ground in ("tint", "tint-warm", "tint-bad")],
    ("accent", "tint"),
    *[("sheet", fill) for fill in ("accent", "plain", "bad")],
    *[("on-pale", f"{side}{step}") for side in ("right", "wrong") for step in (1, 2, 3, 4)],
    *[("on-deep", f"{side}{step}") for side in ("right", "wrong") for step in (5, 6, 7)],
]


def luminance(colour):
    """Relative luminance (Web Content Accessibility Guidelines 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second):
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_text_can_be_read(scheme):
    weak = {pair: round(contrast(scheme[pair[0]], scheme[pair[1]]), 2) for pair in PAIRS}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}


@pytest.mark.parametrize("scheme", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_marks_can_be_seen(scheme):
    for mark in ("accent", "warm", "plain", "muted"):
        assert contrast(scheme[mark], scheme["sheet"]) >= 3


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_shades_differ_without_their_colour(scheme):
    """The steps of a heat map rise in lightness alone, for those who see no colours."""
    for side in ("right", "wrong"):
        steps = [luminance(scheme[f"{side}{step}"]) for step in range(1, 8)]
        rising = steps if scheme is DARK else steps[::-1]
        assert rising == sorted(rising)
        assert all(b / a > 1.15 for a, b in itertools.pairwise(rising))


def test_every_scheme_has_every_colour():
    assert set(LIGHT) - set(DARK) == set()
    assert {name for name in LIGHT if name != "focus"} == set(PRINT)
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", STYLE)) <= set(LIGHT)
