"""Compiling an ONNX graph with TensorRT, and keeping what came of it.

Networks are strongly typed, always: what computes in int8 or float16 is written in the graph, so
one graph compiles alike with TensorRT 10, 11 and TensorRT for RTX. TensorFloat-32 is off, since
float32 would not be float32 with it. It knows nothing about onnx's Python package, and trusts that
the graph is quantized as TensorRT wants it (see `edgetl.exporter.symmetric`).

Exercised with the interface of TensorRT 11.4 over TensorRT for RTX 1.7, ahead of time on a CPU.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edgetl.engines.trt_backend import Backend, EngineStamp, make_stamp
from edgetl.errors import CorruptError, WeightsError
from edgetl.targets import TensorRT

_log = logging.getLogger("edgetl.tensorrt")
_one_at_a_time = threading.Lock()
"""TensorRT has one logger for all builders of a process, whose lines belong to one build."""
_SHOWN = 3  # lines of TensorRT's log in an error


@dataclass(frozen=True)
class BuiltEngine:
    """A compiled engine in the cache.

    Args:
        path: The engine: TensorRT's own bytes, as other tools take them.
        stamp: What it is tied to.
        sha256: Of the file.
        seconds: How long compiling took.
        layers: Layers of the network that was compiled, before TensorRT fused them.
        cached: Whether it was there already.
    """

    path: Path
    stamp: EngineStamp
    sha256: str
    seconds: float
    layers: int
    cached: bool

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def read(self) -> bytes:
        """The engine's bytes.

        Raises:
            CorruptError: The file was changed or is gone.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise CorruptError(f"the engine {self.path} can't be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise CorruptError(f"the engine {self.path} is not what was written; compile it again")
        return content


class _Compiled(NamedTuple):
    content: bytes
    layers: int
    timings: bytes


def build_cached(
    graph: bytes, target: TensorRT, *, backend: Backend, cache_dir: Path
) -> BuiltEngine:
    """Compile a graph, or find the engine in the cache.

    The engine's name is a hash of its stamp: graph, TensorRT's version, device and options. A
    damaged or half-written file is compiled again.

    Args:
        graph: The ONNX file's bytes.
        target: The options.
        backend: What compiles.
        cache_dir: Where the folder ``tensorrt`` is kept.

    Raises:
        CorruptError: The graph is no ONNX file, or not a feature graph.
        WeightsError: TensorRT can't compile the graph.
    """
    folder = cache_dir / "tensorrt"
    stamp = make_stamp(backend, graph=hashlib.sha256(graph).hexdigest(), target=target)
    engine, record = folder / f"{stamp.key}.engine", folder / f"{stamp.key}.json"
    found = _find(engine, record, stamp)
    if found is not None:
        return found

    folder.mkdir(parents=True, exist_ok=True)
    timing = folder / f"timing-{_timing_key(backend)}.bin"
    start = time.perf_counter()
    compiled = _compile(backend, graph, target, _read_if_there(timing))
    seconds = time.perf_counter() - start
    sha256 = hashlib.sha256(compiled.content).hexdigest()
    _write(engine, compiled.content)
    facts = {
        "stamp": stamp.to_json(),
        "sha256": sha256,
        "seconds": seconds,
        "layers": compiled.layers,
    }
    _write(record, json.dumps(facts, indent=2).encode())
    if compiled.timings:
        _write(timing, compiled.timings)
    return BuiltEngine(engine, stamp, sha256, seconds, compiled.layers, cached=False)


def make_logger(backend: Backend) -> Any:
    """TensorRT's logger as Python's ``edgetl.tensorrt``; its list `errors` collects errors."""
    base: Any = backend.module.ILogger
    severity = base.Severity

    class Log(base):  # type: ignore[misc]  # the package is known at run time only
        def __init__(self) -> None:
            base.__init__(self)  # pybind11 wants it called like this
            self.errors: list[str] = []

        def log(self, level: Any, message: str) -> None:
            if level in (severity.ERROR, severity.INTERNAL_ERROR):
                self.errors.append(message.strip())
            _log.debug("%s: %s", level.name, message)

    return Log()


def _compile(backend: Backend, graph: bytes, target: TensorRT, timings: bytes) -> _Compiled:
    module = backend.module
    with _one_at_a_time:
        log = make_logger(backend)
        builder = module.Builder(log)
        network = builder.create_network(_network_flags(module))
        _parse(backend, module.OnnxParser(network, log), graph, log)
        config = builder.create_builder_config()
        config.clear_flag(module.BuilderFlag.TF32)
        if target.workspace is not None:
            config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, target.workspace)
        if target.hardware_compatible:
            config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
        cache = None
        if target.timing_cache:
            cache = config.create_timing_cache(timings)
            # What another version or device wrote is refused; then it begins empty.
            if cache is None or not config.set_timing_cache(cache, False):
                cache = config.create_timing_cache(b"")
                config.set_timing_cache(cache, False)
        else:
            config.set_flag(module.BuilderFlag.DISABLE_TIMING_CACHE)
        _add_profile(builder, network, config, target.max_batch)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise WeightsError(f"{backend} can't compile the graph: {_lines(log.errors)}")
        return _Compiled(
            bytes(plan), network.num_layers, b"" if cache is None else bytes(cache.serialize())
        )


def _network_flags(module: Any) -> int:
    """STRONGLY_TYPED where the version has a choice; TensorRT 11 has none, and keeps the name."""
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(backend: Backend, parser: Any, graph: bytes, log: Any) -> None:
    if parser.parse(graph):
        return
    errors = [parser.get_error(number) for number in range(parser.num_errors)]
    codes = backend.module.ErrorCode
    if any(error.code() == codes.MODEL_DESERIALIZE_FAILED for error in errors) or not errors:
        raise CorruptError(
            f"{backend} can't load the graph of {len(graph)} bytes: it is no valid ONNX file"
        )
    told = []
    for error in errors[:_SHOWN]:
        node = f"{error.node_operator()} {error.node_name()!r}: " if error.node_operator() else ""
        told.append(node + error.desc().strip())
    more = f" ({len(errors) - _SHOWN} more)" if len(errors) > _SHOWN else ""
    raise WeightsError(f"{backend} can't take the graph: {'; '.join(told)}{more}")


def _add_profile(builder: Any, network: Any, config: Any, max_batch: int) -> None:
    """Say which batch lengths a dynamic graph will get: 1 to `max_batch`, the latter mostly."""
    if network.num_inputs != 1:
        raise CorruptError(
            f"not a feature graph: it must have one input, found {network.num_inputs}"
        )
    image = network.get_input(0)
    batch, *rest = tuple(image.shape)
    if any(length < 0 for length in rest):
        raise CorruptError(
            f"the graph's input {image.name} has shape {(batch, *rest)}, and only the batch may "
            "be dynamic (-1) for TensorRT"
        )
    if batch >= 0:
        return
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, (1, *rest), (max_batch, *rest), (max_batch, *rest))
    config.add_optimization_profile(profile)


def _find(engine: Path, record: Path, stamp: EngineStamp) -> BuiltEngine | None:
    try:
        facts = json.loads(record.read_bytes())
        if EngineStamp.from_json(facts["stamp"]) != stamp:
            return None
        found = BuiltEngine(
            engine,
            stamp,
            str(facts["sha256"]),
            float(facts["seconds"]),
            int(facts["layers"]),
            cached=True,
        )
        found.read()
    except (OSError, ValueError, KeyError, TypeError, CorruptError):
        return None
    return found


def _timing_key(backend: Backend) -> str:
    text = "\n".join((backend.name, backend.version, backend.device))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _lines(errors: list[str]) -> str:
    return "; ".join(errors[-_SHOWN:]) or "it does not say why"


def _read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _write(path: Path, content: bytes) -> None:
    """Write a whole file at once, so that nobody ever reads half of it."""
    draft = path.with_name(f".new-{os.getpid()}-{threading.get_ident()}-{path.name}")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
