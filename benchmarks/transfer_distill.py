"""Does a distilled student keep its teacher's accuracy, and is it faster?

The teacher is mobilenetv2_100 at 224 pixels. The student is tf_mobilenetv3_small_100 at 128
pixels, with its own pretrained weights to begin with; so what is reported as "before" is a network
of the same speed without distillation. It is distilled by `edgetl.distill` on photos without
labels: the training part of flower_photos and every fourth of unlabelled_photos. Then a linear
probe (softmax regression, its strength cross-validated on the training part) of flower_photos tells
what the features are worth; the test part is seen by nothing else. Its figures are those of 250
photos: the interval of the share kept is a paired bootstrap over them.

Speed: the median time of one photo's features through the graph that ships, in ONNX Runtime, the
networks in turns.

Claimed: the student keeps at least 95 % of the teacher's accuracy, at at least twice its speed, and
distillation brought its features nearer to the teacher's on photos that it was not trained on.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import ASSETS, Bar, finish, interleaved, machine, parser

from edgetl import DistillOptions, DistillRecipe, Preprocess, distill
from edgetl._adapt import AdaptOptions
from edgetl._fewshot import task_features
from edgetl._parts import probe_images
from edgetl._paths import cache_dir
from edgetl.backbones import load_backbone
from edgetl.data import load_dataset
from edgetl.data.unlabelled import load_unlabelled
from edgetl.engines import OrtEngine
from edgetl.exporter.graph import feature_graph
from edgetl.features import ExtractOptions
from edgetl.heads import SoftmaxHead

TASK = ASSETS / "data" / "flower_photos"
TEACHER = "mobilenetv2_100"
STUDENT, SIZE = "tf_mobilenetv3_small_100", 128
EVERY = 4
"""Of unlabelled_photos, so that it takes minutes on two cores."""
RECIPE = DistillRecipe(epochs=8, batch_size=32, learning_rate=1e-3)


def weights_of(name: str) -> Path:
    return ASSETS / "weights" / f"{name}.safetensors"


def at_size(name: str, size: int) -> Preprocess:
    """A network's own preprocessing, at another size."""
    own = load_backbone(name, weights_of(name)).preprocess
    resize = round(size * own.resize / own.size)
    return dataclasses.replace(own, size=size, resize=resize)


def probe(name: str, weights: Path, preprocess: Preprocess | None = None) -> np.ndarray:
    """Which of the test photos a linear probe of its features gets right."""
    options = AdaptOptions(preprocess=preprocess, extract=ExtractOptions(strict=True))
    train, test, _ = task_features(TASK, backbone=name, weights=weights, options=options)
    head = SoftmaxHead().fit(train.features, train.targets)
    return head.predict(test.features) == test.targets


def one_photo(name: str, weights: Path):
    """A call that computes one photo's features, through the graph that ships."""
    backbone = load_backbone(name, weights)
    photos = probe_images(load_dataset(TASK).part("train"), backbone.preprocess)
    graph = feature_graph(backbone, probe=photos, cache_dir=cache_dir())
    engine = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
    photo = np.ascontiguousarray(photos[:1])
    return lambda: engine(photo)


def run(arguments: argparse.Namespace) -> tuple[dict, list[Bar]]:
    """Distill, probe, time."""
    quiet = getattr(arguments, "json", False)
    flowers = load_unlabelled(TASK)
    others = load_unlabelled(ASSETS / "data" / "unlabelled_photos")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(getattr(arguments, "keep", None) or Path(folder) / "student.safetensors")
        report = distill(
            [flowers, others.subset(np.arange(0, len(others), EVERY))],
            teachers=(TEACHER, weights_of(TEACHER)),
            student=STUDENT,
            weights=weights_of(STUDENT),
            output=file,
            options=DistillOptions(
                size=SIZE, recipe=RECIPE, extract=ExtractOptions(progress=not quiet)
            ),
        )
        right = {
            f"{TEACHER} at 224, the teacher": probe(TEACHER, weights_of(TEACHER)),
            f"{STUDENT} at {SIZE}, before": probe(
                STUDENT, weights_of(STUDENT), at_size(STUDENT, SIZE)
            ),
            f"{STUDENT} at {SIZE}, distilled": probe(STUDENT, file),
        }
        seconds = interleaved(
            {
                "teacher": one_photo(TEACHER, weights_of(TEACHER)),
                "student": one_photo(STUDENT, file),
            },
            300,
        )
    teacher, before, after = right.values()
    kept = after.mean() / teacher.mean()
    low, high = interval(after, teacher)
    ratio = seconds["teacher"] / seconds["student"]
    (score,) = report.teachers
    figures = {
        "report": report.to_json(),
        "accuracy": {name: float(rows.mean()) for name, rows in right.items()},
        "kept": {"before": float(before.mean() / teacher.mean()), "after": float(kept)},
        "kept_interval": [low, high],
        "milliseconds": {name: 1e3 * value for name, value in seconds.items()},
        "speed": ratio,
    }
    if not quiet:
        print(report, "\n")
        for name, rows in right.items():
            print(f"{name:50}{rows.mean():.3f}  kept {rows.mean() / teacher.mean():.3f}")
        print(f"kept after distillation, 95 %: {low:.3f} to {high:.3f}")
        print(
            f"one photo's features: teacher {1e3 * seconds['teacher']:.2f} ms, "
            f"student {1e3 * seconds['student']:.2f} ms"
        )
    bars = [
        Bar("share of the teacher's accuracy kept", float(kept), ">=", 0.95),
        Bar("speed, as a multiple of the teacher's", ratio, ">=", 2),
        Bar(
            "held-out cosine to the teacher, gained",
            score.cosine_after - score.cosine_before,
            ">=",
            0.0,
        ),
    ]
    return figures, bars


def interval(after: np.ndarray, teacher: np.ndarray) -> tuple[float, float]:
    """95 % of the share kept, over draws of the same test photos for both."""
    rows = np.random.default_rng(0).integers(len(after), size=(10_000, len(after)))
    shares = after[rows].mean(axis=1) / teacher[rows].mean(axis=1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def main() -> int:
    """Run it alone."""
    options = parser(__doc__)
    options.add_argument("--keep", metavar="FILE", help="where to leave the student's weights")
    arguments = options.parse_args()
    figures, bars = run(arguments)
    figures["machine"] = machine("numpy", "torch", "timm", "onnxruntime")
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
