"""Features for `novelty.py`: photos that a head knows, and photos of quite other things.

Three backbones; two data sets that are known in turn; and as unknown the other data set, photos of
other objects, photos and sketches of six classes, and small pictures (CIFAR-10). Of the flowers'
test photos there are darkened, blurred and noisy versions too, as a camera may come to deliver.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import ASSETS
from PIL import Image, ImageFilter

from edgetl.backbone import Backbone
from edgetl.backbones import load_backbone
from edgetl.data import load_dataset
from edgetl.decode import read_image
from edgetl.engines import OrtEngine
from edgetl.exporter.graph import feature_graph
from edgetl.features import ExtractOptions, extract
from edgetl.preprocess import Preprocess

DATA, WEIGHTS = ASSETS / "data", ASSETS / "weights"
KNOWN = ("flower_photos", "caltech101_20")
CHANGES = ("darkened", "blurred", "noisy")
_UNLABELLED, _SMALL = 1000, 400

Features = dict[str, np.ndarray]


def shufflenet() -> Backbone:
    """ShuffleNet without its last convolution: 192 features."""
    import torch
    import torchvision
    from safetensors.torch import load_file

    from edgetl.backbones.module import ModuleBackbone

    module = torchvision.models.shufflenet_v2_x0_5(weights=None)
    module.conv5, module.fc = torch.nn.Identity(), torch.nn.Identity()
    module.load_state_dict(load_file(WEIGHTS / "shufflenet_v2_x0_5_features.safetensors"))
    return ModuleBackbone(
        "shufflenet_v2_x0_5 without conv5",
        architecture="torchvision/shufflenet_v2_x0_5 without conv5",
        module=module.eval(),
        preprocess=Preprocess(size=224, resize=256, mean=(0, 0, 0), std=(1, 1, 1)),
    )


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "mobilenetv2_100": lambda: load_backbone(
        "mobilenetv2_100", WEIGHTS / "mobilenetv2_100.safetensors"
    ),
    "squeezenet1_1": lambda: load_backbone(
        "torchvision/squeezenet1_1", WEIGHTS / "squeezenet1_1.safetensors"
    ),
    "shufflenet": shufflenet,
}


def samples() -> tuple[dict[str, list], dict[str, np.ndarray]]:
    """Photos by the name of their set, and the classes of those that have any."""
    sources: dict[str, list] = {}
    classes: dict[str, np.ndarray] = {}
    for name in KNOWN:
        for part, samples in zip(("train", "test"), load_dataset(DATA / name).split(), strict=True):
            sources[f"{name}/{part}"] = list(samples.sources)
            classes[f"{name}/{part}"] = samples.targets
    rng = np.random.default_rng(0)
    others = sorted((DATA / "unlabelled_photos").iterdir())
    chosen = np.sort(rng.permutation(len(others))[:_UNLABELLED])
    sources["unlabelled_photos"] = [others[index] for index in chosen]
    for domain in ("photo", "sketch"):
        sources[f"photo_sketch/{domain}"] = sorted((DATA / "photo_sketch" / domain).rglob("*.*"))
    with np.load(DATA / "cifar10_small/cifar10_small.npz") as arrays:
        sources["cifar10_small"] = list(arrays["x_test"][:_SMALL])
    for change in CHANGES:
        sources[change] = [
            changed(change, np.asarray(Image.open(photo).convert("RGB")), rng)
            for photo in sources["flower_photos/test"]
        ]
    return sources, classes


def changed(change: str, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo as a camera in trouble would have taken it."""
    if change == "darkened":
        return (image * 0.25).astype(np.uint8)
    if change == "blurred":
        radius = min(image.shape[:2]) / 64
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    return np.clip(image + rng.normal(0, 40, image.shape), 0, 255).astype(np.uint8)


def features_of(name: str, sources: dict[str, list], cache: Path | None) -> Features:
    """The features of every set by one backbone; from `cache` where they were computed before."""
    file = None if cache is None else cache / f"novelty-{name}.npz"
    if file is not None and file.is_file():
        with np.load(file) as arrays:
            return dict(arrays)
    sys.stderr.write(f"extracting features of {sum(map(len, sources.values()))} photos: {name}\n")
    backbone = BACKBONES[name]()
    photos = sources["flower_photos/train"][:8]
    probe = [read_image(photo, preprocess=backbone.preprocess) for photo in photos]
    with tempfile.TemporaryDirectory() as folder:
        graph = feature_graph(
            backbone,
            probe=np.stack([backbone.preprocess.apply(image) for image in probe]),
            cache_dir=Path(folder),
        )
        engine = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
        found = {
            part: extract(
                some,
                names=[f"{part} {number}" for number in range(len(some))],
                engine=engine,
                preprocess=backbone.preprocess,
                store=None,
                options=ExtractOptions(strict=True),
            ).features
            for part, some in sources.items()
        }
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **found)
    return found
