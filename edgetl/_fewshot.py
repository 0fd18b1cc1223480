"""Few-shot episodes on photos: how far few labels go, with which method, before labelling more.

It strings data, backbone, cache and episodes together; the methods are in `edgetl.transfer`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetl._adapt import AdaptOptions
from edgetl._parts import Part, check_classes, extract_parts, probe_images, usable
from edgetl._paths import cache_dir
from edgetl.backbones import load_backbone
from edgetl.backbones.offline import given_or_best
from edgetl.data import find_duplicates, load_dataset
from edgetl.data.wording import counted
from edgetl.engines import OrtEngine
from edgetl.exporter.graph import feature_graph
from edgetl.transfer.episodes import CONFIDENCE, Score, Spread, run_episodes
from edgetl.transfer.fewshot import METHODS, Method

DEFAULT_METHODS = tuple(METHODS)


@dataclass(frozen=True, kw_only=True)
class FewShotOptions:
    """Choices of `fewshot` that have good defaults.

    Args:
        shots: Labelled samples per class; each number is a table of its own.
        seeds: Episodes per number of shots, from 2; at least 6 for intervals, 20 for useful ones.
        methods: Names from `edgetl.transfer.fewshot.METHODS`.
        baseline: The method that the others are compared with, episode by episode.
        adapt: How features are had: split, preprocessing, storage, cache, extraction.
    """

    shots: Sequence[int] = (1, 5, 10)
    seeds: int = 20
    methods: Sequence[str] = DEFAULT_METHODS
    baseline: str = "prototype"
    adapt: AdaptOptions = field(default_factory=AdaptOptions)

    def __post_init__(self) -> None:
        unknown = [name for name in (*self.methods, self.baseline) if name not in METHODS]
        if unknown or not self.methods:
            raise ValueError(
                f"methods and baseline must be among {', '.join(METHODS)}, got {unknown}"
            )
        if not self.shots or min(self.shots) < 1:
            raise ValueError(f"shots must be at least 1, got {list(self.shots)}")
        if self.seeds < 2:
            raise ValueError(f"need at least 2 seeds, got {self.seeds}")


@dataclass(frozen=True, kw_only=True)
class FewShotReport:
    """What the episodes showed.

    Args:
        backbone: What gave the features.
        labels: Class names.
        n_train: Samples that the labelled ones are drawn from.
        n_test: Queries of every episode.
        seeds: Episodes per number of shots.
        baseline: What the others are compared with.
        scores: By shots, then by method.
        notes: What a reader should know about the data.
        skipped: Samples that could not be read, and why.
    """

    backbone: str
    labels: tuple[str, ...]
    n_train: int
    n_test: int
    seeds: int
    baseline: str
    scores: tuple[Score, ...]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything, as numbers, strings, lists and dicts."""
        return {**dataclasses.asdict(self), "confidence": CONFIDENCE}

    def __str__(self) -> str:
        lines = [
            f"{self.backbone}: {len(self.labels)} classes, {self.seeds} draws from "
            f"{self.n_train} training samples, {self.n_test} queries"
        ]
        for shots in dict.fromkeys(score.shots for score in self.scores):
            rows = [score for score in self.scores if score.shots == shots]
            lines += ["", *_table(shots, rows, self.baseline)]
        lines.append("")
        if any(score.transductive for score in self.scores):
            lines.append(
                "* sees all queries together, without their labels; serves from Python only"
            )
        if any(not score.ships and not score.transductive for score in self.scores):
            lines.append("+ no head that a bundle stores; serves from Python only")
        return "\n".join(lines).rstrip()


def fewshot(
    data: Any,
    *,
    backbone: str | Path | None = None,
    weights: str | Path | None = None,
    options: FewShotOptions | None = None,
) -> FewShotReport:
    """Measure few-shot methods on draws of few labelled samples.

    Features of all samples are computed once, or found in the cache. For each number of shots and
    each seed so many samples of every class are drawn from the training part; every method is
    fitted to them and answers the whole test part.

    Args:
        data: As for `edgetl.adapt`.
        backbone: ``edgetl_nano``, a timm name, ``torchvision/NAME``, or the path of an ONNX file;
            if None, the best whose weights are on this machine (`edgetl.backbones.offline`).
        weights: A safetensors or state-dict file; from the model hub if None.
        options: Everything else.

    Raises:
        DataError: The samples can't be used, or a class has fewer of them than shots.
        WeightsError: The weights can't be had or don't fit.
        ParityError: The exported graph computes other features than the network.
    """
    options = options or FewShotOptions()
    backbone, weights = given_or_best(backbone, weights)
    named = {name: METHODS[name] for name in options.methods}
    return compare(data, named, backbone=backbone, weights=weights, options=options)


def compare(
    data: Any,
    methods: Mapping[str, Method],
    *,
    backbone: str | Path,
    weights: str | Path | None = None,
    options: FewShotOptions,
) -> FewShotReport:
    """`fewshot` with methods of one's own; those that `options` names have no effect.

    Args:
        data: As for `fewshot`.
        methods: What is measured, by name.
        backbone: As for `fewshot`.
        weights: As for `fewshot`.
        options: As for `fewshot`.

    Raises:
        DataError: As for `fewshot`.
        WeightsError: As for `fewshot`.
        ParityError: As for `fewshot`.
    """
    train, test, skipped = task_features(
        data, backbone=backbone, weights=weights, options=options.adapt
    )
    scores = run_episodes(
        (train.features, train.targets),
        (test.features, test.targets),
        shots=options.shots,
        seeds=options.seeds,
        methods=methods,
        baseline=options.baseline,
        labels=train.samples.labels,
        progress=_progress if options.adapt.extract.progress else None,
    )
    return FewShotReport(
        backbone=str(backbone),
        labels=train.samples.labels,
        n_train=len(train.names),
        n_test=len(test.names),
        seeds=options.seeds,
        baseline=options.baseline,
        scores=tuple(scores),
        notes=(*train.samples.notes, *_repeated(train, test), *_used_up(train, options.shots)),
        skipped=skipped,
    )


def task_features(
    data: Any,
    *,
    backbone: str | Path,
    weights: str | Path | None = None,
    options: AdaptOptions | None = None,
) -> tuple[Part, Part, tuple[tuple[str, str], ...]]:
    """Training part and test part with their features, and what could not be read, and why."""
    options = options or AdaptOptions()
    parts = load_dataset(data).split(test_fraction=options.test_fraction, seed=options.seed)
    check_classes(parts[0])
    network = load_backbone(backbone, weights, preprocess=options.preprocess)
    preprocess = network.preprocess
    if options.decode is not None:
        preprocess = dataclasses.replace(preprocess, decode=options.decode)
    probe = probe_images(parts[0], preprocess)
    graph = feature_graph(network, probe=probe, cache_dir=cache_dir())
    extraction = extract_parts(
        parts,
        OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint),
        preprocess,
        options=options.extract,
        storage=options.storage,
        cache=options.cache,
        about=f"{network.name}, few-shot",
    )
    train, test = usable(extraction, parts)
    return train, test, tuple((skip.name, skip.reason) for skip in extraction.skipped)


def _repeated(train: Part, test: Part) -> list[str]:
    """That queries are known already, which makes every method look better than it is."""
    found = find_duplicates(
        train.digests, test.digests, train_names=train.names, test_names=test.names
    )
    if not found:
        return []
    shown = f"{found[0].test} = {found[0].train}"
    return [f"{counted(len(found), 'query is', 'queries are')} in the training part too ({shown})"]


def _used_up(train: Part, shots: Sequence[int]) -> list[str]:
    """Where a draw takes most of a class, draws are much alike, and intervals too narrow."""
    least = int(train.counts.min())
    return [
        f"{count} shots are more than half of the {least} training samples of "
        f"{train.samples.labels[int(train.counts.argmin())]!r}: its draws overlap much, and "
        "intervals are too narrow"
        for count in shots
        if 2 * count > least
    ]


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    sys.stderr.write(f"\repisodes {done}/{total}{end}")
    sys.stderr.flush()


def _table(shots: int, rows: Sequence[Score], baseline: str) -> list[str]:
    """One number of shots as text."""
    lines = [
        f"{shots} {'shot' if shots == 1 else 'shots'}"
        f"{'min':>16} {'median':>7} {'max':>6}   {'95 %':<12}  against {baseline}"
    ]
    for row in rows:
        mark = "*" if row.transductive else "" if row.ships else "+"
        spread = row.accuracy
        line = f"  {row.method + mark:<18} {100 * spread.minimum:5.1f} {100 * spread.median:7.1f} "
        line += f"{100 * spread.maximum:6.1f}   {_interval(spread):<12}"
        if row.gain is not None:
            line += f" {100 * row.gain.median:+6.1f} ({_interval(row.gain, sign='+')}), "
            line += f"{row.wins} : {row.losses}, p = {row.p_value:.2g}"
        lines.append(line.rstrip())
    return lines


def _interval(spread: Spread, sign: str = "") -> str:
    if spread.low is None or spread.high is None:
        return "-"
    return f"{100 * spread.low:{sign}.1f} to {100 * spread.high:{sign}.1f}"
