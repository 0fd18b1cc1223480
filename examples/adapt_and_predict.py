"""Adapt a network to a folder of photos, then predict with the result as a device would.

    python examples/adapt_and_predict.py flowers/ --weights mobilenetv2_100.safetensors

The first half needs the workstation's packages (`pip install "edgetl[train]"`); the second half
runs on a device with `pip install "edgetl[ort]"`.
"""

import argparse
from pathlib import Path

import edgetl

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photos", type=Path, help="a folder of class folders, or of train/ and test/")
parser.add_argument("--backbone", default="mobilenetv2_100")
parser.add_argument("--weights", type=Path, help="a local file; from the model hub if not given")
parser.add_argument("--bundle", type=Path, default=Path("photos.edgetl"))
arguments = parser.parse_args()

# On the workstation: features are cached, so a second run takes a moment.
bundle = edgetl.adapt(
    arguments.photos,
    backbone=arguments.backbone,
    weights=arguments.weights,
    output=arguments.bundle,
)
print(bundle.evidence)

# On the device: the bundle's folder is all it needs.
runtime = edgetl.load(arguments.bundle)
suffixes = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
photo = next(p for p in sorted(arguments.photos.rglob("*")) if p.suffix.lower() in suffixes)
answer = runtime.predict(photo)
print(f"\n{photo.name}: {answer.label} ({answer.probability:.0%})")
for label, probability in answer.top(3):
    print(f"  {label:<20} {probability:.3f}")
