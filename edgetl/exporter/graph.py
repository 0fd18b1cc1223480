"""The feature graph: a backbone as one ONNX file, checked against its origin and cached.

It knows ONNX files and the cache of graphs; it knows nothing about heads or labels: a bundle adds
labels and preprocessing to its own copy.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.backbone import Backbone
from edgetl.engines import OrtEngine, check_parity
from edgetl.errors import EdgetlError, ParityError

_LAYOUT = 2
"""Raised whenever the same backbone would give another graph file; part of the cache's key."""
_PRODUCER = "edgetl"
_MIN_COSINE = 0.9999
_PROBES = 32  # images that are compared; more only takes longer


@dataclass(frozen=True)
class FeatureGraph:
    """An ONNX file that computes features.

    Args:
        path: The file, in the cache; not to be changed.
        fingerprint: A hash of what the graph computes, and so of neither names nor labels.
        dim: Length of one feature vector.
    """

    path: Path
    fingerprint: str
    dim: int


def feature_graph(
    backbone: Backbone, *, probe: NDArray[np.float32], cache_dir: Path
) -> FeatureGraph:
    """Export a backbone to an ONNX feature graph, or find it in the cache.

    A new graph is compared with the backbone on `probe`, and kept only if every image's features
    agree to a cosine of at least 0.9999. In the cache its name is its sha256, so that a damaged or
    half-written file is never used, and two processes never disturb each other.

    Args:
        backbone: What is exported.
        probe: Preprocessed images, real ones, at least one: (n, 3, size, size) float32 (or the
            layout of the backbone's `preprocess`).
        cache_dir: Where the folder ``graphs`` is kept.

    Raises:
        ParityError: The graph's features are not the backbone's; nothing is cached.
        MissingDependencyError: onnx or onnxruntime is not installed.
        WeightsError: The network can't be written as ONNX.
        ValueError: `probe` is empty or of another shape than the backbone's input.
    """
    onnx = require("onnx", extra="demo")
    if probe.shape[1:] != backbone.preprocess.shape or len(probe) == 0:
        raise ValueError(
            f"probe must have the shape (n, {', '.join(map(str, backbone.preprocess.shape))}) with "
            f"n >= 1, got {probe.shape}"
        )
    folder = cache_dir / "graphs" / _key(backbone)
    found = _find(folder, backbone.dim, onnx)
    if found is not None:
        return found

    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as workplace:
        draft = Path(workplace) / "backbone.onnx"
        backbone.to_onnx(draft)
        model = onnx.load(draft)
        _check_interface(model, backbone)
        fingerprint = _clean(model)
        _stamp(
            model,
            {
                "edgetl.name": backbone.name,
                "edgetl.backbone": backbone.fingerprint,
                "edgetl.graph": fingerprint,
            },
        )
        content = model.SerializeToString(deterministic=True)
        _write(draft, content)
        engine = OrtEngine(draft, dim=backbone.dim, graph_fingerprint=fingerprint)
        sample = np.ascontiguousarray(probe[:_PROBES], np.float32)
        what = f"the exported graph of {backbone.name} against the original"
        try:
            check_parity(
                engine, sample, backbone.features(sample), min_cosine=_MIN_COSINE, what=what
            )
        except ParityError:
            raise
        except EdgetlError as error:
            raise ParityError(f"{what}: it does not run: {error}") from error
        final = folder / f"{hashlib.sha256(content).hexdigest()}.onnx"
        draft.replace(final)
    return FeatureGraph(final, fingerprint, backbone.dim)


def read_metadata(model: Any) -> dict[str, str]:
    """The metadata of a loaded ONNX model."""
    return {item.key: item.value for item in model.metadata_props}


def _key(backbone: Backbone) -> str:
    """What decides the file: the backbone, and the programs that write it."""
    parts = [str(_LAYOUT), backbone.name, backbone.fingerprint]
    for package in ("torch", "onnx", "onnxscript"):
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # what a backbone without torch does not need
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _find(folder: Path, dim: int, onnx: Any) -> FeatureGraph | None:
    """The whole graph in the folder, if there is one; damaged files are removed."""
    for path in sorted(folder.glob("*.onnx")):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != path.stem:
            path.unlink(missing_ok=True)
            continue
        stamps = read_metadata(onnx.load_model_from_string(content))
        return FeatureGraph(path, stamps["edgetl.graph"], dim)
    return None


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left; a day is far longer than any export takes."""
    for path in folder.glob(".new-*"):
        if time.time() - path.stat().st_mtime > 86400:
            shutil.rmtree(path, ignore_errors=True)


def _check_interface(model: Any, backbone: Backbone) -> None:
    """Whether a file says of itself that it takes any number of images and gives (n, dim)."""
    ends = [
        [
            item.dim_value if item.HasField("dim_value") else None
            for item in value.type.tensor_type.shape.dim
        ]
        for value in (*model.graph.input, *model.graph.output)
    ]
    expected = [[None, *backbone.preprocess.shape], [None, backbone.dim]]
    if ends != expected:
        raise ParityError(
            f"the exported graph of {backbone.name} has inputs and outputs of shapes {ends}, "
            f"expected {expected} (None: any number)"
        )


def _clean(model: Any) -> str:
    """Strip what the exporter noted about its source code; returns the hash of what is left."""
    for holder in (model, model.graph, *model.graph.input, *model.graph.output):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for holder in (*model.graph.node, *model.graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    del model.graph.value_info[:]
    model.producer_name, model.producer_version = _PRODUCER, ""
    model.graph.name = "backbone"
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _stamp(model: Any, stamps: dict[str, str]) -> None:
    del model.metadata_props[:]
    for key, value in sorted(stamps.items()):
        model.metadata_props.add(key=key, value=value)


def _write(path: Path, content: bytes) -> None:
    """Write through to the disk, so that a later rename can't name an empty file."""
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
