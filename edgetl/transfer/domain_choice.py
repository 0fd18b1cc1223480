"""The choice among adapters to a domain without labels, no adaptation being one of them.

Each candidate is fitted twice, to either half of the target samples, and answers the other half, so
that a criterion sees answers to samples that did not shape the classifier. The criteria are in
`edgetl.transfer.domain_criteria`. The one that decides unless told otherwise, the information that
answers carry, was taken since it did no harm on the average of photos that are only grey, blurred,
noisy or faint (it lost in one of eight draws); agreement with neighbours finds more on photos and
sketches, and loses there (both are in ``benchmarks/transfer_shift.py``). No label of the target
domain is an argument here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads import Head
from edgetl.heads.folds import stratified_folds
from edgetl.heads.validate import check_labels
from edgetl.transfer.domain_adapter import DomainAdapter, FloatArray, SourceOnly, check_domains
from edgetl.transfer.domain_criteria import (
    deep_embedded_validation,
    importance,
    importance_weighted_risk,
    information,
    mean_entropy,
    nearest_samples,
    neighbour_information,
    neighbourhood_density,
    nuclear_norm,
)
from edgetl.transfer.mmd import MmdTest, mmd_test

Criterion = Literal[
    "neighbours", "information", "entropy", "density", "nuclear", "importance", "dev"
]
LOWER: tuple[Criterion, ...] = ("entropy", "importance", "dev")
"""Criteria of which the lowest value is best."""
_WEIGHTED = ("importance", "dev")
NONE = "none"
"""Name of the candidate that does not adapt."""
LEVEL = 0.05
_ROWS = 1000
"""Samples of each domain that the test of domains sees at most: it is quadratic in them."""
_JUDGED = 5000
"""Target samples that candidates are judged on at most; every candidate is fitted twice to them."""


@dataclass(frozen=True)
class Judged:
    """What the criteria say of one candidate.

    Attributes:
        name: Of the candidate.
        values: By criterion.
        shares: (classes,) how often it answers each class, in the classes' order.
    """

    name: str
    values: Mapping[str, float]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class DomainChoice:
    """The chosen adapter, and why.

    Attributes:
        chosen: Its name; `NONE` for no adaptation.
        criterion: What decided.
        judged: All candidates.
        test: Whether the domains' features differ at all.
        reason: One sentence.
    """

    chosen: str
    criterion: Criterion
    judged: tuple[Judged, ...]
    test: MmdTest
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Everything, as numbers, strings, lists and dicts."""
        return {
            "chosen": self.chosen,
            "criterion": self.criterion,
            "reason": self.reason,
            "domains": {"mmd2": self.test.mmd2, "p_value": self.test.p_value},
            "candidates": [
                {"name": one.name, **one.values, "answers": list(one.shares)} for one in self.judged
            ],
        }


def default_candidates(*, head: str | Head = "auto", seed: int = 0) -> dict[str, DomainAdapter]:
    """No adaptation, and every adapter on features with its defaults.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    from edgetl.transfer.coral import CoralAdapter
    from edgetl.transfer.dan import MmdAdapter
    from edgetl.transfer.dann import DannAdapter
    from edgetl.transfer.shot import ShotAdapter
    from edgetl.transfer.subspace_alignment import SubspaceAdapter

    return {
        NONE: SourceOnly(head=head, seed=seed),
        "coral": CoralAdapter(seed=seed),
        "subspace": SubspaceAdapter(seed=seed),
        "mmd": MmdAdapter(seed=seed),
        "dann": DannAdapter(seed=seed),
        "shot": ShotAdapter(seed=seed),
    }


def choose_adapter(
    Xs: ArrayLike,
    ys: ArrayLike,
    Xt: ArrayLike,
    *,
    candidates: Mapping[str, DomainAdapter] | None = None,
    criterion: Criterion = "information",
    weighted: bool = False,
    seed: int = 0,
) -> DomainChoice:
    """Choose an adapter from labelled source and unlabelled target features.

    Where a permutation test of the MMD finds no difference between the domains, nothing is adapted:
    there is nothing to adapt to, and a criterion would choose by noise. Otherwise the candidate
    that the criterion speaks for is taken, no adaptation where it ties.

    Of more than 5,000 target samples, so many are drawn to judge by.

    The choice may be wrong: whether adapting helped is only known from labelled target samples.

    Args:
        Xs: (n, dim) features of labelled source samples.
        ys: (n,) labels.
        Xt: (m, dim) features of target samples, m from 20.
        candidates: Adapters by name; `default_candidates` if None. One is called `NONE`.
        criterion: What decides.
        weighted: Whether the criteria by importance are told too where they don't decide; they
            take longer than all else.
        seed: Of halves, folds and the test.

    Raises:
        ValueError: Shapes don't fit, values aren't finite, one class, too few target samples, or
            no candidate is called `NONE`.
    """
    source, target = check_domains(Xs, Xt)
    _, codes = check_labels(ys, len(source))
    candidates = default_candidates(seed=seed) if candidates is None else candidates
    if NONE not in candidates:
        raise ValueError(f"one candidate must be called {NONE!r}, got {', '.join(candidates)}")
    if len(target) < 20:
        raise ValueError(f"need 20 target samples or more to choose by, got {len(target)}")
    test = compare_domains(source, target, seed=seed)
    weighted = weighted or criterion in _WEIGHTED
    if len(target) > _JUDGED:
        rows = np.random.default_rng(seed).choice(len(target), _JUDGED, replace=False)
        target = target[np.sort(rows)]
    halves = _Halves(source, codes, target, weighted=weighted, seed=seed)
    judged = tuple(halves.judge(name, adapter) for name, adapter in candidates.items())
    sign = -1 if criterion in LOWER else 1
    rank = {one.name: sign * one.values[criterion] for one in judged}
    best = max(rank, key=lambda name: (rank[name], name == NONE))
    if test.p_value > LEVEL:
        best = NONE
        reason = (
            f"no difference between the domains was found (MMD, permutation test, p = "
            f"{test.p_value:.2g}), so nothing is adapted"
        )
    elif best == NONE:
        reason = f"no adapter is better than none by the criterion {criterion}"
    else:
        reason = (
            f"best of {len(rank)} by the criterion {criterion} on unlabelled target samples "
            f"({sign * rank[best]:.3g}; without adaptation {sign * rank[NONE]:.3g})"
        )
    return DomainChoice(best, criterion, judged, test, reason)


def compare_domains(source: FloatArray, target: FloatArray, *, seed: int = 0) -> MmdTest:
    """`mmd_test` on at most 1,000 samples of each domain."""
    generator = np.random.default_rng(seed)
    parts = [
        rows if len(rows) <= _ROWS else rows[generator.choice(len(rows), _ROWS, replace=False)]
        for rows in (source, target)
    ]
    return mmd_test(parts[0], parts[1], seed=seed)


class _Halves:
    """Answers to target samples, and losses of source samples, that did not shape the answerer."""

    def __init__(
        self,
        source: FloatArray,
        codes: NDArray[np.int64],
        target: FloatArray,
        *,
        weighted: bool,
        seed: int,
    ) -> None:
        self.source, self.codes, self.target = source, codes, target
        self.half = np.random.default_rng(seed).permutation(len(target)) % 2
        # Only importance needs source samples that are held out; else all of them are fitted to.
        self.folds = stratified_folds(codes, seed=seed) if weighted else np.full(len(codes), -1)
        self.classes = int(codes.max()) + 1
        self.nearest = nearest_samples(target)

    def judge(self, name: str, adapter: DomainAdapter) -> Judged:
        """Fit to one half of the target and answer the other, both ways; then the criteria."""
        shares = np.zeros((len(self.target), self.classes))
        losses, weights = [], []
        for half in (0, 1):
            seen, unseen = self.target[self.half == half], self.half != half
            held = self.folds == half
            fitted = replace(adapter).fit(self.source[~held], self.codes[~held], seen)
            shares[unseen] = fitted.predict_proba(self.target[unseen])
            if held.any():
                rows = fitted.move(self.source[held])
                chance = fitted.predict_proba(rows)[np.arange(len(rows)), self.codes[held]]
                losses.append(-np.log(np.maximum(chance, 1e-12)))
                weights.append(importance(fitted.move(self.source[~held]), rows, seen))
        answers = shares.argmax(axis=1)
        values = {
            "neighbours": neighbour_information(self.nearest, answers),
            "information": information(shares),
            "entropy": mean_entropy(shares),
            "density": neighbourhood_density(shares),
            "nuclear": nuclear_norm(shares),
        }
        if losses:
            loss, weight = np.concatenate(losses), np.concatenate(weights)
            values["importance"] = importance_weighted_risk(loss, weight)
            values["dev"] = deep_embedded_validation(loss, weight)
        counts = np.bincount(answers, minlength=self.classes) / len(answers)
        return Judged(name, values, tuple(counts.tolist()))
