"""The main job: from labelled samples and a pretrained network to a bundle with its evidence.

It strings the parts together and knows what each is for; how each works is written in its own file.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from edgetl._learning import LEARNING, MEMORY_MB, kept_learning
from edgetl._parts import Part, check_classes, extract_parts, probe_images, usable
from edgetl._paths import cache_dir
from edgetl._records import Clock, head_record, precision_notes, run_record
from edgetl.backbone import Backbone
from edgetl.backbones import load_backbone
from edgetl.bundle import (
    Bundle,
    Checks,
    Evidence,
    Manifest,
    TaskRecord,
    check_destination,
    probe_batch,
)
from edgetl.bundle.checks import short_digests
from edgetl.bundle.evidence import HeadRecord
from edgetl.data import find_duplicates, load_dataset
from edgetl.engines import Engine, OrtEngine, check_parity, open_engine
from edgetl.evaluate import evaluate_head, knn_predictions
from edgetl.exporter.graph import FeatureGraph, feature_graph
from edgetl.features import ExtractOptions
from edgetl.heads import HEADS, Head, load_head, select_head
from edgetl.preprocess import Preprocess
from edgetl.runtime import bundle_engine, bundle_target
from edgetl.targets import OnnxRuntime, ServingTarget, Target, Torch

if TYPE_CHECKING:
    from edgetl.engines.torch import TorchNetwork

_FP32_COSINE = 0.9999
_BF16_COSINE = 0.98
"""Least cosine to the shipped graph: bfloat16 keeps 8 bits, and errors add up with depth."""


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """Choices of `adapt` and `evaluate_bundle` that have good defaults.

    Args:
        seed: Seed of the split, of the choice of the head and of the bootstrap.
        test_fraction: Share of samples kept for testing where the data comes without a split.
        preprocess: How photos become the backbone's input; as its pretrained weights want it if
            None. An ONNX file that does not say needs it.
        decode: ``"scaled"`` decodes large JPEG files at a reduced size; as `preprocess` says if
            None.
        storage: Precision of cached features.
        cache: Whether features are cached at all.
        memory_mb: Largest size of the features that the bundle keeps, so that it can learn on a
            device, in megabytes; 0 for none.
        extract: Batch size, workers, progress, and whether an unreadable sample is an error.
    """

    seed: int = 0
    test_fraction: float = 0.2
    preprocess: Preprocess | None = None
    decode: Literal["full", "scaled"] | None = None
    storage: Literal["float16", "float32"] = "float16"
    cache: bool = True
    memory_mb: float = MEMORY_MB
    extract: ExtractOptions = field(default_factory=ExtractOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.memory_mb < np.inf:
            raise ValueError(f"memory_mb must be 0 or more, got {self.memory_mb:g}")


def adapt(
    data: Any,
    *,
    backbone: str | Path,
    weights: str | Path | None = None,
    head: str | Head = "auto",
    target: Target | None = None,
    output: str | Path | None = None,
    options: AdaptOptions | None = None,
) -> Bundle:
    """Adapt a pretrained network to labelled samples.

    The backbone becomes an ONNX graph; the graph's features of all samples are computed, or found
    in the cache; a head is chosen and fitted on the training part alone, and measured on the test
    part.

    Args:
        data: A folder of class folders (or of train/ and test/ with those), a CSV or Parquet table,
            a pair of images and labels, or a `Dataset`.
        backbone: A timm name, ``torchvision/NAME``, or the path of an ONNX file.
        weights: A safetensors or state-dict file; from the model hub if None.
        head: A head's kind, an unfitted head, or ``"auto"``.
        target: What extracts the features; ONNX Runtime if None. Whatever it is, the bundle ships
            the ONNX graph, and an engine whose features differ from the graph's is refused.
        output: Where to save the bundle; it stays in memory if None.
        options: Everything else.

    Raises:
        DataError: The samples can't be used: one class, nothing readable, a class left empty.
        WeightsError: The weights can't be had or don't fit.
        ParityError: The exported graph, or the engine, computes other features than the network.
        FileExistsError: `output` holds something that is not a bundle.
    """
    options, target, clock = options or AdaptOptions(), target or OnnxRuntime(), Clock()
    if output is not None:
        check_destination(Path(output))  # now, not after minutes of work
    _check_head(head)
    train, test = load_dataset(data).split(test_fraction=options.test_fraction, seed=options.seed)
    check_classes(train)
    network = load_backbone(backbone, weights, preprocess=options.preprocess)
    preprocess = network.preprocess
    if options.decode is not None:
        preprocess = dataclasses.replace(preprocess, decode=options.decode)
    probe = probe_images(train, preprocess)
    graph = feature_graph(network, probe=probe, cache_dir=cache_dir())
    reference = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    engine = _extraction_engine(target, graph, network, probe, reference)

    about = f"{network.name}, {target}"
    extraction = extract_parts(
        [train, test],
        engine,
        preprocess,
        options=options.extract,
        storage=options.storage,
        cache=options.cache,
        about=about,
    )
    fitted, measured = usable(extraction, [train, test])
    selection = select_head(fitted.features, fitted.targets, head=head, seed=options.seed)
    shipped = load_head(selection.head.kind, selection.head.arrays())

    evidence = evaluate_head(
        shipped.predict_proba(measured.features),
        measured.targets,
        train.labels,
        train_counts=fitted.counts,
        head=head_record(selection),
        run=dataclasses.replace(
            run_record(network.name, target, extraction, seed=options.seed, clock=clock),
            duplicates=find_duplicates(
                fitted.digests,
                measured.digests,
                train_names=fitted.names,
                test_names=measured.names,
            ),
            notes=(*train.notes, *precision_notes(target)),
        ),
        baselines={"knn": knn_predictions(fitted.features, fitted.targets, measured.features)},
    )
    learning = kept_learning(
        selection.head, fitted, measured, memory_mb=options.memory_mb, seed=options.seed
    )
    manifest = Manifest(
        labels=train.labels,
        preprocess=preprocess,
        backbone=network.name,
        dim=graph.dim,
        graph="backbone.onnx",
        graph_fingerprint=graph.fingerprint,
        head=shipped.kind,
        learning=None if learning is None else LEARNING,
        provenance=_provenance(data, network, fitted, options),
        evidence=dataclasses.replace(
            evidence, run=dataclasses.replace(evidence.run, seconds=clock.seconds)
        ),
    )
    checks = Checks(
        probe_features=reference(probe_batch(preprocess.shape)),
        train_digests=np.sort(short_digests(fitted.digests)),
    )
    bundle = Bundle(manifest, shipped, graph.path, checks=checks, learning=learning)
    return bundle if output is None else bundle.save(output)


def evaluate_bundle(
    bundle: Bundle | str | Path,
    data: Any,
    *,
    target: ServingTarget | None = None,
    task: str | None = None,
    options: AdaptOptions | None = None,
) -> Evidence:
    """Measure a bundle on labelled samples.

    Args:
        bundle: A bundle, or its folder.
        data: As for `adapt`. Of data with a split the test part is used, otherwise all of it.
        target: The engine to measure with; what the bundle was exported for if None.
        task: Whose head; the main one's if None.
        options: As for `adapt`; those of the split, of preprocessing and of storage have no effect:
            the bundle says how it was made.

    Raises:
        CorruptError: The bundle was changed after it was written.
        ParityError: The engine computes other features than the one the head was fitted with.
        DataError: A class the bundle does not know, or no readable sample.
        ValueError: There is no such task.
    """
    options, clock = options or AdaptOptions(), Clock()
    if not isinstance(bundle, Bundle):
        bundle = Bundle.load(bundle)
    target = target or bundle_target(bundle)
    manifest, record = bundle.manifest, bundle.manifest.record(task)
    test = load_dataset(data, labels=record.labels).part("test")
    options = dataclasses.replace(options, storage=record.provenance.get("storage", "float16"))
    engine = bundle_engine(bundle, target, purpose="extract")
    about = f"{manifest.backbone}, {target}"
    extraction = extract_parts(
        [test],
        engine,
        manifest.preprocess,
        options=options.extract,
        storage=options.storage,
        cache=options.cache,
        about=about,
    )
    (measured,) = usable(extraction, [test])
    known = record.evidence
    seen = _seen(bundle, measured, task)
    notes = test.notes
    if seen:
        notes += (
            f"{len(seen)} of these {len(measured.names)} samples were trained on: the figures say "
            "little about new ones",
        )
    evidence = evaluate_head(
        bundle.fitted(task).head.predict_proba(measured.features),
        measured.targets,
        record.labels,
        train_counts=_train_counts(record),
        head=known.head if known else HeadRecord(kind=record.head),
        run=dataclasses.replace(
            run_record(manifest.backbone, target, extraction, seed=options.seed, clock=clock),
            duplicates=tuple(("(training part)", name) for name in seen),
            notes=notes,
        ),
    )
    return dataclasses.replace(
        evidence, run=dataclasses.replace(evidence.run, seconds=clock.seconds)
    )


def _train_counts(record: TaskRecord) -> list[int]:
    """Training samples per class; 0 of classes that were learned since."""
    shipped = record.labels if record.update is None else record.update.base_labels
    counts = dict(zip(shipped, record.provenance.get("train_counts", ()), strict=False))
    return [counts.get(label, 0) for label in record.labels]


def _seen(bundle: Bundle, measured: Part, task: str | None) -> list[str]:
    """Names of the samples whose content is in the part that the head was fitted on."""
    if bundle.checks is None:
        return []
    further = None if task == bundle.manifest.task else task
    known = bundle.checks.trained_on(measured.digests, task=further)
    return [name for name, seen in zip(measured.names, known, strict=True) if seen]


def _check_head(head: str | Head) -> None:
    """Refuse a head that could not be stored, before hours of extraction.

    Raises:
        ValueError: No head has this name.
        TypeError: A head of the caller's own class, which a bundle could not load again.
    """
    if isinstance(head, str):
        if head != "auto" and head not in HEADS:
            raise ValueError(f"no head is called {head!r}; there are auto, {', '.join(HEADS)}")
    elif type(head) is not HEADS.get(getattr(head, "kind", "")):
        raise TypeError(f"head must be a name or one of edgetl.heads, got {type(head).__name__}")


def _extraction_engine(
    target: Target,
    graph: FeatureGraph,
    network: Backbone,
    probe: NDArray[np.float32],
    reference: OrtEngine,
) -> Engine:
    """The engine for a target, proved equal to what the bundle will run."""
    if target == OnnxRuntime():
        return reference
    if isinstance(target, Torch):
        from edgetl.engines.torch import TorchEngine

        # A backbone without a torch module is refused by the engine itself.
        engine: Engine = TorchEngine(cast("TorchNetwork", network), target=target)
    else:
        engine = open_engine(target, graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    half = isinstance(target, Torch) and target.precision == "bf16"
    least = _BF16_COSINE if half else _FP32_COSINE
    check_parity(engine, probe, reference(probe), min_cosine=least, what=f"{target}")
    return engine


def _provenance(
    data: Any, network: Backbone, fitted: Part, options: AdaptOptions
) -> dict[str, Any]:
    """What a later step needs to find the training part again, and to know that it is the same."""
    digest = hashlib.sha256(b"".join(sorted(fitted.digests)))
    return {
        "data": _readable(Path(data).resolve()) if isinstance(data, str | Path) else None,
        "seed": options.seed,
        "test_fraction": options.test_fraction,
        "storage": options.storage,
        "train_counts": fitted.counts.tolist(),
        "train_digest": digest.hexdigest(),
        "backbone_fingerprint": network.fingerprint,
    }


def _readable(path: Path) -> str:
    """A path as text that can be written; bytes that are no UTF-8 are shown escaped."""
    return str(path).encode("utf-8", "backslashreplace").decode()
