"""What every engine is: a compiled backbone graph that turns batches into features.

It knows nothing about any particular engine, and nothing about heads or labels.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError

Purpose: TypeAlias = Literal["extract", "serve"]
"""``"extract"``: most images per second over many batches; ``"serve"``: each call soonest."""


class Engine(Protocol):
    """A backbone graph that runs.

    Making an engine is cheap: the graph is loaded at the first call, so a run whose features are
    all cached never loads it. Calls are safe from several threads.
    """

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the features may change by more than float rounding."""

    @property
    def dim(self) -> int:
        """Length of one feature vector."""

    @property
    def concurrency(self) -> int:
        """How many threads may usefully call the engine at once."""

    @property
    def preferred_batch(self) -> int:
        """The batch size that gives the most images per second."""

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the features (n, dim) of a batch (n, 3, h, w), or (n, h, w, 3) for NHWC graphs.

        Raises:
            TypeError: The batch is not a float32 array.
            ValueError: The batch's shape is not the graph's.
        """


def available_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_batch(batch: NDArray[np.float32], shape: tuple[int | None, ...]) -> NDArray[np.float32]:
    """Check a batch against the shape of one input, and make it C-contiguous.

    Args:
        batch: What the caller gave.
        shape: The graph's input without the batch dimension; None where any length will do.

    Raises:
        TypeError: The batch is not a float32 array.
        ValueError: Its shape does not fit.
    """
    if type(batch) is np.ndarray and batch.dtype == np.float32 and batch.shape[1:] == shape:
        return np.ascontiguousarray(batch)
    if not isinstance(batch, np.ndarray) or batch.dtype != np.float32:
        found = batch.dtype if isinstance(batch, np.ndarray) else type(batch).__name__
        raise TypeError(f"a batch must be a float32 array, got {found}")
    fits = batch.ndim == len(shape) + 1 and all(
        wanted is None or wanted == found
        for wanted, found in zip(shape, batch.shape[1:], strict=True)
    )
    if not fits:
        wanted_text = ", ".join("any" if length is None else str(length) for length in shape)
        raise ValueError(f"the graph takes batches of shape (n, {wanted_text}), got {batch.shape}")
    return np.ascontiguousarray(batch)


def hash_graph(graph: Path | bytes) -> str:
    """The sha256 of a graph's bytes, read in pieces.

    Raises:
        CorruptError: The file is not there or can't be read.
    """
    digest = hashlib.sha256()
    if isinstance(graph, bytes):
        digest.update(graph)
        return digest.hexdigest()
    try:
        with graph.open("rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise CorruptError(f"the graph {graph} can't be read: {error.strerror}") from error
    return digest.hexdigest()


def engine_fingerprint(
    *, engine: str, version: str, device: str, precision: str, graph: str
) -> str:
    """The sha256 of what decides an engine's features, as 64 hexadecimal digits.

    Threads and batch size are not part of it: they change features by float rounding only.
    """
    parts = {
        "engine": engine,
        "version": version,
        "device": device,
        "precision": precision,
        "graph": graph,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
