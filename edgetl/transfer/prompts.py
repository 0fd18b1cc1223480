"""A classifier from words alone, for features that were trained together with a text encoder.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021): each
class is the mean direction of the embeddings of some sentences about it, and a photo's score is the
cosine with that, times the scale the pair was trained with. Features have norm 1, so scores are
linear in them and the classifier ships as a linear head. It knows names, sentences and vectors; who
embeds them is handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import DataError
from edgetl.heads import SoftmaxHead
from edgetl.heads.softmax import STRENGTHS
from edgetl.native.heads import unit_rows

FloatArray = NDArray[np.float64]
TEMPLATES: tuple[str, ...] = (
    "a photo of a {}",
    "a photo of the {}",
    "a close view of a {}",
    "a {} seen from some way off",
    "a dim, grainy picture of a {}",
    "a picture with a {} in it",
)
"""Sentences around a class's name; their mean is steadier than any one of them."""
_PLACE = "{}"


def sentences(
    labels: Sequence[str],
    *,
    templates: Sequence[str] = TEMPLATES,
    prompts: Mapping[str, str | Sequence[str]] | None = None,
) -> dict[str, tuple[str, ...]]:
    """The sentences that stand for each class.

    In a template the class's name takes the place of ``{}``, with underscores as spaces.

    Args:
        labels: The classes, distinct.
        templates: At least one, each with ``{}`` in it.
        prompts: Whole sentences, or one, for some of the classes, instead of templates.

    Raises:
        TypeError: Sentences are no strings.
        ValueError: A template has no ``{}``, a class of `prompts` is not among the labels or has
            no sentence, or a class's name is blank.
    """
    if isinstance(templates, str) or not templates:
        raise ValueError(f"templates must be one or more sentences, got {templates!r}")
    for template in templates:
        if _PLACE not in template:
            raise ValueError(f"a template needs {{}} where the class goes, got {template!r}")
    own = {} if prompts is None else dict(prompts)
    unknown = sorted(set(own) - set(labels))
    if unknown:
        raise ValueError(
            f"prompts are given for classes that there are not: {', '.join(unknown[:5])}; the "
            f"classes are {', '.join(labels)}"
        )
    found: dict[str, tuple[str, ...]] = {}
    for label in labels:
        given = own.get(label)
        if given is None:
            name = label.replace("_", " ").strip()
            if not name:
                raise ValueError(f"class {label!r} has no name to put into a sentence")
            found[label] = tuple(template.replace(_PLACE, name) for template in templates)
            continue
        lines = (given,) if isinstance(given, str) else tuple(given)
        if not all(isinstance(line, str) for line in lines):
            raise TypeError(f"the prompts of class {label!r} must be sentences, got {given!r}")
        if not lines or not all(line.strip() for line in lines):
            raise ValueError(f"the prompts of class {label!r} must be sentences, got {given!r}")
        found[label] = lines
    return found


def read_prompts(path: str | Path) -> dict[str, str | list[str]]:
    """Prompts from a JSON file: an object with a sentence, or a list of them, for each class.

    Raises:
        DataError: The file can't be read or holds something else.
    """
    place = Path(path).expanduser()
    try:
        content: Any = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"the prompts can't be read: {error}") from error
    except ValueError as error:
        raise DataError(f"{place} is not JSON: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(lines, str)
        or (isinstance(lines, list) and all(isinstance(line, str) for line in lines))
        for lines in content.values()
    ):
        raise DataError(
            f'{place} must hold sentences by class, such as {{"rust": ["a photo of rust"]}}'
        )
    return content


def embed_classes(
    texts: Mapping[str, Sequence[str]], embed: Callable[[Sequence[str]], NDArray[np.float32]]
) -> FloatArray:
    """A direction (classes, dim) of norm 1 for each class: the mean of its sentences'.

    Args:
        texts: Sentences by class, as `sentences` gives them.
        embed: Embeddings (n, dim) of n sentences, of any norm.
    """
    lines = [line for own in texts.values() for line in own]
    rows = unit_rows(np.asarray(embed(lines), dtype=np.float64))
    ends = np.cumsum([len(own) for own in texts.values()])[:-1]
    return unit_rows(np.stack([part.mean(axis=0) for part in np.split(rows, ends)]))


def zero_shot_head(directions: ArrayLike, *, scale: float) -> SoftmaxHead:
    """The head whose probabilities are ``softmax(scale * cosines)``, for features of norm 1.

    Its classes are counted from 0. It goes on learning like any softmax head, from the words on: a
    sample moves it by one step of gradient descent.

    Args:
        directions: (classes, dim), of norm 1.
        scale: What the pair multiplies cosines by.

    Raises:
        ValueError: There are fewer than two classes, or the scale is not positive.
    """
    rows = np.asarray(directions, dtype=np.float64)
    if rows.ndim != 2 or len(rows) < 2 or not 0 < scale < np.inf:
        raise ValueError(
            f"need directions (classes, dim) of at least 2 classes and a positive scale, got "
            f"shape {rows.shape} and {scale:g}"
        )
    return linear_head(scale * rows, np.zeros(len(rows)))


def linear_head(
    coef: FloatArray, intercept: FloatArray, *, temperature: float = 1.0
) -> SoftmaxHead:
    """A softmax head with given coefficients, which nothing was fitted to.

    Its strength is the weakest penalty there is: what it learns later should not be drawn to zero,
    which is far from where it begins.
    """
    head = SoftmaxHead(STRENGTHS[-1])
    head.classes_, head.n_features_in_ = np.arange(len(coef)), coef.shape[1]
    head.coef_, head.intercept_, head.temperature_ = coef, intercept, temperature
    head.C_, head.accuracies_, head.held_out_ = STRENGTHS[-1], None, None
    return head
