"""What edgetl_nano's features are worth beside mobilenetv2_100's, how fast they are, and in int8.

Linear probe: softmax regression, its strength cross-validated on the training part, on features of
the graph that ships; both networks see the same photos and the same split. edgetl_nano never saw a
label, a file of a test part, or anything like the sets marked "left out": the sketches of
photo_sketch, and scikit-learn's digits, drawn as images. caltech101_20 and the photos of
photo_sketch were no part of its training either, but are no measure of what is new to it: its
unlabelled photos are the rest of Caltech-101, so of the same classes, and have second copies of
some photos of both. So these are measured without such copies too: photos whose thumbnail, grey and
of 48 x 48 pixels, correlates by more than 0.98 with that of an unlabelled photo. The folders of
photo_sketch have no split: half of each class is tested.

Speed: the median time of one photo's features in ONNX Runtime, the networks in turns. int8: the
bundles that `edgetl.export` gives under its own gates, the head refitted, measured on the same test
photos; the ratio of speed is that of `edgetl.bench`, block by block.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import ASSETS, Bar, finish, interleaved, machine, parser
from PIL import Image

import edgetl
from edgetl._adapt import AdaptOptions
from edgetl.data import load_dataset
from edgetl.data.unlabelled import load_unlabelled
from edgetl.decode import read_image
from edgetl.demo.digits import CLASSES, FURTHER, digit_images
from edgetl.engines import OrtEngine
from edgetl.errors import EdgetlError
from edgetl.exporter.bench import BenchOptions, bench

NANO, PEER = "edgetl_nano", "mobilenetv2_100"
REPEATS = 300
COPY = 0.98
"""Correlation of thumbnails above which two photos are called copies of each other."""


@dataclass(frozen=True)
class Probed:
    """A data set, and the least share of the peer's accuracy that is claimed."""

    data: Callable[[], Any]
    share: float | None = None
    test_fraction: float = 0.2
    left_out: bool = False
    copies: bool = False
    int8: bool = False


def folder(name: str) -> Callable[[], Path]:
    return lambda: ASSETS / "data" / name


def cifar() -> Any:
    """The images of cifar10_small with its own split."""
    with np.load(ASSETS / "data/cifar10_small/cifar10_small.npz") as arrays:
        parts = [
            load_dataset((list(arrays[f"x_{part}"]), arrays["classes"][arrays[f"y_{part}"]]))
            for part in ("train", "test")
        ]
    return parts


def digits() -> Any:
    """scikit-learn's digits, all ten, with the split of the demo."""
    parts = []
    for part in ("train", "test"):
        pairs = [
            (image, label) for label in (*CLASSES, FURTHER) for image in digit_images(label, part)
        ]
        images, labels = zip(*pairs, strict=True)
        parts.append(load_dataset((list(images), list(labels))))
    return parts


SETS = {
    "flower_photos": Probed(folder("flower_photos"), share=0.9, int8=True),
    "cifar10_small": Probed(cifar, share=0.9, int8=True),
    "caltech101_20": Probed(folder("caltech101_20"), share=0.88, copies=True, int8=True),
    "photo_sketch/photo": Probed(
        folder("photo_sketch/photo"), share=0.88, copies=True, test_fraction=0.5
    ),
    "photo_sketch/sketch": Probed(
        folder("photo_sketch/sketch"), share=0.88, test_fraction=0.5, left_out=True
    ),
    "digits": Probed(digits, left_out=True, int8=True),
}


def parts_of(probed: Probed) -> tuple[Any, Any]:
    """Data with its test part inside, and None; or the two parts of what is in memory."""
    data = probed.data()
    return (data[0], data[1]) if isinstance(data, list) else (data, None)


def adapted(backbone: str, probed: Probed, output: Path) -> Any:
    """A bundle with a softmax head, and its evidence."""
    weights = None if backbone == NANO else ASSETS / "weights" / f"{backbone}.safetensors"
    train, test = parts_of(probed)
    return edgetl.adapt(
        train,
        backbone=backbone,
        weights=weights,
        head="softmax",
        test=test,
        output=output,
        options=AdaptOptions(test_fraction=probed.test_fraction),
    )


def shown(evidence: Any) -> str:
    return (
        f"{evidence.accuracy:.3f} [{evidence.accuracy_low:.3f}, {evidence.accuracy_high:.3f}] "
        f"of {evidence.n_test}"
    )


@functools.lru_cache(maxsize=1)
def seen_thumbnails() -> np.ndarray:
    """Those of the unlabelled photos that edgetl_nano learned from."""
    return thumbnails(load_unlabelled(ASSETS / "data/unlabelled_photos").sources)


def thumbnails(sources: Sequence[Any]) -> np.ndarray:
    """Photos as rows (n, 2304) of mean 0 and length 1, so that products are correlations."""
    rows = []
    for source in sources:
        small = (
            Image.fromarray(read_image(source, preprocess=edgetl.Preprocess()))
            .convert("L")
            .resize((48, 48))
        )
        row = np.asarray(small, np.float32).ravel()
        row = row - row.mean()
        rows.append(row / max(np.linalg.norm(row), 1e-6))
    return np.stack(rows)


def without_copies(probed: Probed, bundles: Sequence[Any]) -> tuple[int, list[float]]:
    """How many test photos have no copy among those seen, and each bundle's accuracy on them."""
    _, test = load_dataset(probed.data()).split(test_fraction=probed.test_fraction, seed=0)
    fresh = (thumbnails(test.sources) @ seen_thumbnails().T).max(axis=1) <= COPY
    truth = np.array(test.labels)[test.targets]
    accuracies = []
    for bundle in bundles:
        with edgetl.load(bundle.path) as device:
            right = np.array([answer.label for answer in device.predict(list(test.sources))])
        if round(float((right == truth).mean()), 6) != round(bundle.evidence.accuracy, 6):
            raise RuntimeError("these are not the photos that the bundle was measured on")
        accuracies.append(float((right == truth)[fresh].mean()))
    return int(fresh.sum()), accuracies


def one_photo(bundle: Any) -> Callable[[], object]:
    """A call that computes one photo's features through a bundle's graph."""
    graph = bundle.path / bundle.manifest.graph
    engine = OrtEngine(graph, dim=bundle.manifest.dim, purpose="serve")
    shape = bundle.preprocess.shape
    photo = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return lambda: engine(photo)


def in_int8(bundle: Any, probed: Probed, output: Path) -> dict[str, Any]:
    """Accuracy lost in points and speed gained by the int8 export, or why there is none."""
    train, test = parts_of(probed) if isinstance(probed.data(), list) else (None, None)
    int8 = edgetl.OnnxRuntime(precision="int8")
    try:
        small = edgetl.export(bundle, int8, calibration=train, test=test, output=output)
    except EdgetlError as error:
        return {"refused": str(error).splitlines()[0]}
    options = BenchOptions(calls=2000, seconds=6.0, batches=(), starts=0)
    report = bench(small, against=bundle, options=options)
    engine = next(x for x in report.latency if x.side == "bundle" and x.what == "engine")
    return {
        "accuracy": small.evidence.accuracy,
        "points_lost": 100 * (bundle.evidence.accuracy - small.evidence.accuracy),
        "times_as_fast": engine.vs_against.median,
        "kilobytes": (small.path / small.manifest.graph).stat().st_size / 1e3,
    }


def main() -> int:
    arguments = parser(__doc__).parse_args()
    rows, bars = [], []
    say = (lambda text: None) if arguments.json else (lambda text: print(text, flush=True))
    named = machine("onnxruntime", "numpy")
    say(named)
    with tempfile.TemporaryDirectory() as scratch:
        fastest: dict[str, Any] = {}
        for name, probed in SETS.items():
            place = Path(scratch) / name.replace("/", "-")
            nano = adapted(NANO, probed, place.with_name(f"{place.name}-nano.edgetl"))
            peer = adapted(PEER, probed, place.with_name(f"{place.name}-peer.edgetl"))
            fastest = fastest or {NANO: nano, PEER: peer}
            share = nano.evidence.accuracy / peer.evidence.accuracy
            rows.append(
                {
                    "data": name,
                    "left_out": probed.left_out,
                    **{
                        side: dataclasses.asdict(Figures.of(bundle.evidence))
                        for side, bundle in ((NANO, nano), (PEER, peer))
                    },
                    "share": share,
                }
            )
            mark = "  (left out of training)" if probed.left_out else ""
            say(
                f"{name:20} {NANO} {shown(nano.evidence)}  {PEER} {shown(peer.evidence)}  "
                f"share {share:.3f}{mark}"
            )
            if probed.share:
                bars.append(Bar(f"{name}: share of {PEER}", round(share, 4), ">=", probed.share))
            if probed.copies:
                left, (ours, theirs) = without_copies(probed, (nano, peer))
                rows[-1]["without_copies"] = {NANO: ours, PEER: theirs, "n_test": left}
                say(
                    f"{'':20} without copies of photos that it saw: {NANO} {ours:.3f} of {left}  "
                    f"{PEER} {theirs:.3f}  share {ours / theirs:.3f}"
                )
                what = f"{name} without copies: share of {PEER}"
                bars.append(Bar(what, round(ours / theirs, 4), ">=", probed.share))
            if name == "digits":
                bars.append(Bar("digits: accuracy", nano.evidence.accuracy, ">=", 0.97))
            if probed.int8:
                rows[-1]["int8"] = found = in_int8(
                    nano, probed, place.with_name(f"{place.name}-8.edgetl")
                )
                say(f"{'':20} int8: " + ", ".join(f"{k} {_short(v)}" for k, v in found.items()))
                lost = found.get("points_lost", np.inf)
                bars.append(Bar(f"{name}: points lost in int8", round(lost, 4), "<=", 0.5))
                quick = found.get("times_as_fast", 0.0)
                bars.append(Bar(f"{name}: int8 times as fast as fp32", quick, ">=", 1.0))
        calls = {name: one_photo(bundle) for name, bundle in fastest.items()}
        seconds = interleaved(calls, REPEATS)
    say("one photo's features, ms: " + ", ".join(f"{n} {1e3 * s:.2f}" for n, s in seconds.items()))
    share = seconds[NANO] / seconds[PEER]
    bars.append(Bar(f"latency: share of {PEER} at 224", round(share, 4), "<=", 1 / 3))
    figures = {"machine": named, "rows": rows, "seconds": seconds}
    return finish(figures, bars, as_json=arguments.json)


@dataclass(frozen=True)
class Figures:
    """Accuracy with its Wilson interval."""

    accuracy: float
    low: float
    high: float
    n_test: int

    @classmethod
    def of(cls, evidence: Any) -> Figures:
        """Those of a bundle."""
        return cls(
            evidence.accuracy, evidence.accuracy_low, evidence.accuracy_high, evidence.n_test
        )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
