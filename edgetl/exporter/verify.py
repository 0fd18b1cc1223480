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

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle, GateRecord, Limits
from edgetl.bundle.stamp import read_metadata
from edgetl.data import Dataset
from edgetl.decode import Source
from edgetl.engines.processor import is_x86
from edgetl.errors import BudgetError, CorruptError
from edgetl.exporter import gates
from edgetl.exporter.compare import LEAST_SAMPLES, Seen, compare
from edgetl.exporter.timing import interleaved
from edgetl.runtime import Runtime, bundle_engine, bundle_target
from edgetl.targets import OpenVino, ServingTarget, TensorRT

__all__ = [
    "LEAST_SAMPLES",
    "VerifyOptions",
    "graph_metadata",
    "judges_speed",
    "narrowed",
    "run_gates",
]

_SAME_PROBABILITY = 1e-3
"""Largest difference of a probability from the head inside the graph to the one beside it."""
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
        extra: Further samples, of which as many are compared by their features alone as `data` is
            short of `LEAST_SAMPLES`.
        reference: The bundle it was exported from. Without it, samples are compared with what that
            bundle said of them when the export was made, and there is no float32 to be faster than.
        target: What runs the bundle; as it was exported for if None.
        options: Limits and times.

    Returns:
        The gates, whether they passed or not; see `edgetl.exporter.gates.refuse`.

    Raises:
        ValueError: The bundle was not exported.
        DataError: No sample can be read or none is one that the export knew, or features can't be
            compared on `LEAST_SAMPLES` of them.
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
    # Gates are about the heads as exported, whatever the bundles have learned since.
    runtime = Runtime(bundle, target=target, resume=False)
    original = None if reference is None else Runtime(reference, resume=False)
    inside = None
    if record.fused:
        inside = bundle_engine(bundle, runtime.target, purpose="serve", output="probabilities")
    seen = compare(runtime, original, data, extra=extra, inside=inside)
    found = [_ends(runtime)]
    if record.fused:
        found.append(_fused(seen))
    own, features, expected = record.precision, seen.features, seen.expected_features
    found.append(gates.parity(np.stack(features), np.stack(expected), limits, precision=own))
    found.append(gates.agreement(seen.classes, seen.expected_classes, limits, precision=own))
    right = np.array([a == b for a, b in zip(seen.classes, seen.truth, strict=True)])
    before = np.array([a == b for a, b in zip(seen.expected_classes, seen.truth, strict=True)])
    found.append(gates.accuracy(right, before, limits, precision=own))
    if judges_speed(bundle, target, options):
        rival = _rival(runtime, original)
        assert seen.photo is not None  # there is one, or `compare` raises
        found.append(_speed(runtime, rival, seen.photo, limits, options.seconds))
    else:
        found.append(_not_timed(runtime, options))
    if record.precision != "fp32" or limits.budget_mb is not None:
        graph_bytes = bundle.manifest.files[bundle.manifest.graph].size
        found.append(gates.size(graph_bytes, bundle.size, record.float_bytes, limits))
    return tuple(found)


def judges_speed(bundle: Bundle, target: ServingTarget | None, options: VerifyOptions) -> bool:
    """Whether speed is a matter of this run.

    It is not where a stand-in runs what TensorRT will run, nor for files made for other processors.
    """
    made_for = bundle_target(bundle)
    return (
        options.speed
        and not (isinstance(made_for, TensorRT) and not isinstance(target or made_for, TensorRT))
        and not _for_other_processors(bundle, options)
    )


def _for_other_processors(bundle: Bundle, options: VerifyOptions) -> bool:
    """Whether this is x86 and the bundle a ``.ort`` file that leaves out what is fast there.

    A budget is for this machine all the same.
    """
    record = bundle.manifest.export
    if record is None or record.options.get("ort_level") not in ("portable", "mobile"):
        return False
    limits = options.limits or record.limits
    return is_x86() and limits.budget_ms is None and not limits.slower


def _not_timed(runtime: Runtime, options: VerifyOptions) -> GateRecord:
    made_for = type(bundle_target(runtime.bundle)).__name__
    ran = type(runtime.target).__name__
    reason = "not asked for"
    if ran != made_for:
        reason = f"it was exported for {made_for}, and {ran} ran it"
    elif _for_other_processors(runtime.bundle, options):
        reason = "not run here: the .ort file is made for other processors than x86"
    return GateRecord(
        name="speed",
        passed=None,
        measured=reason,
        limit="edgetl verify on the device",
        exit_code=BudgetError.exit_code,
    )


def _rival(runtime: Runtime, original: Runtime | None) -> Runtime | None:
    """What must not be faster: float32 in the same engine, on the same device and threads.

    The original as it is for parity, ONNX Runtime on all cores of the CPU, would say nothing of
    what narrower numbers gain elsewhere.
    """
    if original is None:
        return None
    target = runtime.target
    if not isinstance(target, OpenVino):
        target = dataclasses.replace(target, precision=None)
    if target == original.target:
        return original
    return Runtime(original.bundle, target=target, resume=False)


def _ends(runtime: Runtime) -> GateRecord:
    """Whether the graph's own metadata says what the manifest says."""
    manifest = runtime.bundle.manifest
    try:
        stated = graph_metadata(runtime.bundle.read_graph())
    except CorruptError as error:
        return gates.same("metadata", [str(error)])
    wanted = {
        "edgetl.labels": list(manifest.labels),
        "edgetl.preprocess": manifest.preprocess.to_json(),
    }
    wrong = []
    for key, value in wanted.items():
        try:
            found = json.loads(stated[key]) if key in stated else None
        except (ValueError, RecursionError) as error:
            wrong.append(f"the graph's {key} is no JSON ({error!s:.80})")
            continue
        if found != value:
            wrong.append(f"the graph's {key} is {found!r:.80}, the manifest's {value!r:.80}")
    return gates.same("metadata", wrong)


def graph_metadata(graph: bytes) -> dict[str, str]:
    """The metadata of a graph's bytes, ONNX or .ort, without running or optimising it.

    Raises:
        CorruptError: It can't be read.
    """
    if graph[4:8] != b"ORTM":
        return read_metadata(graph)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.load_model_format", "ORT")
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return dict(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # its exceptions have no common class but this, or are no text
        raise CorruptError(
            f"the metadata of the .ort graph of {len(graph)} bytes can't be read: {error!s:.200}"
        ) from error


def _fused(seen: Seen) -> GateRecord:
    """Whether the head inside the graph answers as the head beside it."""
    inside, beside = np.stack(seen.inside), np.stack(seen.beside)
    count = len(inside)
    found = []
    broken = int(np.count_nonzero(~np.isfinite(inside).all(axis=1)))
    if broken:
        found.append(f"probabilities of {broken} of {count} samples are not finite")
    with np.errstate(invalid="ignore"):  # infinity less infinity
        furthest = np.abs(inside - beside).max(axis=1)
    wrong = int(np.count_nonzero(~(furthest <= _SAME_PROBABILITY)))  # NaN is wrong too
    if wrong > broken:
        known = furthest[np.isfinite(furthest)]
        found.append(f"{wrong} of {count} samples differ by up to {known.max(initial=0):.2g}")
    best = inside.argmax(axis=1)
    sure = np.sort(beside, axis=1)[:, -1] - beside[np.arange(count), best] > _SAME_PROBABILITY
    if others := int(np.count_nonzero(sure)):
        found.append(f"{others} of {count} samples get another class")
    return gates.same("the head inside the graph", found)


def _speed(
    runtime: Runtime,
    original: Runtime | None,
    photo: NDArray[np.uint8],
    limits: Limits,
    seconds: float,
) -> GateRecord:
    """Time whole predictions of one decoded photo, in turns with the original."""
    contestants: dict[str, Callable[[], object]] = {"exported": lambda: runtime.predict(photo)}
    if original is not None:
        contestants["original"] = lambda: original.predict(photo)
    timings = interleaved(contestants, rounds=_ROUNDS, calls=_CALLS, seconds=seconds)
    record = runtime.bundle.manifest.export
    precision = "fp32" if record is None else record.precision
    return gates.speed(timings["exported"], timings.get("original"), precision, limits)


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
