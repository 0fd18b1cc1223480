"""Cold start and memory: what a bundle costs a process that does nothing else.

A fresh interpreter imports what it needs, opens the bundle, makes one prediction, and says what it
holds then. Only the process is cold: the files may be in the system's cache. It knows how to start
and question a process, and nothing about the figures' meaning.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from edgetl.errors import EdgetlError
from edgetl.exporter.bench_memory import Memory
from edgetl.targets import ServingTarget

_ANSWERED = "the first answer is there"
_TIMEOUT = 600.0
"""Seconds after which a start is given up: far longer than any device needs."""

# The parent's paths come first of all, so that the child imports the same edgetl. The first answer
# is announced before anything about memory is imported.
_COMMON = """
import sys
sys.path[:] = {paths!r}
import time
start = time.perf_counter()
"""
_EDGETL = """
import edgetl, numpy
edgetl.load, edgetl.{target}
imported = time.perf_counter()
runtime = edgetl.load({path!r}, target=edgetl.{target}(**{options!r}))
loaded = time.perf_counter()
runtime.predict(numpy.full(({height}, {width}, 3), 128, numpy.uint8))
"""
_BARE = """
import numpy, onnxruntime
imported = time.perf_counter()
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession({path!r}, options, providers={providers!r})
loaded = time.perf_counter()
session.run(None, {{session.get_inputs()[0].name: numpy.zeros({shape!r}, {dtype!r})}})
"""
_REPORT = f"""
done = time.perf_counter()
print({_ANSWERED!r}, flush=True)
sys.stdin.readline()
from edgetl.exporter.bench_memory import process_memory
import json
memory = process_memory()
parts = [imported - start, loaded - imported, done - loaded]
print(json.dumps([*parts, memory.resident, memory.peak]))
"""


@dataclass(frozen=True)
class FreshStart:
    """One fresh process.

    Args:
        seconds: From starting the process to its first answer.
        importing: Seconds of the imports within it.
        loading: Seconds of opening the bundle or the session.
        answering: Seconds of the first prediction or run.
        memory: What the process holds after its first answer.
    """

    seconds: float
    importing: float
    loading: float
    answering: float
    memory: Memory


def start_edgetl(path: Path, target: ServingTarget, *, photo: tuple[int, int]) -> FreshStart:
    """Open a bundle and predict one decoded photo in a fresh process.

    Args:
        path: The bundle's folder.
        target: What runs it.
        photo: Height and width of the photo.

    Raises:
        EdgetlError: The process failed, or gave no answer within 10 minutes.
    """
    return _start(
        _EDGETL.format(
            path=str(path.resolve()),
            target=type(target).__name__,
            options=dataclasses.asdict(target),
            height=photo[0],
            width=photo[1],
        )
    )


def start_bare(
    graph: Path, *, threads: int, providers: list[str], shape: tuple[int, ...], dtype: str
) -> FreshStart:
    """Open a graph with onnxruntime alone and run it once in a fresh process.

    Args:
        graph: The file.
        threads: Threads of a run; 0 for onnxruntime's own choice.
        providers: onnxruntime's names of what may run it.
        shape: Shape of the batch.
        dtype: numpy's name of its type.

    Raises:
        EdgetlError: The process failed, or gave no answer within 10 minutes.
    """
    return _start(
        _BARE.format(
            path=str(graph.resolve()),
            threads=threads,
            providers=providers,
            shape=shape,
            dtype=dtype,
        )
    )


def _start(work: str) -> FreshStart:
    """Run one of the scripts in an empty folder, where nothing can be imported by mistake."""
    paths = [str(Path(entry).resolve()) for entry in sys.path]
    script = _COMMON.format(paths=paths) + work + _REPORT
    with tempfile.TemporaryDirectory(prefix="edgetl-bench-") as empty:
        errors = Path(empty) / "stderr.txt"
        with errors.open("w") as stderr:
            start = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-c", script],
                cwd=empty,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
            seconds, report = _question(process, start)
        if process.returncode != 0 or not report:
            lines = errors.read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"it ended with code {process.returncode}"
            raise EdgetlError(f"the fresh process gave no answer: {reason}")
    importing, loading, answering, resident, peak = json.loads(report)
    return FreshStart(seconds, importing, loading, answering, Memory(resident, peak))


def _question(process: subprocess.Popen[str], start: float) -> tuple[float, str]:
    """Seconds to the process's first answer, and its report; no report if it failed."""
    assert process.stdout is not None  # it was asked for
    timer = threading.Timer(_TIMEOUT, process.kill)
    timer.start()
    try:
        with process:
            for line in iter(process.stdout.readline, ""):
                if line == _ANSWERED + "\n":
                    break
            seconds = time.perf_counter() - start
            report, _ = process.communicate("\n")
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
    return seconds, report.strip()
