"""The part of `device.py` about one camera frame: what edgetl adds, and how threads wait."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from device_bundles import NETWORKS
from measure import Bar

import edgetl
from edgetl.runtime import Runtime

FRAME = (480, 640, 3)
PAIRS = 400
FRAMES_PER_SECOND = 30


def frame() -> np.ndarray:
    """A frame as a camera gives it; its content does not matter."""
    return np.random.default_rng(0).integers(0, 256, FRAME, dtype=np.uint8)


def compare_predict(folder: Path) -> tuple[dict, list[Bar]]:
    """Microseconds that a prediction takes beyond its parts called one after the other.

    The parts are preprocessing into a tensor that is there, `run` of the very session that the
    runtime has, and the answer: head, novelty and drift, which `novelty.py` measures. Each pair is
    in one order or the other, and the difference of the two is taken before the median; it is of
    processor time of the calling thread, which others on the machine disturb less. With two threads
    that has waiting in it, and is shown only.
    """
    figures: dict = {"overhead": {}}
    bars = []
    for name in NETWORKS:
        for precision in ("fp32", "int8"):
            for threads in (1, 2):
                path = folder / f"{name}-{precision}.edgetl"
                found = pairs(edgetl.load(path, threads=threads, warmup=True))
                what = f"{name} {precision}, {threads} threads"
                figures["overhead"][what] = found
                sys.stderr.write(f"predict: {what} {found}\n")
                if threads == 1:
                    bar = Bar(f"{what}: overhead per frame, us", found["overhead_us"], "<=", 60)
                    bars.append(bar)
    figures["settings"], more = compare_settings(folder)
    return figures, bars + more


def pairs(runtime: Runtime) -> dict[str, float]:
    """Medians of a prediction, of its parts, and of what is between them."""
    image, preprocess, task = frame(), runtime.bundle.preprocess, runtime.task()
    tensor = np.empty((1, *preprocess.shape), preprocess.array_type)
    session = runtime.engine._session
    images, output = session.get_inputs()[0].name, session.get_outputs()[0].name

    def parts() -> None:
        preprocess.apply(image, out=tensor[0])
        task.answer(session.run([output], {images: tensor})[0])

    contestants: list[Callable[[], object]] = [parts, lambda: runtime.predict(image)]
    seconds: list[list[float]] = [[], []]
    processor: list[list[float]] = [[], []]
    for number in range(PAIRS):
        for which in (0, 1) if number % 2 else (1, 0):
            start, before = time.perf_counter(), time.thread_time()
            contestants[which]()
            processor[which].append(time.thread_time() - before)
            seconds[which].append(time.perf_counter() - start)
    return {
        "parts_ms": 1e3 * statistics.median(seconds[0]),
        "predict_ms": 1e3 * statistics.median(seconds[1]),
        "overhead_us": 1e6 * float(np.median(np.subtract(processor[1], processor[0]))),
    }


def compare_settings(folder: Path) -> tuple[dict, list[Bar]]:
    """The threads' settings against onnxruntime's own, as fast as possible and at 30 per second.

    Processor time is what matters for a battery: by default the threads of a session spin on after
    a call, until the next one comes. Sessions take turns with a pause between them.
    """
    figures, bars = {}, []
    for name in NETWORKS:
        for precision in ("fp32", "int8"):
            path = folder / f"{name}-{precision}.edgetl"
            ours = edgetl.load(path, threads=2, warmup=True)
            lane = ours.extractor._one._idle[0]
            graph = path / ours.bundle.manifest.graph
            session = default_session(graph, threads=2)
            images = session.get_inputs()[0].name
            tensor = lane.batch.copy()
            calls = {
                "edgetl": lane.run,
                "default": lambda s=session, i=images, t=tensor: s.run(None, {i: t}),
            }
            found = {}
            for mode, pause in (("back to back", 0.0), ("30 per second", 1 / FRAMES_PER_SECOND)):
                found[mode] = blocks(calls, pause=pause)
            what = f"{name} {precision}"
            figures[what] = found
            sys.stderr.write(f"settings: {what} {found}\n")
            slower = found["back to back"]["edgetl"]["ms"] / found["back to back"]["default"]["ms"]
            spent = found["30 per second"]
            less = spent["default"]["processor_ms"] / spent["edgetl"]["processor_ms"]
            bars += [
                Bar(f"{what}: latency back to back over the default's", slower, "<=", 1.1),
                Bar(f"{what}: times less processor time at 30 per second", less, ">=", 2),
            ]
    return figures, bars


def default_session(graph: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """Onnxruntime's own settings, with as many threads as ours has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def blocks(
    calls: dict[str, Callable[[], object]], *, pause: float, rounds: int = 12
) -> dict[str, dict[str, float]]:
    """Median latency and mean processor time of a call, in blocks that take turns."""
    count = 4 if pause else 10
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    processor = dict.fromkeys(calls, 0.0)
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(0.03)  # until the threads of the one before have stopped spinning
            call()
            call()
            before = time.process_time()
            for _ in range(count):
                start = time.perf_counter()
                call()
                took = time.perf_counter() - start
                seconds[name].append(took)
                if pause:
                    time.sleep(max(0.0, pause - took))
            processor[name] += time.process_time() - before
    return {
        name: {
            "ms": 1e3 * statistics.median(values),
            "processor_ms": 1e3 * processor[name] / len(values),
        }
        for name, values in seconds.items()
    }
