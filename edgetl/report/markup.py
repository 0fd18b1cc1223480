"""HTML and SVG as text that can't be broken by what is put into it.

Whatever is not `Markup` is escaped where it is used, and characters that steer rather than show
(controls, directional overrides, halves of surrogate pairs) become a replacement character. It
knows elements and attributes, and nothing about what they say.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable
from typing import TypeAlias

_ENGINES = {"OnnxRuntime": "ONNX Runtime", "OpenVino": "OpenVINO", "Torch": "PyTorch"}
_ENGINES |= {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}
_STEERING = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"
"""Of the format characters, those that scripts and emoji are spelled with."""
_SPACES = dict.fromkeys(map(ord, "\t\n\v\f\r\x85\u2028\u2029"), " ")
_VOID = {"br", "img", "meta"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
"""What an element may hold: text to be escaped, `Markup`, numbers, or any of these in turn."""
Attribute: TypeAlias = "str | float | bool | None"


def visible(text: str) -> str:
    """A text without characters that steer rather than show; tabs and line ends are spaces."""
    return "".join(
        "\ufffd" if unicodedata.category(c) in _STEERING and c not in _JOINERS else c
        for c in text.translate(_SPACES)
    )


def escape(text: object) -> Markup:
    """Text as HTML, for content and for quoted attributes alike."""
    return text if isinstance(text, Markup) else Markup(html.escape(visible(str(text))))


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(_pieces(children)))


def tag(name: str, /, *children: Child, **attributes: Attribute) -> Markup:
    """An element.

    Args:
        name: Of the element.
        children: What it holds, in order; None is nothing.
        attributes: ``class_`` for ``class``, ``stroke_width`` for ``stroke-width``; True is an
            attribute without a value, None and False leave it out, and numbers are rounded to a
            hundredth.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        if isinstance(value, float):
            value = f"{value:.2f}".rstrip("0").rstrip(".")
        words.append(key if value is True else f'{key}="{escape(value)}"')
    if name in _VOID:
        return Markup(f"<{' '.join(words)}>")
    return Markup(f"<{' '.join(words)}>{join(*children)}</{name}>")


def name_of(label: str, *, limit: int = 60) -> Markup:
    """A label or a file's name: kept apart from the direction of the text around it.

    A long one is cut in its middle, and has the whole of it as its title.
    """
    text = visible(label)
    if len(text) <= limit:
        return tag("bdi", text or "\u2014")
    cut = f"{text[: limit // 2]}\u2026{text[-(limit // 2 - 1) :]}"
    return tag("bdi", cut, title=text[:1000])


def percent(share: float, digits: int = 1) -> str:
    """A share as text: 0.916 is ``91.6 %``."""
    return f"{100 * share:.{digits}f}\u00a0%"


def interval(low: float, high: float) -> str:
    """Ends of an interval of a share: ``87.5 to 94.4 %``."""
    return f"{100 * low:.1f} to {100 * high:.1f}\u00a0%"


def chance(p: float) -> str:
    """A p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def points(gain: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    return f"{100 * gain:+.1f}".replace("-", "\u2212")


def megabytes(size: float) -> str:
    """Bytes as MB."""
    return f"{size / 1e6:.1f}\u00a0MB" if size >= 1e5 else f"{size / 1e3:.1f}\u00a0kB"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 class``, ``1,000 classes``."""
    noun = singular if number == 1 else plural or f"{singular}s"
    return f"{number:,}\u00a0{noun}"


def engine_name(target: str) -> str:
    """A target's text in words: ``OnnxRuntime(provider='cpu', threads=0, ...)`` and its like.

    What is None, or 0, which stands for all cores, goes without saying.
    """
    match = re.fullmatch(r"(\w+)\((.*)\)", target)
    if match is None:
        return _ENGINES.get(target, target)
    options = [part.partition("=") for part in match[2].split(", ")]
    shown = [
        f"{key} {text}".replace("'", "")
        for key, _, text in options
        if text not in ("None", "0", "", "False")
    ]
    name = _ENGINES.get(match[1], match[1])
    return f"{name} ({', '.join(shown)})" if shown else name


def moment(time: str) -> str:
    """An ISO 8601 time of UTC to the minute; any other text as it is."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d(\.\d+)?)?(\+00:00|Z)", time)
    return f"{match[1]} {match[2]}\u00a0UTC" if match else time


def value_text(value: object) -> str:
    """A plain JSON value as text for a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "\u2212")
    if value is None or value == "":
        return "\u2014"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(item) for item in value) or "\u2014"
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(item)}" for key, item in value.items()) or "\u2014"
    return str(value)


def _pieces(children: Iterable[Child]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, str | int):
            yield escape(child)
        else:
            yield from _pieces(child)
