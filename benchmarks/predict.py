"""The device runtime: cold start, resident memory, and what a call costs over the bare engine.

The peer decodes the same JPEG and runs a bare onnxruntime session with its default options on a
tensor made ready before. Contestants take turns in blocks of calls with a pause between them: the
threads of a session spin for a while after a call, and would slow down whoever comes next.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from measure import ASSETS, Bar, finish, machine, parser

import edgetl
from edgetl.decode import read_image

COLD = """
import json, sys
import edgetl
answer = edgetl.load(sys.argv[1]).predict(sys.argv[2])
print(json.dumps({"label": answer.label}), flush=True)
sys.stdin.readline()
status = open("/proc/self/status").read()
resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
heavy = [n for n in ("torch", "timm", "onnx", "sklearn", "lance", "pyarrow") if n in sys.modules]
print(json.dumps({"resident_mb": resident, "peak_mb": peak, "heavy": heavy}))
"""


def cold_start(bundle: Path, photo: Path) -> tuple[float, dict]:
    """Seconds from starting the process to its first answer, and what it holds then."""
    command = [sys.executable, "-c", COLD, str(bundle), str(photo)]
    with tempfile.TemporaryDirectory() as empty:
        start = time.perf_counter()
        with subprocess.Popen(
            command, cwd=empty, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            process.stdout.readline()
            seconds = time.perf_counter() - start
            rest, _ = process.communicate("\n")
    return seconds, json.loads(rest)


def adapt(photos: Path, output: Path) -> None:
    """Make the bundle in another process: this one is to be as light as a device's."""
    command = [sys.executable, "-m", "edgetl", "adapt", str(photos), "-o", str(output), "--quiet"]
    command += ["--backbone", "mobilenetv2_100"]
    command += ["--weights", str(ASSETS / "weights" / "mobilenetv2_100.safetensors")]
    subprocess.run(command, cwd=output.parent, stdout=subprocess.DEVNULL, check=True)


def in_blocks(contestants: dict, *, rounds: int = 5, calls: int = 8) -> dict[str, float]:
    """Median seconds of each contestant, in blocks that take turns; two calls of each warm up."""
    seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            time.sleep(0.02)
            call()
            call()
            for _ in range(calls):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> int:
    arguments = parser(__doc__).parse_args()
    flowers = ASSETS / "data" / "flower_photos"
    photos = sorted((flowers / "test").glob("*/*.jpg"))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "flowers.edgetl"
        adapt(flowers, path)
        starts = [cold_start(path, photos[i]) for i in range(11)]
        runtime = edgetl.load(path)
        session = onnxruntime.InferenceSession(
            path / "backbone.onnx", providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        images = [photo.read_bytes() for photo in photos[:: len(photos) // 25]]
        preprocess = runtime.bundle.preprocess
        decode, bare, call = [], [], []
        for data in images:
            tensor = preprocess.apply(read_image(data, preprocess=preprocess))[None]

            def peer(data=data, tensor=tensor):
                read_image(data, preprocess=preprocess)
                session.run(None, {name: tensor})

            seconds = in_blocks(
                {
                    "decode": lambda data=data: read_image(data, preprocess=preprocess),
                    "bare": peer,
                    "call": lambda data=data: runtime.predict(data),
                }
            )
            decode.append(seconds["decode"])
            bare.append(seconds["bare"])
            call.append(seconds["call"])
    overhead = statistics.median(c / b - 1 for c, b in zip(call, bare, strict=True))
    figures = {
        "machine": machine("onnxruntime", "numpy"),
        "cold_start_s": statistics.median(seconds for seconds, _ in starts),
        "resident_mb": statistics.median(memory["resident_mb"] for _, memory in starts),
        "peak_mb": statistics.median(memory["peak_mb"] for _, memory in starts),
        "heavy_modules": starts[0][1]["heavy"],
        "decode_ms": 1e3 * float(np.median(decode)),
        "decode_and_bare_session_ms": 1e3 * float(np.median(bare)),
        "predict_ms": 1e3 * float(np.median(call)),
        "overhead": overhead,
    }
    if not arguments.json:
        for key, value in figures.items():
            print(f"{key:26} {value:.4g}" if isinstance(value, float) else f"{key:26} {value}")
    bars = [
        Bar("process start to first prediction, seconds", figures["cold_start_s"], "<=", 0.6),
        Bar("resident memory, MB", figures["resident_mb"], "<=", 170),
        Bar("heavy modules imported", len(figures["heavy_modules"]), "<=", 0),
        Bar("overhead of a call over bare session plus decode", overhead, "<=", 0.05),
    ]
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
