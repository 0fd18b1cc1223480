"""Bundles whose network was fine-tuned on their training samples, as an export must treat them.

Which of the samples the tuning did not see follows from the record of the method, so that a head
can be fitted again to the exported graph's features as it was fitted at first. It knows bundles and
digests; it does not know how a network is tuned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._parts import Part
from edgetl.bundle import Bundle
from edgetl.bundle.checks import short_digests
from edgetl.heads import Selection, select_head
from edgetl.transfer.tuned_head import OWN, held_out_part, select_tuned_head

_FINETUNE = "finetune"


def is_tuned(source: Bundle) -> bool:
    """Whether a bundle's network was fine-tuned, and its head fitted to the features after that."""
    return _record(source).get("name") == _FINETUNE


def has_own_classifier(source: Bundle) -> bool:
    """Whether the head is the classifier that was tuned with the network: no fit gives it again."""
    rows = () if source.evidence is None else source.evidence.head.candidates
    return any(row.get("kind") == OWN and row.get("chosen") for row in rows)


def unseen_rows(source: Bundle, train: Part) -> NDArray[np.bool_] | None:
    """Which training samples (n,) the tuning of a bundle's network did not see.

    Returns:
        None if the network was not tuned, or if these are not the samples it was tuned on.
    """
    options = _record(source).get("options")
    if not is_tuned(source) or source.evidence is None or not isinstance(options, dict):
        return None
    share = options.get("validation")
    known = None if source.checks is None else source.checks.train_digests
    same = known is not None and np.array_equal(np.sort(short_digests(train.digests)), known)
    if not same or not isinstance(share, int | float) or not 0 <= share < 1:
        return None
    return held_out_part(
        train.digests, train.targets, share=float(share), seed=source.evidence.run.seed
    )


def fitting(source: Bundle, train: Part) -> Callable[..., Selection]:
    """What fits a head to features of the training part as the bundle's was fitted."""
    unseen = unseen_rows(source, train)
    if unseen is None:
        return select_head
    return functools.partial(select_tuned_head, held_out=unseen)


def _record(source: Bundle) -> dict[str, Any]:
    """What the evidence says of the method; empty if nothing."""
    found = None if source.evidence is None else source.evidence.extra.get("method")
    return found if isinstance(found, dict) else {}
