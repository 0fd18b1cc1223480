"""A method of adapting, as `edgetl.adapt` uses it: what it is given, and what it has to give.

A method may change the network before its graph is made, or fit the head in a way of its own, or
both. It knows neither bundles nor evidence; what it gives ships like any other bundle.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl.backbone import Backbone
from edgetl.data import Dataset
from edgetl.heads import Head, Selection, select_head

Need = Literal["refused", "optional", "needed"]


@dataclass(frozen=True, kw_only=True)
class NetworkTask:
    """What a method may train a network on.

    Attributes:
        network: The pretrained network.
        train: The labelled training part; the test part is not shown.
        unlabelled: Samples of the domain the model is for, without labels; None if not given.
        seed: Of everything random.
        cache: A folder for what may be kept between runs; None to keep nothing.
        workers: Decoding threads; as many as cores if None.
        progress: Whether to say on stderr what is being done.
        details: What the evidence shall tell of the method: plain JSON values, filled in by it.
    """

    network: Backbone
    train: Dataset
    unlabelled: Dataset | None = None
    seed: int = 0
    cache: Path | None = None
    workers: int | None = None
    progress: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Write a line on stderr, if progress is wanted."""
        if self.progress:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


@dataclass(frozen=True, kw_only=True)
class HeadTask:
    """What a method may fit a head on: features through the graph that ships.

    Attributes:
        features: (n, dim) features of the training part.
        targets: (n,) classes, 0 to classes - 1; each of them occurs, but for those that the method
            says it knows without (`Method.described`).
        labels: Class names.
        samples: The training part itself, row by row; what could not be read is left out.
        network: What the features are of, as the method's `network` gave it.
        unlabelled: (m, dim) features of the unlabelled samples; None if not given.
        source: Features (k, dim) and classes (k,) of labelled samples from another domain.
        head: ``"auto"``, a kind of head, or a head, as the caller wants it.
        seed: Of everything random.
        details: As of the `NetworkTask`; the same dict.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.int64]
    labels: tuple[str, ...]
    samples: Dataset
    network: Backbone
    unlabelled: NDArray[np.float32] | None = None
    source: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
    head: str | Head = "auto"
    seed: int = 0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A way of adapting; fields of subclasses are its options, checked when it is made.

    The method of this class itself is the plain one: the network as it is, and the head that
    held-out samples speak for.

    Attributes:
        name: As ``--method`` takes it.
        paper: Where it comes from.
        unlabelled: Whether it takes unlabelled samples of the target domain.
        source: Whether it takes labelled samples of another domain.
        for_groups: Whether it needs the groups of the training samples, and may pay for the worst
            one of them with accuracy over all.
        learns: Whether a device may learn on from its head. Where what the head was fitted to is
            more than the training samples' features, their refit would lose it.
    """

    name: ClassVar[str] = "head"
    paper: ClassVar[str] = ""
    unlabelled: ClassVar[Need] = "refused"
    source: ClassVar[Need] = "refused"
    for_groups: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def network(self, task: NetworkTask) -> Backbone:
        """The network whose graph ships; the given one unless the method changes it."""
        return task.network

    def fit(self, task: HeadTask) -> Selection:
        """Fit a head of `edgetl.heads` to features of that network."""
        return select_head(task.features, task.targets, head=task.head, seed=task.seed)

    def not_trained_on(self, task: HeadTask) -> NDArray[np.bool_] | None:
        """Which training samples (n,) the network was not trained on; None: on none of them.

        Features of those that it was trained on lie closer together than those of new samples.
        """
        return None

    @property
    def options(self) -> dict[str, Any]:
        """The values of its fields."""
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    @property
    def described(self) -> tuple[str, ...]:
        """Classes that it knows without a training sample."""
        return ()

    @property
    def fits_plainly(self) -> bool:
        """Whether the head is fitted as without any method."""
        return type(self).fit is Method.fit
