"""From a bundle's float graph to the feature graph that ships, in the precision of a target.

Every step's result is compared with the one before it where it should be equal. It knows graphs,
precisions and targets; it does not know how samples are found, nor what a gate is.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.decode import Source, read_image
from edgetl.engines import OrtEngine, check_parity
from edgetl.errors import AccuracyError, BudgetError, DataError, EdgetlError, ParityError
from edgetl.exporter.calibrate import Calibration, calibrate
from edgetl.exporter.ends import fix_batch, operator_set, stamp, with_uint8_input
from edgetl.exporter.fold import fold_graph, foldable
from edgetl.exporter.half import cast_floats, copy_model, store_half
from edgetl.exporter.prepare import prepare
from edgetl.exporter.quantize import describe
from edgetl.exporter.search import Judge, Report, SearchOptions, SearchResult, search_int8
from edgetl.exporter.timing import interleaved
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime

Precision = Literal["fp32", "fp16", "bf16", "int8"]
_TWIN_COSINE = 0.9999


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """What the graph that ships looks like.

    Args:
        input: ``"uint8"`` puts normalisation into the graph, which then takes camera bytes
            (n, size, size, 3).
        batch: A fixed batch length; any length if None.
        format: ``"ort"`` for ONNX Runtime Mobile; ONNX Runtime only.
        ort_level: What is built into a ``.ort`` file (`edgetl.exporter.ort_format.Level`).
        fused: Whether head, temperature and softmax go into the graph too.
        calibration_images: At most so many training samples give the ranges of int8.
        search: How thoroughly to search for the int8 graph.

    Raises:
        ValueError: A value is impossible, or does not go with another one.
    """

    input: Literal["float32", "uint8"] = "float32"
    batch: int | None = None
    format: Literal["onnx", "ort"] = "onnx"
    ort_level: Literal["portable", "mobile", "machine"] = "portable"
    fused: bool = False
    calibration_images: int = 512
    search: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("input", self.input, ("float32", "uint8")),
            ("format", self.format, ("onnx", "ort")),
            ("ort_level", self.ort_level, ("portable", "mobile", "machine")),
        ):
            if value not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {value!r}")
        if self.ort_level != "portable" and self.format != "ort":
            raise ValueError(f"ort_level={self.ort_level!r} goes with format='ort'")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        if self.calibration_images < 1:
            raise ValueError(f"calibration_images must be positive, got {self.calibration_images}")


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A feature graph in the precision that ships, still without a head.

    Args:
        model: onnx.ModelProto.
        preprocess: How photos become its input.
        dim: Length of one feature vector.
        precision: What it computes in.
        search: What was tried and why this was chosen, as plain JSON values.
    """

    model: Any
    preprocess: Preprocess
    dim: int
    precision: Precision
    search: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """A hash of what the graph computes, without labels."""
        content = self.model.SerializeToString(deterministic=True)
        return hashlib.sha256(content).hexdigest()

    def engine(self, target: OnnxRuntime | None = None) -> OrtEngine:
        """ONNX Runtime with this graph, for extraction."""
        return OrtEngine(
            self.model.SerializeToString(deterministic=True),
            target=target,
            dim=self.dim,
            graph_fingerprint=self.fingerprint,
        )


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Samples to build with.

    Args:
        calibration: Of the training part, in a random order, for ranges.
        compared: Of the training part, for comparing features.
    """

    calibration: Sequence[Source]
    compared: Sequence[Source]


def build_float(
    graph: bytes,
    preprocess: Preprocess,
    *,
    options: GraphOptions,
    dim: int,
    compared: Sequence[Source],
) -> Artefact:
    """The float graph as it ships: folded, with the input asked for, equal to the original.

    Args:
        graph: The bundle's ONNX graph.
        preprocess: How photos become its input.
        options: What to change.
        dim: Length of one feature vector.
        compared: Samples on whose bytes both are compared.

    Raises:
        ParityError: The new graph gives other features.
        DataError: None of the samples can be read.
    """
    onnx = require("onnx", extra="demo")
    model = onnx.load_model_from_string(graph)
    if foldable(model):
        model = fold_graph(model)
    changed = preprocess
    if options.input == "uint8":
        model, changed = with_uint8_input(model, preprocess)
    artefact = Artefact(model=prepare(model), preprocess=changed, dim=dim, precision="fp32")
    check_parity(
        artefact.engine(),
        read_batch(compared, changed),
        OrtEngine(graph, dim=dim)(read_batch(compared, preprocess)),
        min_cosine=_TWIN_COSINE,
        what="the prepared float graph against the bundle's",
    )
    return artefact


def build_for_onnxruntime(
    twin: Artefact,
    target: OnnxRuntime,
    *,
    sources: Sources,
    judge: Callable[[Artefact], Judge],
    options: GraphOptions,
    report: Report | None = None,
) -> Artefact:
    """The graph for ONNX Runtime in the target's precision.

    Args:
        twin: The float graph, from `build_float`.
        target: Precision, provider and threads.
        sources: Samples to build with.
        judge: Makes the judge of int8 candidates of a float graph.
        options: Calibration and search.
        report: Told in words what is being done.

    Raises:
        BudgetError: No int8 graph pays; the message has the table of what was tried.
        AccuracyError: Those that pay are not accurate enough; likewise.
    """
    precision = target.precision or "fp32"
    if precision == "fp16":
        return _half(twin, target, compared=sources.compared)
    if precision == "fp32":
        return twin
    calibration = calibrated(twin, sources, options)
    result = search_int8(
        twin.model,
        calibration,
        samples=read_batch(sources.compared, twin.preprocess),
        float_graph=twin.model.SerializeToString(),
        open_engine=lambda graph: OrtEngine(graph, target=target, dim=twin.dim, purpose="serve"),
        judge=judge(twin),
        options=options.search,
        report=report,
    )
    if result.chosen is None:
        kind = AccuracyError if result.failure == "inaccurate" else BudgetError
        raise kind(f"{result.reason}; this was tried:\n{search_table(result)}")
    onnx = require("onnx", extra="demo")
    return dataclasses.replace(
        twin,
        model=onnx.load_model_from_string(result.chosen.graph),
        precision="int8",
        search={
            "reason": result.reason,
            "float_ms": result.float_milliseconds,
            "calibration_images": calibration.samples,
            "chosen": describe(result.chosen.config),
            "candidates": [item.to_json() for item in result.candidates],
            "tensor_sqnr_db": dict(result.node_errors),
        },
    )


def finish(artefact: Artefact, labels: Sequence[str], options: GraphOptions) -> bytes:
    """The graph's bytes as they ship: batch length, metadata and file format.

    Args:
        artefact: The feature graph, or with its model exchanged, the one with the head inside.
        labels: Class names.
        options: Batch length and format.
    """
    model = copy_model(artefact.model)  # what is stamped has another fingerprint
    if options.batch is not None:
        model = fix_batch(model, options.batch)
    stamp(
        model,
        labels,
        artefact.preprocess,
        graph=artefact.fingerprint,
        precision=artefact.precision,
        opset=str(operator_set(model)),
    )
    content: bytes = model.SerializeToString(deterministic=True)
    if options.format == "onnx":
        return content
    from edgetl.exporter.ort_format import to_ort_format

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.ort"
        to_ort_format(content, path, level=options.ort_level)
        return path.read_bytes()


def operators_of(artefact: Artefact, options: GraphOptions) -> str:
    """The configuration of an ONNX Runtime build that is reduced to a ``.ort`` file's operators."""
    from edgetl.exporter.ort_format import required_operators

    return required_operators(
        artefact.model.SerializeToString(deterministic=True), level=options.ort_level
    )


def file_name(artefact: Artefact, options: GraphOptions) -> str:
    """What the graph's file is called, such as ``fused.int8.onnx``."""
    parts = ["fused" if options.fused else "backbone"]
    parts += [artefact.precision] * (artefact.precision != "fp32")
    return ".".join([*parts, options.format])


def read_batch(sources: Sequence[Source], preprocess: Preprocess) -> NDArray[Any]:
    """The samples that can be read, preprocessed, as one batch.

    Raises:
        DataError: None can be read.
    """
    images = []
    for source in sources:
        try:
            images.append(preprocess.apply(read_image(source, preprocess=preprocess)))
        except (DataError, ValueError):  # named when features are extracted
            continue
    if not images:
        raise DataError(f"none of the {len(sources)} samples can be read")
    return np.stack(images)


def search_table(result: SearchResult) -> str:
    """What a search tried, as lines for the terminal, fastest first."""
    lines = [f"{'ms':>8} {'speed':>6} {'cosine':>7} {'dB':>5} {'MB':>6}  configuration"]
    lines.append(f"{result.float_milliseconds:8.2f} {1.0:6.2f} {1.0:7.4f} {'':>5} {'':>6}  float32")
    for item in sorted(result.candidates, key=lambda item: -item.speedup):
        verdict = f"; {item.verdict.reason}" if item.verdict else ""
        lines.append(
            f"{item.milliseconds:8.2f} {item.speedup:6.2f} {item.cosine:7.4f} {item.sqnr:5.1f} "
            f"{item.size / 1e6:6.2f}  {item.config}{verdict}"
        )
    return "\n".join(lines)


def calibrated(twin: Artefact, sources: Sources, options: GraphOptions) -> Calibration:
    """What values the twin's tensors take, from one training sample after the other.

    Raises:
        DataError: None of the samples can be read.
    """
    chosen = sources.calibration[: options.calibration_images]

    def batches() -> Any:
        for source in chosen:
            try:
                yield read_batch([source], twin.preprocess)
            except DataError:
                continue

    return calibrate(twin.model, batches())


def _half(twin: Artefact, target: OnnxRuntime, *, compared: Sequence[Source]) -> Artefact:
    """float16 arithmetic where the engine has fast kernels for it, else float16 weights alone."""
    batch = read_batch(compared, twin.preprocess)
    expected = twin.engine()(batch)
    rows: list[dict[str, Any]] = []
    engines: dict[str, tuple[Any, OrtEngine]] = {}
    for what, make in (
        ("weights in float16, arithmetic in float32", store_half),
        ("weights and arithmetic in float16", lambda model: cast_floats(model, "float16")),
    ):
        model = make(twin.model)
        engine = OrtEngine(model.SerializeToString(), target=target, dim=twin.dim, purpose="serve")
        try:
            cosine = check_parity(engine, batch, expected, min_cosine=0.999, what=what)
        except ParityError as error:
            rows.append({"configuration": what, "verdict": str(error)})
        except EdgetlError as error:  # no kernel for an operator in float16
            rows.append({"configuration": what, "verdict": f"does not run: {error}"})
        else:
            engines[what] = (model, engine)
            rows.append({"configuration": what, "cosine": cosine})
    if not engines:
        reasons = "; ".join(f"{row['configuration']}: {row['verdict']}" for row in rows)
        raise ParityError(f"no float16 graph gives the features of float32: {reasons}")
    single = batch[:1]
    calls = {what: partial(engine, single) for what, (_, engine) in engines.items()}
    timings = interleaved(calls, rounds=7, seconds=0.5)
    for row in rows:
        if row["configuration"] in timings:
            row["ms"] = timings[row["configuration"]].median * 1e3
    best = min(timings, key=lambda what: timings[what].percentile(25))
    search = {"reason": f"{best}: the faster one here", "candidates": rows}
    return dataclasses.replace(twin, model=engines[best][0], precision="fp16", search=search)
