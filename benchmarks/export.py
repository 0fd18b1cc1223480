"""int8 that pays: speed and accuracy of exported graphs beside onnxruntime's and OpenVINO's int8.

For each network one interleaved run, one image a call, the same threads for everybody: fp32
onnxruntime, the int8 graph that edgetl ships, onnxruntime's default static quantization with u8 and
s8 activations, OpenVINO fp32, and OpenVINO with NNCF int8. All int8 graphs are calibrated on the
same training photos. MobileNetV3-large and ResNet-50 have random weights and batch norm statistics
of real photos, so they say something about latency only. For the networks with real weights a head
is fitted to each contestant's own features, and measured on the test photos.

``--quick`` shows in a few minutes that the script runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from export_peers import Call, openvino_call, ort_call, ort_static
from measure import ASSETS, Bar, finish, machine, parser
from PIL import Image
from safetensors.torch import save_file

import edgetl
from edgetl.backbones import load_backbone
from edgetl.decode import read_image
from edgetl.engines import OrtEngine, available_cores
from edgetl.exporter.calibrate import calibrate
from edgetl.exporter.graph import feature_graph
from edgetl.exporter.prepare import prepare
from edgetl.exporter.search import SearchOptions, Verdict, search_int8
from edgetl.exporter.timing import interleaved, ratio
from edgetl.heads import select_head

FP32, OURS = "onnxruntime fp32", "edgetl int8"
MAX_DROP = 0.005
"""What the exporter may lose of held-out training accuracy, as `edgetl.export` has it."""


@dataclass(frozen=True)
class Network:
    """What is measured, with the bars it must reach."""

    name: str
    weights: str | None  # a file of the assets; random if None
    speedup: float | None = None
    drop: float | None = None  # percentage points of accuracy after the refit


NETWORKS = {
    "mobilenetv2_100": Network("mobilenetv2_100", "mobilenetv2_100", speedup=1.2, drop=0.3),
    "squeezenet1_1": Network("torchvision/squeezenet1_1", "squeezenet1_1", drop=0.3),
    "mobilenet_v3_large": Network("torchvision/mobilenet_v3_large", None, speedup=1.0),
    "resnet50": Network("torchvision/resnet50", None, speedup=2.8),
}


class Photos:
    """The flowers, preprocessed for one network: training and test part."""

    def __init__(self, preprocess, *, quick: bool) -> None:
        step = 8 if quick else 1
        train, test = edgetl.load_dataset(ASSETS / "data" / "flower_photos").split()
        self.train, self.train_targets = self._read(train, preprocess, step)
        self.test, self.test_targets = self._read(test, preprocess, step)

    @staticmethod
    def _read(part, preprocess, step: int) -> tuple[np.ndarray, np.ndarray]:
        photos = [preprocess.apply(read_image(s, preprocess=preprocess)) for s in part.sources]
        return np.stack(photos[::step]), part.targets[::step]

    def calibration(self, count: int) -> np.ndarray:
        """So many training photos, spread over the part and so over the classes."""
        rows = np.linspace(0, len(self.train) - 1, min(count, len(self.train))).round().astype(int)
        return self.train[rows]


def random_weights(name: str, folder: Path) -> Path:
    """Random weights whose batch norm statistics are those of real photos.

    Without them the activations of a deep random network vanish or explode, and so would the time
    of denormal numbers decide.
    """
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over the batches
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    paths = sorted((ASSETS / "data" / "flower_photos" / "train").glob("*/*.jpg"))[::12]
    batch = torch.stack([preset(Image.open(path).convert("RGB")) for path in paths])
    model.train()
    with torch.no_grad():
        for part in batch.split(32):
            model(part)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def edgetl_int8(graph: Path, photos: np.ndarray, dim: int, threads: int, judge) -> tuple[Path, str]:
    """The int8 graph that edgetl ships, and why that one.

    Args:
        graph: The float graph.
        photos: (n, ...) calibration photos.
        dim: Number of features.
        threads: Of the engine that candidates are timed with.
        judge: Whether a candidate is accurate enough.

    Raises:
        RuntimeError: There is none that pays.
    """
    model = prepare(onnx.load(graph))
    calibration = calibrate(model, (photos[i : i + 4] for i in range(0, len(photos), 4)))
    target = edgetl.OnnxRuntime(threads=threads)
    result = search_int8(
        model,
        calibration,
        samples=photos[:16],
        float_graph=graph.read_bytes(),
        open_engine=lambda content: OrtEngine(content, dim=dim, target=target, purpose="serve"),
        judge=judge,
        options=SearchOptions(),
    )
    if result.chosen is None:
        raise RuntimeError(result.reason)
    path = graph.with_name(f"{graph.stem}.edgetl.onnx")
    path.write_bytes(result.chosen.graph)
    return path, f"{result.chosen.config}; {len(result.candidates)} candidates"


def contestants(
    graph: Path, photos: np.ndarray, dim: int, threads: int, judge, say
) -> tuple[dict[str, Call], dict[str, str]]:
    """Everybody who can be called here, and notes on how they were made or why they are not here.

    A contestant whose package is absent, or whose quantizer fails, is named as missing.
    """
    calls: dict[str, Call] = {FP32: ort_call(graph, threads)}
    notes: dict[str, str] = {}

    def ours() -> Call:
        path, notes[OURS] = edgetl_int8(graph, photos, dim, threads, judge)
        return ort_call(path, threads)

    makers = {
        OURS: ours,
        "onnxruntime static u8": lambda: ort_call(
            ort_static(graph, photos, graph.parent, "u8"), threads
        ),
        "onnxruntime static s8": lambda: ort_call(
            ort_static(graph, photos, graph.parent, "s8"), threads
        ),
        "openvino fp32": lambda: openvino_call(graph, threads),
        "openvino nncf int8": lambda: openvino_call(graph, threads, photos),
    }
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            calls[name] = make()
        except (ImportError, RuntimeError, ValueError) as error:
            notes[name] = f"not here: {str(error).strip().splitlines()[0]}"
        say(f"  made {name} in {time.perf_counter() - start:.0f} s  {notes.get(name, '')}")
    return calls, notes


def features_of(call: Call, photos: np.ndarray) -> np.ndarray:
    """(n, dim) features, one photo a call: activations are quantized photo by photo anyway."""
    return np.concatenate([np.array(call(photo[None]), np.float32) for photo in photos])


def accuracies(calls: dict[str, Call], photos: Photos) -> dict[str, dict[str, float]]:
    """Test accuracy with a head refitted to each contestant's features, and with fp32's head."""
    rows: dict[str, dict[str, float]] = {}
    original = None
    for name, call in calls.items():
        train, test = features_of(call, photos.train), features_of(call, photos.test)
        head = select_head(train, photos.train_targets, seed=0).head
        if original is None:  # fp32 comes first
            original = head
        rows[name] = {
            "accuracy": float(np.mean(head.predict(test) == photos.test_targets)),
            "accuracy_without_refit": float(np.mean(original.predict(test) == photos.test_targets)),
        }
    return rows


def held_out_judge(call: Call, photos: Photos):
    """A judge that compares held-out training accuracy with the float graph's."""

    def accuracy(one: Call) -> float:
        selection = select_head(features_of(one, photos.train), photos.train_targets, seed=0)
        return next(row.accuracy for row in selection.candidates if row.chosen)

    wanted = accuracy(call)

    def judge(one: Call) -> Verdict:
        found = accuracy(one)
        return Verdict(
            accepted=found >= wanted - MAX_DROP,
            accuracy=found,
            reason=f"held-out accuracy {found:.4f}, fp32 {wanted:.4f}",
        )

    return judge


def anything(call: Call) -> Verdict:
    """The judge of networks that know nothing."""
    return Verdict(accepted=True, accuracy=math.nan, reason="latency only")


def measure(key: str, network: Network, arguments: argparse.Namespace, folder: Path, say) -> dict:
    """Everything about one network, as plain values."""
    say(f"{key}:")
    if network.weights is None:
        weights = random_weights(key, folder)
    else:
        weights = ASSETS / "weights" / f"{network.weights}.safetensors"
    backbone = load_backbone(network.name, weights)
    photos = Photos(backbone.preprocess, quick=arguments.quick)
    found = feature_graph(backbone, probe=photos.train[:8], cache_dir=folder)
    graph = folder / f"{key}.onnx"
    graph.write_bytes(found.path.read_bytes())

    judge = anything
    if network.drop is not None:
        judge = held_out_judge(ort_call(graph, arguments.threads), photos)
    sample = photos.calibration(32 if arguments.quick else 300)
    calls, notes = contestants(graph, sample, found.dim, arguments.threads, judge, say)
    image = sample[:1]
    times = interleaved(
        {name: (lambda call=call: call(image)) for name, call in calls.items()},
        rounds=3 if arguments.quick else 20,
        calls=10 if arguments.quick else 40,
        seconds=1.0 if arguments.quick else 15.0,
    )
    rows = {
        name: {
            "ms": 1e3 * timing.median,
            "p90_ms": 1e3 * timing.p90,
            "speedup": ratio(times[FP32], timing)._asdict(),
        }
        for name, timing in times.items()
    }
    if network.drop is not None:
        for name, values in accuracies(calls, photos).items():
            rows[name] |= values
    return {"weights": network.weights or "random", "rows": rows, "notes": notes}


def table(result: dict) -> str:
    """One network's rows, aligned."""
    lines = []
    for name, row in result["rows"].items():
        speed = row["speedup"]
        line = f"  {name:24} {row['ms']:8.2f} ms  p90 {row['p90_ms']:8.2f} ms  "
        line += f"{speed['median']:5.2f}x ({speed['low']:.2f}-{speed['high']:.2f})"
        if "accuracy" in row:
            line += (
                f"  accuracy {row['accuracy']:.3f} ({row['accuracy_without_refit']:.3f} with the "
                "fp32 head)"
            )
        lines.append(line)
    return "\n".join(lines + [f"  {name}: {note}" for name, note in result["notes"].items()])


def bars_of(key: str, network: Network, rows: dict) -> list[Bar]:
    """The claims about one network; a graph that is not there misses them."""
    bars = []
    if network.speedup is not None:
        speedup = rows[OURS]["speedup"]["median"] if OURS in rows else 0.0
        bars.append(Bar(f"{key}: int8 speed over fp32", speedup, ">=", network.speedup))
    if network.drop is not None:
        drop = 100.0
        if OURS in rows:
            drop = round(100 * (rows[FP32]["accuracy"] - rows[OURS]["accuracy"]), 6)
        bars.append(Bar(f"{key}: pp of accuracy below fp32", drop, "<=", network.drop))
    return bars


def main() -> int:
    command = parser(__doc__)
    command.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    command.add_argument("--threads", type=int, default=available_cores())
    command.add_argument("--keep", type=Path, help="a folder for the graphs; else thrown away")
    command.add_argument("--quick", action="store_true", help="few photos and calls; no bars")
    arguments = command.parse_args()
    results, bars = {}, []

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for key in arguments.networks:
            results[key] = measure(key, NETWORKS[key], arguments, folder, say)
            bars += bars_of(key, NETWORKS[key], results[key]["rows"])
            if not arguments.json:
                print(
                    f"{key} ({results[key]['weights']} weights)\n{table(results[key])}", flush=True
                )
    packages = ("onnxruntime", "torch", "torchvision", "openvino", "nncf")
    figures = {"machine": describe(packages), "threads": arguments.threads, "networks": results}
    if not arguments.json:
        print(f"{figures['machine']}; {arguments.threads} threads of each")
    return finish(figures, [] if arguments.quick else bars, as_json=arguments.json)


def describe(packages: tuple[str, ...]) -> str:
    """The machine and those of the packages that are installed."""
    import importlib.util

    return machine(*(name for name in packages if importlib.util.find_spec(name)))


if __name__ == "__main__":
    sys.exit(main())
