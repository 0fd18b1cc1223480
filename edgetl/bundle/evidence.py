"""Evidence: what was measured about an adapted model, as plain data, JSON and a terminal table.

It knows how evidence is kept and read back, with the standard library alone, on a device too; it
does not know how any of it is computed (see `edgetl.evaluate`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgetl.errors import CorruptError

_LISTED = 1000
"""How many skipped samples and duplicates are kept by name; all of them are counted."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """Scores of one class on the test part, 0 to 1; what is undefined (0 / 0) is 0.

    Args:
        precision: Share of the samples predicted as this class that are of it.
        recall: Share of this class's samples that were found.
        f1: Harmonic mean of the two.
        n: Samples of the class in the test part.
        n_train: Samples of the class in the training part.
    """

    precision: float
    recall: float
    f1: float
    n: int
    n_train: int


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What a trivial method reaches on the same test samples, and the gain over it.

    Args:
        accuracy: Accuracy of the baseline.
        gain: Accuracy of the model minus that of the baseline.
        gain_low: Lower end of the paired interval of the gain.
        gain_high: Upper end; an interval above zero is evidence that the model is better.
    """

    accuracy: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True, kw_only=True)
class HeadRecord:
    """Which head was fitted, and how it was chosen.

    Args:
        kind: A key of `edgetl.heads.HEADS`.
        temperature: What the scores were divided by to calibrate the probabilities; 1 changes
            nothing.
        candidates: One row per head that was tried, on the training part only: column to value.
    """

    kind: str
    temperature: float = 1.0
    candidates: tuple[dict[str, str | int | float | bool | None], ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """How the evidence came about.

    Give `skipped` and `duplicates` in full: all are counted, the first 1000 are kept by name.

    Args:
        backbone: Name of the backbone.
        engine: What ran it.
        seed: Seed of the split, of the choice of the head and of the bootstrap.
        started_at: ISO 8601 time in UTC.
        seconds: Wall-clock time of the whole run.
        images_per_second: Rate at which features were had, cached ones included.
        cache_hits: Samples whose features were in the cache, or shared with an equal sample.
        cache_misses: Samples whose features were computed.
        skipped: (name, reason) of samples that could not be used.
        n_skipped: How many there were; counted from `skipped` if that has more.
        duplicates: (training name, test name) of samples with the same content.
        n_duplicates: How many there were; counted from `duplicates` if that has more.
        notes: Sentences about the data that a reader of the figures should know.
        versions: Package name to version.
    """

    backbone: str
    engine: str
    seed: int = 0
    started_at: str = ""
    seconds: float = 0.0
    images_per_second: float = 0.0
    cache_hits: int = 0
    cache_misses: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    n_skipped: int = 0
    duplicates: tuple[tuple[str, str], ...] = ()
    n_duplicates: int = 0
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("skipped", "duplicates"):
            listed = tuple(tuple(pair) for pair in getattr(self, name))
            count = max(getattr(self, f"n_{name}"), len(listed))
            object.__setattr__(self, f"n_{name}", count)
            object.__setattr__(self, name, listed[:_LISTED])


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured on the test part; every share is on the 0-1 scale.

    The JSON form has exactly these fields. A reader refuses a field it does not know rather than
    dropping it, so a later version either adds a field with a default and raises the manifest's
    format number, or puts what it measured into `extra`, which every version keeps as it is.

    Args:
        labels: Class names, in the order of everything that is per class.
        n_train: Samples the head was fitted on.
        n_test: Samples these figures come from.
        accuracy: Share of correct answers.
        accuracy_low: Lower end of its Wilson interval.
        accuracy_high: Upper end.
        macro_f1: Mean F1 over the classes that were seen or predicted in the test part.
        macro_f1_low: Lower end of its bootstrap interval.
        macro_f1_high: Upper end.
        ece: Expected calibration error, 15 bins of equal width.
        ece_uncalibrated: The same before temperature scaling; None where there was none, or where
            it is not known.
        log_loss: Mean negative log probability of the true class, in nats.
        brier: Mean squared distance of the probabilities from the truth, summed over classes (0-2).
        mean_confidence: Mean probability of the predicted class; near `accuracy` if calibrated.
        per_class: One entry per label.
        confusion_counts: (true, predicted, count) for every count that is not zero, in order.
        baselines: ``"majority"``, ``"knn"``, ...
        head: The head.
        run: The circumstances.
        confidence: Level of all intervals.
        extra: What further parts of edgetl measured: plain JSON values under a name of their own.

    Raises:
        ValueError: Values that contradict each other or are out of range.
    """

    labels: tuple[str, ...]
    n_train: int
    n_test: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    macro_f1_low: float
    macro_f1_high: float
    ece: float
    ece_uncalibrated: float | None = None
    log_loss: float
    brier: float
    mean_confidence: float
    per_class: tuple[ClassScore, ...]
    confusion_counts: tuple[tuple[int, int, int], ...]
    baselines: dict[str, Baseline] = field(default_factory=dict)
    head: HeadRecord
    run: RunRecord
    confidence: float = 0.95
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        classes = len(self.labels)
        if len(set(self.labels)) != classes or len(self.per_class) != classes:
            raise ValueError(
                f"need distinct labels and a score for each, got {classes} labels, "
                f"{len(set(self.labels))} of them distinct, and {len(self.per_class)} scores"
            )
        for name in ("accuracy", "macro_f1"):
            low, value, high = (getattr(self, name + end) for end in ("_low", "", "_high"))
            if not 0 <= low <= high <= 1 or not 0 <= value <= 1:
                raise ValueError(
                    f"{name} is {value} in [{low}, {high}], which is no interval in [0, 1]"
                )
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence}")
        total = 0
        for true, predicted, count in self.confusion_counts:
            if not (0 <= true < classes and 0 <= predicted < classes and count > 0):
                raise ValueError(
                    f"confusion entry {(true, predicted, count)} with {classes} classes"
                )
            total += count
        if total != self.n_test or self.n_test < 1 or self.n_train < 0:
            raise ValueError(
                f"the confusion counts {total} samples, n_test is {self.n_test} and n_train "
                f"{self.n_train}"
            )

    @functools.cached_property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """The (C, C) confusion matrix: row is the true class, column the predicted one."""
        rows = [[0] * len(self.labels) for _ in self.labels]
        for true, predicted, count in self.confusion_counts:
            rows[true][predicted] = count
        return tuple(map(tuple, rows))

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        return typing.cast("dict[str, Any]", plain_json(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Evidence:
        """Read what `to_json` wrote.

        Raises:
            CorruptError: A field is missing, unknown, of the wrong type, or contradicts another.
        """
        return read_record(cls, values, "evidence")

    def __str__(self) -> str:
        from edgetl.bundle.evidence_table import render

        return render(self)


def plain_json(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value


def read_record(kind: type[_T], values: Any, where: str) -> _T:
    """Build a dataclass from a JSON object, checking keys and types against its annotations."""
    if not isinstance(values, dict):
        raise _wrong(where, values, "an object")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    missing = [
        name
        for name, item in fields.items()
        if name not in values
        and item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
    ]
    unknown = sorted(set(values) - set(fields))
    if missing or unknown:
        raise CorruptError(f"{where} lacks {missing} and has the unknown {unknown}")
    hints = typing.get_type_hints(kind)
    read = {key: _read(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return kind(**read)
    except ValueError as error:
        raise CorruptError(f"{where}: {error}") from error


def _read(kind: Any, value: Any, where: str) -> Any:
    """Check one JSON value against a type annotation and convert it to that type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return read_record(typing.cast("type[Any]", kind), value, where)
    if origin in (types.UnionType, typing.Union):
        return _read_union(arguments, value, where)
    if origin is tuple:
        return _read_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) in (int, float) and _finite(value):
        return float(value)
    if kind is not float and type(value) is kind:
        return value
    raise _wrong(where, value, f"a finite {kind.__name__}" if kind is float else f"of {kind}")


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The member of a union with exactly the value's type, so that True stays no number."""
    if value is None and type(None) in kinds:
        return None
    exact = [kind for kind in kinds if kind is type(value)]
    others = [kind for kind in kinds if kind is not type(None)]
    return _read((exact or others)[0], value, where)


def _read_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _wrong(where, value, f"{len(kinds)} values")
    return tuple(
        _read(kind, item, f"{where}[{index}]")
        for index, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _wrong(where: str, value: Any, expected: str) -> CorruptError:
    return CorruptError(f"{where} is {value!r:.80}, expected {expected}")
