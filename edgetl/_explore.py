"""Photos looked at without labels: clusters, near duplicates, outliers, and which to label next.

It strings data, backbone, cache and the methods of `edgetl.transfer` together, and gives names
instead of positions. It trains nothing and writes no bundle.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl._adapt import AdaptOptions
from edgetl._parts import Part
from edgetl._shipped import ship
from edgetl.backbones import load_backbone
from edgetl.backbones.offline import given_or_best
from edgetl.data import Dataset, load_dataset, load_unlabelled
from edgetl.errors import DataError
from edgetl.native.heads import unit_rows
from edgetl.targets import OnnxRuntime
from edgetl.transfer.cluster_scores import Agreement, agreement
from edgetl.transfer.clustering import Clusters, choose_k, k_means, mean_silhouette
from edgetl.transfer.density_ratio import Reduction
from edgetl.transfer.explore_report import (
    ClusterRow,
    DuplicatePair,
    ExploreReport,
    OutlierRow,
    PickedRow,
)
from edgetl.transfer.label_next import STRATEGIES, label_next
from edgetl.transfer.near_duplicates import NEIGHBOURS, near_duplicates
from edgetl.transfer.outliers import Outliers, against_reference, distance_outliers

_COMPONENTS = 64
"""Principal axes that clusters are sought on."""
_MOST = 30
"""Largest number of clusters that is tried."""
_TYPICAL = 3


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """What `explore` looks for.

    Args:
        clusters: How many clusters, ``"auto"`` to choose by silhouette, None for none.
        duplicates: Whether to look for near duplicates.
        min_similarity: Least cosine of near duplicates.
        outliers: Whether to look for outliers.
        false_discoveries: Expected share of chance findings among near duplicates, and among
            outliers where there are labelled samples to compare with.
        label_next: How many samples to pick for labelling.
        strategy: How, from `edgetl.transfer.label_next.STRATEGIES`, or ``"auto"``.
        adapt: How features are had: seed, preprocessing, storage, cache, extraction.
    """

    clusters: int | Literal["auto"] | None = "auto"
    duplicates: bool = True
    min_similarity: float = 0.85
    outliers: bool = True
    false_discoveries: float = 0.05
    label_next: int = 0
    strategy: str = "auto"
    adapt: AdaptOptions = field(default_factory=AdaptOptions)

    def __post_init__(self) -> None:
        if isinstance(self.clusters, int) and self.clusters < 1:
            raise ValueError(f"clusters must be at least 1 or 'auto', got {self.clusters}")
        if self.label_next < 0:
            raise ValueError(f"label_next must be 0 or more, got {self.label_next}")
        if self.strategy != "auto" and self.strategy not in STRATEGIES:
            raise ValueError(
                f"strategy must be auto, {', '.join(STRATEGIES)}, got {self.strategy!r}"
            )
        if not 0 < self.false_discoveries < 1 or not -1 <= self.min_similarity <= 1:
            raise ValueError(
                "false_discoveries must be between 0 and 1 and min_similarity -1 to 1, got "
                f"{self.false_discoveries:g} and {self.min_similarity:g}"
            )


def explore(
    data: Any,
    *,
    backbone: str | Path | None = None,
    weights: str | Path | None = None,
    labels_from: Any = None,
    options: ExploreOptions | None = None,
) -> ExploreReport:
    """Look at photos without labels.

    Args:
        data: Photos, with or without class folders, as `edgetl.data.load_unlabelled` takes them.
            Where they have classes, these are not looked at, but clusters are compared with them.
        backbone: ``edgetl_nano``, a timm name, ``torchvision/NAME``, or the path of an ONNX file;
            if None, the best whose weights are on this machine (`edgetl.backbones.offline`).
        weights: A safetensors or state-dict file; from the model hub if None.
        labels_from: Labelled photos, as for `edgetl.adapt`: what is labelled already, for
            `label_next`, and what outliers are compared with.
        options: Everything else.

    Raises:
        DataError: There is no photo, or too few for what is asked.
        WeightsError: The weights can't be had or don't fit.
        ParityError: The exported graph computes other features than the network.
    """
    options = options or ExploreOptions()
    backbone, weights = given_or_best(backbone, weights)
    samples = load_unlabelled(data)
    labelled = None if labels_from is None else load_dataset(labels_from).part("train")
    network = load_backbone(backbone, weights, preprocess=options.adapt.preprocess)
    shipped = ship(
        network,
        [samples] if labelled is None else [samples, labelled],
        OnnxRuntime(),
        decode=options.adapt.decode,
        options=options.adapt.extract,
        storage=options.adapt.storage,
        cache=options.adapt.cache,
    )
    looked, known = shipped.parts[0], shipped.parts[1] if labelled is not None else None
    notes = [*samples.notes, *(() if labelled is None else labelled.notes)]
    report = ExploreReport(
        backbone=network.name,
        names=looked.names,
        labelled=0 if known is None else len(known.names),
        skipped=tuple((skip.name, skip.reason) for skip in shipped.extraction.skipped),
    )
    seed = options.adapt.seed
    if options.clusters is not None:
        report = _with_clusters(report, looked, _classes(data, looked), options.clusters, seed)
    if options.duplicates:
        report = _with_duplicates(report, looked, options, notes)
    if options.outliers:
        report = _with_outliers(report, looked, known, options)
    if options.label_next:
        report = _with_picked(report, looked, known, options, notes)
    return dataclasses.replace(report, notes=tuple(notes))


def _with_clusters(
    report: ExploreReport,
    part: Part,
    classes: NDArray[Any] | None,
    count: int | Literal["auto"],
    seed: int,
) -> ExploreReport:
    if len(part.names) < 4:
        raise DataError(f"{len(part.names)} photos are too few for clusters; at least 4 are needed")
    units = unit_rows(part.features)
    rows = Reduction.of(units, components=_COMPONENTS)(units)
    if count == "auto":
        found = choose_k(rows, range(2, min(_MOST, len(rows) // 2) + 1), seed=seed)
    else:
        if count > len(rows):
            raise DataError(f"{count} clusters of {len(rows)} photos")
        found = k_means(rows, count, seed=seed)
        silhouette = mean_silhouette(rows, found.codes, seed=seed)
        found = dataclasses.replace(found, silhouette=silhouette)
    compared: Agreement | None = None if classes is None else agreement(found.codes, classes)
    table = tuple(_cluster(found, code, part, classes) for code in range(len(found.centres)))
    return dataclasses.replace(
        report,
        clusters=table,
        cluster_of=tuple(found.codes.tolist()),
        silhouette=found.silhouette,
        tried=found.tried,
        agreement=compared,
    )


def _cluster(found: Clusters, code: int, part: Part, classes: NDArray[Any] | None) -> ClusterRow:
    inside = np.flatnonzero(found.codes == code)
    nearest = inside[np.argsort(found.distances[inside], kind="stable")][:_TYPICAL]
    common: tuple[str, float] | None = None
    if classes is not None and len(inside):
        label, times = Counter(classes[inside].tolist()).most_common(1)[0]
        common = (str(label), times / len(inside))
    return ClusterRow(code, len(inside), tuple(part.names[row] for row in nearest), common)


def _with_duplicates(
    report: ExploreReport, part: Part, options: ExploreOptions, notes: list[str]
) -> ExploreReport:
    first: dict[bytes, int] = {}
    exact = []
    for row, digest in enumerate(part.digests):
        if first.setdefault(digest, row) != row:
            exact.append((part.names[first[digest]], part.names[row]))
    rows = np.array(sorted(first.values()))
    report = dataclasses.replace(report, identical=tuple(exact), duplicates=(), groups=())
    if len(rows) < NEIGHBOURS + 2:
        notes.append(
            f"{len(rows)} different photos are too few to tell near duplicates from neighbours; "
            f"at least {NEIGHBOURS + 2} are needed"
        )
        return report
    found = near_duplicates(
        part.features[rows],
        false_discoveries=options.false_discoveries,
        min_similarity=options.min_similarity,
    )
    pairs = tuple(
        DuplicatePair(part.names[rows[a]], part.names[rows[b]], float(similar), float(p))
        for (a, b), similar, p in zip(found.pairs, found.similarities, found.p_values, strict=True)
    )
    groups = tuple(tuple(part.names[rows[i]] for i in group) for group in found.groups)
    return dataclasses.replace(report, duplicates=pairs, groups=groups)


def _with_outliers(
    report: ExploreReport, part: Part, known: Part | None, options: ExploreOptions
) -> ExploreReport:
    found: Outliers
    if known is not None and len(known.names) > 1:
        found = against_reference(
            part.features,
            known.features,
            known.targets,
            false_discoveries=options.false_discoveries,
            seed=options.adapt.seed,
        )
    elif len(part.names) > 2:
        found = distance_outliers(part.features)
    else:
        raise DataError(f"{len(part.names)} photos are too few for outliers; 3 are needed")
    rows = tuple(
        OutlierRow(
            part.names[row],
            float(found.scores[row]),
            bool(found.flagged[row]),
            None if found.p_values is None else float(found.p_values[row]),
        )
        for row in found.order.tolist()
    )
    return dataclasses.replace(report, outliers=rows)


def _with_picked(
    report: ExploreReport,
    part: Part,
    known: Part | None,
    options: ExploreOptions,
    notes: list[str],
) -> ExploreReport:
    """The samples to label; none that is labelled already, and of equal files one."""
    seen = set() if known is None else set(known.digests)
    rows = []
    for row, digest in enumerate(part.digests):
        if digest not in seen:
            seen.add(digest)
            rows.append(row)
    if options.label_next > len(rows):
        raise DataError(
            f"{options.label_next} photos to label next, and {len(rows)} different ones without "
            "a label"
        )
    if len(rows) < len(part.names):
        notes.append(
            f"{len(part.names) - len(rows)} photos are copies or labelled already, and not picked"
        )
    found = label_next(
        part.features[rows],
        options.label_next,
        strategy=options.strategy,
        X=None if known is None else known.features,
        y=None if known is None else known.targets,
        seed=options.adapt.seed,
    )
    picked = tuple(
        PickedRow(part.names[rows[place]], float(score))
        for place, score in zip(found.index.tolist(), found.scores, strict=True)
    )
    return dataclasses.replace(report, label_next=picked, strategy=found.strategy)


def _classes(data: Any, part: Part) -> NDArray[Any] | None:
    """The class of each sample where the data has classes; None where it has none."""
    try:
        whole: Dataset = load_dataset(data)
    except (DataError, TypeError, ValueError):
        return None
    by_name = {
        name: whole.labels[target]
        for name, target in zip(whole.names, whole.targets.tolist(), strict=True)
    }
    found = [by_name.get(name) for name in part.names]
    if any(label is None for label in found):
        return None
    return np.array(found)
