"""The main job: from labelled samples and a pretrained network to a bundle with its evidence.

It strings the parts together and knows what each is for; how each works is written in its own file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import importlib.metadata
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

import edgetl
from edgetl._paths import cache_dir
from edgetl.backbone import Backbone
from edgetl.backbones import load_backbone
from edgetl.bundle import Bundle, Evidence, Manifest, check_destination
from edgetl.bundle.evidence import HeadRecord, RunRecord
from edgetl.data import Dataset, find_duplicates, load_dataset
from edgetl.decode import read_image
from edgetl.engines import Engine, OrtEngine, check_parity, open_engine
from edgetl.errors import DataError
from edgetl.evaluate import evaluate_head, knn_predictions
from edgetl.export.graph import FeatureGraph, feature_graph
from edgetl.features import Extraction, ExtractOptions, FeatureStore, extract, feature_key
from edgetl.heads import Head, Selection, load_head, select_head
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime, OpenVino, Target, Torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgetl.engines.torch import TorchNetwork

_PROBE = 8
"""Samples on which a graph is compared with its network, and an engine with ONNX Runtime."""


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """Choices of `adapt` and `evaluate_bundle` that have good defaults.

    Args:
        seed: Seed of the split, of the choice of the head and of the bootstrap.
        test_fraction: Share of samples kept for testing where the data comes without a split.
        preprocess: How photos become the backbone's input; as its pretrained weights want it if
            None. An ONNX file that does not say needs it.
        decode: ``"scaled"`` decodes large JPEG files at a reduced size (see `edgetl.Preprocess`).
        storage: Precision of cached features.
        cache: Whether features are cached at all.
        extract: Batch size, workers, progress, and whether an unreadable sample is an error.
    """

    seed: int = 0
    test_fraction: float = 0.2
    preprocess: Preprocess | None = None
    decode: Literal["full", "scaled"] = "full"
    storage: Literal["float16", "float32"] = "float16"
    cache: bool = True
    extract: ExtractOptions = field(default_factory=ExtractOptions)


def adapt(
    data: Any,
    *,
    backbone: str,
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
    options, started = options or AdaptOptions(), time.time()
    if output is not None:
        check_destination(Path(output))  # now, not after minutes of work
    train, test = load_dataset(data).split(test_fraction=options.test_fraction, seed=options.seed)
    network = load_backbone(backbone, weights, preprocess=options.preprocess)
    preprocess = dataclasses.replace(network.preprocess, decode=options.decode)
    probe = _probe(train, preprocess)
    graph = feature_graph(network, probe=probe, cache_dir=cache_dir())
    engine = _extraction_engine(target or OnnxRuntime(), graph, network, probe)

    about = f"{network.name}, {target or OnnxRuntime()}"
    extraction = _extract([train, test], engine, preprocess, options, about=about)
    fitted, measured = _usable(extraction, [train, test])
    selection = select_head(fitted.features, fitted.targets, head=head, seed=options.seed)
    shipped = load_head(selection.head.kind, selection.head.arrays())

    evidence = evaluate_head(
        shipped.predict_proba(measured.features),
        measured.targets,
        train.labels,
        train_counts=fitted.counts,
        head=_head_record(selection),
        run=dataclasses.replace(
            _run_record(network.name, target or OnnxRuntime(), options, extraction, started),
            duplicates=find_duplicates(
                fitted.digests,
                measured.digests,
                train_names=fitted.names,
                test_names=measured.names,
            ),
            notes=train.notes,
        ),
        baselines={"knn": knn_predictions(fitted.features, fitted.targets, measured.features)},
    )
    manifest = Manifest(
        labels=train.labels,
        preprocess=preprocess,
        backbone=network.name,
        dim=graph.dim,
        graph="backbone.onnx",
        graph_fingerprint=graph.fingerprint,
        head=shipped.kind,
        provenance=_provenance(data, network, fitted, options),
        evidence=evidence,
    )
    bundle = Bundle(manifest, shipped, graph.path)
    return bundle if output is None else bundle.save(output)


def evaluate_bundle(
    bundle: Bundle | str | Path,
    data: Any,
    *,
    target: OnnxRuntime | OpenVino | None = None,
    options: AdaptOptions | None = None,
) -> Evidence:
    """Measure a bundle on labelled samples.

    Args:
        bundle: A bundle, or its folder.
        data: As for `adapt`. Of data with a split the test part is used, otherwise all of it.
        target: The engine to measure with.
        options: As for `adapt`; those of the split and of preprocessing have no effect.

    Raises:
        CorruptError: The bundle was changed after it was written.
        DataError: A class the bundle does not know, or no readable sample.
    """
    options, started, target = options or AdaptOptions(), time.time(), target or OnnxRuntime()
    if not isinstance(bundle, Bundle):
        bundle = Bundle.load(bundle)
    manifest = bundle.manifest
    test = load_dataset(data, labels=manifest.labels).part("test")
    engine = open_engine(
        target,
        bundle.graph_path,
        dim=manifest.dim,
        graph_fingerprint=manifest.graph_fingerprint,
    )
    about = f"{manifest.backbone}, {target}"
    extraction = _extract([test], engine, manifest.preprocess, options, about=about)
    (measured,) = _usable(extraction, [test])
    known = manifest.evidence
    return evaluate_head(
        bundle.head.predict_proba(measured.features),
        measured.targets,
        manifest.labels,
        train_counts=manifest.provenance.get("train_counts", [0] * len(manifest.labels)),
        head=known.head if known else HeadRecord(kind=manifest.head),
        run=dataclasses.replace(
            _run_record(manifest.backbone, target, options, extraction, started), notes=test.notes
        ),
    )


@dataclass(frozen=True)
class _Part:
    """The samples of one part that could be used, with their features."""

    names: tuple[str, ...]
    targets: NDArray[np.int64]
    counts: NDArray[np.int64]
    features: NDArray[np.float32]
    digests: tuple[Any, ...]


def _probe(train: Dataset, preprocess: Preprocess) -> NDArray[np.float32]:
    """The first training samples that can be read, preprocessed: (at most 8, ...) float32."""
    images = []
    for source in train.sources:
        try:
            images.append(preprocess.apply(read_image(source, preprocess=preprocess)))
        except DataError:
            continue  # named later, with all others
        if len(images) == _PROBE:
            break
    if not images:
        raise DataError(f"none of the {len(train)} training samples can be read")
    return np.stack(images)


def _extraction_engine(
    target: Target, graph: FeatureGraph, network: Backbone, probe: NDArray[np.float32]
) -> Engine:
    """The engine for a target, proved equal to what the bundle will run."""
    shipped = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    if target == OnnxRuntime():
        return shipped
    if isinstance(target, Torch):
        from edgetl.engines.torch import TorchEngine

        # A backbone without a torch module is refused by the engine itself.
        engine: Engine = TorchEngine(cast("TorchNetwork", network), target=target)
    else:
        engine = open_engine(target, graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    check_parity(engine, probe, shipped(probe), what=f"{target}")
    return engine


def _extract(
    parts: Sequence[Dataset],
    engine: Engine,
    preprocess: Preprocess,
    options: AdaptOptions,
    *,
    about: str,
) -> Extraction:
    """Extract all parts in one go, through the cache unless it is switched off."""
    with contextlib.ExitStack() as stack:
        store = None
        if options.cache:
            store = FeatureStore(
                cache_dir() / "features",
                feature_key(engine, preprocess, dtype=options.storage),
                engine.dim,
                dtype=options.storage,
                about=about,
            )
            stack.enter_context(store)
        return extract(
            [source for part in parts for source in part.sources],
            names=[name for part in parts for name in part.names],
            engine=engine,
            preprocess=preprocess,
            store=store,
            options=options.extract,
        )


def _usable(extraction: Extraction, parts: Sequence[Dataset]) -> list[_Part]:
    """Cut an extraction into its parts again, without the samples that were skipped.

    Raises:
        DataError: A part is left without a sample, or the training part without one of a class.
    """
    results = []
    start = 0
    for part in parts:
        rows = np.flatnonzero((extraction.index >= start) & (extraction.index < start + len(part)))
        kept = part.subset(extraction.index[rows] - start)
        start += len(part)
        empty = [
            label
            for label, before, after in zip(part.labels, part.counts, kept.counts, strict=True)
            if before and not after
        ]
        if not len(kept) or (part is parts[0] and len(parts) > 1 and empty):
            which = "a part" if not len(kept) else f"class {empty[0]!r}"
            reasons = "; ".join(f"{s.name}: {s.reason}" for s in extraction.skipped[:5])
            raise DataError(f"{which} is left without a readable sample ({reasons})")
        digests = tuple(extraction.digests[row] for row in rows)
        results.append(
            _Part(kept.names, kept.targets, kept.counts, extraction.features[rows], digests)
        )
    return results


def _head_record(selection: Selection) -> HeadRecord:
    """The chosen head and its rivals, without the seconds, which no seed decides."""
    rows: list[dict[str, str | int | float | bool | None]] = [
        {
            "kind": rival.kind,
            "accuracy": rival.accuracy,
            "log_loss": rival.log_loss,
            "temperature": rival.temperature,
            **rival.parameters,
            "chosen": rival.chosen,
        }
        for rival in selection.candidates
    ]
    return HeadRecord(
        kind=selection.head.kind,
        temperature=float(selection.head.temperature_),
        candidates=tuple(rows),
    )


def _run_record(
    backbone: str, target: Target, options: AdaptOptions, extraction: Extraction, started: float
) -> RunRecord:
    packages = ("numpy", "onnxruntime", "openvino", "torch", "timm", "pillow", "simplejpeg")
    versions = {"edgetl": edgetl.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    begun = datetime.datetime.fromtimestamp(started, datetime.timezone.utc)
    return RunRecord(
        backbone=backbone,
        engine=str(target),
        seed=options.seed,
        started_at=begun.isoformat(timespec="seconds"),
        seconds=time.time() - started,
        images_per_second=extraction.images_per_second,
        cache_hits=extraction.hits,
        cache_misses=extraction.misses,
        skipped=tuple((skip.name, skip.reason) for skip in extraction.skipped),
        versions=versions,
    )


def _provenance(
    data: Any, network: Backbone, fitted: _Part, options: AdaptOptions
) -> dict[str, Any]:
    """What a later step needs to find the training part again, and to know that it is the same."""
    digest = hashlib.sha256("\n".join(sorted(map(str, fitted.digests))).encode())
    return {
        "data": str(Path(data).resolve()) if isinstance(data, str | Path) else None,
        "seed": options.seed,
        "test_fraction": options.test_fraction,
        "train_counts": fitted.counts.tolist(),
        "train_digest": digest.hexdigest(),
        "backbone_fingerprint": network.fingerprint,
    }
