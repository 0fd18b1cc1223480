"""The measurements of `bench`: latency, throughput, cold start, each for all contenders in turns.

What can't be measured is said in the notes, never left out in silence. It knows runtimes, engines
and onnxruntime; it does not know where a bundle came from.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.bundle import Bundle
from edgetl.engines import Engine, available_cores
from edgetl.errors import EdgetlError, MissingDependencyError
from edgetl.exporter.bench_process import FreshStart, start_bare, start_edgetl
from edgetl.exporter.bench_report import ColdStart, Latency, Side, Subject, Throughput, What
from edgetl.exporter.timing import Ratio, Timing, interleaved, ratio
from edgetl.runtime import Runtime, bundle_engine
from edgetl.targets import OnnxRuntime, ServingTarget, TensorRT

_THROUGHPUT_ROUNDS = 5
_SEVERITY_ERROR = 3  # ONNX Runtime's numbering; its warnings are not what is asked for here
_PRECISIONS = ("int8", "fp16", "bf16")
_GRAPHS = (".onnx", ".ort")


@dataclass(frozen=True, eq=False)
class Contender:
    """A bundle that is measured.

    Args:
        side: The bundle itself, or the one that it is compared with.
        bundle: The bundle, in a folder.
        target: What runs it.
        name: The folder as the report is to call it.
    """

    side: Side
    bundle: Bundle
    target: ServingTarget
    name: str

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return self.graph.parent

    @property
    def graph(self) -> Path:
        """The graph's file."""
        return self.bundle.graph_path

    @property
    def subject(self) -> Subject:
        """What the report says about it."""
        name = self.bundle.manifest.graph
        return Subject(
            side=self.side,
            path=self.name,
            backbone=self.bundle.manifest.backbone,
            graph=name,
            precision=next((part for part in name.split(".") if part in _PRECISIONS), "fp32"),
            graph_bytes=self.graph.stat().st_size,
            bundle_bytes=self.bundle.size,
        )

    @property
    def providers(self) -> list[str]:
        """Names, as onnxruntime has them, of what bare onnxruntime is to run on."""
        cuda = isinstance(self.target, OnnxRuntime) and self.target.provider == "cuda"
        return ["CUDAExecutionProvider"] * cuda + ["CPUExecutionProvider"]

    @property
    def threads(self) -> int:
        """Threads of a call, 0 where the engine's own choice is left to it."""
        return 0 if isinstance(self.target, TensorRT) else self.target.threads

    def tensor(self, photo: NDArray[np.uint8]) -> NDArray[Any]:
        """The photo as the graph's input, a batch of one."""
        return np.ascontiguousarray(self.bundle.preprocess.apply(photo)[None])


def sample_photo(height: int, width: int) -> NDArray[np.uint8]:
    """A photo of this size, (height, width, 3): soft colours under fine noise, always the same."""
    rows, columns = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    soft = np.stack([rows + 0 * columns, 0 * rows + columns, (rows + columns) / 2], axis=2)
    noise = np.random.default_rng(0).uniform(-20, 20, soft.shape)
    return np.clip(20 + 215 * soft + noise, 0, 255).astype(np.uint8)


def measure_latency(
    contenders: Sequence[Contender],
    *,
    photo: tuple[int, int],
    calls: int,
    seconds: float,
    rounds: int,
    notes: list[str],
) -> tuple[Latency, ...]:
    """Time single calls of all contenders in turns; `notes` gets what could not be timed.

    Raises:
        EdgetlError: A bundle's own prediction fails.
    """
    image = sample_photo(*photo)
    contestants: dict[tuple[Side, What], Callable[[], object]] = {}
    for contender in contenders:
        runtime, tensor = (
            Runtime(contender.bundle, target=contender.target),
            contender.tensor(image),
        )
        contestants[contender.side, "predict"] = _call(runtime.predict, image)
        contestants[contender.side, "engine"] = _call(runtime.engine, tensor)
        bare = _bare(contender, tensor)
        if isinstance(bare, str):
            notes.append(bare)
        else:
            contestants[contender.side, "bare"] = bare
    rounds = min(rounds, calls)
    names = {f"{side} {what}": (side, what) for side, what in contestants}
    times = interleaved(
        {name: contestants[key] for name, key in names.items()},
        rounds=rounds,
        calls=-(-calls // rounds),
        seconds=seconds,
    )
    return tuple(
        Latency(
            side=side,
            what=what,
            calls=times[name].calls,
            p50=times[name].percentile(50),
            p90=times[name].percentile(90),
            p99=times[name].percentile(99),
            vs_against=None if side == "against" else _speed(times, name, f"against {what}"),
            vs_bare=None if what == "bare" else _speed(times, name, f"{side} bare"),
        )
        for name, (side, what) in names.items()
    )


def measure_throughput(
    contenders: Sequence[Contender],
    *,
    photo: tuple[int, int],
    batches: Sequence[int],
    seconds: float,
    notes: list[str],
) -> tuple[Throughput, ...]:
    """Time the engines alone by batch size and by threads, one and all, in turns.

    Args:
        contenders: Whose engines.
        photo: Height and width of the photo.
        batches: Images of a call.
        seconds: Timed seconds of each combination.
        notes: Gets which batch sizes an engine refuses.
    """
    image = sample_photo(*photo)
    contestants: dict[str, Callable[[], object]] = {}
    rows: dict[str, tuple[Side, int, int | None]] = {}
    for contender in contenders:
        tensor = contender.tensor(image)
        for threads, engine in _engines(contender):
            for batch in batches:
                call = _call(engine, np.repeat(tensor, batch, axis=0))
                try:
                    call()
                except (EdgetlError, ValueError) as error:
                    notes.append(f"{contender.side}: no batches of {batch}: {error}")
                    continue
                name = f"{contender.side} {batch} {threads}"
                contestants[name], rows[name] = call, (contender.side, batch, threads)
    if not contestants:
        return ()
    times = interleaved(contestants, rounds=_THROUGHPUT_ROUNDS, calls=10_000, seconds=seconds)
    return tuple(
        Throughput(
            side=side,
            batch=batch,
            threads=threads,
            images_per_second=batch / times[name].median,
            vs_against=(
                None if side == "against" else _speed(times, name, f"against {batch} {threads}")
            ),
        )
        for name, (side, batch, threads) in rows.items()
    )


def measure_cold_start(
    contenders: Sequence[Contender], *, photo: tuple[int, int], starts: int, notes: list[str]
) -> tuple[ColdStart, ...]:
    """Start fresh processes of each kind in turns, with and without edgetl.

    Raises:
        EdgetlError: A process with edgetl failed.
    """
    image = sample_photo(*photo)
    found: dict[tuple[Side, What], list[FreshStart]] = {}
    for number in range(starts):
        for contender in contenders:
            start = start_edgetl(contender.path, contender.target, photo=photo)
            found.setdefault((contender.side, "predict"), []).append(start)
            if contender.graph.suffix not in _GRAPHS:
                continue  # the notes say so already
            tensor = contender.tensor(image)
            try:
                start = start_bare(
                    contender.graph,
                    threads=contender.threads,
                    providers=contender.providers,
                    shape=tensor.shape,
                    dtype=tensor.dtype.name,
                )
            except EdgetlError as error:
                if number == 0:
                    notes.append(f"{contender.side}: no cold start of bare onnxruntime: {error}")
            else:
                found.setdefault((contender.side, "bare"), []).append(start)
    return tuple(_summary(side, what, runs) for (side, what), runs in found.items())


def _summary(side: Side, what: What, runs: list[FreshStart]) -> ColdStart:
    """Medians over the starts of one kind."""
    seconds = [run.seconds for run in runs]
    return ColdStart(
        side=side,
        what=what,
        starts=len(runs),
        seconds=statistics.median(seconds),
        low=min(seconds),
        high=max(seconds),
        importing=statistics.median(run.importing for run in runs),
        loading=statistics.median(run.loading for run in runs),
        answering=statistics.median(run.answering for run in runs),
        resident_bytes=_median([run.memory.resident for run in runs]),
        peak_bytes=_median([run.memory.peak for run in runs]),
    )


def _median(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known)) if known else None


def _engines(contender: Contender) -> list[tuple[int | None, Engine]]:
    """The contender's engine with one thread and with all (or those asked for)."""
    target = contender.target
    if isinstance(target, TensorRT):
        return [(None, bundle_engine(contender.bundle, target, purpose="serve"))]
    return [
        (
            threads,
            bundle_engine(
                contender.bundle, dataclasses.replace(target, threads=threads), purpose="serve"
            ),
        )
        for threads in sorted({1, contender.threads or available_cores()})
    ]


def _bare(contender: Contender, tensor: NDArray[Any]) -> Callable[[], object] | str:
    """One run of the graph by onnxruntime alone, or why there is none."""
    reason = f"{contender.side}: not timed with bare onnxruntime: "
    if contender.graph.suffix not in _GRAPHS:
        return f"{reason}{contender.graph.name} is not a graph that it reads"
    try:
        onnxruntime = require("onnxruntime", extra="ort")
    except MissingDependencyError as error:
        return f"{reason}{error}"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SEVERITY_ERROR
    options.intra_op_num_threads = contender.threads
    try:
        session = onnxruntime.InferenceSession(
            str(contender.graph), options, providers=contender.providers
        )
        feed = {session.get_inputs()[0].name: tensor}
        session.run(None, feed)
    except Exception as error:  # its exception classes share no base
        return reason + str(error).strip().partition("\n")[0]
    return lambda: session.run(None, feed)


def _call(function: Callable[[Any], object], argument: Any) -> Callable[[], object]:
    """The call with its argument; a lambda in a loop would take the last one."""
    return lambda: function(argument)


def _speed(times: dict[str, Timing], name: str, other: str) -> Ratio | None:
    """How many times as fast one contestant is as another, if both were timed."""
    return ratio(times[other], times[name]) if other in times else None
