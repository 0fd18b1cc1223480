"""Memory of calibration: flat in the number of photos, beside onnxruntime's own calibraters.

Each contestant calibrates mobilenetv2_100 in a fresh process that decodes the photos one after the
other, and tells its peak of resident memory. Ours takes 2,000 photos and keeps a histogram of every
tensor; onnxruntime's calibraters get few photos and stop feeding at a limit, since what they keep
grows with every photo: scalars for min-max, whole activations for percentile and entropy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import ASSETS, Bar, finish, machine, parser

PEERS = ("MinMax", "Percentile", "Entropy")
BATCH = 1
"""Photos of a call, as the export streams them."""


def make_graph(folder: Path) -> dict:
    """Write the float graph, prepared for calibration, and what the children need to know."""
    import onnx

    from edgetl.backbones import load_backbone
    from edgetl.decode import read_image
    from edgetl.exporter.graph import feature_graph
    from edgetl.exporter.prepare import prepare

    network = load_backbone("mobilenetv2_100", ASSETS / "weights" / "mobilenetv2_100.safetensors")
    preprocess = network.preprocess
    first = preprocess.apply(read_image(photos_of(1)[0], preprocess=preprocess))
    found = feature_graph(network, probe=first[None], cache_dir=folder)
    onnx.save(prepare(onnx.load(found.path)), folder / "prepared.onnx")
    return {"graph": str(folder / "prepared.onnx"), "preprocess": preprocess.to_json()}


def photos_of(count: int) -> list[Path]:
    """The first photos of the assets' unlabelled ones.

    Raises:
        SystemExit: There are fewer.
    """
    paths = sorted((ASSETS / "data" / "unlabelled_photos").rglob("*.jpg"))[:count]
    if len(paths) < count:
        raise SystemExit(f"{ASSETS} has {len(paths)} unlabelled photos, {count} are needed")
    return paths


class Reader:
    """Feeds preprocessed photos one by one until the count or the memory limit is reached."""

    def __init__(self, preprocess: dict, name: str, count: int, limit_mb: float) -> None:
        from edgetl.preprocess import Preprocess

        self._preprocess = Preprocess.from_json(preprocess)
        self._paths = iter(photos_of(count))
        self._name = name
        self._limit = limit_mb
        self.fed = 0

    def next_photo(self):
        """One photo as a (1, ...) batch, or None at the end."""
        from edgetl.decode import read_image

        path = next(self._paths, None)
        if path is None or resident_mb() > self._limit:
            return None
        self.fed += 1
        return self._preprocess.apply(read_image(path, preprocess=self._preprocess))[None]

    def get_next(self):
        """The same as onnxruntime's calibraters want it."""
        photo = self.next_photo()
        return None if photo is None else {self._name: photo}


def resident_mb() -> float:
    """Resident memory of this process; 0 where the system does not tell."""
    from edgetl.exporter.bench_memory import process_memory

    return (process_memory().resident or 0) / 1e6


def batches_of(reader: Reader):
    """Photos in batches."""
    import numpy as np

    while True:
        batch = [
            photo for photo in (reader.next_photo() for _ in range(BATCH)) if photo is not None
        ]
        if not batch:
            return
        yield np.concatenate(batch)


def calibrate_here(how: str, facts: dict, count: int, limit_mb: float) -> None:
    """What a child does: calibrate, and print its peak."""
    import onnx

    from edgetl.exporter.bench_memory import process_memory

    model = onnx.load(facts["graph"])
    reader = Reader(facts["preprocess"], model.graph.input[0].name, count, limit_mb)
    if how == "edgetl":
        from edgetl.exporter.calibrate import calibrate
        from edgetl.exporter.histogram import METHODS

        before, start = resident_mb(), time.perf_counter()
        calibration = calibrate(model, batches_of(reader))
        tensors = {len(calibration.ranges(method)) for method in METHODS}
    else:
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

        before, start = resident_mb(), time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            calibrater = create_calibrator(
                facts["graph"],
                augmented_model_path=str(Path(scratch) / "augmented.onnx"),
                calibrate_method=CalibrationMethod[how],
            )
            calibrater.collect_data(reader)
            tensors = {len(calibrater.compute_data().data)}
    print(
        json.dumps(
            {
                "photos": reader.fed,
                "tensors": max(tensors),
                "before_mb": before,
                "peak_mb": (process_memory().peak or 0) / 1e6,
                "seconds": time.perf_counter() - start,
            }
        )
    )


def in_fresh_process(how: str, facts: dict, count: int, limit_mb: float) -> dict:
    """One contestant's figures, from a process that did nothing else."""
    command = [sys.executable, __file__, "--child", how, json.dumps(facts)]
    command += ["--photos", str(count), "--limit-mb", str(limit_mb)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{how} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def growth(small: dict, large: dict) -> float:
    """MB of peak for each further photo."""
    return (large["peak_mb"] - small["peak_mb"]) / max(1, large["photos"] - small["photos"])


def main() -> int:
    command = parser(__doc__)
    command.add_argument("--photos", type=int, default=2000, help="photos that ours calibrates on")
    command.add_argument("--peer-photos", type=int, default=64, help="photos of the peers at most")
    command.add_argument("--limit-mb", type=float, default=6000, help="peers stop feeding here")
    command.add_argument("--quick", action="store_true", help="few photos: no bars")
    command.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = command.parse_args()
    if arguments.child:
        how, facts = arguments.child[0], json.loads(arguments.child[1])
        calibrate_here(how, facts, arguments.photos, arguments.limit_mb)
        return 0
    photos, peer_photos = arguments.photos, arguments.peer_photos
    if arguments.quick:
        photos, peer_photos = 80, 12
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        facts = make_graph(Path(scratch))
        for how, count in (("edgetl", photos), *((peer, peer_photos) for peer in PEERS)):
            few = in_fresh_process(how, facts, max(4, count // 8), arguments.limit_mb)
            row = in_fresh_process(how, facts, count, arguments.limit_mb)
            row["mb_per_photo"] = growth(few, row)
            row["mb_for_2000"] = row["peak_mb"] + row["mb_per_photo"] * (2000 - row["photos"])
            rows["edgetl" if how == "edgetl" else f"onnxruntime {how}"] = row
            if not arguments.json:
                name = list(rows)[-1]
                print(
                    f"{name:24} {row['photos']:5} photos, {row['tensors']:4} tensors: peak "
                    f"{row['peak_mb']:7.0f} MB ({row['before_mb']:.0f} before), "
                    f"{row['mb_per_photo']:8.3f} MB a photo, so {row['mb_for_2000']:8.0f} MB "
                    f"for 2,000; {row['seconds']:.0f} s",
                    flush=True,
                )
    figures = {"machine": machine("onnxruntime", "onnx", "numpy"), "rows": rows}
    if not arguments.json:
        print(figures["machine"])
    ours = rows["edgetl"]
    bars = [
        Bar(f"peak MB of calibrating on {ours['photos']:,} photos", ours["peak_mb"], "<=", 1500),
        Bar("MB for each further photo", ours["mb_per_photo"], "<=", 0.05),
    ]
    return finish(figures, [] if arguments.quick else bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
