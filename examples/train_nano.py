"""Train edgetl_nano, the backbone inside the package, from photos and larger networks.

    python examples/train_nano.py ASSETS --output nano.safetensors

ASSETS has `weights/` with the teachers and `data/` with the photos; no label is read and no test
part is seen. caltech101_20 and photo_sketch are left out, to be measured on; the model card
(`edgetl/backbones/nano.md`) says which of their photos have copies among the unlabelled ones. It
took an hour and a quarter on two cores, and goes on where it was when it is called again. To try
it: `--teachers tf_mobilenetv3_small_100 --epochs 1 --views 2`.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import edgetl
from edgetl.backbones.nano import NAME
from edgetl.backbones.nano_training import BranchedNano, untrained_nano
from edgetl.backbones.recorded import read_record, save_recorded
from edgetl.backbones.weights import read_weights
from edgetl.data import load_unlabelled
from edgetl.features.views import ViewOptions
from edgetl.transfer.distill_options import DistillOptions, DistillRecipe

TEACHERS = ("mobilenetv2_100", "tf_mobilenetv3_small_100")
TILES = 3
"""Parts that are cut out of each flower photo, the only large ones, as further photos."""
OPTIONS = DistillOptions(
    seed=0,
    views=6,
    view=ViewOptions(area=(0.2, 1.0), colour=0.4),
    held_out=0.04,
    recipe=DistillRecipe(
        epochs=55,
        batch_size=64,
        learning_rate=2e-3,
        weight_decay=0.03,
        ema=0.999,
        relational=1.0,
        patience=55,
    ),
)


def photos(data: Path) -> list[object]:
    """The training parts of all sets but those that are left out."""
    with np.load(data / "cifar10_small/cifar10_small.npz") as arrays:
        small = list(arrays["x_train"])
    cells = (data / "bccd/ImageSets/Main/trainval.txt").read_text().split()
    return [
        data / "unlabelled_photos",
        data / "flower_photos",
        load_unlabelled(tiles(sorted((data / "flower_photos/train").rglob("*.jpg")))),
        load_unlabelled(small),
        load_unlabelled([data / "bccd/JPEGImages" / f"{name}.jpg" for name in cells]),
        data / "nuclei/train/images",
    ]


def tiles(files: list[Path]) -> list[np.ndarray]:
    """Squares of half the shorter side, at random places."""
    generator = np.random.default_rng(0)
    cut = []
    for file in files:
        with Image.open(file) as opened:
            photo = np.asarray(opened.convert("RGB"))
        side = min(photo.shape[:2]) // 2
        for _ in range(TILES):
            top, left = (int(generator.integers(length - side + 1)) for length in photo.shape[:2])
            cut.append(photo[top : top + side, left : left + side].copy())
    return cut


def fold(trained: Path, output: Path) -> None:
    """Write the plain network in float16, with what the training recorded."""
    network = BranchedNano()
    network.load_state_dict(read_weights(trained))
    plain = network.eval().fold().half()
    record = read_record(trained)
    more = {key: value for key, value in record.items() if key == "edgetl.distill"}
    preprocess = untrained_nano(seed=0).preprocess
    save_recorded(output, plain, name=NAME, preprocess=preprocess, more=more)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assets", type=Path)
    parser.add_argument("--output", type=Path, default=Path("nano.safetensors"))
    parser.add_argument("--teachers", nargs="+", metavar="NAME", default=list(TEACHERS))
    parser.add_argument("--epochs", type=int, default=OPTIONS.recipe.epochs)
    parser.add_argument("--views", type=int, default=OPTIONS.views)
    arguments = parser.parse_args()
    recipe = dataclasses.replace(OPTIONS.recipe, epochs=arguments.epochs)
    options = dataclasses.replace(OPTIONS, views=arguments.views, recipe=recipe)
    weights = arguments.assets / "weights"
    trained = arguments.output.with_name("nano-branched.safetensors")
    if not trained.is_file():
        torch.set_flush_denormal(True)
        report = edgetl.distill(
            photos(arguments.assets / "data"),
            teachers=[(name, weights / f"{name}.safetensors") for name in arguments.teachers],
            student=untrained_nano(seed=options.seed),
            output=trained,
            options=options,
        )
        print(report)
    fold(trained, arguments.output)


if __name__ == "__main__":
    main()
