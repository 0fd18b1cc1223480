"""A cache of the labelled samples blended with a head: Tip-Adapter, without its text prior.

Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification" (2022). Its
prior there is CLIP's zero-shot head; here it is any head. It keeps all samples it is fitted to, and
is no head that a bundle stores: it serves from Python, and for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Head, PrototypeHead
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import checked_strengths
from edgetl.native.heads import unit_rows
from edgetl.transfer.balanced_folds import balanced_folds

BLENDS: tuple[float, ...] = (0.3, 1.0, 3.0)
SHARPNESSES: tuple[float, ...] = (2.0, 5.0, 15.0)


class TipAdapter(Head):
    """Scores ``prior + blend * exp(-sharpness * (1 - z @ keys.T)) @ values``.

    The keys are the samples' features with norm 1, the values their classes one-hot times their
    weights, z the feature with norm 1, and the prior's scores its calibrated logits. `blend`
    (alpha in the paper) and `sharpness` (beta) are chosen among all pairs by cross-validation on
    the samples themselves, where the paper takes a validation set: for each fold both the cache and
    the prior are without it. Where every class has one sample, the middle ones are taken.

    Args:
        prior: An unfitted head; `PrototypeHead` if None.
        blend: Weight of the cache, or a sequence to choose from.
        sharpness: How fast a sample's say falls with its distance, or a sequence.

    Attributes:
        prior_: The fitted prior.
        keys_: (n, dim) float64.
        values_: (n, classes) float64.
        blend_: The weight in use.
        sharpness_: The sharpness in use.
    """

    kind = "tip-adapter"
    prior_: Head
    keys_: NDArray[np.float64]
    values_: NDArray[np.float64]
    blend_: float
    sharpness_: float

    def __init__(
        self,
        prior: Head | None = None,
        *,
        blend: float | Sequence[float] = BLENDS,
        sharpness: float | Sequence[float] = SHARPNESSES,
    ) -> None:
        self.prior = prior
        self.blend = blend
        self.sharpness = sharpness

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        blends = checked_strengths(self.blend, name="blend")
        sharpnesses = checked_strengths(self.sharpness, name="sharpness")
        pairs = [(blend, sharp) for sharp in sharpnesses for blend in blends]
        self.blend_, self.sharpness_ = pairs[len(pairs) // 2]
        folds = balanced_folds(data.codes)
        if folds.max() >= 0 and (calibrate or len(pairs) > 1):
            held = list(self._held_out(data, folds, pairs))
            best = choose(held)
            self.blend_, self.sharpness_ = pairs[best]
            self.temperature_ = held[best].temperature
        self._remember(data)

    def _remember(self, data: TrainingSet) -> None:
        """Fit the prior and fill the cache, nothing chosen."""
        prior = PrototypeHead() if self.prior is None else self.prior
        self.prior_ = type(prior)(**prior.get_params())
        self.prior_.fit_set(data, np.arange(data.n_classes))
        self.keys_ = unit_rows(data.ops.to_numpy(data.features))
        self.values_ = np.zeros((len(data), data.n_classes))
        self.values_[np.arange(len(data)), data.codes] = data.weights

    def _held_out(
        self, data: TrainingSet, folds: NDArray[np.int64], pairs: Sequence[tuple[float, float]]
    ) -> Iterator[HeldOut]:
        """Scores of each sample without its fold, for every pair of blend and sharpness."""
        features = data.ops.to_numpy(data.features)
        rows, priors, affinities, values = [], [], [], []
        for fold in range(int(folds.max()) + 1):
            outside = np.flatnonzero(folds == fold)
            if not len(outside):
                continue
            part = TipAdapter(self.prior)
            part._remember(data.subset(np.flatnonzero(folds != fold)))
            rows.append(outside)
            priors.append(part._prior_logits(features[outside]))
            affinities.append(unit_rows(features[outside]) @ part.keys_.T)
            values.append(part.values_)
        for blend, sharp in pairs:
            scores = [
                prior + blend * np.exp(-sharp * (1 - affinity)) @ value
                for prior, affinity, value in zip(priors, affinities, values, strict=True)
            ]
            yield HeldOut.of(np.concatenate(scores), np.concatenate(rows), data.codes, data.weights)

    def _prior_logits(self, features: NDArray[Any]) -> NDArray[np.float64]:
        return self.prior_.scores(features) / self.prior_.temperature_

    def _scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        affinity = unit_rows(features) @ self.keys_.T
        cache: NDArray[np.float64] = np.exp(-self.sharpness_ * (1 - affinity)) @ self.values_
        return self._prior_logits(features) + self.blend_ * cache

    def chosen(self) -> dict[str, float]:
        """Blend and sharpness in use."""
        return {"blend": self.blend_, "sharpness": self.sharpness_}

    def _state(self) -> NoReturn:
        raise NotImplementedError(
            "a Tip-Adapter is not stored in a bundle; use CosineSoftmax.to_head() or a head of "
            "edgetl.heads"
        )

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> NoReturn:
        raise NotImplementedError("a Tip-Adapter is not stored in a bundle")
