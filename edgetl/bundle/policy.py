"""Gives a bundle a policy: a further head that chooses actions and learns from rewards.

It knows heads and records; how a device chooses and what it logs is not its business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.bundle.bundle import Bundle, Fitted
from edgetl.bundle.commit import check_learnable
from edgetl.bundle.learning import Learning
from edgetl.bundle.task_record import TaskRecord, checked_labels, checked_task
from edgetl.heads import PolicyHead
from edgetl.heads.validate import check_features

_FEW = 16
"""Samples that settle coordinates, at least: fewer span next to nothing."""


def with_policy(
    bundle: Bundle,
    actions: Sequence[str] | None = None,
    *,
    name: str = "policy",
    policy: PolicyHead | None = None,
    features: ArrayLike | None = None,
) -> Bundle:
    """A bundle with a policy as a further task, in memory; `Bundle.save` writes it.

    Args:
        bundle: A saved bundle.
        actions: What there is to choose from; the policy knows nothing of them. If None, they are
            the main task's labels, and the policy starts from what the kept samples say: that the
            label of each would have brought 1 and any other action 0.
        name: What the task is to be called.
        policy: How it explores, with the settings of an unfitted head; the defaults if None.
        features: (n, dim) features of samples as they will come, which settle the coordinates; the
            bundle's kept ones if None. Only where `actions` are given.

    Raises:
        ValueError: There are fewer than two actions, two alike or a task of this name; too few
            features are kept; or a graph has its head inside.
    """
    check_learnable(bundle)
    manifest = bundle.manifest
    known = [manifest.task, *manifest.tasks]
    if checked_task(name) in known:
        raise ValueError(f"there is a task {name!r} already ({', '.join(known)}); name it anew")
    head = PolicyHead() if policy is None else type(policy)(**policy.get_params())
    kept = bundle.learning
    if actions is None:
        if features is not None:
            raise ValueError("features have no labels to start from; name the actions")
        if kept is None or len(np.unique(kept.codes)) < len(bundle.labels):
            raise ValueError(
                "the bundle keeps no sample of some classes, so that a policy can't start from "
                "them; name the actions, or adapt again with memory_mb above 0"
            )
        head.fit(kept.features, kept.codes, kept.weights)
        labels = bundle.labels
    else:
        if isinstance(actions, str):
            raise ValueError(f"actions must be a list of names, such as [{actions!r}, ...]")
        labels = checked_labels(actions)
        if not all(label.strip() for label in labels):
            raise ValueError("an action must have a name that is not empty")
        head.start(_rows(bundle, features), np.arange(len(labels)))
    learning = dataclasses.replace(Learning.empty(manifest.dim), statistics=head.learning_state())
    own: dict[str, Any] = {**head.get_params(), "started_from": "labels" if actions is None else ""}
    record = TaskRecord(
        labels=labels,
        head=head.kind,
        arrays=f"head-{name}.safetensors",
        learning=f"learning-{name}.safetensors",
        provenance={"policy": own},
    )
    return bundle.with_fitted(record, Fitted(head, learning), name)


def _rows(bundle: Bundle, features: ArrayLike | None) -> NDArray[Any]:
    """Samples to settle the coordinates by."""
    if features is not None:
        rows = check_features(features, dim=bundle.manifest.dim, name="the bundle")
    else:
        learning = bundle.learning
        rows = np.zeros((0, bundle.manifest.dim), np.float16)
        if learning is not None:
            rows = np.concatenate([learning.features, learning.guard_features])
    if len(rows) < _FEW:
        raise ValueError(
            f"a policy's coordinates need {_FEW} samples, there are {len(rows)}; give features of "
            "photos as they will come, or adapt again with memory_mb above 0"
        )
    return rows
