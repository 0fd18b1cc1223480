"""Backbones from ONNX files: any graph with one image input and an output that can be features.

It finds the two ends, frees the batch dimension, and names both as feature graphs do. It knows
ONNX, and nothing about what trained the file.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.backbones.onnx_ends import (
    MAX_BYTES,
    add_pooling,
    free_batch,
    name_ends,
    prune,
    shape_of,
)
from edgetl.errors import WeightsError
from edgetl.preprocess import Preprocess


def load_onnx_file(path: Path, *, preprocess: Preprocess | None = None) -> OnnxFileBackbone:
    """Load an ONNX file as a backbone; see `edgetl.backbones.load_backbone`.

    The features are the output that the metadata key ``edgetl.features`` names, or the one named
    ``features``, or the only two-dimensional one, or else the only four-dimensional one, averaged
    over its pixels. A batch dimension of fixed length is freed. Weights beside the file (external
    data) are read too.

    Raises:
        MissingDependencyError: onnx or onnxruntime is not installed.
        WeightsError: The file is not there, is damaged, or is too large.
        ValueError: The graph has no such input or output, or nothing says how to preprocess.
    """
    model = _read(path)
    metadata = {item.key: item.value for item in model.metadata_props}
    if preprocess is None:
        preprocess = _stored_preprocess(metadata, path)
    image = _find_input(model, path)
    _check_input(shape_of(image), preprocess, path)
    output = _find_output(model, metadata, path)
    return OnnxFileBackbone(path, model, image=image.name, output=output, preprocess=preprocess)


class OnnxFileBackbone:
    """A part of an ONNX graph, from its image input to one output, as a backbone."""

    def __init__(
        self, path: Path, model: Any, *, image: str, output: str, preprocess: Preprocess
    ) -> None:
        self.name = str(path)
        self.preprocess = preprocess
        self._model = model
        self._image = image
        self._output = output
        self.dim = self.features(np.zeros((1, *preprocess.shape), np.float32)).shape[1]

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of the feature graph's bytes and the preprocessing."""
        digest = hashlib.sha256(f"onnx\n{self.preprocess.fingerprint}\n".encode())
        digest.update(self._feature_bytes)
        return digest.hexdigest()

    def features(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (n, dim) by ONNX Runtime from the original file, in its own batch size."""
        session = self._session
        fixed = session.get_inputs()[0].shape[0]
        step = fixed if isinstance(fixed, int) else max(1, len(batch))
        rows = []
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            padded = np.zeros((step, *part.shape[1:]), np.float32)
            padded[: len(part)] = part
            (values,) = session.run([self._output], {self._image: padded})
            if values.ndim == 4:
                values = values.mean(axis=(2, 3) if self.preprocess.layout == "nchw" else (1, 2))
            rows.append(values[: len(part)])
        return np.concatenate(rows).astype(np.float32, copy=False)

    def to_onnx(self, path: Path) -> None:
        """Write the feature graph; its operator set stays the file's own."""
        path.write_bytes(self._feature_bytes)

    @functools.cached_property
    def _session(self) -> Any:
        runtime = require("onnxruntime", extra="ort")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        try:
            return runtime.InferenceSession(
                self._model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exception classes share no base
            raise WeightsError(
                f"onnxruntime can't load {self.name}: {str(error).strip().splitlines()[0]}"
            ) from error

    @functools.cached_property
    def _feature_bytes(self) -> bytes:
        onnx = require("onnx", extra="demo")
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        image = next(item for item in graph.input if item.name == self._image)
        output = next(item for item in graph.output if item.name == self._output)
        rank = len(shape_of(output))
        prune(graph, keep_input=self._image, output=self._output)
        free_batch(graph, batch=shape_of(image)[0])
        end = self._output
        if rank == 4:
            end = add_pooling(graph, end, layout=self.preprocess.layout)
        name_ends(graph, image=self._image, output=end)
        float32 = onnx.TensorProto.FLOAT
        for values, name, shape in (
            (graph.input, "images", self.preprocess.shape),
            (graph.output, "features", (self.dim,)),
        ):
            del values[:]
            values.append(onnx.helper.make_tensor_value_info(name, float32, ["batch", *shape]))
        result: bytes = model.SerializeToString(deterministic=True)
        return result


def _read(path: Path) -> Any:
    onnx = require("onnx", extra="demo")
    if not path.is_file():
        raise WeightsError(f"the ONNX file {path} does not exist")
    beside = sum(item.stat().st_size for item in path.parent.glob(f"{path.name}*"))
    if beside > MAX_BYTES:
        raise WeightsError(
            f"{path} and its external data take {beside / 2**30:.1f} GiB; less than 2 is supported"
        )
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        # Files may leave out the shapes of their outputs.
        return onnx.shape_inference.infer_shapes(model)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise WeightsError(
            f"{path} can't be read: {str(error).strip().splitlines()[0]}; weights kept beside the "
            "file (external data) must lie in its folder"
        ) from error
    except Exception as error:  # protobuf's DecodeError, whose home depends on its build
        if type(error).__name__ != "DecodeError":
            raise
        raise WeightsError(f"{path} is no ONNX file, or a damaged one") from error


def _stored_preprocess(metadata: dict[str, str], path: Path) -> Preprocess:
    text = metadata.get("edgetl.preprocess")
    if text is None:
        raise ValueError(
            f"{path} does not say how images become its input; give preprocess=Preprocess(...)"
        )
    try:
        return Preprocess.from_json(json.loads(text))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} has unusable edgetl.preprocess metadata: {error}") from error


def _find_input(model: Any, path: Path) -> Any:
    weights = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in weights]
    onnx = require("onnx", extra="demo")
    if len(inputs) != 1:
        raise ValueError(
            f"{path} has {len(inputs)} inputs ({', '.join(item.name for item in inputs)}); "
            "a backbone has one"
        )
    kind = onnx.TensorProto.DataType.Name(inputs[0].type.tensor_type.elem_type).lower()
    if kind != "float":
        raise ValueError(f"the input {inputs[0].name} of {path} is {kind}; float32 is needed")
    return inputs[0]


def _check_input(shape: tuple[int | None, ...], preprocess: Preprocess, path: Path) -> None:
    wanted = preprocess.shape
    if len(shape) != 4:
        raise ValueError(f"the input of {path} has {len(shape)} dimensions; images have 4")
    if any(found not in (None, size) for found, size in zip(shape[1:], wanted, strict=True)):
        text = ", ".join("any" if item is None else str(item) for item in shape)
        raise ValueError(
            f"the input of {path} has shape ({text}), and preprocess gives (n, "
            f"{', '.join(map(str, wanted))}); change its size or layout"
        )
    if preprocess.dtype != "float32":
        raise ValueError(f"the input of {path} is float32, got dtype={preprocess.dtype!r}")


def _find_output(model: Any, metadata: dict[str, str], path: Path) -> str:
    ranks = {item.name: len(shape_of(item)) for item in model.graph.output}
    named = metadata.get("edgetl.features", "features" if "features" in ranks else None)
    flat = [name for name, rank in ranks.items() if rank == 2]
    maps = [name for name, rank in ranks.items() if rank == 4]
    candidates = [named] if named is not None else flat or maps
    if len(candidates) == 1 and ranks.get(candidates[0]) in (2, 4):
        return candidates[0]
    found = ", ".join(f"{name} ({rank} dimensions)" for name, rank in ranks.items())
    raise ValueError(
        f"can't tell the features among the outputs of {path}: {found}; name one 'features', or in "
        "the metadata key edgetl.features; it must have 2 dimensions, or 4 to be pooled"
    )
