"""A bundle opened on a device: photos in, predictions out, without torch.

It knows bundles, engines and heads; it does not know where they came from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle, probe_batch
from edgetl.decode import Source, prepare, read_image
from edgetl.engines import Engine, Output, Purpose, check_parity, open_engine
from edgetl.engines.base import available_cores
from edgetl.errors import CorruptError, DataError, MissingDependencyError
from edgetl.runtime.prediction import Prediction
from edgetl.targets import OnnxRuntime, ServingTarget, TensorRT

if TYPE_CHECKING:
    from edgetl.engines import CompiledGraph

Many: TypeAlias = list[Any] | tuple[Any, ...]
"""Several samples; each is what `edgetl.decode.Source` names."""

_BATCH = 8
_MIN_COSINE = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.98, "int8": 0.98}
"""Least cosine of an engine's features to the reference's, by the precision of the graph: two
engines may round the same narrow number to either side."""


class Runtime:
    """Predicts with a bundle. Safe to call from several threads.

    Args:
        bundle: The bundle to run.
        target: The engine that runs its graph; what the bundle was exported for if None, which for
            one that was not exported is ONNX Runtime on the CPU.

    Raises:
        CorruptError: The graph was changed after the bundle was loaded.
        MissingDependencyError: The engine's package is not installed.
        ParityError: The engine computes other features than the one the head was fitted with.
        ValueError: The target can't run what the bundle was exported for.
    """

    def __init__(self, bundle: Bundle, *, target: ServingTarget | None = None) -> None:
        self.bundle = bundle
        self.target = target or bundle_target(bundle)
        self.engine = bundle_engine(bundle, self.target, purpose="serve")

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of a prediction's probabilities."""
        return self.bundle.labels

    def warm_up(self) -> None:
        """Build the engine's session and run it once, so that the first prediction is fast.

        The library that decodes JPEG files is found and checked as well.
        """
        prepare([], preprocess=self.bundle.preprocess, out=self._buffer(0))
        batch = self._buffer(1)
        batch.fill(0)
        self.engine(batch)

    @overload
    def predict(self, x: Source, *, features: bool = False) -> Prediction: ...
    @overload
    def predict(self, x: Many, *, features: bool = False) -> list[Prediction]: ...
    def predict(self, x: Source | Many, *, features: bool = False) -> Prediction | list[Prediction]:
        """Predict the class of one sample, or of each of a list.

        Args:
            x: A path, the bytes of an image file, a uint8 (h, w, 3) RGB array or a PIL image; or a
                list or tuple of those.
            features: Also return the backbone's features.

        Returns:
            A prediction, or a list of them in the order of `x`.

        Raises:
            DataError: A sample can't be read; the message says which one.
            TypeError: `x` is none of the above.
            ValueError: An array has a shape that is not an image's.
        """
        if isinstance(x, list | tuple):
            return [
                prediction
                for start in range(0, len(x), _BATCH)
                for prediction in self._predict(x[start : start + _BATCH], features, first=start)
            ]
        return self._score(self._prepare([x], ["the sample"]), features)[0]

    def _predict(self, sources: Many, features: bool, first: int) -> list[Prediction]:
        names = [f"sample {first + position}" for position in range(len(sources))]
        return self._score(self._prepare(sources, names), features)

    def _prepare(self, sources: Many, names: list[str]) -> NDArray[Any]:
        """A batch of the samples, which have `names` in errors."""
        batch = self._buffer(len(sources))
        preprocess = self.bundle.preprocess
        threads = min(len(sources), available_cores())
        left = prepare(sources, preprocess=preprocess, out=batch, threads=threads)
        for position, source in left.items():
            given = sources[position]
            name = str(given) if isinstance(given, str | Path) else names[position]
            preprocess.apply(self._read(source, name), out=batch[position])
        return batch

    def _buffer(self, count: int) -> NDArray[Any]:
        """Memory for `count` preprocessed samples."""
        preprocess = self.bundle.preprocess
        return np.empty((count, *preprocess.shape), dtype=preprocess.array_type)

    def _read(self, source: Source, name: str) -> NDArray[np.uint8]:
        """Decode a sample; errors say which one it is."""
        try:
            return read_image(source, preprocess=self.bundle.preprocess)
        except (DataError, TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error

    def _score(self, batch: NDArray[Any], features: bool) -> list[Prediction]:
        values = self.engine(batch)
        probabilities = self.bundle.head.predict_proba(values).astype(np.float32)
        labels = self.labels
        return [
            Prediction(labels, row, values[number] if features else None)
            for number, row in enumerate(probabilities)
        ]


def bundle_engine(
    bundle: Bundle, target: ServingTarget, *, purpose: Purpose, output: Output = "features"
) -> Engine:
    """The engine that runs a bundle's graph: the very bytes that were proved to be the bundle's.

    The engine first has to give the reference's features for the bundle's probe. ONNX Runtime on
    the CPU, which is the reference, is trusted with floating point, but not with int8: there a
    processor may overflow where another one does not. What was exported for TensorRT, ONNX Runtime
    runs as it is written, for checking.

    Args:
        bundle: The bundle.
        target: What runs it.
        purpose: What to be fast at.
        output: ``"probabilities"`` only of a graph with its head inside; they are not checked.

    Raises:
        CorruptError: The graph was changed after the bundle was loaded.
        MissingDependencyError: The engine's package is not installed, or the engine can't compute
            in the graph's precision.
        ParityError: The engine's features are not the reference's.
        ValueError: The target asks for another precision than the graph's, or is TensorRT and the
            graph was made for ONNX Runtime alone.
    """
    record = bundle.manifest.export
    precision = "fp32" if record is None else record.precision
    wanted = getattr(target, "precision", None)
    if wanted not in (None, precision):
        raise ValueError(
            f"the bundle's graph {bundle.manifest.graph} is {precision}, the target asks for "
            f"{wanted}; leave precision out, or export a bundle with it"
        )
    _check_made_for(bundle, target, precision)
    engine = open_engine(
        target,
        bundle.read_graph(),
        dim=bundle.manifest.dim if output == "features" else len(bundle.labels),
        graph_fingerprint=bundle.manifest.graph_fingerprint,
        purpose=purpose,
        output=output,
        compiled=_compiled(bundle) if isinstance(target, TensorRT) else None,
        optimise=not _for_tensorrt(bundle),
    )
    if output != "features":
        return engine
    reference = isinstance(target, OnnxRuntime) and target.provider == "cpu"
    if bundle.checks is not None and not (reference and precision != "int8"):
        preprocess = bundle.preprocess
        probe = probe_batch(preprocess.shape, dtype=preprocess.dtype)
        expected, least = bundle.checks.probe_features, _MIN_COSINE[precision]
        check_parity(engine, probe, expected, min_cosine=least, what=f"{target}")
    return engine


def bundle_target(bundle: Bundle) -> ServingTarget:
    """What a bundle was exported for; ONNX Runtime on the CPU if it was not exported.

    Raises:
        CorruptError: The record of the export names what no target has.
    """
    record = bundle.manifest.export
    if record is None:
        return OnnxRuntime()
    kind: type[TensorRT] | type[OnnxRuntime] = OnnxRuntime
    names: tuple[str, ...] = ("provider",)
    if record.engine == "tensorrt":
        kind = TensorRT
        names = ("max_batch", "workspace", "timing_cache", "hardware_compatible")
    try:
        return kind(**{name: record.options[name] for name in names if name in record.options})
    except (TypeError, ValueError) as error:
        raise CorruptError(
            f"the bundle says it was exported for what is no target: {error}"
        ) from error


def _for_tensorrt(bundle: Bundle) -> bool:
    record = bundle.manifest.export
    return record is not None and record.engine == "tensorrt"


def _check_made_for(bundle: Bundle, target: ServingTarget, precision: str) -> None:
    """Refuse an engine that can't run this graph, by what the bundle says of it.

    Raises:
        ValueError: The target is TensorRT and the graph was made for ONNX Runtime alone.
        MissingDependencyError: The engine has no arithmetic of the graph's precision.
    """
    graph = bundle.manifest.graph
    instead = "export the float32 bundle with --target tensorrt instead"
    if isinstance(target, TensorRT) and graph.endswith(".ort"):
        raise ValueError(f"TensorRT can't read {graph}, ONNX Runtime's own format; {instead}")
    if isinstance(target, TensorRT) and precision == "int8" and not _for_tensorrt(bundle):
        raise ValueError(
            f"the bundle's graph {graph} is quantized for ONNX Runtime, with zero points and "
            f"integers where TensorRT takes none; {instead}"
        )
    if precision == "bf16" and isinstance(target, OnnxRuntime):
        raise MissingDependencyError(
            f"the bundle's graph {graph} computes in bfloat16, and ONNX Runtime has no "
            "convolutions for that; run it with TensorRT(), or export the float32 bundle in fp16"
        )


def _compiled(bundle: Bundle) -> CompiledGraph | None:
    """The engine in the bundle, with what it is tied to."""
    record = bundle.manifest.export
    if record is None or "engine" not in record.compiled:
        return None
    from edgetl.engines import CompiledGraph, EngineStamp

    stamp = EngineStamp.from_json(record.options.get("engine_stamp") or {})
    return CompiledGraph(bundle.read_compiled(record.compiled["engine"]), stamp)


def load(path: str | Path, *, target: ServingTarget | None = None) -> Runtime:
    """Open a bundle for prediction.

    Args:
        path: The bundle's folder.
        target: The engine to run it with; what the bundle was exported for if None.

    Raises:
        FileNotFoundError: There is no bundle at `path`.
        CorruptError: The bundle was changed after it was written.
        MissingDependencyError: The engine's package is not installed.
        ParityError: The engine computes other features than the one the head was fitted with.
        ValueError: The target asks for another precision than the graph's.
    """
    return Runtime(Bundle.load(path), target=target)
