"""Class descriptions as vectors: averaged word vectors, or attributes as they are.

It knows words and vectors, from whichever collection they come; it knows no photos.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import DataError
from edgetl.native.heads import unit_rows

FloatArray = NDArray[np.float64]
Descriptions: TypeAlias = Mapping[Any, ArrayLike]
"""A vector (a,) for each class label: attributes, or what `embed_texts` gives."""
_WORD = re.compile(r"[^\W\d_]+")


def embed_texts(
    texts: Mapping[Any, str], words: Sequence[str], vectors: ArrayLike
) -> dict[Any, FloatArray]:
    """One vector per class: the mean of the vectors of the words in its description.

    Words are runs of letters, in lower case; those without a vector are left out. Vectors are first
    centred by the mean of all, which otherwise makes every description much like any other.

    Args:
        texts: A name or a description for each class label, such as
            ``{"ketch": "a boat with sails on the sea"}``.
        words: (m,) the words that have vectors.
        vectors: (m, a) their vectors, such as GloVe's.

    Raises:
        ValueError: Words and vectors don't fit each other.
        DataError: No word of a description has a vector.
    """
    table = np.asarray(vectors, dtype=np.float64)
    if table.ndim != 2 or len(table) != len(words) or not len(words):
        raise ValueError(f"{len(words)} words do not fit vectors of shape {table.shape}")
    rows = {str(word): row for row, word in enumerate(words)}
    middle = table.mean(axis=0)
    embedded = {}
    for label, text in texts.items():
        found = [rows[word] for word in _WORD.findall(text.lower()) if word in rows]
        if not found:
            raise DataError(
                f"no word of the description {text!r} of class {label!r} has a vector; describe "
                "it in commoner words"
            )
        embedded[label] = table[found].mean(axis=0) - middle
    return embedded


class SeenSpace:
    """Descriptions centred by the mean of those seen in training, with norm 1.

    Args:
        descriptions: Vectors of at least the classes in `classes`.
        classes: (k,) the classes seen.

    Attributes:
        seen: (k, a) their vectors in this space.
    """

    def __init__(self, descriptions: Descriptions, classes: NDArray[Any]) -> None:
        missing = [label for label in classes.tolist() if label not in descriptions]
        if missing:
            raise ValueError(f"there is no description of the classes {missing}")
        raw = stacked({label: descriptions[label] for label in classes.tolist()})
        self.middle: FloatArray = raw.mean(axis=0)
        self.seen = unit_rows(raw - self.middle)

    def place(self, descriptions: Descriptions) -> FloatArray:
        """Vectors (k, a) of any classes, in the order of `descriptions`."""
        raw = stacked(descriptions)
        if raw.shape[1] != len(self.middle):
            raise ValueError(
                f"descriptions have {raw.shape[1]} numbers, those of training {len(self.middle)}"
            )
        return unit_rows(raw - self.middle)


def stacked(descriptions: Descriptions) -> FloatArray:
    """All vectors as an array (k, a), in the order of the mapping.

    Raises:
        ValueError: There is none, they differ in length, or a number is not finite.
    """
    vectors = [np.asarray(vector, dtype=np.float64) for vector in descriptions.values()]
    lengths = {vector.shape for vector in vectors}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise ValueError(f"descriptions must be vectors of one length, got {sorted(lengths)}")
    raw = np.stack(vectors)
    if not np.isfinite(raw).all():
        raise ValueError("descriptions must be finite")
    return raw
