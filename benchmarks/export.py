"""int8 that pays: speed and accuracy of exported graphs beside onnxruntime's and OpenVINO's int8.

For each network one interleaved run, one image a call, the same threads for everybody: fp32
onnxruntime, the int8 graph that edgetl ships, onnxruntime's default static quantization with u8 and
s8 activations, OpenVINO fp32, and OpenVINO with NNCF int8. All int8 graphs are calibrated on the
same 300 training photos. MobileNetV3-large and ResNet-50 have random weights and batch norm
statistics of real photos, so they say something about latency only, and their int8 graph is what
the export builds, without its gates of accuracy. For the networks with real weights it is what
`edgetl.export` ships; a head is fitted to each contestant's own features, and measured on the test
photos.

``--quick`` shows in a few minutes that the script runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from export_peers import Call, openvino_call, ort_call, ort_static
from measure import ASSETS, Bar, finish, machine, parser
from PIL import Image
from safetensors.torch import save_file

import edgetl
from edgetl.backbones import load_backbone
from edgetl.engines import available_cores
from edgetl.errors import EdgetlError
from edgetl.exporter.artefact import (
    GraphOptions,
    Sources,
    build_float,
    build_for_onnxruntime,
    read_batch,
)
from edgetl.exporter.graph import feature_graph
from edgetl.exporter.samples import spread
from edgetl.exporter.search import SearchOptions, Verdict
from edgetl.exporter.timing import interleaved, ratio
from edgetl.heads import select_head

FP32, OURS = "onnxruntime fp32", "edgetl int8"
FLOWERS = ASSETS / "data" / "flower_photos"


@dataclass(frozen=True)
class Network:
    """What is measured, with the bars it must reach."""

    name: str
    weights: str | None  # a file of the assets; random if None
    speedup: float | None = None
    drop: float | None = None  # percentage points of accuracy after the refit


@dataclass(frozen=True)
class Case:
    """A network as it lies on the disk.

    Args:
        network: Which one.
        weights: Their file.
        graph: The float feature graph.
        dim: Number of features.
        preprocess: How photos become its input.
    """

    network: Network
    weights: Path
    graph: Path
    dim: int
    preprocess: edgetl.Preprocess


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
        train, test = edgetl.load_dataset(FLOWERS).split()
        order = spread(train.targets, 32 if quick else 300, seed=0)  # as the export chooses them
        self.calibration_sources = [train.sources[i] for i in order.tolist()]
        self.calibration = read_batch(self.calibration_sources, preprocess)
        self.train = read_batch(train.sources[::step], preprocess)
        self.test = read_batch(test.sources[::step], preprocess)
        self.train_targets, self.test_targets = train.targets[::step], test.targets[::step]


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
    paths = sorted((FLOWERS / "train").glob("*/*.jpg"))[::12]
    batch = torch.stack([preset(Image.open(path).convert("RGB")) for path in paths])
    model.train()
    with torch.no_grad():
        for part in batch.split(32):
            model(part)
    save_file(model.state_dict(), folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def edgetl_int8(case: Case, photos: Photos, arguments: argparse.Namespace) -> tuple[Path, str]:
    """The int8 graph that edgetl ships, and why that one.

    Raises:
        EdgetlError: There is none that passes all gates, or pays.
    """
    target = edgetl.OnnxRuntime(precision="int8", threads=arguments.threads)
    options = GraphOptions(
        calibration_images=len(photos.calibration),
        search=SearchOptions(rounds=0) if arguments.quick else SearchOptions(),
    )
    if case.network.drop is not None:
        bundle = edgetl.adapt(
            FLOWERS,
            backbone=case.network.name,
            weights=case.weights,
            output=case.graph.with_suffix(".edgetl"),
        )
        shipped = edgetl.export(bundle, target, options=edgetl.ExportOptions(graph=options))
        return shipped.graph_path, told(shipped.manifest.export.search)
    sources = Sources(
        calibration=photos.calibration_sources, compared=photos.calibration_sources[:32]
    )
    twin = build_float(
        case.graph.read_bytes(),
        case.preprocess,
        options=options,
        dim=case.dim,
        compared=sources.compared,
    )
    accept = Verdict(accepted=True, accuracy=None, reason="accuracy is not looked at")
    built = build_for_onnxruntime(
        twin, target, sources=sources, judge=lambda twin: lambda graph: accept, options=options
    )
    path = case.graph.with_suffix(".edgetl.onnx")
    path.write_bytes(built.model.SerializeToString())
    return path, told(built.search)


def told(search: dict) -> str:
    """What a search chose, and why, in one line."""
    chosen = search["chosen"]
    words = [chosen["activations"] + chosen["weights"], chosen["operators"], chosen["method"]]
    words.append(f"{len(chosen['keep_float'])} nodes in float")
    return f"{', '.join(words)}, of {len(search['candidates'])} candidates; {search['reason']}"


def contestants(
    case: Case, photos: Photos, arguments: argparse.Namespace
) -> tuple[dict[str, Call], dict[str, str]]:
    """Everybody who can be called here, and notes on how they were made or why they are not here.

    A contestant whose package is absent, or whose quantizer fails, is named as missing.
    """
    graph, threads, folder = case.graph, arguments.threads, case.graph.parent
    notes: dict[str, str] = {}

    def ours() -> Call:
        path, notes[OURS] = edgetl_int8(case, photos, arguments)
        return ort_call(path, threads)

    def static(kind: str) -> Call:
        return ort_call(ort_static(graph, photos.calibration, folder, kind), threads)

    makers = {
        FP32: lambda: ort_call(graph, threads),
        OURS: ours,
        "onnxruntime static u8": lambda: static("u8"),
        "onnxruntime static s8": lambda: static("s8"),
        "openvino fp32": lambda: openvino_call(graph, threads),
        "openvino nncf int8": lambda: openvino_call(graph, threads, photos.calibration),
    }
    calls: dict[str, Call] = {}
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            calls[name] = make()
        except (EdgetlError, ImportError, RuntimeError, ValueError) as error:
            notes[name] = f"not here: {error}"
        say(f"  {name}: {time.perf_counter() - start:.0f} s")
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


def measure(key: str, arguments: argparse.Namespace, folder: Path) -> dict:
    """Everything about one network, as plain values."""
    say(f"{key}:")
    network = NETWORKS[key]
    if network.weights is None:
        weights = random_weights(key, folder)
    else:
        weights = ASSETS / "weights" / f"{network.weights}.safetensors"
    backbone = load_backbone(network.name, weights)
    photos = Photos(backbone.preprocess, quick=arguments.quick)
    found = feature_graph(backbone, probe=photos.train[:8], cache_dir=folder)
    graph = folder / f"{key}.onnx"
    graph.write_bytes(found.path.read_bytes())
    case = Case(network, weights, graph, found.dim, backbone.preprocess)

    calls, notes = contestants(case, photos, arguments)
    image = photos.calibration[:1]
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


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    command = parser(__doc__)
    command.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    command.add_argument("--threads", type=int, default=available_cores())
    command.add_argument("--keep", type=Path, help="a folder for the graphs; else thrown away")
    command.add_argument("--quick", action="store_true", help="few photos and calls; no bars")
    arguments = command.parse_args()
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # of its import alone
    results, bars = {}, []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["EDGETL_CACHE_DIR"] = str(Path(scratch) / "cache")
        for key in arguments.networks:
            results[key] = measure(key, arguments, folder)
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
