"""Files to features: extraction against timm + torchvision transforms + DataLoader + eager torch.

Both run in processes of their own, started once and warmed, and take turns. The common way decodes
with Pillow in two DataLoader workers and runs batches of 32. Ours starts from an empty cache each
time; the second pass opens the cache anew and finds the files unchanged. The graph is exported
before, in a third process. The photos of 12 megapixels are made by enlarging. Memory is measured
in untimed passes, as the proportional set size (PSS) of a contestant's processes together, so that
pages which forked DataLoader workers share count once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import ASSETS, Bar, finish, machine, parser
from PIL import Image

LARGE = (4000, 3000)
SECOND_PASSES = 7
TIMES_AS_FAST = {"onnxruntime": 3.5, "openvino": 4.5}  # at least, as the common way
MEMORY_PHOTOS = 256
MEMORY_SECONDS = 0.1  # between two looks


class Common:
    """The common way: timm's model and transforms, a DataLoader with two workers, eager torch."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import timm
        import torch
        from safetensors.torch import load_file
        from timm.data import create_transform, resolve_model_data_config

        self._torch = torch
        model = timm.create_model(arguments.backbone)
        model.load_state_dict(load_file(arguments.weights))
        model.reset_classifier(0)
        self._model = model.eval()
        self._transform = create_transform(**resolve_model_data_config(model), is_training=False)

    def run(self, files: Sequence[Path], task: dict) -> dict:
        """One pass; how long it took."""
        loader = self._torch.utils.data.DataLoader(
            Files(files, self._transform), batch_size=32, num_workers=2
        )
        start = time.perf_counter()
        with self._torch.inference_mode():
            features = self._torch.cat([self._model(batch) for batch in loader]).numpy()
        seconds = time.perf_counter() - start
        np.save(task["features"], features)
        return {"seconds": seconds}


class Files:
    """A Dataset of image files."""

    def __init__(self, files: Sequence[Path], transform: object) -> None:
        self._files = files
        self._transform = transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number: int) -> object:
        with Image.open(self._files[number]) as image:
            return self._transform(image.convert("RGB"))


def export(arguments: argparse.Namespace) -> None:
    """Write the feature graph; say where it is and how photos become its input."""
    from edgetl.backbones import load_backbone
    from edgetl.decode import read_image
    from edgetl.exporter.graph import feature_graph

    backbone = load_backbone(arguments.backbone, arguments.weights)
    preprocess = backbone.preprocess
    probes = sorted((ASSETS / "data" / "flower_photos" / "test").glob("*/*.jpg"))[::50]
    images = [read_image(path, preprocess=preprocess) for path in probes]
    graph = feature_graph(
        backbone,
        probe=np.stack([preprocess.apply(image) for image in images]),
        cache_dir=arguments.scratch,
    )
    (arguments.scratch / "graph.json").write_text(
        json.dumps(
            {
                "path": str(graph.path),
                "dim": graph.dim,
                "fingerprint": graph.fingerprint,
                "preprocess": preprocess.to_json(),
            }
        )
    )


class Ours:
    """edgetl: the exported graph in the engine, its own preprocessing, the feature store."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from edgetl import Preprocess
        from edgetl.engines import open_engine
        from edgetl.targets import OnnxRuntime, OpenVino

        graph = json.loads((arguments.scratch / "graph.json").read_text())
        self._preprocess = Preprocess.from_json(graph["preprocess"])
        self._engine = open_engine(
            OpenVino() if arguments.engine == "openvino" else OnnxRuntime(),
            Path(graph["path"]),
            dim=graph["dim"],
            graph_fingerprint=graph["fingerprint"],
        )

    def run(self, files: Sequence[Path], task: dict) -> dict:
        """One pass; how long it and its stages took."""
        import dataclasses

        from edgetl.features import FeatureStore, extract, feature_key

        preprocess = dataclasses.replace(self._preprocess, decode=task["decode"])
        start = time.perf_counter()
        store = None
        if task["store"]:
            key = feature_key(self._engine, preprocess, dtype="float16")
            store = FeatureStore(Path(task["store"]), key, self._engine.dim)
        result = extract(files, engine=self._engine, preprocess=preprocess, store=store)
        seconds = time.perf_counter() - start
        if store is not None:
            store.close()
        np.save(task["features"], result.features)
        return {
            "seconds": seconds,
            "hits": result.hits,
            "read": result.read_seconds,
            "decode": result.decode_seconds,
            "preprocess": result.preprocess_seconds,
            "engine": result.engine_seconds,
        }


def serve(contestant: Common | Ours) -> None:
    """Obey one task per line of stdin; what others print must not come between the answers."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        task = json.loads(line)
        answer = contestant.run([Path(name) for name in task["files"]], task)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def command(role: str, arguments: argparse.Namespace) -> list[str]:
    """How to start this script in another role."""
    words = [sys.executable, __file__, "--role", role, "--scratch", str(arguments.scratch)]
    words += ["--backbone", arguments.backbone, "--weights", str(arguments.weights)]
    return [*words, "--engine", arguments.engine]


class Worker:
    """A contestant in its own process."""

    def __init__(self, role: str, arguments: argparse.Namespace) -> None:
        self._features = arguments.scratch / f"{role}.npy"
        self._process = subprocess.Popen(
            command(role, arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, files: Sequence[Path], *, decode: str = "full", store: Path | None = None
    ) -> tuple[dict, np.ndarray]:
        """What it measured, and the features."""
        task = {
            "files": [str(file) for file in files],
            "features": str(self._features),
            "decode": decode,
            "store": None if store is None else str(store),
        }
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with code {self._process.wait()}")
        return json.loads(line), np.load(self._features)

    def peak_mb(self, files: Sequence[Path]) -> float | None:
        """Most memory (PSS) of its processes in a pass over `files`; None if it can't be known."""
        looks, ended = [proportional_mb(self._process.pid)], threading.Event()

        def look() -> None:
            while not ended.wait(MEMORY_SECONDS):
                looks.append(proportional_mb(self._process.pid))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            self.run(files)
        finally:
            ended.set()
            watcher.join()
        return max(looks) or None

    def stop(self) -> None:
        """Let it end."""
        self._process.communicate()


def proportional_mb(process: int) -> float:
    """PSS of a process and all it started; 0 for what has ended, or where Linux doesn't say."""
    folder = Path("/proc") / str(process)
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
        lists = [file.read_text() for file in folder.glob("task/*/children")]
    except OSError:
        return 0.0
    own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return own + sum(proportional_mb(int(child)) for text in lists for child in text.split())


def enlarge(photos: Sequence[Path], folder: Path) -> list[Path]:
    """Photos of 12 megapixels, made from small ones."""
    folder.mkdir()
    made = []
    for photo in photos:
        with Image.open(photo) as image:
            size = LARGE if image.width >= image.height else LARGE[::-1]
            large = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        made.append(folder / photo.name)
        large.save(made[-1], quality=90)
    return made


def cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return (left * right).sum(axis=1) / norms


def measure_set(
    ours: Worker, common: Worker, files: Sequence[Path], arguments: argparse.Namespace
) -> dict:
    """Medians over rounds in which every contestant has its turn."""
    root = arguments.scratch / "features"
    rounds: dict[str, list[dict]] = {"common": [], "full": [], "scaled": [], "second": []}
    features: dict[str, np.ndarray] = {}
    for _ in range(arguments.repeats):
        for name in rounds:
            store = root / ("full" if name == "second" else name)
            if name == "common":
                answer, features[name] = common.run(files)
                rounds[name].append(answer)
                continue
            if name != "second":
                shutil.rmtree(root, ignore_errors=True)
                answer, features[name] = ours.run(files, decode=name, store=store)
                rounds[name].append(answer)
            if name == "full":  # while its store is there
                for _ in range(SECOND_PASSES):
                    answer, again = ours.run(files, store=store)
                    if answer["hits"] != len(files) or not np.array_equal(again, features["full"]):
                        raise RuntimeError("the second pass gave other features, or computed them")
                    rounds["second"].append(answer)
    _, exact = ours.run(files)
    seconds = {
        name: statistics.median(answer["seconds"] for answer in answers)
        for name, answers in rounds.items()
    }
    stages = {
        name: {
            stage: statistics.median(answer[stage] for answer in rounds[name])
            for stage in ("read", "decode", "preprocess", "engine")
        }
        for name in ("full", "scaled")
    }
    return {
        "images": len(files),
        "seconds": seconds,
        "images_per_second": {name: len(files) / value for name, value in seconds.items()},
        "ratio": {name: seconds["common"] / seconds[name] for name in ("full", "scaled")},
        "second_pass_ratio": seconds["full"] / seconds["second"],
        "fractions": {
            name: {stage: value / sum(parts.values()) for stage, value in parts.items()}
            for name, parts in stages.items()
        },
        "peak_mb": {
            name: worker.peak_mb(files[:MEMORY_PHOTOS])
            for name, worker in (("ours", ours), ("common", common))
        },
        "cosine": {
            "full to common, lowest": float(cosines(exact, features["common"]).min()),
            "scaled to full, lowest": float(cosines(features["scaled"], exact).min()),
            "scaled to full, median": float(np.median(cosines(features["scaled"], exact))),
            "float16 to float32, lowest": float(cosines(features["full"], exact).min()),
        },
    }


def show(name: str, figures: dict) -> None:
    """One set's figures as text."""
    print(f"{name}: {figures['images']} photos")
    for contestant, seconds in figures["seconds"].items():
        rate = figures["images_per_second"][contestant]
        print(f"  {contestant:<8} {seconds:>9.4f} s  {rate:>9.1f}/s")
    for contestant, parts in figures["fractions"].items():
        text = ", ".join(f"{stage} {fraction:.1%}" for stage, fraction in parts.items())
        print(f"  {contestant:<8} {text}")
    for what, cosine in figures["cosine"].items():
        print(f"  cosine {what}: {cosine:.7f}")
    known = [f"{name} {peak:.0f}" for name, peak in figures["peak_mb"].items() if peak is not None]
    if known:
        print(f"  peak MB (PSS of all processes): {', '.join(known)}")


def main() -> int:
    arguments = parse()
    if arguments.role == "export":
        export(arguments)
        return 0
    if arguments.role:
        serve({"common": Common, "ours": Ours}[arguments.role](arguments))
        return 0
    photos = sorted((ASSETS / "data" / "flower_photos").glob("*/*/*.jpg"))[:: arguments.every]
    with tempfile.TemporaryDirectory() as name:
        arguments.scratch = scratch = Path(name)
        subprocess.run(command("export", arguments), check=True)
        large = enlarge(photos[:: max(1, len(photos) // arguments.large)], scratch / "large")
        ours, common = (Worker(role, arguments) for role in ("ours", "common"))
        for worker in (ours, common):
            worker.run(photos[:32])  # warm
        sets = {
            "flowers": measure_set(ours, common, photos, arguments),
            "12 megapixels": measure_set(ours, common, large, arguments),
        }
        ours.stop()
        common.stop()
    figures = {
        "machine": machine("torch", "timm", "torchvision", "pillow", "simplejpeg", "pylance"),
        "backbone": arguments.backbone,
        "engine": arguments.engine,
        "sets": sets,
    }
    if not arguments.json:
        print(figures["machine"])
        print(
            "full: every photo is decoded in full, as the common way does. scaled: a large JPEG is "
            "decoded at 1/2, 1/4 or 1/8 of its size; the common way still decodes it in full."
        )
        for title, values in sets.items():
            show(title, values)
    flowers, megapixels = sets.values()
    bars = [
        Bar(
            "flowers, times as fast as the common way",
            flowers["ratio"]["full"],
            ">=",
            TIMES_AS_FAST[arguments.engine],
        ),
        Bar("12 megapixels, decoded in full", megapixels["ratio"]["full"], ">=", 5),
        Bar("12 megapixels, scaled (the other in full)", megapixels["ratio"]["scaled"], ">=", 5),
        Bar("second pass over the flowers", flowers["second_pass_ratio"], ">=", 200),
    ]
    for title, values in sets.items():
        cosine = values["cosine"]
        bars += [
            Bar(f"{title}, lowest cosine", cosine["full to common, lowest"], ">=", 0.9999),
            Bar(f"{title}, scaled to full", cosine["scaled to full, lowest"], ">=", 0.999),
        ]
    return finish(figures, bars, as_json=arguments.json)


def parse() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--engine", choices=["onnxruntime", "openvino"], default="onnxruntime")
    options.add_argument("--backbone", default="mobilenetv2_100")
    options.add_argument("--weights", type=Path)
    options.add_argument("--repeats", type=int, default=5, help="rounds")
    options.add_argument("--every", type=int, default=1, help="use every so many-th photo only")
    options.add_argument("--large", type=int, default=48, help="photos of 12 megapixels")
    options.add_argument("--role", help=argparse.SUPPRESS)
    options.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.weights is None:
        arguments.weights = ASSETS / "weights" / f"{arguments.backbone}.safetensors"
    return arguments


if __name__ == "__main__":
    sys.exit(main())
