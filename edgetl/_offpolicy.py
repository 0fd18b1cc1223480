"""Judges policies by what a device logged, and learns one from it: `offpolicy`.

It joins logs and `edgetl.transfer`; how either works it does not know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from edgetl.bundle import Bundle, Fitted, TaskRecord
from edgetl.bundle.task_record import checked_task
from edgetl.errors import DataError
from edgetl.runtime.rewarded import log_of
from edgetl.transfer.offpolicy import (
    ESTIMATORS,
    Estimate,
    Feedback,
    evaluate_policy,
    expected_rewards,
)
from edgetl.transfer.policy_gradient import PolicyGradient, held_out_policy

LEAST = 20
"""Rewarded decisions below which nothing is said."""


@dataclass(frozen=True, eq=False)
class OffPolicyReport:
    """What policies would have earned per choice.

    Attributes:
        samples: Rewarded decisions of the log.
        mean: What the logging policy earned.
        logged: The interval of that.
        policies: Estimates of every estimator, by policy: ``"uniform"``, and ``"learned"``, each
            half of the log judging what was learned from the other.
        bundle: The bundle with the policy learned from the whole log as a further task, in memory.
    """

    samples: int
    mean: float
    logged: tuple[float, float]
    policies: Mapping[str, tuple[Estimate, ...]]
    bundle: Bundle

    def to_json(self) -> dict[str, Any]:
        """The numbers as plain JSON types."""
        return {
            "samples": self.samples,
            "mean": self.mean,
            "logged": list(self.logged),
            "policies": {n: [one.to_json() for one in found] for n, found in self.policies.items()},
        }


def offpolicy(
    bundle: Bundle,
    task: str | None = None,
    *,
    options: PolicyGradient | None = None,
    name: str = "learned",
    level: float = 0.95,
) -> OffPolicyReport:
    """Judge policies by the log beside a bundle, and learn one from it.

    Only rewarded decisions are known: where a reward that did not come means something, give it as
    0 first. Where the policy learned while it logged, the intervals are those of choices that do
    not depend on each other, which holds better the longer ago it changed much.

    Args:
        bundle: A bundle with a policy, in the folder where that chose.
        task: The policy's; the only one that there is if None.
        options: How to learn; also its `clip` holds for the estimates.
        name: What the learned policy's task is called.
        level: Of the intervals.

    Raises:
        DataError: Fewer than 20 decisions of actions that there are have a reward.
        ValueError: There is no such policy, or a task of this name.
    """
    options = options or PolicyGradient()
    if checked_task(name) in (bundle.manifest.task, *bundle.manifest.tasks):
        raise ValueError(f"there is a task {name!r} already; name the learned one otherwise")
    task, log = log_of(bundle, task)
    labels = bundle.manifest.record(task).labels
    # Those of an action that was forgotten say nothing about those that there are.
    count = 0 if log is None else int(np.isin(log.actions, labels).sum())
    if log is None or count < LEAST:
        raise DataError(
            f"{count} decisions of task {task} have a reward, at least {LEAST} are needed to judge "
            "or learn policies"
        )
    feedback = Feedback.named(log.features, log.actions, log.rewards, log.propensities, labels)
    model = expected_rewards(feedback, seed=options.seed)
    uniform = np.full(model.shape, 1 / len(labels))
    policies = {"uniform": uniform, "learned": held_out_policy(feedback, options)}
    mean, error = feedback.rewards.mean(), feedback.rewards.std(ddof=1) / np.sqrt(len(feedback))
    half = NormalDist().inv_cdf((1 + level) / 2) * error
    head = options.fit(feedback)
    provenance = {
        "offpolicy": {**dataclasses.asdict(options), "task": task, "decisions": len(feedback)}
    }
    record = TaskRecord(
        labels=labels, head=head.kind, arrays=f"head-{name}.safetensors", provenance=provenance
    )
    return OffPolicyReport(
        len(feedback),
        float(mean),
        (float(mean - half), float(mean + half)),
        {
            who: tuple(
                evaluate_policy(
                    feedback, p, estimator=e, expected=model, clip=options.clip, level=level
                )
                for e in ESTIMATORS
            )
            for who, p in policies.items()
        },
        bundle.with_fitted(record, Fitted(head), name),
    )
