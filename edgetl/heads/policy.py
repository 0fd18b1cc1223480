"""A head that learns from rewards of what was done, instead of labels: a contextual bandit.

Its classes are actions. A score is the reward expected of an action, so `predict` answers with the
greedy action; `propensities` says how probable each is while it explores. It knows features and
rewards; what was chosen, when its reward comes and where both are kept is not its business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import CorruptError
from edgetl.heads.arms import Arm, Arms, Coordinates
from edgetl.heads.base import stored
from edgetl.heads.exploration import RULES, Exploration, Rule
from edgetl.heads.learning import Lesson
from edgetl.heads.linear import LinearHead
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import check_features, check_weights

if TYPE_CHECKING:
    from typing_extensions import Self

COMPONENTS = 64
STRENGTH = 0.1
WIDTHS: dict[Rule, float] = {"linucb": 0.3, "thompson": 0.1, "greedy": 0.0}
"""With `STRENGTH` they earned most over 800 choices of 5 and of 20 actions, of those tried."""
TEMPERATURE = 0.1
"""Rewards are from 0 to 1: one expected 0.1 higher makes an action e times as probable."""


class PolicyHead(LinearHead):
    """Disjoint linear models of the reward per action (Li et al. 2010, algorithm 1), and a rule.

    `reward` learns from what one action brought, which says nothing about the others. A label is a
    reward for every action at once, 1 for the labelled one and 0 for the others: so `fit` and
    `partial_fit` learn, and so does a correction. An action learned new starts from nothing.
    `start` makes a policy that knows nothing yet. The probabilities of `predict_proba` order the
    actions by expected reward; they are not calibrated, and not how a policy explores.

    Args:
        rule: As of `edgetl.heads.exploration.Exploration`, and so are the next two.
        width: How many standard errors are hoped for; what suits the rule if None.
        floor: Share of choices left to chance.
        strength: L2 penalty on the weights of each action (lambda); samples have a mean square norm
            of 1 around their mean, and a constant 1 beside that.
        components: Most principal axes of the features that the reward may depend on; None for all
            features. An action takes 4 components^2 bytes, and a choice as many multiplications
            per two actions.

    Attributes:
        strength_: The strength in use.
        exploration_: The rule in use.
        learner_: What is learned on from, which is never changed in place.
    """

    kind = "policy"
    needs_statistics = True
    learner_: Arms
    _strength = ("strength", "strength_")

    def __init__(
        self,
        rule: Rule = "linucb",
        *,
        width: float | None = None,
        floor: float = 0.05,
        strength: float = STRENGTH,
        components: int | None = COMPONENTS,
    ) -> None:
        self.rule: Rule = rule
        self.width = width
        self.floor = floor
        self.strength = strength
        self.components = components

    def start(self, X: ArrayLike, actions: ArrayLike) -> Self:
        """Become a policy that no action was ever rewarded in.

        Args:
            X: (n, dim) features of samples as they will come, without labels, which only settle
                the coordinates; the more the better, from 2 on.
            actions: Names or numbers, at least two different ones.

        Raises:
            ValueError: Something does not fit, or an argument of the constructor is unusable.
        """
        features = check_features(X)
        classes = np.unique(np.asarray(actions))
        if classes.ndim != 1 or len(classes) < 2:
            raise ValueError(f"a policy needs at least 2 actions, got {classes.tolist()}")
        if len(features) < 2:
            raise ValueError(
                f"need at least 2 samples to settle the coordinates, got {len(features)}"
            )
        with self._whole():
            self._settle()
            self.classes_, self.n_features_in_ = classes, features.shape[1]
            coordinates = Coordinates.of(features, self.components)
            arm = Arm.unknown(coordinates.size)
            self._adopt(Arms(coordinates, (arm,) * len(classes), self.strength_))
        return self

    def reward(
        self,
        X: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn what actions brought, in the order given: O(components^2) each.

        Args:
            X: (n, dim) finite features that were chosen for.
            actions: (n,) what was done, of `classes_`.
            rewards: (n,) from 0 to 1.
            sample_weight: (n,) positive: how many times a reward counts.

        Raises:
            NotFittedError: The policy was not started.
            ValueError: Shapes don't fit, an action is unknown, a reward is out of range, or the
                head lacks its statistics. The head is as before.
        """
        self._check_fitted()
        features = check_features(X, dim=self.n_features_in_, name=type(self).__name__)
        codes = self._codes(actions, len(features))
        given = np.asarray(rewards, np.float64)
        if given.shape != (len(features),):
            raise ValueError(f"{len(features)} samples have rewards of shape {given.shape}")
        if not ((given >= 0) & (given <= 1)).all():
            raise ValueError(f"rewards must be from 0 to 1, got {given.min():g} to {given.max():g}")
        weights = check_weights(sample_weight, len(features))
        if not weights.min() > 0:
            raise ValueError(f"weights must be positive, got {weights.min():g}")
        with self._whole():
            self._adopt(self._statistics().rewarded(features, codes, given, weights))
        return self

    def propensities(self, X: ArrayLike) -> NDArray[np.float64]:
        """How probable each action is while exploring, (n, actions); rows sum to 1.

        Raises:
            NotFittedError: The policy was not started.
            ValueError: `X` is not (n, dim), not finite, or the head lacks its statistics.
        """
        scores = self.scores(X)
        errors = self._statistics().errors(check_features(X, dim=self.n_features_in_))
        return self.exploration_.propensities(scores, errors)

    def errors(self, X: ArrayLike) -> NDArray[np.float64]:
        """Standard errors (n, actions) of the scores, for rewards of variance 1."""
        self._check_fitted()
        features = check_features(X, dim=self.n_features_in_, name=type(self).__name__)
        return self._statistics().errors(features)

    def _codes(self, actions: ArrayLike, n: int) -> NDArray[np.int64]:
        names = np.asarray(actions)
        if names.shape != (n,):
            raise ValueError(f"{n} samples have actions of shape {names.shape}")
        codes = np.minimum(np.searchsorted(self.classes_, names), len(self.classes_) - 1)
        if not (self.classes_[codes] == names).all():
            strange = names[self.classes_[codes] != names][:1].tolist()[0]
            raise ValueError(f"no action {strange!r}; there are {self.classes_.tolist()[:10]}")
        return codes.astype(np.int64)

    def _settle(self) -> None:
        """Check the arguments and take them over."""
        if not 0 < self.strength < np.inf:
            raise ValueError(f"strength must be positive, got {self.strength}")
        if self.components is not None and self.components < 1:
            raise ValueError(f"components must be at least 1, or None, got {self.components}")
        width = WIDTHS.get(self.rule, 0.0) if self.width is None else self.width
        self.exploration_ = Exploration(rule=self.rule, width=width, floor=self.floor)
        self.strength_, self.temperature_ = float(self.strength), TEMPERATURE

    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        self._settle()
        self._gather_all(np.asarray(data.ops.to_numpy(data.features)), data.codes, data.weights)

    def _gather(self, lesson: Lesson) -> None:
        self._gather_all(lesson.features, lesson.codes, lesson.weights)

    def _gather_all(
        self, features: NDArray[Any], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> None:
        coordinates = Coordinates.of(features, self.components)
        rewards = 1.0 * (codes[:, None] == np.arange(len(self.classes_)))
        arms = Arm.of(coordinates(features), rewards, weights, self.strength_)
        self._adopt(Arms(coordinates, arms, self.strength_))

    def _learn(self, lesson: Lesson) -> None:
        arms = self._statistics()
        found = [Arm.unknown(arms.coordinates.size)] * len(lesson.classes)
        for place, arm in zip(lesson.places.tolist(), arms.arms, strict=True):
            found[place] = arm
        grown = replace(arms, arms=tuple(found))
        count = len(lesson.classes)
        self._adopt(
            grown.rewarded(
                np.repeat(lesson.features, count, axis=0),
                np.tile(np.arange(count), len(lesson.codes)),
                1.0 * (lesson.codes[:, None] == np.arange(count)).reshape(-1),
                np.repeat(lesson.weights, count),
            )
        )

    def _keep(self, kept: NDArray[np.int64]) -> None:
        self.coef_, self.intercept_ = self.coef_[kept], self.intercept_[kept]
        if hasattr(self, "learner_"):
            arms = self.learner_.arms
            self.learner_ = replace(self.learner_, arms=tuple(arms[code] for code in kept.tolist()))

    def _learned(self) -> dict[str, NDArray[Any]]:
        return self._statistics().arrays()

    def _relearn(self, state: Mapping[str, NDArray[Any]]) -> None:
        arms = Arms.restored(state, len(self.classes_), self.n_features_in_, self.strength_)
        self._check_same(*arms.coordinates.on_features(arms.weights))
        self._adopt(arms)

    def _check_same(self, coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> None:
        if coef.any() or self.coef_.any():  # before the first reward all is zero
            super()._check_same(coef, intercept)

    def _statistics(self) -> Arms:
        if not hasattr(self, "learner_"):
            raise self._without_statistics()
        return self.learner_

    def _adopt(self, arms: Arms) -> None:
        self.learner_ = arms
        self.coef_, self.intercept_ = arms.coordinates.on_features(arms.weights)

    def _settings(self) -> dict[str, NDArray[Any]]:
        own = self.exploration_
        numbers = np.array([RULES.index(own.rule), own.width, own.floor])
        return {**super()._settings(), "exploring": numbers}

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        found = super()._restore(arrays)
        number, width, floor = stored(arrays, "exploring", (3,)).tolist()
        try:
            rule = RULES[int(number)] if number in range(len(RULES)) else None
            self.exploration_ = Exploration(rule=rule, width=width, floor=floor)  # type: ignore[arg-type]
        except ValueError as error:
            raise CorruptError(f"policy head: {error}") from error
        self.rule, self.width, self.floor = self.exploration_.rule, width, floor
        self.strength = self.strength_
        return found
