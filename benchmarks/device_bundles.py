"""Makes the bundles that `device.py` measures, in a process of its own: a device has no torch.

    python device_bundles.py FOLDER NAME...

writes the bundles that NAME asks for into FOLDER, and beside them the photos that are learned
later: no bundle was fitted to those, or measured on them.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from measure import ASSETS

import edgetl
from edgetl.heads import HEADS

NETWORKS = {"mobilenetv2_100": "mobilenetv2_100", "squeezenet1_1": "torchvision/squeezenet1_1"}
CALTECH = ASSETS / "data" / "caltech101_20"
FLOWERS = ASSETS / "data" / "flower_photos"
CLASSES = 10
FITTED = 20
"""Photos per class that a head of ten classes is fitted to; it learns ten more of each later."""


def classes(data: Path) -> list[str]:
    """The class folders of a data set."""
    return sorted(path.name for path in (data / "train").iterdir())


def copy(data: Path, labels: list[str], to: Path, *, first: int) -> None:
    """The first training photos of some classes and all their test photos, as a data set.

    The other training photos go beside it, into ``NAME-later``.
    """
    for label in labels:
        photos = sorted((data / "train" / label).iterdir())
        tests = sorted((data / "test" / label).iterdir())
        parts = {to / "train": photos[:first], to / "test": tests}
        for part, chosen in {**parts, to.with_name(f"{to.name}-later"): photos[first:]}.items():
            (part / label).mkdir(parents=True, exist_ok=True)
            for photo in chosen:
                shutil.copy(photo, part / label)


def fit(name: str, data: Path, head: str, output: Path) -> edgetl.Bundle:
    """A bundle of one of the networks."""
    weights = ASSETS / "weights" / f"{name}.safetensors"
    return edgetl.adapt(data, backbone=NETWORKS[name], weights=weights, head=head, output=output)


def learn(folder: Path) -> None:
    """Heads of every kind that know ten classes, on 1,280 features."""
    photos = folder / "ten"
    copy(CALTECH, classes(CALTECH)[:CLASSES], photos, first=FITTED)
    for kind in HEADS:
        fit("mobilenetv2_100", photos, kind, folder / f"ten-{kind}.edgetl")


def order(folder: Path) -> None:
    """A softmax head that knows two of the five flowers, from ten photos of each."""
    photos = folder / "flowers"
    copy(FLOWERS, classes(FLOWERS)[:2], photos, first=10)
    fit("mobilenetv2_100", photos, "softmax", folder / "flowers-softmax.edgetl")


def files(folder: Path) -> None:
    """Heads of every kind that know two other classes, on the smaller network."""
    photos = folder / "two"
    copy(CALTECH, classes(CALTECH)[CLASSES : CLASSES + 2], photos, first=FITTED)
    for kind in HEADS:
        fit("squeezenet1_1", photos, kind, folder / f"two-{kind}.edgetl")


def predict(folder: Path) -> None:
    """Both networks as they are, and in int8 with camera bytes as their input."""
    search = edgetl.SearchOptions(rounds=0, allow_slower=True)
    graph = edgetl.GraphOptions(input="uint8", search=search)
    for name in NETWORKS:
        edgetl.export(
            fit(name, FLOWERS, "auto", folder / f"{name}-fp32.edgetl"),
            edgetl.OnnxRuntime(precision="int8"),
            max_drop=5,
            output=folder / f"{name}-int8.edgetl",
            options=edgetl.ExportOptions(graph=graph),
        )


MAKERS = {"learn": learn, "order": order, "files": files, "predict": predict}


if __name__ == "__main__":
    for asked in sys.argv[2:]:
        MAKERS[asked](Path(sys.argv[1]))
