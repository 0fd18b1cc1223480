"""The main job: from labelled samples and a pretrained network to a bundle with its evidence.

It strings the parts together and knows what each is for; how each works is written in its own file.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgetl._baselines import PixelBaseline
from edgetl._given import (
    check_groups,
    check_needs,
    head_task,
    method_record,
    read_given,
    unadapted,
)
from edgetl._learning import LEARNING, MEMORY_MB, kept_learning
from edgetl._parts import Part
from edgetl._paths import cache_dir
from edgetl._records import Clock, head_record, precision_notes, run_record
from edgetl._refusal import REFUSE, Refuse, refuse_negative
from edgetl._shipped import Shipped, preprocess_of, ship
from edgetl.backbone import Backbone
from edgetl.backbones import load_backbone
from edgetl.backbones.offline import given_or_best
from edgetl.bundle import Bundle, Checks, Manifest, check_destination, probe_batch
from edgetl.bundle.checks import short_digests
from edgetl.data import Dataset, find_duplicates
from edgetl.evaluate import evaluate_head, knn_predictions
from edgetl.evaluate.verdict import Guesses
from edgetl.exporter.samples import TEST_DATA
from edgetl.features import ExtractOptions
from edgetl.features.pipeline import Tap
from edgetl.heads import HEADS, Head, load_head
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime, Target
from edgetl.transfer.method import Method, NetworkTask
from edgetl.transfer.methods import load_method


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
        groups: Column of a table with the group of each sample, for a report by group; a `Dataset`
            with groups needs no name.
        refuse: Which verdict is an error (see `edgetl.evaluate.verdict`): ``"never"``; ``"hurts"``,
            where the model is significantly worse than a baseline; or ``"no evidence"``, where it
            is not significantly better either.
    """

    seed: int = 0
    test_fraction: float = 0.2
    preprocess: Preprocess | None = None
    decode: Literal["full", "scaled"] | None = None
    storage: Literal["float16", "float32"] = "float16"
    cache: bool = True
    memory_mb: float = MEMORY_MB
    extract: ExtractOptions = field(default_factory=ExtractOptions)
    groups: str | None = None
    refuse: Refuse = "never"

    def __post_init__(self) -> None:
        if not 0 <= self.memory_mb < np.inf:
            raise ValueError(f"memory_mb must be 0 or more, got {self.memory_mb:g}")
        if self.refuse not in REFUSE:
            raise ValueError(f"refuse must be one of {REFUSE}, got {self.refuse!r}")


def adapt(
    data: Any,
    *,
    backbone: str | Path | None = None,
    weights: str | Path | None = None,
    head: str | Head = "auto",
    method: str | Method = "head",
    unlabelled: Any = None,
    source: Any = None,
    test: Any = None,
    target: Target | None = None,
    output: str | Path | None = None,
    options: AdaptOptions | None = None,
) -> Bundle:
    """Adapt a pretrained network to labelled samples.

    The method may train the network. It becomes an ONNX graph; the graph's features of all samples
    are computed, or found in the cache; a head is fitted on the training part alone, and measured
    on the test part, beside what is had without the method.

    Args:
        data: A folder of class folders (or of train/ and test/ with those), a CSV or Parquet table,
            a pair of images and labels, or a `Dataset`.
        backbone: ``edgetl_nano``, a timm name, ``torchvision/NAME``, or the path of an ONNX file;
            if None, the best whose weights are on this machine (`edgetl.backbones.offline`).
        weights: A safetensors or state-dict file; from the model hub if None.
        head: A head's kind, an unfitted head, or ``"auto"``.
        method: A name from `edgetl.transfer.methods.METHODS`, or a method with its options.
        unlabelled: Samples of the domain that the model is for, for methods that take them; as
            `edgetl.data.load_unlabelled` takes them.
        source: Labelled samples of another domain with the same classes, for methods that take
            them; like `data`.
        test: Labelled samples to measure on, instead of a part of `data`; all of `data` but for a
            test part of its own is trained on then.
        target: What extracts the features; ONNX Runtime if None. Whatever it is, the bundle ships
            the ONNX graph, and an engine whose features differ from the graph's is refused.
        output: Where to save the bundle; it stays in memory if None.
        options: Everything else.

    Raises:
        DataError: The samples can't be used: one class, nothing readable, a class left empty.
        WeightsError: The weights can't be had or don't fit.
        ParityError: The exported graph, or the engine, computes other features than the network.
        AccuracyError: The verdict is one that `options` refuse; nothing is saved but the evidence.
        FileExistsError: `output` holds something that is not a bundle.
        ValueError: The method needs samples that were not given, or has no use for what was; or
            weights without a backbone do not say what network they are of.
    """
    options, target, clock = options or AdaptOptions(), target or OnnxRuntime(), Clock()
    if output is not None:
        check_destination(Path(output))  # now, not after minutes of work
    _check_head(head)
    backbone, weights = given_or_best(backbone, weights)
    way = load_method(method) if isinstance(method, str) else method
    check_needs(way, unlabelled=unlabelled is not None, source=source is not None)
    given = read_given(
        data,
        unlabelled=unlabelled,
        source=source,
        test=test,
        fraction=options.test_fraction,
        seed=options.seed,
        groups=options.groups,
        known=way.described,
    )
    check_groups(way, given)
    network = load_backbone(backbone, weights, preprocess=options.preprocess)
    details: dict[str, Any] = {}
    adapted = way.network(
        NetworkTask(
            network=network,
            train=given.train,
            unlabelled=given.unlabelled,
            seed=options.seed,
            cache=cache_dir() / "methods" if options.cache else None,
            workers=options.extract.workers,
            progress=options.extract.progress,
            details=details,
        )
    )
    pixels = PixelBaseline(given.parts, preprocess_of(adapted, options.decode), seed=options.seed)
    shipped = _ship(adapted, given.parts, target, options, tap=pixels.tap)
    fitted, measured, *others = shipped.parts
    task = head_task(given, shipped, others, adapted, head, options.seed, details)
    selection = way.fit(task)
    served = load_head(selection.head.kind, selection.head.arrays())

    baselines: dict[str, Guesses] = {
        **pixels.baseline(shipped.extraction, options=options.extract, cache=options.cache),
        "knn": knn_predictions(fitted.features, fitted.targets, measured.features),
    }
    if adapted is not network or not way.fits_plainly:
        plain = shipped.parts
        if adapted is not network:
            plain = _ship(network, given.parts[:2], target, options).parts
        baselines["no adaptation"] = unadapted(plain, measured, head=head, seed=options.seed)
    learned, learned_names = given.learned(fitted, others)
    evidence = evaluate_head(
        served.predict_proba(measured.features),
        measured.targets,
        given.train.labels,
        train_counts=fitted.counts,
        head=head_record(selection),
        run=dataclasses.replace(
            run_record(adapted.name, target, shipped.extraction, seed=options.seed, clock=clock),
            duplicates=find_duplicates(
                learned,
                measured.digests,
                train_names=learned_names,
                test_names=measured.names,
            ),
            notes=(*given.notes(measured, others), *precision_notes(target)),
        ),
        baselines=baselines,
        roles={"no adaptation": "told"} if way.for_groups else None,
        groups=measured.samples.groups,
        column=options.groups,
    )
    evidence = dataclasses.replace(
        evidence,
        run=dataclasses.replace(evidence.run, seconds=clock.seconds),
        extra={**evidence.extra, "method": method_record(way, selection, details)},
    )
    refuse_negative(
        evidence,
        options.refuse,
        output=None if output is None else Path(output),
        what="the adaptation",
    )
    learning = None
    if way.learns:
        learning = kept_learning(
            selection.head,
            fitted,
            measured,
            memory_mb=options.memory_mb,
            seed=options.seed,
            unseen=way.not_trained_on(task),
        )
    manifest = Manifest(
        labels=given.train.labels,
        preprocess=shipped.preprocess,
        backbone=adapted.name,
        dim=shipped.graph.dim,
        graph="backbone.onnx",
        graph_fingerprint=shipped.graph.fingerprint,
        head=served.kind,
        learning=None if learning is None else LEARNING,
        provenance=_provenance(data, test, adapted, fitted, options),
        evidence=dataclasses.replace(
            evidence, run=dataclasses.replace(evidence.run, seconds=clock.seconds)
        ),
    )
    checks = Checks(
        probe_features=shipped.reference(probe_batch(shipped.preprocess.shape)),
        train_digests=np.sort(short_digests(learned)),
    )
    bundle = Bundle(manifest, served, shipped.graph.path, checks=checks, learning=learning)
    return bundle if output is None else bundle.save(output)


def _ship(
    network: Backbone,
    parts: Sequence[Dataset],
    target: Target,
    options: AdaptOptions,
    *,
    tap: Tap | None = None,
) -> Shipped:
    return ship(
        network,
        parts,
        target,
        decode=options.decode,
        options=options.extract,
        storage=options.storage,
        cache=options.cache,
        tap=tap,
    )


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


def _provenance(
    data: Any, test: Any, network: Backbone, fitted: Part, options: AdaptOptions
) -> dict[str, Any]:
    """What a later step needs to find the training part again, and to know that it is the same."""
    digest = hashlib.sha256(b"".join(sorted(fitted.digests)))
    return {
        "data": _readable(data),
        **({} if test is None else {TEST_DATA: _readable(test)}),
        "seed": options.seed,
        "test_fraction": options.test_fraction,
        "storage": options.storage,
        "train_counts": fitted.counts.tolist(),
        "train_digest": digest.hexdigest(),
        "backbone_fingerprint": network.fingerprint,
    }


def _readable(data: Any) -> str | None:
    """A path as text that can be written; bytes that are no UTF-8 are shown escaped."""
    if not isinstance(data, str | Path):
        return None
    return str(Path(data).resolve()).encode("utf-8", "backslashreplace").decode()
