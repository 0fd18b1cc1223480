"""Candidates of `edgetl.select`: how they are named, and the graph that each becomes.

It knows backbones, weights files and graphs; it does not know how they are compared.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgetl._parts import probe_images
from edgetl._paths import cache_dir
from edgetl.backbones import load_backbone
from edgetl.data import Dataset
from edgetl.engines import Engine, OrtEngine, Purpose, check_parity, open_engine
from edgetl.exporter.graph import FeatureGraph, feature_graph
from edgetl.preprocess import Preprocess
from edgetl.targets import OnnxRuntime, OpenVino

if TYPE_CHECKING:
    from edgetl.backbones.source_classifier import SourceClassifier
    from edgetl.backbones.text_tower import TextTower

_SUFFIXES = (".safetensors", ".pth", ".pt")
_MIN_COSINE = 0.9999


@dataclass(frozen=True)
class SourceModel:
    """A pretrained network that may be adapted.

    Args:
        backbone: ``edgetl_nano``, a timm name, ``torchvision/NAME``, or the path of an ONNX file.
        weights: A safetensors or state-dict file; from the model hub if None.
        preprocess: How photos become its input; as its weights or its file want it if None.
        name: What reports call it; `backbone` if None.
    """

    backbone: str | Path
    weights: str | Path | None = None
    preprocess: Preprocess | None = None
    name: str | None = None


Candidate: TypeAlias = str | Path | tuple[str, str | Path] | SourceModel
"""A backbone, ``"BACKBONE=WEIGHTS"``, a pair of these, or all that can be said about it."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A candidate as a graph on disk.

    Args:
        name: What reports call it.
        backbone: As `edgetl.adapt` takes it.
        weights: Likewise.
        preprocess: How photos become its input.
        graph: Its feature graph.
        classifier: What it was pretrained with, if known.
        trainable: Whether its network is at hand as a torch module.
        tower: The text tower that belongs to it, None without one.
        target: What is to run it.
    """

    name: str
    backbone: str
    weights: str | None
    preprocess: Preprocess
    graph: FeatureGraph
    classifier: SourceClassifier | None
    trainable: bool
    tower: TextTower | None
    target: OnnxRuntime | OpenVino

    def open(self, purpose: Purpose) -> Engine:
        """The engine that runs the graph."""
        return open_engine(
            self.target,
            self.graph.path,
            dim=self.graph.dim,
            graph_fingerprint=self.graph.fingerprint,
            purpose=purpose,
        )


def named_candidates(
    candidates: Sequence[Candidate], weights: str | Path | None = None
) -> tuple[SourceModel, ...]:
    """Bring every way of naming candidates into one, with names that differ.

    Args:
        candidates: See `Candidate`.
        weights: A folder with weights files called like the networks, such as
            ``resnet50.safetensors`` for ``torchvision/resnet50``; for candidates that name none.
            What it does not have comes from the hub.

    Raises:
        TypeError: A candidate is none of these, or `candidates` is one string.
        ValueError: There is none, one is empty, or two are the same.
        FileNotFoundError: `weights` is not a folder.
    """
    if isinstance(candidates, str):
        raise TypeError(f"candidates must be a list of names, got the string {candidates!r}")
    folder = None if weights is None else Path(weights).expanduser()
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"the weights folder {folder} does not exist")
    models = [_with_weights(_model(candidate), folder) for candidate in candidates]
    if not models:
        raise ValueError("name at least one candidate, such as mobilenetv2_100")
    plain = Counter(str(model.backbone) for model in models if model.name is None)
    named = []
    for model in models:
        name = model.name
        if name is None:
            name = str(model.backbone)
            if plain[name] > 1 and model.weights is not None:
                name += f"={Path(model.weights).name}"
        named.append(dataclasses.replace(model, name=name))
    for name, count in Counter(model.name for model in named).items():
        if count > 1:
            raise ValueError(f"{count} candidates are called {name}; name each one once")
    return tuple(named)


def prepare(model: SourceModel, train: Dataset, target: OnnxRuntime | OpenVino) -> Prepared:
    """Load a candidate, export its graph or find it in the cache, and let the network go.

    Raises:
        ValueError: No network has this name, or an ONNX file does not say how photos become its
            input.
        WeightsError: The weights can't be had or don't fit.
        ParityError: The graph, or the engine, computes other features than the network.
    """
    network = load_backbone(model.backbone, model.weights, preprocess=model.preprocess)
    probe = probe_images(train, network.preprocess)
    graph = feature_graph(network, probe=probe, cache_dir=cache_dir())
    prepared = Prepared(
        name=str(model.name),
        backbone=str(model.backbone),
        weights=None if model.weights is None else str(model.weights),
        preprocess=network.preprocess,
        graph=graph,
        classifier=getattr(network, "source_classifier", None),
        trainable=hasattr(network, "module"),
        tower=getattr(network, "text_tower", None),
        target=target,
    )
    if target != OnnxRuntime():
        reference = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
        expected = reference(probe)
        what = f"{model.name} by {target}"
        check_parity(prepared.open("extract"), probe, expected, min_cosine=_MIN_COSINE, what=what)
    return prepared


def _model(candidate: Candidate) -> SourceModel:
    if isinstance(candidate, SourceModel):
        return candidate
    if isinstance(candidate, tuple) and len(candidate) == 2:
        return SourceModel(*candidate)
    if isinstance(candidate, Path):
        return SourceModel(candidate)
    if not isinstance(candidate, str):
        raise TypeError(
            "a candidate is a name, a path, a pair (name, weights) or a SourceModel, got "
            f"{type(candidate).__name__}"
        )
    name, separator, file = candidate.strip().partition("=")
    if not name or (separator and not file):
        raise ValueError(f"a candidate is NAME or NAME=WEIGHTS, got {candidate!r}")
    return SourceModel(name, file or None)


def _with_weights(model: SourceModel, folder: Path | None) -> SourceModel:
    """The candidate with the folder's file of its name, if it names none and there is one."""
    name = str(model.backbone)
    if folder is None or model.weights is not None or name.lower().endswith(".onnx"):
        return model
    leaf = name.rpartition("/")[2]
    for stem in dict.fromkeys((leaf, leaf.partition(".")[0])):
        for suffix in _SUFFIXES:
            if (folder / f"{stem}{suffix}").is_file():
                return dataclasses.replace(model, weights=folder / f"{stem}{suffix}")
    return model
