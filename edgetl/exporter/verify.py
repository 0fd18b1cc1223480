"""Runs every gate on a bundle as it ships: from the bytes of real samples to the answer.

The bundle goes through `edgetl.runtime`, just as on a device, so what is checked is what runs
there: preprocessing, graph, head and labels together. It needs nothing that a device lacks, and
knows nothing about how the bundle was made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle, GateRecord, Limits
from edgetl.bundle.checks import short_digests
from edgetl.bundle.stamp import read_metadata
from edgetl.data import Dataset
from edgetl.decode import Source, read_image
from edgetl.errors import BudgetError, DataError
from edgetl.exporter import gates
from edgetl.exporter.timing import interleaved
from edgetl.features.pipeline import load
from edgetl.runtime import Prediction, Runtime, bundle_engine, bundle_target
from edgetl.targets import ServingTarget, TensorRT

LEAST_SAMPLES = 64
"""Samples on which features are compared at the least, if there are so many."""
_BATCH = 8
_ROUNDS, _CALLS = 15, 40


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """How to verify.

    Args:
        limits: What is asked; what the bundle's export record says if None.
        seconds: Timed seconds of each contestant of the speed gate.
        speed: Whether speed is measured; without it the gate counts as not run. It is not either
            where something else than TensorRT runs what was exported for it.
    """

    limits: Limits | None = None
    seconds: float = 2.0
    speed: bool = True


def run_gates(
    bundle: Bundle,
    data: Dataset,
    *,
    extra: Sequence[Source] = (),
    reference: Bundle | None = None,
    target: ServingTarget | None = None,
    options: VerifyOptions | None = None,
) -> tuple[GateRecord, ...]:
    """Run every gate on this machine.

    Args:
        bundle: An exported bundle.
        data: Labelled samples that it was not fitted on; its labels are the bundle's.
        extra: Further samples on which only features are compared; needs `reference`.
        reference: The bundle it was exported from. Without it, samples are compared with what that
            bundle said of them when the export was made, and there is no float32 to be faster than.
        target: What runs the bundle; as it was exported for if None.
        options: Limits and times.

    Returns:
        The gates, whether they passed or not; see `edgetl.exporter.gates.refuse`.

    Raises:
        ValueError: The bundle was not exported.
        DataError: No sample can be read, or none is one that the export knew.
        ParityError: The engine here gives other features for the bundle's probe.
        MissingDependencyError: The engine is not installed, or its device not here.
    """
    record = bundle.manifest.export
    if record is None:
        raise ValueError(
            "the bundle was not exported, so there is no other to compare it with; use evaluate"
        )
    options = options or VerifyOptions()
    limits = options.limits or record.limits
    runtime = Runtime(bundle, target=target)
    original = None if reference is None else Runtime(reference)
    seen = _Seen.of(runtime, original, data, extra)
    found = [_ends(runtime)]
    if record.fused:
        found.append(_fused(runtime, data))
    found.append(gates.parity(seen.features, seen.expected_features, limits))
    found.append(gates.agreement(seen.classes, seen.expected_classes, limits))
    right = np.array([a == b for a, b in zip(seen.classes, seen.truth, strict=True)])
    before = np.array([a == b for a, b in zip(seen.expected_classes, seen.truth, strict=True)])
    found.append(gates.accuracy(right, before, limits))
    if judges_speed(bundle, target, options):
        rival = _rival(runtime, original)
        found.append(_speed(runtime, rival, data, record.precision, limits, options.seconds))
    else:
        found.append(_not_timed(runtime, options))
    if record.precision != "fp32" or limits.budget_mb is not None:
        graph_bytes = bundle.manifest.files[bundle.manifest.graph].size
        found.append(gates.size(graph_bytes, bundle.size, record.float_bytes, limits))
    return tuple(found)


def judges_speed(bundle: Bundle, target: ServingTarget | None, options: VerifyOptions) -> bool:
    """Whether speed is a matter of this run: not where a stand-in runs what TensorRT will run."""
    made_for = bundle_target(bundle)
    return options.speed and not (
        isinstance(made_for, TensorRT) and not isinstance(target or made_for, TensorRT)
    )


def _not_timed(runtime: Runtime, options: VerifyOptions) -> GateRecord:
    made_for = type(bundle_target(runtime.bundle)).__name__
    ran = type(runtime.target).__name__
    return GateRecord(
        name="speed",
        passed=None,
        measured=f"it was exported for {made_for}, and {ran} ran it"
        if ran != made_for
        else "not asked for",
        limit="edgetl verify on the device",
        exit_code=BudgetError.exit_code,
    )


def _rival(runtime: Runtime, original: Runtime | None) -> Runtime | None:
    """What must not be faster: float32, and where TensorRT runs the bundle, on the same GPU.

    ONNX Runtime on the CPU, the original, says nothing there of what narrower numbers gain.
    """
    if original is None or not isinstance(runtime.target, TensorRT):
        return original
    target = dataclasses.replace(runtime.target, precision=None)
    return Runtime(original.bundle, target=target)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What both bundles say of the samples that could be read and are known to both."""

    truth: list[str]
    classes: list[str]
    expected_classes: list[str]
    features: NDArray[np.float32]
    expected_features: NDArray[np.floating]

    @classmethod
    def of(
        cls, runtime: Runtime, original: Runtime | None, data: Dataset, extra: Sequence[Source]
    ) -> _Seen:
        """Predict all samples with both, or look up what the original said.

        Raises:
            DataError: Nothing is left to compare.
        """
        contents, truth, digests = _readable(data, runtime)
        answers = runtime.predict(contents, features=True)
        if original is not None:
            wanted = original.predict(contents, features=True)
            more = _whole(extra, runtime)
            return cls(
                truth=truth,
                classes=[answer.label for answer in answers],
                expected_classes=[answer.label for answer in wanted],
                features=_stacked([*answers, *runtime.predict(more, features=True)]),
                expected_features=_stacked([*wanted, *original.predict(more, features=True)]),
            )
        checks = runtime.bundle.checks
        known = {} if checks is None else {d: i for i, d in enumerate(checks.reference_digests)}
        rows = [known.get(digest, -1) for digest in digests]
        kept = [i for i, row in enumerate(rows) if row >= 0]
        count = 0 if checks is None else len(checks.reference_features)
        compared = [i for i in kept if rows[i] < count]
        if checks is None or len(compared) < min(LEAST_SAMPLES, count) or not compared:
            raise DataError(
                f"only {len(compared)} of the {count} samples that the export was compared on are "
                f"among these {len(truth)}; give the data it was made with, or the bundle it was "
                "exported from: --reference BUNDLE"
            )
        labels = runtime.labels
        return cls(
            truth=[truth[i] for i in kept],
            classes=[answers[i].label for i in kept],
            expected_classes=[labels[checks.reference_classes[rows[i]]] for i in kept],
            features=_stacked([answers[i] for i in compared]),
            expected_features=checks.reference_features[[rows[i] for i in compared]],
        )


def _readable(data: Dataset, runtime: Runtime) -> tuple[list[Source], list[str], list[np.uint64]]:
    """Content, true class and short digest of every sample that can be read."""
    preprocess = runtime.bundle.preprocess
    contents: list[Source] = []
    truth: list[str] = []
    digests: list[bytes] = []
    reasons: list[str] = []
    for name, source, code in zip(data.names, data.sources, data.targets.tolist(), strict=True):
        try:
            content, digest, _ = load(source, preprocess)
            read_image(content, preprocess=preprocess)
        except (DataError, ValueError) as error:
            reasons.append(f"{name}: {error}")
            continue
        contents.append(content)
        truth.append(data.labels[code])
        digests.append(digest)
    new = _not_trained_on(runtime.bundle, digests)
    if contents and not new:
        raise DataError(
            f"the bundle was fitted on all of these {len(contents)} samples, so they show nothing; "
            "give others"
        )
    contents, truth, digests = (
        [contents[i] for i in new],
        [truth[i] for i in new],
        [digests[i] for i in new],
    )
    if not contents:
        raise DataError(f"no sample can be read ({'; '.join(reasons[:5])})")
    return contents, truth, list(short_digests(digests))


def _not_trained_on(bundle: Bundle, digests: Sequence[bytes]) -> list[int]:
    """Positions of samples that the bundle was not fitted on, or was measured on all the same."""
    checks = bundle.checks
    if checks is None or not digests:
        return list(range(len(digests)))
    fitted = checks.trained_on(digests) & ~np.isin(short_digests(digests), checks.reference_digests)
    return np.flatnonzero(~fitted).tolist()


def _whole(sources: Sequence[Source], runtime: Runtime) -> list[Source]:
    """The samples that can be read."""
    found: list[Source] = []
    for source in sources:
        try:
            read_image(source, preprocess=runtime.bundle.preprocess)
        except (DataError, ValueError):
            continue
        found.append(source)
    return found


def _stacked(answers: list[Prediction]) -> NDArray[np.float32]:
    rows = [answer.features for answer in answers if answer.features is not None]
    return np.stack(rows)


def _ends(runtime: Runtime) -> GateRecord:
    """Whether the graph's own metadata says what the manifest says."""
    manifest = runtime.bundle.manifest
    stated = graph_metadata(runtime.bundle.read_graph())
    wanted = {
        "edgetl.labels": list(manifest.labels),
        "edgetl.preprocess": manifest.preprocess.to_json(),
    }
    wrong = []
    for key, value in wanted.items():
        found = json.loads(stated[key]) if key in stated else None
        if found != value:
            wrong.append(f"the graph's {key} is {found!r:.80}, the manifest's {value!r:.80}")
    return gates.same("metadata", wrong)


def graph_metadata(graph: bytes) -> dict[str, str]:
    """The metadata of a graph's bytes, ONNX or .ort, without running or optimising it."""
    if graph[4:8] != b"ORTM":
        return read_metadata(graph)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.load_model_format", "ORT")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return dict(session.get_modelmeta().custom_metadata_map)


def _fused(runtime: Runtime, data: Dataset) -> GateRecord:
    """Whether the head inside the graph answers as the head beside it."""
    bundle = runtime.bundle
    inside = bundle_engine(bundle, runtime.target, purpose="serve", output="probabilities")
    wrong, furthest = 0, 0.0
    images = _images(runtime, data, LEAST_SAMPLES)
    for image in images:
        outside = bundle.head.predict_proba(runtime.engine(image))
        difference = np.abs(inside(image) - outside)
        furthest = max(furthest, float(difference.max()))
        wrong += int(difference.max() > 1e-3)
    found = [f"{wrong} of {len(images)} samples differ by up to {furthest:.2g}"] if wrong else []
    return gates.same("the head inside the graph", found)


def _images(runtime: Runtime, data: Dataset, count: int) -> list[NDArray[Any]]:
    """The first samples that can be read, as batches of one."""
    preprocess = runtime.bundle.preprocess
    images: list[NDArray[Any]] = []
    for source in data.sources:
        try:
            images.append(preprocess.apply(read_image(source, preprocess=preprocess))[None])
        except (DataError, ValueError):
            continue
        if len(images) == count:
            break
    return images


def _speed(
    runtime: Runtime,
    original: Runtime | None,
    data: Dataset,
    precision: str,
    limits: Limits,
    seconds: float,
) -> GateRecord:
    """Time whole predictions of one decoded photo, in turns with the original."""
    photo = _first_photo(runtime, data)
    contestants: dict[str, Callable[[], object]] = {"exported": lambda: runtime.predict(photo)}
    if original is not None:
        contestants["original"] = lambda: original.predict(photo)
    timings = interleaved(contestants, rounds=_ROUNDS, calls=_CALLS, seconds=seconds)
    return gates.speed(timings["exported"], timings.get("original"), precision, limits)


def _first_photo(runtime: Runtime, data: Dataset) -> NDArray[np.uint8]:
    preprocess = runtime.bundle.preprocess
    for source in data.sources:
        try:
            return read_image(source, preprocess=preprocess)
        except (DataError, ValueError):
            continue
    raise DataError("no sample can be read")


def narrowed(
    limits: Limits, *, budget_ms: float | None, budget_mb: float | None, max_drop: float | None
) -> Limits:
    """The limits with those exchanged that are not None."""
    return dataclasses.replace(
        limits,
        budget_ms=limits.budget_ms if budget_ms is None else budget_ms,
        budget_mb=limits.budget_mb if budget_mb is None else budget_mb,
        max_drop=limits.max_drop if max_drop is None else max_drop,
    )
