"""Adaptation to unlabelled photos of the target domain, as methods of `edgetl.adapt`.

Labelled data is the source domain, ``unlabelled`` the target. What each does is in its own file,
on arrays; here it is given photos and features, and tells the evidence how the domains differ.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.backbone import Backbone
from edgetl.heads import Selection, select_head
from edgetl.transfer.coral import CoralAdapter
from edgetl.transfer.domain_adapter import DomainAdapter, FloatArray
from edgetl.transfer.domain_choice import (
    NONE,
    Criterion,
    choose_adapter,
    compare_domains,
    default_candidates,
)
from edgetl.transfer.domain_photos import (
    all_photos,
    photo_batches,
    torch_module,
    with_module,
)
from edgetl.transfer.method import HeadTask, Method, Need, NetworkTask
from edgetl.transfer.subspace_alignment import SubspaceAdapter

T = TypeVar("T")


@dataclass(frozen=True)
class _TargetMethod(Method):
    """What all share: target samples are needed, and a device can't go on from the head."""

    unlabelled: ClassVar[Need] = "needed"
    learns: ClassVar[bool] = False


@dataclass(frozen=True)
class _DomainMethod(_TargetMethod):
    """One adapter on features, that of the method."""

    def adapter(self, task: HeadTask) -> DomainAdapter:
        """The adapter on features that fits the head."""
        raise NotImplementedError

    def fit(self, task: HeadTask) -> Selection:
        """The head of the adapter, fitted to both domains' features."""
        target = _needed(task.unlabelled)
        task.details["domains"] = _difference(task.features, target, task.seed)
        return self.adapter(task).fit(task.features, task.targets, target).selection_


@dataclass(frozen=True)
class Coral(_DomainMethod):
    """Source features with the mean and covariance of the target's; see `coral`.

    Args:
        ridge: Added to the variances, in units of a feature's mean variance.
    """

    name: ClassVar[str] = "coral"
    paper: ClassVar[str] = "Sun, Feng and Saenko, AAAI 2016"
    ridge: float = 10.0

    def __post_init__(self) -> None:
        _above_zero(self, "ridge")

    def adapter(self, task: HeadTask) -> DomainAdapter:
        """CORAL, with the head that the task wants."""
        return CoralAdapter(ridge=self.ridge, head=task.head, seed=task.seed)


@dataclass(frozen=True)
class SubspaceAlignment(_DomainMethod):
    """The source's principal axes turned onto the target's; see `subspace_alignment`.

    Args:
        axes: Principal axes of each domain.
    """

    name: ClassVar[str] = "subspace"
    paper: ClassVar[str] = "Fernando, Habrard, Sebban and Tuytelaars, ICCV 2013"
    axes: int = 40

    def __post_init__(self) -> None:
        _above_zero(self, "axes")

    def adapter(self, task: HeadTask) -> DomainAdapter:
        """Subspace alignment, with the head that the task wants."""
        return SubspaceAdapter(axes=self.axes, head=task.head, seed=task.seed)


@dataclass(frozen=True)
class _Trained(_DomainMethod):
    """What DAN, DANN and SHOT share; their head is a softmax head whatever the task wants.

    Args:
        steps: Steps on features.
        learning_rate: Of these.
        axes: Principal axes of both domains together that are kept.
    """

    steps: int = 100
    learning_rate: float = 1e-3
    axes: int = 64

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate", "axes"):
            _above_zero(self, name)

    def fit(self, task: HeadTask) -> Selection:
        """The adapter's softmax head.

        Raises:
            ValueError: The task wants another kind of head.
        """
        _check_softmax(task, f"{self.name} trains a softmax head")
        return super().fit(task)

    def _training(self, task: HeadTask) -> dict[str, Any]:
        """What the adapters of all three take."""
        return {
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "axes": self.axes,
            "seed": task.seed,
        }


@dataclass(frozen=True)
class _Staged(_Trained):
    """What can train stages of the network too, before the adapter on features.

    Args:
        stages: Beginnings of the names of parameters that are trained on photos of both domains,
            all of them in memory (0.6 MB for one of 224 x 224 pixels); none by default.
        epochs: Of the stages.
        stage_rate: Learning rate of the stages.
    """

    stages: tuple[str, ...] = ()
    epochs: int = 3
    stage_rate: float = 1e-4
    penalty: ClassVar[Literal["mmd", "dann"]]
    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epochs", "stage_rate", "weight"):
            _above_zero(self, name)

    def network(self, task: NetworkTask) -> Backbone:
        """The network with its named stages trained on both domains.

        Raises:
            ValueError: There is no such stage, or the backbone is no torch module.
        """
        if not self.stages:
            return task.network
        from edgetl.transfer.domain_network import StageTraining, train_stages

        module = torch_module(task.network, self.name)
        source, rows = all_photos(task.train, task.network.preprocess)
        target, _ = all_photos(_needed(task.unlabelled), task.network.preprocess)
        trained = train_stages(
            module,
            source,
            task.train.targets[rows],
            target,
            StageTraining(
                stages=self.stages,
                penalty=self.penalty,
                weight=self.weight,
                epochs=self.epochs,
                learning_rate=self.stage_rate,
                seed=task.seed,
            ),
            say=task.say,
        )
        task.details["stages"] = {"photos": [len(source), len(target)]}
        return with_module(task.network, f"{task.network.name}+{self.name}", trained)


@dataclass(frozen=True)
class Mmd(_Staged):
    """An adapter that lowers the domains' maximum mean discrepancy; see `dan`.

    Args:
        weight: Of the discrepancy.
    """

    name: ClassVar[str] = "mmd"
    paper: ClassVar[str] = "Long, Cao, Wang and Jordan, ICML 2015 (DAN)"
    penalty: ClassVar[Literal["mmd", "dann"]] = "mmd"

    def adapter(self, task: HeadTask) -> DomainAdapter:
        """DAN on features."""
        require("torch", extra="train")
        from edgetl.transfer.dan import MmdAdapter

        return MmdAdapter(weight=self.weight, **self._training(task))


@dataclass(frozen=True)
class Dann(_Staged):
    """An adapter against a domain classifier, by gradient reversal; see `dann`.

    Args:
        weight: Of the reversed gradient.
    """

    name: ClassVar[str] = "dann"
    paper: ClassVar[str] = "Ganin et al., JMLR 2016"
    penalty: ClassVar[Literal["mmd", "dann"]] = "dann"
    weight: float = 0.3

    def adapter(self, task: HeadTask) -> DomainAdapter:
        """DANN on features."""
        require("torch", extra="train")
        from edgetl.transfer.dann import DannAdapter

        return DannAdapter(weight=self.weight, **self._training(task))


@dataclass(frozen=True)
class Shot(_Trained):
    """The source's classifier, on features moved to where it is sure; see `shot`.

    Args:
        weight: Of the pseudo-labels.
    """

    name: ClassVar[str] = "shot"
    paper: ClassVar[str] = "Liang, Hu and Feng, ICML 2020"
    weight: float = 0.3

    def adapter(self, task: HeadTask) -> DomainAdapter:
        """SHOT on features."""
        require("torch", extra="train")
        from edgetl.transfer.shot import ShotAdapter

        return ShotAdapter(weight=self.weight, **self._training(task))


@dataclass(frozen=True)
class AdaBn(_TargetMethod):
    """The network with the target's batch-norm statistics; see `adabn`.

    The head is fitted to source features of the network as it was, as in the paper: each domain is
    normalised by its own statistics. So this is the one method whose head does not learn from
    features of the graph that ships; it costs one more pass over the labelled photos, by torch.

    Args:
        share: How much the target's statistics count, above 0 to 1.
    """

    name: ClassVar[str] = "adabn"
    paper: ClassVar[str] = "Li, Wang, Shi, Liu and Hou, 2016"
    share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")

    def network(self, task: NetworkTask) -> Backbone:
        """The network for the target domain, which remembers the one for the source.

        Raises:
            ValueError: It has no batch norm, or is no torch module.
        """
        from edgetl.transfer.adabn import adapt_batchnorm

        module = torch_module(task.network, self.name)
        target = _needed(task.unlabelled)
        if len(target) < 2:
            raise ValueError(f"{self.name} needs 2 unlabelled photos or more, got {len(target)}")
        batches = photo_batches(target, task.network.preprocess)
        adapted = adapt_batchnorm(module, batches, share=self.share)
        found = with_module(task.network, f"{task.network.name}+{self.name}", adapted)
        vars(found)["before"] = task.network
        return found

    def fit(self, task: HeadTask) -> Selection:
        """The head that held-out source samples speak for, on the source network's features."""
        before = cast("Backbone", vars(task.network)["before"])
        rows = [before.features(batch) for batch in photo_batches(task.samples, before.preprocess)]
        return select_head(np.concatenate(rows), task.targets, head=task.head, seed=task.seed)


@dataclass(frozen=True)
class Domain(_TargetMethod):
    """The adapter on features that is best without target labels, or none; see `domain_choice`.

    Args:
        criterion: What decides.
    """

    name: ClassVar[str] = "domain"
    paper: ClassVar[str] = "the choice among CORAL, subspace alignment, DAN, DANN, SHOT and none"
    criterion: Criterion = "information"

    def fit(self, task: HeadTask) -> Selection:
        """The chosen adapter's head; the plain one where none is chosen.

        Raises:
            ValueError: The task wants a head that not every adapter can fit.
        """
        _check_softmax(task, f"{self.name} chooses among softmax heads")
        require("torch", extra="train")
        target = _needed(task.unlabelled)
        candidates = default_candidates(head=task.head, seed=task.seed)
        choice = choose_adapter(
            task.features,
            task.targets,
            target,
            candidates=candidates,
            criterion=self.criterion,
            seed=task.seed,
        )
        task.details["choice"] = choice.to_json()
        if choice.chosen == NONE:
            found = Method.fit(self, task)
        else:
            found = candidates[choice.chosen].fit(task.features, task.targets, target).selection_
        reason = f"{choice.chosen}, {choice.reason}; {found.reason}"
        return dataclasses.replace(found, reason=reason)


def _needed(unlabelled: T | None) -> T:
    if unlabelled is None:
        raise ValueError("adapting to a domain needs unlabelled samples of it")
    return unlabelled


def _check_softmax(task: HeadTask, does: str) -> None:
    """Refuse a task that wants another kind of head."""
    kind = task.head if isinstance(task.head, str) else task.head.kind
    if kind not in ("auto", "softmax"):
        raise ValueError(f"method {does}; head={kind!r} is none (method coral takes any)")


def _above_zero(method: Method, name: str) -> None:
    value = getattr(method, name)
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be above 0 and finite, got {value}")


def _difference(
    source: NDArray[np.float32], target: NDArray[np.float32], seed: int
) -> dict[str, float]:
    """How the domains' features differ, for the evidence."""
    found = compare_domains(
        cast("FloatArray", source.astype(np.float64)), target.astype(np.float64), seed=seed
    )
    return {"mmd2": found.mmd2, "p_value": found.p_value}
