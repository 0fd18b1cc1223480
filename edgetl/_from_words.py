"""A bundle from the names of classes alone: no photo, and so no evidence.

It strings an image-text pair, its graph and a head from words together. What such a bundle is worth
has to be measured on labelled photos (`edgetl.evaluate_bundle`); until then it says that nothing
was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgetl._given import method_record
from edgetl._paths import cache_dir
from edgetl.backbones import load_backbone
from edgetl.bundle import Bundle, Checks, Manifest, check_destination, probe_batch
from edgetl.engines import OrtEngine
from edgetl.errors import DataError
from edgetl.exporter.bench_measure import sample_photo
from edgetl.exporter.graph import feature_graph
from edgetl.heads import Selection, load_head
from edgetl.preprocess import Preprocess
from edgetl.transfer.zeroshot_method import Zeroshot

_PROBES = ((480, 640), (640, 480), (300, 300))
"""Height and width of the made-up photos that the graph is compared with its network on."""


def from_words(
    labels: Sequence[str],
    *,
    backbone: str,
    weights: str | Path | None = None,
    method: Zeroshot | None = None,
    output: str | Path | None = None,
    preprocess: Preprocess | None = None,
) -> Bundle:
    """Make a bundle that tells classes apart by what is said about them.

    Nothing is measured: the bundle has no evidence, and `edgetl.export` refuses it without labelled
    photos. Where there are some, `edgetl.adapt` with ``method="zeroshot"`` makes the same head and
    measures it.

    Args:
        labels: Names of the classes, at least two, distinct; sorted in the bundle.
        backbone: An image-text pair: ``open_clip/NAME.TAG``, ``hf-clip/FOLDER`` or the like.
        weights: A local file with both towers; the backbone's own if None.
        method: Templates and prompts; their defaults if None.
        output: Where to save the bundle; it stays in memory if None.
        preprocess: How photos become the input; as the backbone's weights want it if None.

    Raises:
        DataError: Fewer than two classes, or one is named twice.
        ValueError: The backbone has no text tower, or can't read a sentence; or the method needs
            photos.
        WeightsError: The weights can't be had or don't fit.
        ParityError: The exported graph computes other features than the network.
        FileExistsError: `output` holds something that is not a bundle.
    """
    way = method or Zeroshot()
    if way.blend or way.vectors is not None:
        raise ValueError("blend and vectors need labelled photos, and there is none; name DATA")
    if output is not None:
        check_destination(Path(output))
    names = tuple(sorted(labels))
    if len(set(names)) != len(names) or len(names) < 2:
        raise DataError(f"need two or more different classes, got {', '.join(labels) or 'none'}")
    network = load_backbone(backbone, weights, preprocess=preprocess)
    details: dict[str, Any] = {}
    made = way.from_words(network, names, details)
    head = load_head(made.kind, made.arrays())
    prepared = network.preprocess
    probe = np.stack([prepared.apply(sample_photo(*size)) for size in _PROBES])
    graph = feature_graph(network, probe=probe, cache_dir=cache_dir())
    reference = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    reason = "from words alone: there was no photo, and nothing was measured"
    manifest = Manifest(
        labels=names,
        preprocess=prepared,
        backbone=network.name,
        dim=graph.dim,
        graph="backbone.onnx",
        graph_fingerprint=graph.fingerprint,
        head=head.kind,
        provenance={
            "data": None,
            "storage": "float16",
            "train_counts": [0] * len(names),
            "backbone_fingerprint": network.fingerprint,
            "method": method_record(way, Selection(made, (), reason, 0), details),
        },
    )
    checks = Checks(
        probe_features=reference(probe_batch(prepared.shape)),
        train_digests=np.zeros(0, np.uint64),
    )
    bundle = Bundle(manifest, head, graph.path, checks=checks)
    return bundle if output is None else bundle.save(output)
