"""The choice of a backbone and a strategy for labelled samples, by measurement on this machine.

It strings the parts together: data, graphs, cached features, scores, held-out accuracy, latency.
How each works, and the rules of the choice, are written in their own files.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl._candidates import Candidate, Prepared, named_candidates, prepare
from edgetl._parts import check_classes, extract_parts, usable
from edgetl._records import Clock
from edgetl.data import Dataset, load_dataset
from edgetl.exporter.bench import machine
from edgetl.exporter.bench_measure import sample_photo
from edgetl.exporter.timing import interleaved
from edgetl.features import ExtractOptions
from edgetl.heads import select_head
from edgetl.heads.crossval import held_out
from edgetl.heads.folds import stratified_folds
from edgetl.heads.linear import LinearHead
from edgetl.heads.training import TrainingSet
from edgetl.targets import OnnxRuntime, OpenVino
from edgetl.transfer.choice import Measured, choose_backbone
from edgetl.transfer.prompts import embed_classes, sentences, zero_shot_head
from edgetl.transfer.select_report import SelectReport
from edgetl.transfer.strategy import choose_strategy
from edgetl.transfer.transferability import transferability
from edgetl.transfer.ways import FEW_SHOTS, judge_ways

_ROUNDS = 10
_STEADY = 1.5
"""How far apart the fastest and the slowest tenth of the calls may be without a note."""


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """Choices of `select` that have good defaults.

    Args:
        seed: Seed of the split and of the folds; `edgetl.adapt` with the same one fits to the same
            training part.
        test_fraction: Share of samples kept for testing, and so not looked at, where the data comes
            without a split.
        max_samples: At most about so many training samples, each class with its share and at least
            two; all if None.
        decode: ``"scaled"`` decodes large JPEG files at a reduced size; as the preprocessing says
            if None.
        storage: Precision of cached features.
        cache: Whether features are cached at all; with the cache, `edgetl.adapt` finds them.
        seconds: Timed seconds of each candidate's latency.
        calls: Or so many timed calls of it, whichever comes first.
        photo: Height and width in pixels of the decoded photo that is timed.
        extract: Batch size, workers, progress, and whether an unreadable sample is an error.

    Raises:
        ValueError: A number is out of range.
    """

    seed: int = 0
    test_fraction: float = 0.2
    max_samples: int | None = None
    decode: Literal["full", "scaled"] | None = None
    storage: Literal["float16", "float32"] = "float16"
    cache: bool = True
    seconds: float = 2.0
    calls: int = 400
    photo: tuple[int, int] = (480, 640)
    extract: ExtractOptions = field(default_factory=ExtractOptions)

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 2:
            raise ValueError(f"max_samples must be 2 or more, got {self.max_samples}")
        if not 0 < self.seconds < float("inf") or self.calls < 1:
            raise ValueError(
                f"seconds must be above 0 and calls 1 or more, got {self.seconds} and {self.calls}"
            )
        if len(self.photo) != 2 or min(self.photo) < 1:
            raise ValueError(f"photo must be a height and a width in pixels, got {self.photo}")


def select(
    data: Any,
    *,
    candidates: Sequence[Candidate],
    weights: str | Path | None = None,
    max_ms: float | None = None,
    max_mb: float | None = None,
    target: OnnxRuntime | OpenVino | None = None,
    options: SelectOptions | None = None,
) -> SelectReport:
    """Measure pretrained networks on labelled samples, and say which to adapt, and how.

    Of each candidate, on the training part alone: scores of transferability, the cross-validated
    accuracy of the head that `edgetl.adapt` would choose (or of its method for few samples or for
    words, where that is ahead), the median latency of one photo from pixels to features (all
    candidates in turns), and the size of its graph. The recommendation is the fastest of those
    within the budgets whose accuracy is within one standard error of the best.

    The accuracy is a little optimistic: the head and its strength were chosen by the same samples,
    and so is the best of many candidates. What the chosen one reaches is for `edgetl.adapt` to
    measure, on the test part. The budgets concern the float32 graph; the head adds some
    microseconds and kilobytes.

    Args:
        data: As for `edgetl.adapt`.
        candidates: Backbones as `edgetl.adapt` takes them, ``"BACKBONE=WEIGHTS"``, pairs of these,
            or `SourceModel`. All are open at once while they are timed.
        weights: A folder of weights files called like the networks, for candidates that name none.
        max_ms: Largest latency in milliseconds; no limit if None.
        max_mb: Largest size of the graph in 1e6 bytes; no limit if None.
        target: What extracts and is timed; ONNX Runtime on all cores of the CPU if None.
        options: Everything else.

    Returns:
        All figures, with the recommendation; it has none if no candidate is within the budgets
        (`SelectReport.require_recommendation` raises then).

    Raises:
        DataError: The samples can't be used.
        WeightsError: A candidate's weights can't be had or don't fit.
        ParityError: A candidate's graph computes other features than its network.
        ValueError: Two candidates are the same, or a budget is not above 0.
    """
    options, target, clock = options or SelectOptions(), target or OnnxRuntime(), Clock()
    for name, limit in (("max_ms", max_ms), ("max_mb", max_mb)):
        if limit is not None and not limit > 0:
            raise ValueError(f"{name} must be above 0, got {limit:g}")
    models = named_candidates(candidates, weights)
    train, _ = load_dataset(data).split(test_fraction=options.test_fraction, seed=options.seed)
    check_classes(train)
    part = _limited(train, options)
    few = bool(np.median(train.counts) <= FEW_SHOTS)
    prepared = []
    for model in models:
        _say(options, f"preparing {model.name}")
        prepared.append(prepare(model, part, target))
    rows, skipped = [], {}
    for candidate in prepared:
        _say(options, f"measuring {candidate.name} on {len(part)} samples")
        row, unread = _judge(candidate, part, options, few=few)
        rows.append(row)
        skipped.update(unread)
    _say(options, "timing all candidates in turns")
    rows = _timed(rows, prepared, options)
    choice = choose_backbone(rows, max_ms=max_ms, max_mb=max_mb)
    taken = {row.name: (row, one) for row, one in zip(rows, prepared, strict=True)}
    strategy = None
    if choice.recommended is not None:
        row, one = taken[choice.recommended]
        strategy = choose_strategy(
            row, train.counts, trainable=one.trainable, worded=one.tower is not None
        )
    notes = train.notes
    if len(part) < len(train):
        notes += (f"measured on {len(part)} of {len(train)} training samples",)
    notes += _unsteady(rows)
    return SelectReport(
        data=str(data) if isinstance(data, str | Path) else None,
        n_train=len(part),
        labels=train.labels,
        rows=tuple(rows),
        choice=choice,
        strategy=strategy,
        max_ms=max_ms,
        max_mb=max_mb,
        engine=str(target),
        photo=options.photo,
        machine=machine(),
        seed=options.seed,
        skipped=tuple(skipped.items()),
        notes=notes,
        seconds=clock.seconds,
    )


def _judge(
    candidate: Prepared, part: Dataset, options: SelectOptions, *, few: bool
) -> tuple[Measured, dict[str, str]]:
    """Everything but the latency of a candidate, and the samples that could not be read."""
    preprocess = candidate.preprocess
    if options.decode is not None:
        preprocess = dataclasses.replace(preprocess, decode=options.decode)
    extraction = extract_parts(
        [part],
        candidate.open("extract"),
        preprocess,
        options=options.extract,
        storage=options.storage,
        cache=options.cache,
        about=f"{candidate.backbone}, {candidate.target}",
    )
    (fitted,) = usable(extraction, [part])
    check_classes(fitted.samples)
    X, y = fitted.features, fitted.targets
    known = candidate.classifier
    selection = select_head(X, y, seed=options.seed)
    measured = Measured(
        name=candidate.name,
        backbone=candidate.backbone,
        weights=candidate.weights,
        dim=candidate.graph.dim,
        scores=transferability(
            X, y, source_probabilities=None if known is None else known.probabilities(X)
        ),
        head=selection.head.kind,
        megabytes=candidate.graph.path.stat().st_size / 1e6,
    )
    if selection.hits is not None:
        data = TrainingSet(X, y, np.ones(len(y)), len(part.labels))
        halves = stratified_folds(y, n_folds=2, seed=options.seed)
        half = held_out(selection.head.fixed(), data, halves)
        measured = dataclasses.replace(
            measured,
            heads={
                rival.kind: rival.accuracy
                for rival in selection.candidates
                if rival.accuracy is not None
            },
            hits=selection.hits,
            held=extraction.index[half.rows],
            half_hits=half.hits,
            ways=judge_ways(
                X, y, few=few, words=_from_words(candidate, part.labels), seed=options.seed
            ),
        )
    return measured, {skip.name: skip.reason for skip in extraction.skipped}


def _from_words(candidate: Prepared, labels: Sequence[str]) -> LinearHead | None:
    """The head that the classes' names make, where there is a text tower."""
    if candidate.tower is None:
        return None
    directions = embed_classes(sentences(labels), candidate.tower.embed)
    return zero_shot_head(directions, scale=candidate.tower.scale)


def _timed(
    rows: Sequence[Measured], prepared: Sequence[Prepared], options: SelectOptions
) -> list[Measured]:
    """The rows with the milliseconds of each candidate from a decoded photo to features."""
    image = sample_photo(*options.photo)
    contestants = {one.name: _features_of(one, image) for one in prepared}
    timings = interleaved(
        contestants,
        rounds=min(_ROUNDS, options.calls),
        calls=-(-options.calls // _ROUNDS),
        seconds=options.seconds,
    )
    return [
        dataclasses.replace(
            row,
            milliseconds=1e3 * timings[row.name].median,
            spread=(1e3 * timings[row.name].p10, 1e3 * timings[row.name].p90),
        )
        for row in rows
    ]


def _unsteady(rows: Sequence[Measured]) -> tuple[str, ...]:
    """A note if latencies varied so much that a budget says little."""
    worst = max(rows, key=lambda row: row.spread[1] / row.spread[0])
    low, high = worst.spread
    if high <= _STEADY * low:
        return ()
    return (
        f"latencies varied: a tenth of {worst.name}'s calls took less than {low:.2f} ms, another "
        f"tenth more than {high:.2f}; if other programs are running, measure again without them",
    )


def _features_of(candidate: Prepared, image: NDArray[np.uint8]) -> Callable[[], object]:
    engine, preprocess = candidate.open("serve"), candidate.preprocess
    return lambda: engine(np.ascontiguousarray(preprocess.apply(image)[None]))


def _limited(train: Dataset, options: SelectOptions) -> Dataset:
    """At most about so many samples as the options say, each class with its share."""
    if options.max_samples is None or len(train) <= options.max_samples:
        return train
    generator = np.random.default_rng(options.seed)
    share = options.max_samples / len(train)
    kept = []
    for code, count in enumerate(train.counts.tolist()):
        members = np.flatnonzero(train.targets == code)
        wanted = min(count, max(2, round(count * share)))
        kept.append(generator.permutation(members)[:wanted])
    return train.subset(np.sort(np.concatenate(kept)))


def _say(options: SelectOptions, text: str) -> None:
    if options.extract.progress:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
