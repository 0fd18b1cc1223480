"""What every engine is: a compiled backbone graph that turns batches into features.

It knows nothing about any particular engine, and nothing about heads or labels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.errors import CorruptError

Purpose: TypeAlias = Literal["extract", "serve"]
"""``"extract"``: most images per second over many batches; ``"serve"``: each call soonest."""

Output: TypeAlias = Literal["features", "probabilities"]
"""What of a graph an engine gives; only a graph with its head inside has probabilities."""

ORT_FORMAT = b"ORTM"
"""Bytes 4 to 8 of a file in ONNX Runtime's own format."""

_FLOAT32: np.dtype[Any] = np.dtype(np.float32)


class Prepared(NamedTuple):
    """What a graph is going to be given, where that is known beforehand."""

    shape: tuple[int, ...]
    """Of one sample."""
    dtype: np.dtype[Any]


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

    def __call__(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Compute the features (n, dim) of a batch (n, 3, h, w), or (n, h, w, 3) for NHWC graphs.

        The batch is float32, or uint8 for graphs that normalise. A graph of a fixed batch length
        gets the samples in as many calls as they take, the last one filled up with zeros.

        Raises:
            TypeError: The batch is not an array of the graph's type.
            ValueError: The batch's shape is not the graph's.
        """


class PhotoStream(Protocol):
    """Batches of photos on their way through a device that prepares them by itself.

    Used by one thread. Up to `depth` batches may be under way; results come in the order given.
    """

    depth: int
    """Batches that may be submitted before one is collected."""

    decodes: bool
    """Whether it takes the bytes of upright JPEG files (`edgetl.decode.upright_jpeg`) too."""

    def submit(self, photos: Sequence[NDArray[np.uint8] | bytes]) -> None:
        """Start a batch: photos (h, w, 3) uint8 with packed pixels, or bytes."""

    def collect(self) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Wait for the oldest batch.

        Returns:
            Features (n, dim), and by number in the batch why a photo can't be used.
        """

    def close(self) -> None:
        """Wait for what is under way, and let go of it, of buffers and threads; the last call."""


def available_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_batch(
    batch: NDArray[Any],
    shape: tuple[int | None, ...],
    dtype: np.dtype[Any] = _FLOAT32,
) -> NDArray[Any]:
    """Check a batch against the shape and type of one input, and make it C-contiguous.

    Args:
        batch: What the caller gave.
        shape: The graph's input without the batch dimension; None where any length will do.
        dtype: The graph's input type.

    Raises:
        TypeError: The batch is not an array of that type.
        ValueError: Its shape does not fit.
    """
    if type(batch) is np.ndarray and batch.dtype == dtype and batch.shape[1:] == shape:
        return np.ascontiguousarray(batch)
    if not isinstance(batch, np.ndarray) or batch.dtype != dtype:
        found = batch.dtype if isinstance(batch, np.ndarray) else type(batch).__name__
        raise TypeError(f"a batch must be a {dtype} array, got {found}")
    if not (batch.ndim and _fits(batch.shape[1:], shape)):
        raise ValueError(
            f"the graph takes batches of shape (n, {_lengths(shape)}), got {batch.shape}"
        )
    return np.ascontiguousarray(batch)


def check_prepared(
    prepared: Prepared | None, shape: tuple[int | None, ...], dtype: np.dtype[Any]
) -> None:
    """Check that a graph takes what it is going to be given; nothing is known of that if None.

    Args:
        prepared: What there will be.
        shape: The graph's input without the batch dimension; None where any length will do.
        dtype: The graph's input type.

    Raises:
        CorruptError: It takes something else: the graph, or what is said of it, was changed.
    """
    if prepared is not None and not (prepared.dtype == dtype and _fits(prepared.shape, shape)):
        given = ", ".join(map(str, prepared.shape))
        raise CorruptError(
            f"the graph takes {dtype} of shape (n, {_lengths(shape)}), and the preprocessing that "
            f"belongs to it gives {prepared.dtype} of shape (n, {given}): one of them was changed"
        )


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(
        length is None or length == given for length, given in zip(wanted, found, strict=True)
    )


def _lengths(shape: tuple[int | None, ...]) -> str:
    return ", ".join("any" if length is None else str(length) for length in shape)


def in_chunks(
    batch: NDArray[Any], size: int, run: Callable[[NDArray[Any]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Results of a batch from calls of a fixed length; zeros fill up the last one.

    Args:
        batch: (n, ...) with n at least 1.
        size: Samples of one call.
        run: Maps (size, ...) to (size, dim).

    Returns:
        (n, dim), without the results of the filling.
    """
    rows = []
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        if len(part) < size:
            filled = np.zeros((size, *batch.shape[1:]), batch.dtype)
            filled[: len(part)] = part
            part = filled
        rows.append(run(part))
    return np.concatenate(rows)[: len(batch)]


def find_output(names: Sequence[str], wanted: Output) -> int:
    """The place of the output that is asked for among those a graph has.

    A single output counts as the features, unless it says that it is something else.

    Raises:
        CorruptError: There is none of that name.
    """
    if wanted in names:
        return names.index(wanted)
    if wanted == "features" and len(names) == 1 and names[0] != "probabilities":
        return 0
    raise CorruptError(f"the graph has no output {wanted!r} among {', '.join(map(repr, names))}")


def is_ort_format(graph: Path | bytes) -> bool:
    """Whether a graph is in ONNX Runtime's own format; a file that can't be read is not."""
    if isinstance(graph, bytes):
        return graph[4:8] == ORT_FORMAT
    try:
        with graph.open("rb") as stream:
            return stream.read(8)[4:] == ORT_FORMAT
    except OSError:
        return False


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


def graph_identity(graph: str, output: Output) -> str:
    """What a fingerprint says of a graph: the graph's own, and which output if not the features."""
    return graph if output == "features" else f"{graph} {output}"


def engine_fingerprint(
    *, engine: str, version: str, device: str, precision: str, graph: str
) -> str:
    """The sha256 of what decides an engine's features, as 64 hexadecimal digits.

    For int8 the precision says what kind of processor it is too (`edgetl.engines.processor`).
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
