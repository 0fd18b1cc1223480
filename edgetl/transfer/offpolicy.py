"""What a policy would have earned, from the log of another one: off-policy evaluation.

Dudik, Langford and Li, "Doubly robust policy evaluation and learning" (ICML 2011), for inverse
propensity scores (IPS), the direct method (DM) and both together (DR); Swaminathan and Joachims,
"The self-normalized estimator for counterfactual learning" (NIPS 2015), for SNIPS; Maurer and
Pontil, "Empirical Bernstein bounds and sample variance penalization" (COLT 2009), for intervals
that hold at any number of samples. It works on arrays, and knows nothing about where a log is from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.heads.arms import Arm, Coordinates
from edgetl.heads.validate import check_features

Estimator = Literal["ips", "snips", "dm", "dr"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
Interval = Literal["normal", "bernstein"]


@dataclass(frozen=True, eq=False)
class Feedback:
    """Logged choices with what they brought.

    Attributes:
        features: (n, dim) of what was chosen for.
        actions: (n,) what was done, 0 to n_actions - 1.
        rewards: (n,) from 0 to 1.
        propensities: (n,) the probability with which the logging policy did it, above 0.
        n_actions: How many actions there were to choose from.

    Raises:
        ValueError: Shapes don't fit, or a number is out of its range.
    """

    features: NDArray[Any]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    propensities: NDArray[np.float64]
    n_actions: int

    def __post_init__(self) -> None:
        rows = check_features(self.features, name="Feedback")
        for name in ("actions", "rewards", "propensities"):
            shape = np.shape(getattr(self, name))
            if shape != (len(rows),):
                raise ValueError(f"{len(rows)} samples have {name} of shape {shape}")
        if len(rows) < 2 or self.n_actions < 2:
            raise ValueError(
                f"need at least 2 samples and 2 actions, got {len(rows)} and {self.n_actions}"
            )
        if self.actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be whole numbers, got {self.actions.dtype}")
        if not (self.actions.min() >= 0 and self.actions.max() < self.n_actions):
            raise ValueError(
                f"actions are {self.actions.min()} to {self.actions.max()}, there are "
                f"{self.n_actions}"
            )
        if not ((self.rewards >= 0) & (self.rewards <= 1)).all():
            raise ValueError(
                f"rewards must be from 0 to 1, got {self.rewards.min():g} to {self.rewards.max():g}"
            )
        if not ((self.propensities > 0) & (self.propensities <= 1 + 1e-9)).all():
            raise ValueError(
                f"propensities must be above 0 and at most 1, got {self.propensities.min():g} to "
                f"{self.propensities.max():g}"
            )
        object.__setattr__(self, "features", rows)

    @classmethod
    def named(
        cls,
        features: ArrayLike,
        actions: Sequence[str] | NDArray[np.str_],
        rewards: ArrayLike,
        propensities: ArrayLike,
        labels: Sequence[str],
    ) -> Feedback:
        """With actions by name, as the log of a device has them (`edgetl.runtime.RewardLog`).

        Args:
            features: (n, dim).
            actions: (n,) names; samples of names that are not among `labels` are left out.
            rewards: (n,).
            propensities: (n,).
            labels: What there is to choose from now.

        Raises:
            ValueError: As of the class.
        """
        places = {label: code for code, label in enumerate(labels)}
        codes = np.array([places.get(str(action), -1) for action in actions], np.int64)
        kept = codes >= 0
        return cls(
            np.asarray(features)[kept],
            codes[kept],
            np.asarray(rewards, np.float64)[kept],
            np.asarray(propensities, np.float64)[kept],
            len(labels),
        )

    def __len__(self) -> int:
        return len(self.actions)

    def part(self, rows: NDArray[Any]) -> Feedback:
        """Some of it: positions, or a mask."""
        return Feedback(
            self.features[rows],
            self.actions[rows],
            self.rewards[rows],
            self.propensities[rows],
            self.n_actions,
        )

    def of_actions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The column of what was done, (n,) of (n, actions)."""
        return np.asarray(values[np.arange(len(self)), self.actions])


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a policy is worth, by one estimator.

    Attributes:
        estimator: Which.
        value: Expected reward per choice.
        low: Lower end of the interval, at the level asked for.
        high: Upper end.
        error: Standard error.
        samples: How many choices it is from.
        effective: ``(sum w)^2 / sum w^2``: how many choices of the policy itself they are like.
        clipped: Share of the weights that were cut.
    """

    estimator: Estimator
    value: float
    low: float
    high: float
    error: float
    samples: int
    effective: float
    clipped: float

    def to_json(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return dict(vars(self))


def evaluate_policy(
    feedback: Feedback,
    policy: NDArray[np.float64],
    *,
    estimator: Estimator = "dr",
    expected: NDArray[np.float64] | None = None,
    clip: float | None = None,
    level: float = 0.95,
    interval: Interval = "normal",
) -> Estimate:
    """Estimate what a policy earns per choice.

    Args:
        feedback: What another policy did. The policy must not have been learned from it.
        policy: (n, actions) probabilities with which the policy would have done each.
        estimator: ``"ips"``: rewards weighted by policy over propensity; unbiased, high variance.
            ``"snips"``: divided by the mean weight; biased by O(1/n), and steadier. ``"dm"``: a
            model of the reward answers; its interval knows nothing of the model's own error.
            ``"dr"``: the model, corrected by the weighted residuals; unbiased, and the steadier the
            better the model is.
        expected: (n, actions) a model's expected rewards, each by a model that has not seen that
            sample's reward; `expected_rewards` where None.
        clip: Largest weight; larger ones are cut to it, which lowers variance and adds bias. None:
            no weight is cut.
        level: Of the interval, two-sided.
        interval: ``"normal"``: by the central limit theorem, too narrow where few weights carry
            the estimate. ``"bernstein"``: holds at every n, and is wide; of ``"ips"`` with `clip`
            only, since it needs a bound, and of the clipped estimator's mean.

    Raises:
        ValueError: Something does not fit or is out of its range.
    """
    weights, share = _weights(feedback, policy, clip)
    _check_choice(estimator, clip, level, interval)
    parts = _parts(feedback, policy, weights, estimator, expected)
    n = len(feedback)
    value, error = float(parts.mean()), float(parts.std(ddof=1) / np.sqrt(n))
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    if interval == "bernstein" and clip is not None:
        log = np.log(4 / (1 - level))  # each side at half of what may go wrong
        half = float(error * np.sqrt(2 * log) + 7 * clip * log / (3 * (n - 1)))
    squares = float(np.square(weights).sum())
    return Estimate(
        estimator=estimator,
        value=value,
        low=value - half,
        high=value + half,
        error=error,
        samples=n,
        effective=float(weights.sum() ** 2 / squares) if squares else 0.0,
        clipped=share,
    )


def _check_choice(
    estimator: Estimator, clip: float | None, level: float, interval: Interval
) -> None:
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {ESTIMATORS}, got {estimator!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level:g}")
    if interval not in get_args(Interval):
        raise ValueError(f"interval must be one of {get_args(Interval)}, got {interval!r}")
    if interval == "bernstein" and (estimator != "ips" or clip is None):
        raise ValueError('interval="bernstein" needs estimator="ips" and a clip')


def _parts(
    feedback: Feedback,
    policy: NDArray[np.float64],
    weights: NDArray[np.float64],
    estimator: Estimator,
    expected: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """What each sample adds (n,), the mean of which is the estimate."""
    rewards = feedback.rewards
    if estimator == "ips":
        return weights * rewards
    if estimator == "snips":
        total = weights.sum()
        if not total > 0:
            raise ValueError("the policy does nothing that was ever logged; no weight is above 0")
        value = float(weights @ rewards / total)
        # Linearised, which is the delta method.
        return np.asarray(value + len(feedback) / total * weights * (rewards - value))
    model = expected_rewards(feedback) if expected is None else expected
    if model.shape != policy.shape:
        raise ValueError(f"expected is {model.shape}, the policy {policy.shape}")
    parts = np.asarray((policy * model).sum(axis=1))
    if estimator == "dr":
        parts = parts + weights * (rewards - feedback.of_actions(model))
    return parts


def _weights(
    feedback: Feedback, policy: NDArray[np.float64], clip: float | None
) -> tuple[NDArray[np.float64], float]:
    """Weights (n,), and the share of them that was cut."""
    shape = (len(feedback), feedback.n_actions)
    if np.shape(policy) != shape:
        raise ValueError(f"the policy is {np.shape(policy)}, expected {shape}")
    if not (policy >= 0).all() or np.abs(policy.sum(axis=1) - 1).max() > 1e-4:
        raise ValueError("the policy's rows must be probabilities that sum to 1")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be positive, got {clip:g}")
    weights = feedback.of_actions(policy) / feedback.propensities
    if clip is None:
        return weights, 0.0
    return np.minimum(weights, clip), float((weights > clip).mean())


def greedy(scores: ArrayLike) -> NDArray[np.float64]:
    """The policy (n, actions) that does what has the highest score; the first of equal ones."""
    values = np.asarray(scores)
    return np.asarray(np.eye(values.shape[1])[values.argmax(axis=1)])


def expected_rewards(
    feedback: Feedback,
    *,
    folds: int = 5,
    strength: float = 1.0,
    components: int | None = 64,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Expected reward of every action for every sample, each by a model that has not seen it.

    The model is a ridge regression per action, in the coordinates of `edgetl.heads.PolicyHead`.

    Args:
        feedback: What was logged.
        folds: Parts; each is answered by the model of the others.
        strength: L2 penalty.
        components: Most principal axes, which are those of all samples; None for all features.
        seed: Of the parts.

    Returns:
        (n, actions), cut to 0 to 1.

    Raises:
        ValueError: There are fewer than two folds, or more than samples.
    """
    if not 2 <= folds <= len(feedback):
        raise ValueError(f"folds must be from 2 to {len(feedback)}, got {folds}")
    rows = Coordinates.of(feedback.features, components)(feedback.features)
    order = np.random.default_rng(seed).permutation(len(feedback))
    found = np.zeros((len(feedback), feedback.n_actions))
    for place in range(folds):
        out = order[place::folds]
        seen = np.ones(len(feedback), dtype=bool)
        seen[out] = False
        found[out] = rows[out] @ reward_model(feedback.part(seen), rows[seen], strength).T
    return np.clip(found, 0.0, 1.0)


def reward_model(
    feedback: Feedback, rows: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """Weights (actions, d) of the expected reward at rows (n, d); zeros for what was never done."""
    weights = np.zeros((feedback.n_actions, rows.shape[1]))
    for action in np.unique(feedback.actions).tolist():
        own = feedback.actions == action
        ones, rewards = np.ones(int(own.sum())), feedback.rewards[own, None]
        (arm,) = Arm.of(rows[own], rewards, ones, strength)
        weights[action] = arm.product / strength
    return weights
