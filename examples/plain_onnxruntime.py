"""Predict with a fused graph alone: onnxruntime, numpy and Pillow, and nothing of edgetl.

    edgetl export flowers.edgetl --target onnxruntime --fused -o flowers-fused.edgetl
    python examples/plain_onnxruntime.py flowers-fused.edgetl/fused.onnx photo.jpg

The file says itself what its labels are and how photos become its input; whatever language an app
is written in, this is all it has to do.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("graph", type=Path, help="a fused .onnx or .ort file")
parser.add_argument("photos", type=Path, nargs="+")
arguments = parser.parse_args()

session = onnxruntime.InferenceSession(arguments.graph, providers=["CPUExecutionProvider"])
metadata = session.get_modelmeta().custom_metadata_map
labels, how = json.loads(metadata["edgetl.labels"]), json.loads(metadata["edgetl.preprocess"])


def prepare(path):
    """One photo as the graph's input, a batch of one."""
    photo = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    size, sides = how["size"], [how["resize"]] * 2
    if how["fit"] == "shortest":
        sides = [how["resize"] * side // min(photo.size) for side in photo.size]
    photo = photo.resize(sides, Image.Resampling[how["interpolation"].upper()])
    left, top = (round((side - size) / 2) for side in sides)
    pixels = np.asarray(photo.crop((left, top, left + size, top + size)))
    if how.get("dtype") != "uint8":  # bytes are normalised by the graph itself
        pixels = (pixels.astype(np.float32) / 255 - np.float32(how["mean"])) / np.float32(
            how["std"]
        )
    return (pixels if how["layout"] == "nhwc" else pixels.transpose(2, 0, 1))[np.newaxis]


for path in arguments.photos:
    probabilities = session.run(["probabilities"], {"images": prepare(path)})[0][0]
    best = probabilities.argmax()
    print(f"{path.name}: {labels[best]} {probabilities[best]:.6f}")
