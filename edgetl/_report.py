"""The report job: from a bundle to one page of HTML that stands by itself.

It gathers what the page is about: the bundle, answers to its test part where the photos are at
hand, and what `edgetl select` measured. What the page looks like is written in `edgetl.report`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgetl._parts import extract_parts, usable
from edgetl.bundle import MANIFEST, Bundle, Evidence
from edgetl.bundle.evidence import HeadRecord, RunRecord
from edgetl.data import Dataset, load_dataset
from edgetl.errors import DataError, EdgetlError
from edgetl.evaluate import evaluate_head
from edgetl.exporter.samples import TEST_DATA, split_as_recorded
from edgetl.features import ExtractOptions
from edgetl.report.answers import Answers
from edgetl.report.page import render
from edgetl.report.subject import Subject
from edgetl.runtime import bundle_engine, bundle_target
from edgetl.targets import ServingTarget


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Choices of `write_report` that have good defaults.

    Args:
        mistakes: How many of the worst mistakes are shown, with thumbnails; 0 for none.
        target: What runs the backbone; what the bundle was exported for if None.
        cache: Whether features are taken from the cache and kept there.
        extract: Batch size, workers, progress, and whether an unreadable sample is an error.

    Raises:
        ValueError: `mistakes` is negative, or more than a page can bear.
    """

    mistakes: int = 24
    target: ServingTarget | None = None
    cache: bool = True
    extract: ExtractOptions = field(default_factory=ExtractOptions)

    def __post_init__(self) -> None:
        if not 0 <= self.mistakes <= 200:
            raise ValueError(f"mistakes must be from 0 to 200, got {self.mistakes}")


def write_report(
    bundle: Bundle | str | Path,
    path: str | Path,
    *,
    data: Any = None,
    select: Any = None,
    task: str | None = None,
    options: ReportOptions | None = None,
) -> Path:
    """Write what is known about a bundle as one page of HTML that loads nothing and runs nothing.

    Probabilities of single photos are not in a bundle. For the calibration plot and the worst
    mistakes the test part is answered again, through the bundle's own graph and the cache of
    features; where the photos are gone, the page says so and goes without.

    Args:
        bundle: A bundle, or its folder.
        path: The file to write; it is replaced if it is there.
        data: Labelled samples as for `adapt`, of which the test part is used; the test part that
            the bundle recorded if None.
        select: What ``edgetl select --json`` printed: a file, its content, or a `SelectReport`;
            None for a page without other backbones.
        task: Whose head; the main one's if None.
        options: Everything else.

    Returns:
        The file.

    Raises:
        CorruptError: The bundle was changed after it was written.
        DataError: `data` can't be read or has a class that the bundle does not know, or `select` is
            something else.
        FileExistsError: `path` is a folder, or would lie inside a bundle.
        FileNotFoundError: There is no folder to write into.
        ValueError: There is no such task.
    """
    options = options or ReportOptions()
    _check_place(Path(path), bundle.path if isinstance(bundle, Bundle) else Path(bundle))
    if not isinstance(bundle, Bundle):
        bundle = Bundle.load(bundle)
    manifest = bundle.manifest
    record = manifest.record(task)
    task = manifest.task if task is None else task
    compared = _select(select)
    answers, silence = _answered(bundle, task, data, options)
    evidence = record.evidence
    measured_now = evidence is None and answers is not None
    if answers is not None and measured_now:
        evidence = _measured(bundle, task, answers)
    place = bundle.path
    subject = Subject(
        name=manifest.backbone if place is None else place.resolve().name,
        bundle=bundle,
        task=task,
        evidence=evidence,
        measured_now=measured_now,
        answers=answers,
        silence=silence,
        select=compared,
        mistakes=options.mistakes,
    )
    return _write(Path(path), render(subject))


def _answered(
    bundle: Bundle, task: str, data: Any, options: ReportOptions
) -> tuple[Answers | None, str]:
    """Answers to the test part, or why there are none; what the caller named has to be there."""
    if data is not None:
        samples, recorded = _given(bundle, task, data)
        return _answers(bundle, task, samples, _place(data), recorded, options), ""
    place = _test_place(bundle, task)
    if place is None:
        return None, "the bundle does not say where its photos are; name them with --data."
    if not Path(place).exists():
        return None, (
            f"the photos that the bundle was made from are not at {place} any more; name others "
            "with --data."
        )
    try:
        samples = _recorded(bundle, task, place)
        return _answers(bundle, task, samples, place, True, options), ""
    except (EdgetlError, OSError, ValueError) as error:
        return None, f"the photos at {place} could not be answered: {error}"


def _test_place(bundle: Bundle, task: str) -> str | None:
    """Where the samples are that the bundle was measured on, or that they were split off from."""
    provenance = bundle.manifest.record(task).provenance
    place = provenance.get(TEST_DATA if TEST_DATA in provenance else "data")
    return place if isinstance(place, str) else None


def _given(bundle: Bundle, task: str, data: Any) -> tuple[Dataset, bool]:
    """The test part of what the caller named, and whether it is the one that was recorded."""
    place = _test_place(bundle, task)
    if place is not None and isinstance(data, str | Path) and place == str(Path(data).resolve()):
        return _recorded(bundle, task, place), True
    return load_dataset(data, labels=bundle.manifest.record(task).labels).part("test"), False


def _recorded(bundle: Bundle, task: str, place: str) -> Dataset:
    """The test part that the bundle recorded, split as it was then.

    Classes that the head learned since have no samples there; ones it forgot are left out.
    """
    record = bundle.manifest.record(task)
    shipped = record.labels if record.update is None else record.update.base_labels
    found = load_dataset(place, labels=shipped)
    if record.provenance.get(TEST_DATA):
        test = found.part("test")
    else:
        _, test = split_as_recorded(found, record.provenance)
    if shipped == record.labels:
        return test
    known = [index for index, code in enumerate(test.targets) if shipped[code] in record.labels]
    if not known:
        raise DataError("the head has forgotten every class of the test part")
    kept = test.subset(known)
    codes = np.array([record.labels.index(shipped[code]) for code in kept.targets.tolist()])
    return dataclasses.replace(kept, targets=codes, labels=record.labels)


def _answers(
    bundle: Bundle,
    task: str,
    samples: Dataset,
    place: str,
    recorded: bool,
    options: ReportOptions,
) -> Answers:
    manifest = bundle.manifest
    target = options.target or bundle_target(bundle)
    extraction = extract_parts(
        [samples],
        bundle_engine(bundle, target, purpose="extract"),
        manifest.preprocess,
        options=options.extract,
        storage=manifest.record(task).provenance.get("storage", "float16"),
        cache=options.cache,
        about=f"{manifest.backbone}, {target}",
    )
    (part,) = usable(extraction, [samples])
    trained = 0
    if bundle.checks is not None:
        further = None if task == manifest.task else task
        trained = int(bundle.checks.trained_on(part.digests, task=further).sum())
    return Answers(
        samples=part.samples,
        probabilities=bundle.fitted(task).head.predict_proba(part.features),
        place=place,
        recorded=recorded,
        trained=trained,
        skipped=len(extraction.skipped),
        engine=str(target),
        preprocess=manifest.preprocess,
    )


def _measured(bundle: Bundle, task: str, answers: Answers) -> Evidence:
    """Evidence from the answers, for a bundle that has none."""
    record = bundle.manifest.record(task)
    counts = record.provenance.get("train_counts", ())
    known = len(counts) == len(record.labels)
    return evaluate_head(
        answers.probabilities,
        answers.samples.targets,
        record.labels,
        train_counts=counts if known else [0] * len(record.labels),
        head=HeadRecord(kind=record.head),
        run=RunRecord(backbone=bundle.manifest.backbone, engine=answers.engine),
    )


def _select(value: Any) -> Mapping[str, Any] | None:
    """What ``edgetl select --json`` printed.

    Raises:
        DataError: It is something else.
    """
    if value is None:
        return None
    where = "the report of select"
    if isinstance(value, str | Path):
        where = str(value)
        try:
            value = json.loads(Path(value).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{where} can't be read as JSON: {error}") from error
    elif hasattr(value, "to_json"):
        value = value.to_json()
    rows = value.get("candidates") if isinstance(value, Mapping) else None
    named = isinstance(rows, list) and all(
        isinstance(row, Mapping) and isinstance(row.get("name"), str) for row in rows
    )
    if not rows or not named:
        raise DataError(f"{where} is not what `edgetl select --json` prints: it has no candidates")
    return dict(value)


def _place(data: Any) -> str:
    return str(data) if isinstance(data, str | Path) else "data in memory"


def _check_place(path: Path, bundle: Path | None) -> None:
    """Refuse a file that can't be written, or that is part of a bundle.

    Raises:
        FileExistsError: It is a folder, or lies inside a bundle, which would not load any more.
        FileNotFoundError: There is no such folder to write into.
    """
    place = path.resolve()
    if place.is_dir():
        raise FileExistsError(f"{path} is a folder; name a file, such as {path / 'report.html'}")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {place.parent} to write {path.name} into")
    own = None if bundle is None else bundle.resolve()
    for folder in place.parents:
        if folder == own or (folder.suffix == ".edgetl" and (folder / MANIFEST).is_file()):
            raise FileExistsError(f"{path} lies inside the bundle {folder}; name another place")


def _write(path: Path, text: str) -> Path:
    """Put a file in place whole, or not at all."""
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_bytes(text.encode())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
