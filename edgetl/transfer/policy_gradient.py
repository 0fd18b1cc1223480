"""A softmax policy learned from the log of another one, by gradient ascent on what it would earn.

Swaminathan and Joachims, "Batch learning from logged bandit feedback through counterfactual risk
minimization" (JMLR 2015; POEM): clipped inverse propensity scores with a penalty on their standard
error, so that what was rarely tried is not trusted. The same with self-normalised scores (NIPS
2015, Norm-POEM) and with doubly robust ones (Dudik et al. 2011). What comes out is a linear head,
which any bundle ships. It works on arrays, and knows nothing about where a log is from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgetl.heads import SoftmaxHead
from edgetl.heads.arms import Coordinates
from edgetl.heads.calibrate import softmax
from edgetl.heads.lbfgs import Points, minimise
from edgetl.heads.policy import TEMPERATURE
from edgetl.transfer.offpolicy import (
    Feedback,
    evaluate_policy,
    expected_rewards,
    reward_model,
)

Objective = Literal["ips", "snips", "dr"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """How a policy is learned from a log.

    Args:
        objective: What is maximised, as of `edgetl.transfer.offpolicy.evaluate_policy`.
        clip: Largest weight; None for no limit.
        variance: How many standard errors of the objective are taken off it (lambda of POEM).
        strength: L2 penalty on the policy's weights, or several to choose from by what policies of
            the other folds would have earned in each, doubly robust.
        components: Most principal axes that the policy depends on; None for all features.
        folds: For the choice, and for the model of the reward.
        max_iter: Most quasi-Newton steps.
        seed: Of the folds.

    Raises:
        ValueError: An argument is out of its range.
    """

    objective: Objective = "dr"
    clip: float | None = 20.0
    variance: float = 0.5
    strength: float | Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3)
    components: int | None = 64
    folds: int = 3
    max_iter: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {OBJECTIVES}, got {self.objective!r}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip:g}")
        if not 0 <= self.variance < np.inf:
            raise ValueError(f"variance must be 0 or more, got {self.variance:g}")
        if not self.strengths or not all(0 <= value < np.inf for value in self.strengths):
            raise ValueError(f"strength must be 0 or more, got {self.strength}")
        if self.max_iter < 1 or self.folds < 2:
            raise ValueError(
                f"max_iter must be 1 and folds 2 or more, got {self.max_iter} and {self.folds}"
            )

    @property
    def strengths(self) -> tuple[float, ...]:
        """The strengths to choose from."""
        given = self.strength
        return (float(given),) if isinstance(given, int | float) else tuple(map(float, given))

    def fit(self, feedback: Feedback) -> SoftmaxHead:
        """Learn a policy; its `predict_proba` are the probabilities of the actions 0, 1, ....

        The ascent starts from the policy of the direct method: what a model of the reward expects.

        Raises:
            ValueError: There are fewer samples than folds.
        """
        coordinates = Coordinates.of(feedback.features, self.components)
        rows = coordinates(feedback.features)
        model = expected_rewards(
            feedback, folds=self.folds, components=self.components, seed=self.seed
        )
        strengths = self.strengths
        best = strengths[0]
        if len(strengths) > 1:
            best = strengths[
                int(np.argmax([self._worth(feedback, rows, model, s) for s in strengths]))
            ]
        weights = self._weights(Risk(self, feedback, rows, model, best))
        coef, intercept = coordinates.on_features(weights)
        return SoftmaxHead.from_arrays(
            {
                "coef": coef,
                "intercept": intercept,
                "temperature": np.array(1.0),
                "strength": np.array(1 / max(best, 1e-12)),
            }
        )

    def _worth(
        self,
        feedback: Feedback,
        rows: NDArray[np.float64],
        model: NDArray[np.float64],
        strength: float,
    ) -> float:
        """What policies with a strength would have earned where they were not learned."""
        order = np.random.default_rng(self.seed).permutation(len(feedback))
        total = 0.0
        for place in range(self.folds):
            out = order[place :: self.folds]
            seen = np.setdiff1d(order, out)
            risk = Risk(self, feedback.part(seen), rows[seen], model[seen], strength)
            policy = softmax(rows[out] @ self._weights(risk).T)
            found = evaluate_policy(feedback.part(out), policy, expected=model[out], clip=self.clip)
            total += found.value * len(out)
        return total / len(feedback)

    def _weights(self, risk: Risk) -> NDArray[np.float64]:
        # What is maximised has many summits: from chance, ``"snips"`` may end on a low one.
        start = reward_model(risk.feedback, risk.rows, 1.0)[None] / TEMPERATURE
        scale = np.full_like(start, 0.1 + risk.strength)
        found = minimise(risk, start, scale, tolerance=1e-5, max_iterations=self.max_iter)
        return np.asarray(found.points[0])


class Risk:
    """Minus what a softmax policy would earn, with its penalties; for `edgetl.heads.lbfgs`.

    Args:
        options: Objective, clip and variance.
        feedback: What was logged.
        rows: (n, d) what the policy is linear in.
        model: (n, actions) expected rewards; of ``"dr"`` only.
        strength: L2 penalty.
    """

    def __init__(
        self,
        options: PolicyGradient,
        feedback: Feedback,
        rows: NDArray[np.float64],
        model: NDArray[np.float64],
        strength: float,
    ) -> None:
        self.options, self.feedback, self.rows, self.model = options, feedback, rows, model
        self.strength = strength
        self._done = np.eye(feedback.n_actions)[feedback.actions]

    def evaluate(self, points: Points, which: NDArray[np.int64]) -> tuple[Points, Points]:
        """Values and gradients at points (a, actions, d)."""
        found = [self.at(point) for point in points]
        return np.array([value for value, _ in found]), np.array([slope for _, slope in found])

    def gradient_norm(self, gradients: Points) -> Points:
        """The largest entry of each gradient."""
        return np.asarray(np.abs(gradients).max(axis=(1, 2)))

    def at(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient at weights (actions, d)."""
        policy = softmax(self.rows @ weights.T)
        ratio = self.feedback.of_actions(policy) / self.feedback.propensities
        clip = self.options.clip or np.inf
        cut = ratio > clip
        ratio = np.where(cut, clip, ratio)
        if self.options.objective == "snips":
            earned, slopes = self._self_normalised(ratio)
        else:
            earned, slopes = self._mean(policy, ratio)
        by_ratio, by_sample = slopes
        # d ratio / d logits = ratio (what was done - policy), where it was not cut.
        logits = (by_ratio * np.where(cut, 0.0, ratio))[:, None] * (self._done - policy)
        if self.options.objective == "dr":
            own = policy * self.model
            logits += by_sample[:, None] * (own - policy * own.sum(axis=1, keepdims=True))
        value = -earned + self.strength / 2 * float(np.square(weights).sum())
        return value, -logits.T @ self.rows + self.strength * weights

    def _mean(
        self, policy: NDArray[np.float64], ratio: NDArray[np.float64]
    ) -> tuple[float, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Mean minus standard errors, and its slopes by ratio and by what a sample adds."""
        n, residual = len(ratio), self.feedback.rewards
        parts = np.zeros(n)
        if self.options.objective == "dr":
            residual = residual - self.feedback.of_actions(self.model)
            parts = (policy * self.model).sum(axis=1)
        parts = parts + ratio * residual
        centred = parts - parts.mean()
        error = float(np.sqrt(centred @ centred / (n - 1) / n))
        slope = np.full(n, 1 / n)
        if error > 0:
            slope = slope - self.options.variance * centred / ((n - 1) * n * error)
        return float(parts.mean()) - self.options.variance * error, (slope * residual, slope)

    def _self_normalised(
        self, ratio: NDArray[np.float64]
    ) -> tuple[float, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The same of the ratio of sums."""
        total = ratio.sum()
        mean = float(ratio @ self.feedback.rewards / total)
        apart = self.feedback.rewards - mean
        spread = float(np.square(ratio * apart).sum() / total**2)
        slope = apart / total
        if spread > 0:
            by_ratio = 2 * ratio * np.square(apart) / total**2 - 2 * spread / total
            by_mean = -2 * float((np.square(ratio) @ apart) / total**2)
            change = (by_ratio + by_mean * slope) / (2 * np.sqrt(spread))
            slope = slope - self.options.variance * change
        return mean - self.options.variance * float(np.sqrt(spread)), (slope, np.zeros_like(ratio))


def learn_policy(feedback: Feedback, options: PolicyGradient | None = None) -> SoftmaxHead:
    """Learn a policy with `options`, or the defaults; errors as of `PolicyGradient.fit`."""
    return (options or PolicyGradient()).fit(feedback)


def held_out_policy(
    feedback: Feedback, options: PolicyGradient | None = None, *, folds: int = 2
) -> NDArray[np.float64]:
    """What policies learned from the other parts would do, (n, actions), so that it can be judged.

    Args:
        feedback: What was logged.
        options: How to learn.
        folds: Parts.

    Raises:
        ValueError: There are fewer samples than it takes.
    """
    options = options or PolicyGradient()
    order = np.random.default_rng(options.seed).permutation(len(feedback))
    found = np.zeros((len(feedback), feedback.n_actions))
    for place in range(folds):
        out = order[place::folds]
        learned = options.fit(feedback.part(np.setdiff1d(order, out)))
        found[out] = learned.predict_proba(feedback.features[out])
    return found
