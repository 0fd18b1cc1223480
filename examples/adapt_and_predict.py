"""Adapt a network to a folder of photos, then predict with the result as a device would.

    python examples/adapt_and_predict.py                      # draws photos of parts first
    python examples/adapt_and_predict.py flowers/ --bundle flowers.edgetl
    python examples/adapt_and_predict.py flowers/ --bundle flowers.edgetl --backbone mobilenetv2_100

The first half needs the workstation's packages, `pip install "edgetl[demo]"`, or `edgetl[train]`
for other backbones than edgetl's own; the second half runs with a device's, `edgetl[ort]`.
"""

import argparse
from pathlib import Path

from PIL import Image

import edgetl
from edgetl.demo.parts import CLASSES, part_images

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photos", type=Path, nargs="?", help="class folders, or train/ and test/")
parser.add_argument("--backbone", default="edgetl_nano")
parser.add_argument("--weights", type=Path, help="a local file, in place of the backbone's own")
parser.add_argument("--bundle", type=Path, default=Path("parts.edgetl"))
arguments = parser.parse_args()

photos = arguments.photos
if photos is None:  # a folder for each class
    photos = Path("parts")
    for label in CLASSES:
        (photos / label).mkdir(parents=True, exist_ok=True)
        for number, drawing in enumerate(part_images(label, "train", 60)):
            Image.fromarray(drawing).save(photos / label / f"{number}.png")

# On the workstation: features are cached, so a second run takes a moment.
bundle = edgetl.adapt(
    photos, backbone=arguments.backbone, weights=arguments.weights, output=arguments.bundle
)
print(bundle.evidence)

# On the device: the bundle's folder is all it needs.
runtime = edgetl.load(arguments.bundle)
suffixes = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
photo = next(p for p in sorted(photos.rglob("*")) if p.suffix.lower() in suffixes)
answer = runtime.predict(photo)
print(f"\n{photo}: {answer.label} ({answer.probability:.0%})")
for label, probability in answer.top(3):
    print(f"  {label:<20} {probability:.3f}")
