"""A head for weighted samples, and how far the weights are gone along with.

Full weights by the ratio of two densities are right on average and rest on few samples where they
are very uneven; raised to a power below 1 they are steadier and a little wrong (Shimodaira,
"Improving predictive inference under covariate shift by weighting the log-likelihood function",
2000). It knows labelled features and weights, and not where the weights come from.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Head, Selection
from edgetl.heads.calibrate import HeldOut, softmax
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.select import select_for
from edgetl.heads.training import TrainingSet
from edgetl.transfer.density_ratio import settled_weights

FloatArray = NDArray[np.float64]
POWERS: tuple[float, ...] = (0.0, 0.5, 1.0)
"""How far weights are gone along with: not at all, half way, fully."""
_LEAST = 1e-6


def fit_weighted(
    features: NDArray[Any],
    targets: NDArray[np.int64],
    weights: FloatArray,
    *,
    head: str | Head = "auto",
    power: float | None = None,
    seed: int = 0,
) -> tuple[Selection, float, str]:
    """A head for weighted samples, and the power of the weights it was fitted with.

    The power is chosen by the log loss of held-out samples, which the full weights make an estimate
    of the loss on the target (importance-weighted cross-validation: Sugiyama, Krauledat and Müller,
    "Covariate Shift Adaptation by Importance Weighted Cross Validation", 2007); so is the head's
    temperature. A weighting that is not ahead of none by more than one standard error, paired by
    sample, is not used.

    Args:
        features: (n, dim).
        targets: (n,) classes, 0 to classes - 1.
        weights: (n,) not negative, not all zero.
        head: As for `edgetl.heads.select_head`.
        power: 0 (not weighted) to 1 (fully); chosen among `POWERS` if None.
        seed: Of the folds.

    Returns:
        The selection, the power in use, and why it is.

    Raises:
        ValueError: Shapes don't fit, or values aren't finite.
    """
    full = settled_weights(weights)[0]
    full = np.maximum(full, _LEAST)  # a sample without any weight could empty its class
    classes = int(targets.max()) + 1
    data = TrainingSet(features, targets, np.ones(len(targets)), classes)
    folds = stratified_folds(targets, seed=seed)
    comparable = bool(folds.max() >= 0)
    tried = [power] if power is not None else list(POWERS) if comparable else [1.0]
    found = []
    for value in tried:
        weighted = data.reweighted(full**value / (full**value).mean())
        selection = select_for(weighted, np.arange(classes), head=head, seed=seed)
        judged = None
        if comparable:
            held = held_out(selection.head.fixed(), weighted, folds)
            judged = HeldOut.of(held.scores, held.rows, targets, full)
            selection.head.temperature_ = judged.temperature
        found.append((selection, judged))
    best, why = _best_power(tried, [judged for _, judged in found])
    return found[best][0], tried[best], why


def _best_power(powers: list[float], judged: list[HeldOut | None]) -> tuple[int, str]:
    """The place of the power to use, and why."""
    known = [held for held in judged if held is not None]
    if len(powers) == 1 or not known:
        chosen = "given" if known else "nothing can be held out to choose another"
        return 0, f"power {powers[0]:g} ({chosen})"
    losses = np.stack([_losses(held) for held in known])
    weights = known[0].weights / known[0].weights.sum()
    means = losses @ weights
    best = int(means.argmin())
    gains = losses[0] - losses[best]
    gain = float(gains @ weights)
    error = float(np.sqrt(weights**2 @ (gains - gain) ** 2))
    figures = (
        f"power {powers[best]:g} has the lowest importance-weighted log loss, {means[best]:.3f}; "
        f"unweighted {means[0]:.3f}"
    )
    if best and not gain > error:
        return 0, f"{figures}, within one standard error ({error:.3f}), so not weighted"
    return best, figures


def _losses(held: HeldOut) -> FloatArray:
    """Each sample's log loss in nats, after temperature."""
    chances = softmax(held.scores / held.temperature)
    return -np.log(np.maximum(chances[np.arange(len(held.codes)), held.codes], 1e-300))
