"""Ways of adapting beside the plain head, judged on the samples that it was judged on.

The choice for few samples, the classes' names alone, and both names and photos. They are compared
by whether each held-out sample was right; it knows features, labels and a head from words.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgetl.heads.linear import LinearHead
from edgetl.transfer.balanced_folds import balanced_folds
from edgetl.transfer.fewshot import choose_few
from edgetl.transfer.prior_blend import blend_with_prior

FEW_SHOTS = 10
"""Samples of the median class up to which the choice for few samples is considered."""
ARGUMENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "head": ("head", ()),
    "few": ("few", ()),
    "words": ("zeroshot", ()),
    "blend": ("zeroshot", ("blend=true",)),
}
"""What ``adapt`` takes for each way: its ``--method`` and options."""


def judge_ways(
    X: NDArray[np.float32],
    codes: NDArray[np.int64],
    *,
    few: bool,
    words: LinearHead | None,
    seed: int = 0,
) -> dict[str, NDArray[np.bool_]]:
    """Whether each way gets each sample right that can be held out.

    ``words`` and ``blend`` are judged where there is a head from words; it has seen no sample, so
    each counts as held out. The blend is judged where every class has two samples.

    Args:
        X: (n, dim) features of the training part.
        codes: (n,) classes, 0 to classes - 1, each of which occurs.
        few: Whether the choice for few samples is judged.
        words: A head for the same classes that no sample was used for; None without one.
        seed: Of the folds.

    Returns:
        By name, (m,) in the samples' order, m being those whose class has another sample.
    """
    folds = balanced_folds(codes, seed=seed)
    rows = np.flatnonzero(folds >= 0)
    ways: dict[str, NDArray[np.bool_]] = {}
    if not len(rows):
        return ways
    if few:
        hits = choose_few(X, codes, seed=seed).hits
        assert hits is not None  # something can be held out
        ways["few"] = hits
    if words is not None:
        ways["words"] = np.asarray(words.scores(X[rows]).argmax(axis=1) == codes[rows])
        blend = blend_with_prior(words, X, codes, errors=0.0)
        if len(blend.hits):
            ways["blend"] = blend.hits
    return ways
