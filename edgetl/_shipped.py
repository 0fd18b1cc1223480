"""A network as it ships: its graph, the engine that extracts through it, and the features had.

It knows graphs, engines and parity between them; it does not know what the features are for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from edgetl._parts import Part, extract_parts, probe_images, usable
from edgetl._paths import cache_dir
from edgetl.backbone import Backbone
from edgetl.data import Dataset
from edgetl.engines import Engine, OrtEngine, check_parity, open_engine
from edgetl.exporter.graph import FeatureGraph, feature_graph
from edgetl.features import Extraction, ExtractOptions
from edgetl.features.pipeline import Tap
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime, Target, Torch

if TYPE_CHECKING:
    from edgetl.engines.torch import TorchNetwork

_FP32_COSINE = 0.9999
_BF16_COSINE = 0.98
"""Least cosine to the shipped graph: bfloat16 keeps 8 bits, and errors add up with depth."""


@dataclass(frozen=True)
class Shipped:
    """A network that became a graph, and the features of some parts through it.

    Attributes:
        graph: The ONNX graph.
        reference: That graph in ONNX Runtime.
        engine: What extracted.
        preprocess: How photos become its input.
        extraction: The features, with what was skipped.
        parts: The parts of the data, as far as they could be read.
    """

    graph: FeatureGraph
    reference: OrtEngine
    engine: Engine
    preprocess: Preprocess
    extraction: Extraction
    parts: list[Part]


def ship(
    network: Backbone,
    parts: Sequence[Dataset],
    target: Target,
    *,
    decode: Literal["full", "scaled"] | None,
    options: ExtractOptions,
    storage: Literal["float16", "float32"],
    cache: bool,
    tap: Tap | None = None,
) -> Shipped:
    """Make a network's graph, prove the target's engine equal to it, and extract.

    Args:
        network: The network.
        parts: The training part first.
        target: What extracts.
        decode: In place of what the network's preprocessing says, unless None.
        options: Of the extraction.
        storage: Precision of cached features.
        cache: Whether features are cached.
        tap: What takes the network's inputs too, where they are made.

    Raises:
        ParityError: The graph, or the engine, computes other features than the network.
        DataError: A part is left without a readable sample.
    """
    preprocess = preprocess_of(network, decode)
    probe = probe_images(parts[0], preprocess)
    graph = feature_graph(network, probe=probe, cache_dir=cache_dir())
    reference = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    engine = _extraction_engine(target, graph, network, probe, reference)
    extraction = extract_parts(
        parts,
        engine,
        preprocess,
        options=options,
        storage=storage,
        cache=cache,
        about=f"{network.name}, {target}",
        tap=tap,
    )
    return Shipped(graph, reference, engine, preprocess, extraction, usable(extraction, parts))


def preprocess_of(network: Backbone, decode: Literal["full", "scaled"] | None) -> Preprocess:
    """How photos become the network's input, decoded as wanted."""
    if decode is None:
        return network.preprocess
    return dataclasses.replace(network.preprocess, decode=decode)


def _extraction_engine(
    target: Target,
    graph: FeatureGraph,
    network: Backbone,
    probe: NDArray[np.float32],
    reference: OrtEngine,
) -> Engine:
    """The engine for a target, proved equal to what the bundle will run."""
    if target == OnnxRuntime():
        return reference
    if isinstance(target, Torch):
        from edgetl.engines.torch import TorchEngine

        # A backbone without a torch module is refused by the engine itself.
        engine: Engine = TorchEngine(cast("TorchNetwork", network), target=target)
    else:
        engine = open_engine(target, graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    half = isinstance(target, Torch) and target.precision == "bf16"
    least = _BF16_COSINE if half else _FP32_COSINE
    check_parity(engine, probe, reference(probe), min_cosine=least, what=f"{target}")
    return engine
