"""Methods that weight samples of another domain: by a density ratio, or by boosting.

`Kliep`, `Ulsif` and `DomainWeights` need no label of the target: the labelled samples are the
source's, the unlabelled ones the target's. `TradaBoost` needs a few labels of the target: these are
the labelled samples, and the source comes beside them. All give ordinary heads. How ratios are
estimated and samples boosted is written in the files of the methods.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import Head, Selection, SoftmaxHead
from edgetl.heads.calibrate import HeldOut, choose
from edgetl.heads.linear import LinearHead
from edgetl.heads.select import Candidate
from edgetl.transfer.density_ratio import Reduction, WeightReport, settled_weights
from edgetl.transfer.domain_classifier import domain_ratio
from edgetl.transfer.kliep import kliep
from edgetl.transfer.method import HeadTask, Method, Need
from edgetl.transfer.tradaboost import TrAdaBoost, held_out_scores
from edgetl.transfer.ulsif import ulsif
from edgetl.transfer.weighted_fit import fit_weighted

FloatArray = NDArray[np.float64]
_OVERLAP = 0.95
"""Where a classifier tells the domains apart in so many pairs, they hardly overlap."""


@dataclass(frozen=True, kw_only=True)
class Weighting(Method):
    """A head fitted to source samples weighted by how likely they are in the target.

    Weights are ratios of densities on the features' leading principal axes, cut at `clip` times
    their mean, to a power that is chosen by importance-weighted cross-validation
    (`edgetl.transfer.weighted_fit`), without a label of the target.

    All of it assumes that source and target share the rule from features to labels, and that the
    source has samples where the target has. What the weights leave is in the evidence, with a
    warning where that is little.

    Args:
        components: Principal axes that the densities are compared on.
        clip: The largest weight, as a multiple of the mean.
        power: Of the weights, 0 to 1; chosen if None.
    """

    unlabelled: ClassVar[Need] = "needed"
    learns: ClassVar[bool] = False
    components: int = 16
    clip: float = 20.0
    power: float | None = None

    def __post_init__(self) -> None:
        if self.components < 1 or not self.clip > 1:
            raise ValueError(
                "components must be at least 1 and clip above 1, got "
                f"{self.components} and {self.clip:g}"
            )
        if self.power is not None and not 0 <= self.power <= 1:
            raise ValueError(f"power must be 0 to 1, got {self.power:g}")

    @abstractmethod
    def ratios(
        self, source: FloatArray, target: FloatArray, *, seed: int, details: dict[str, Any]
    ) -> FloatArray:
        """Ratios (n,) at the source samples (n, components); settings go into `details`."""

    def weights(
        self,
        source: NDArray[Any],
        target: NDArray[Any],
        *,
        seed: int = 0,
        details: dict[str, Any] | None = None,
    ) -> tuple[FloatArray, WeightReport]:
        """Weights of source samples, with mean 1, and what they leave.

        Args:
            source: (n, dim) features.
            target: (m, dim) features.
            seed: Of everything random.
            details: Filled with what was chosen.

        Raises:
            ValueError: Shapes don't fit, or values aren't finite.
        """
        reduction = Reduction.of(source, target, components=self.components)
        details = {} if details is None else details
        found = self.ratios(reduction(source), reduction(target), seed=seed, details=details)
        if "separation" not in details:  # kernels don't notice that domains lie apart
            apart = domain_ratio(reduction(source), reduction(target), seed=seed).separation
            details["separation"] = round(apart, 4)
        return settled_weights(found, clip=self.clip)

    def fit(self, task: HeadTask) -> Selection:
        """Weight the labelled samples towards the unlabelled ones, and select a head."""
        assert task.unlabelled is not None  # the method needs them, which is checked before
        weights, report = self.weights(
            task.features, task.unlabelled, seed=task.seed, details=task.details
        )
        task.details.update(
            samples=report.n,
            effective_samples=round(report.effective, 1),
            heaviest_share=round(report.largest, 4),
            clipped=report.clipped,
        )
        selection, power, why = fit_weighted(
            task.features, task.targets, weights, head=task.head, power=self.power, seed=task.seed
        )
        task.details["power"] = power
        left = f"{report.effective:.0f} of {report.n} source samples in effect"
        reason = f"weights by {self.name} leave {left}; {why}; {selection.reason}"
        warnings = [report.warning(), _separated(task.details)]
        for text in filter(None, warnings):
            task.details.setdefault("warnings", []).append(text)
            reason += f"; warning: {text}"
        return replace(selection, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Kliep(Weighting):
    """`Weighting` with the ratio of `edgetl.transfer.kliep`.

    Args:
        centres: Target samples that kernels are put on.
    """

    name: ClassVar[str] = "kliep"
    paper: ClassVar[str] = (
        "Sugiyama et al., Direct Importance Estimation with Model Selection and Its Application to "
        "Covariate Shift Adaptation (2007)"
    )
    centres: int = 100

    def ratios(
        self, source: FloatArray, target: FloatArray, *, seed: int, details: dict[str, Any]
    ) -> FloatArray:
        """Ratios (n,) at the source samples."""
        found = kliep(source, target, centres=self.centres, seed=seed)
        details["width"] = found.width
        return found(source)


@dataclass(frozen=True, kw_only=True)
class Ulsif(Weighting):
    """`Weighting` with the ratio of `edgetl.transfer.ulsif`.

    Args:
        centres: Target samples that kernels are put on.
        alpha: Share of the target in the denominator, 0 to 1 (excluded): the relative ratio, which
            never exceeds 1 / alpha; 0 for the plain one.
    """

    name: ClassVar[str] = "ulsif"
    paper: ClassVar[str] = (
        "Kanamori, Hido and Sugiyama, A Least-squares Approach to Direct Importance Estimation "
        "(2009); Yamada et al., Relative Density-Ratio Estimation for Robust Distribution "
        "Comparison (2011)"
    )
    centres: int = 100
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha < 1:
            raise ValueError(f"alpha must be 0 to 1 (excluded), got {self.alpha:g}")

    def ratios(
        self, source: FloatArray, target: FloatArray, *, seed: int, details: dict[str, Any]
    ) -> FloatArray:
        """Ratios (n,) at the source samples."""
        found = ulsif(source, target, alpha=self.alpha, centres=self.centres, seed=seed)
        details.update(width=found.width, penalty=found.penalty)
        return found(source)


@dataclass(frozen=True, kw_only=True)
class DomainWeights(Weighting):
    """`Weighting` with the ratio of `edgetl.transfer.domain_classifier`, by held-out odds."""

    name: ClassVar[str] = "domain-weights"
    paper: ClassVar[str] = (
        "Bickel, Brückner and Scheffer, Discriminative Learning Under Covariate Shift (2009)"
    )

    def ratios(
        self, source: FloatArray, target: FloatArray, *, seed: int, details: dict[str, Any]
    ) -> FloatArray:
        """Ratios (n,) at the source samples."""
        found = domain_ratio(source, target, seed=seed)
        details.update(strength=found.classifier.C_, separation=round(found.separation, 4))
        return found.source


@dataclass(frozen=True, kw_only=True)
class TradaBoost(Method):
    """A head boosted on labelled source samples and a few labelled target samples.

    `edgetl.transfer.tradaboost` with logistic regressions, whose vote becomes one linear head. The
    labelled samples are the target's. The strength of the learners is chosen, and the head
    calibrated, on target samples that were held out of the boosting.

    Args:
        rounds: Of boosting.
        strengths: Inverse strengths of the learners' penalty to choose from.
        loss: As of `edgetl.transfer.tradaboost.TrAdaBoost`.
        odds: Likewise.
    """

    name: ClassVar[str] = "tradaboost"
    paper: ClassVar[str] = "Dai, Yang, Xue and Yu, Boosting for Transfer Learning (2007)"
    source: ClassVar[Need] = "needed"
    learns: ClassVar[bool] = False
    rounds: int = 10
    strengths: tuple[float, ...] = (0.01, 0.1, 1.0)
    loss: Literal["soft", "hard"] = "soft"
    odds: Literal["chance", "lenient"] = "chance"

    def __post_init__(self) -> None:
        if self.rounds < 2:
            raise ValueError(f"rounds must be at least 2, got {self.rounds}")
        if not self.strengths or not all(0 < value < np.inf for value in self.strengths):
            raise ValueError(f"strengths must be positive, got {self.strengths}")

    def fit(self, task: HeadTask) -> Selection:
        """Boost the source's samples beside the labelled ones."""
        assert task.source is not None  # the method needs them, which is checked before
        lots = (*task.source, task.features, task.targets)
        tried: list[tuple[TrAdaBoost, HeldOut | None, float]] = []
        for learner in self._learners(task.head):
            start = time.perf_counter()
            boosting = TrAdaBoost(learner, rounds=self.rounds, loss=self.loss, odds=self.odds)
            held = held_out_scores(boosting, *lots, seed=task.seed)
            tried.append((boosting, held, time.perf_counter() - start))
        known = [held for _, held, _ in tried if held is not None]
        # Where nothing can be held out: the middle one.
        best = choose(known) if known else len(tried) // 2
        boosting = tried[best][0].fit(*lots)
        head = boosting.to_head()
        head.temperature_ = known[best].temperature if known else 1.0
        self._tell(boosting, task.details)
        return Selection(
            head=head,
            candidates=tuple(
                _candidate(boosted, held, seconds, chosen=place == best)
                for place, (boosted, held, seconds) in enumerate(tried)
            ),
            reason=_boosted(boosting, known[best] if known else None),
            n_held_out=len(known[best].rows) if known else 0,
            hits=known[best].hits if known else None,
        )

    def _learners(self, head: str | Head) -> list[LinearHead]:
        if isinstance(head, LinearHead):
            return [head]
        if head not in ("auto", SoftmaxHead.kind):
            given = head if isinstance(head, str) else type(head).__name__
            raise ValueError(
                f"method tradaboost boosts softmax heads, or a given linear head, not {given}"
            )
        # Weights move learners further from round to round than a closer fit would.
        return [SoftmaxHead(strength, tol=1e-4) for strength in sorted(self.strengths)]

    def _tell(self, boosting: TrAdaBoost, details: dict[str, Any]) -> None:
        last = boosting.rounds_[-1]
        details.update(
            errors=[round(one.error, 4) for one in boosting.rounds_],
            stopped_early=boosting.stopped_,
            source_samples=len(last.source_weights),
            source_weight=round(float(last.source_weights.sum()), 4),
        )


def _separated(details: dict[str, Any]) -> str | None:
    """That the domains hardly overlap, where a classifier says so."""
    separation = details.get("separation", 0.5)
    if separation < _OVERLAP:
        return None
    return (
        f"a classifier tells source from target in {100 * separation:.0f} % of pairs: they hardly "
        "overlap, and no weights make one stand for the other"
    )


def _candidate(
    boosting: TrAdaBoost, held: HeldOut | None, seconds: float, *, chosen: bool
) -> Candidate:
    learner = boosting.learner
    assert isinstance(learner, LinearHead)
    strength = getattr(learner, "C", None)
    return Candidate(
        kind=learner.kind,
        parameters={"C": float(strength)} if isinstance(strength, float) else {},
        accuracy=None if held is None else held.accuracy,
        log_loss=None if held is None else held.log_loss,
        temperature=1.0 if held is None else held.temperature,
        chosen=chosen,
        seconds=round(seconds, 4),
    )


def _boosted(boosting: TrAdaBoost, held: HeldOut | None) -> str:
    last = boosting.rounds_[-1]
    text = (
        f"{len(boosting.rounds_)} rounds of boosting on {len(last.target_weights)} target and "
        f"{len(last.source_weights)} source samples, which end with "
        f"{100 * last.source_weights.sum():.0f} % of the weight"
    )
    if held is not None:
        text += f"; {100 * held.accuracy:.1f} % of the held-out target samples right"
    if boosting.stopped_:
        text += (
            "; it ended early, since a learner was no better than chance on the target samples: "
            "the source may be of no use here"
        )
    return text
