"""What `edgetl.adapt` was given: the samples and what each lot of them is for, and the method.

It knows data and what a method asks for; it does not know how features are had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._parts import Part, check_classes
from edgetl._shipped import Shipped
from edgetl.backbone import Backbone
from edgetl.bundle.evidence import plain_json
from edgetl.data import Dataset, load_dataset, load_unlabelled
from edgetl.data.wording import counted
from edgetl.heads import Head, Selection, select_head
from edgetl.transfer.method import HeadTask, Method


@dataclass(frozen=True)
class Given:
    """The samples by what they are for.

    Attributes:
        train: Labelled, to fit to.
        test: Labelled, to measure on.
        unlabelled: Of the domain the model is for; None if not given.
        source: Labelled, of another domain; None if not given.
        separate: Whether the test samples came as data of their own.
    """

    train: Dataset
    test: Dataset
    unlabelled: Dataset | None
    source: Dataset | None
    separate: bool

    @property
    def parts(self) -> list[Dataset]:
        """Training part, test part, then whatever else was given."""
        others = (self.unlabelled, self.source)
        return [self.train, self.test, *(part for part in others if part is not None)]

    def learned(self, fitted: Part, others: Sequence[Part]) -> tuple[list[bytes], list[str]]:
        """Digests and names of all samples whose labels a method saw, the source's too."""
        labelled = [fitted, *(others[-1:] if self.source is not None else ())]
        digests = [digest for part in labelled for digest in part.digests]
        return digests, [name for part in labelled for name in part.names]

    def notes(self, measured: Part, others: Sequence[Part]) -> tuple[str, ...]:
        """What a reader of the figures should know about the samples."""
        found = [note for part in self.parts for note in part.notes]
        if self.unlabelled is not None:
            if not self.separate:
                found.append(
                    "measured on samples of the labelled data; to measure on the domain of the "
                    "unlabelled ones, give labelled samples of it to test on"
                )
            seen = set(others[0].digests)
            both = sum(digest in seen for digest in measured.digests)
            if both:
                found.append(
                    f"{both} of {counted(len(measured.digests), 'test sample')} are among the "
                    "unlabelled ones, whose classes the method did not see; how others fare is not "
                    "measured by them"
                )
        return tuple(dict.fromkeys(found))


def read_given(
    data: Any,
    *,
    unlabelled: Any,
    source: Any,
    test: Any,
    fraction: float,
    seed: int,
    groups: str | None = None,
    known: Sequence[str] = (),
) -> Given:
    """List all samples, as the arguments of `edgetl.adapt` say.

    `known` are the classes that need no training sample.

    Raises:
        DataError: The samples can't be used.
    """
    if test is None:
        train, measured = load_dataset(data, group_column=groups, untrained=known).split(
            test_fraction=fraction, seed=seed
        )
    else:
        found = load_dataset(data, group_column=groups, untrained=known)
        labels = sorted({*found.labels, *known})
        train = (load_dataset(found, labels=labels) if known else found).part("train")
        measured = load_dataset(test, labels=train.labels, group_column=groups).part("test")
    check_classes(train, known=known)
    return Given(
        train=train,
        test=measured,
        unlabelled=None if unlabelled is None else load_unlabelled(unlabelled),
        source=None if source is None else load_dataset(source, labels=train.labels).part("train"),
        separate=test is not None,
    )


def check_needs(method: Method, *, unlabelled: bool, source: bool) -> None:
    """Require what a method needs, and refuse what it would not look at.

    Raises:
        ValueError: Something is missing or of no use.
        TypeError: `method` is no method.
    """
    if not isinstance(method, Method):
        raise TypeError(f"method must be a name or a Method, got {type(method).__name__}")
    asked = (
        ("unlabelled", "unlabelled samples of the target domain", method.unlabelled, unlabelled),
        ("source", "labelled samples of another domain", method.source, source),
    )
    for argument, what, need, given in asked:
        if need == "needed" and not given:
            raise ValueError(
                f"method {method.name} needs {argument}: {what} "
                f"(--{argument} DATA, or {argument}=...)"
            )
        if need == "refused" and given:
            takers = "tradaboost" if argument == "source" else "domain, or propagate"
            raise ValueError(
                f"method {method.name} has no use for {argument} ({what}); leave it out, or name a "
                f"method that takes it, such as {takers}"
            )


def check_groups(method: Method, given: Given) -> None:
    """Require the training samples' groups for a method that works on them.

    Raises:
        ValueError: There are none, or one only.
    """
    groups = given.train.groups
    if method.for_groups and (groups is None or len(set(groups)) < 2):
        raise ValueError(
            f"method {method.name} needs at least two groups of training samples: name the column "
            "of a table that has them, or give a Dataset with groups"
        )


def head_task(
    given: Given,
    shipped: Shipped,
    others: Sequence[Part],
    network: Backbone,
    head: str | Head,
    seed: int,
    details: dict[str, Any],
) -> HeadTask:
    """What the method's fit is given, from the parts as they could be read."""
    fitted, rest = shipped.parts[0], list(others)
    unlabelled = rest.pop(0) if given.unlabelled is not None else None
    source = rest.pop(0) if given.source is not None else None
    return HeadTask(
        features=fitted.features,
        targets=fitted.targets,
        labels=given.train.labels,
        samples=fitted.samples,
        network=network,
        unlabelled=None if unlabelled is None else unlabelled.features,
        source=None if source is None else (source.features, source.targets),
        head=head,
        seed=seed,
        details=details,
    )


def unadapted(
    parts: Sequence[Part], measured: Part, *, head: str | Head, seed: int
) -> NDArray[np.int64]:
    """(n,) predictions without the method: the plain head on the network as it came.

    Args:
        parts: Training and test part, with that network's features.
        measured: The test part as the adapted network read it, whose rows the result has; one that
            the plain network could not read counts as an error of it.
        head: As for `edgetl.adapt`.
        seed: Of the choice of the head.
    """
    fitted, own = parts[:2]
    answers = select_head(fitted.features, fitted.targets, head=head, seed=seed).head.predict(
        own.features
    )
    by_name = dict(zip(own.names, answers.tolist(), strict=True))
    return np.array([by_name.get(name, -1) for name in measured.names], dtype=np.int64)


def method_record(method: Method, selection: Selection, details: dict[str, Any]) -> dict[str, Any]:
    """The method in the evidence: its name, options, source and what it told."""
    record = {
        "name": method.name,
        "options": method.options,
        "plain_head": method.fits_plainly,
        "learns": method.learns,
        "paper": method.paper,
        "reason": selection.reason,
        "details": details,
    }
    plain: dict[str, Any] = plain_json(record)
    return plain
