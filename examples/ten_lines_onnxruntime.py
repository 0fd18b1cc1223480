"""Predict with an exported model in ten lines of onnxruntime, numpy and Pillow, without edgetl.

    edgetl export parts.edgetl --fused --input uint8 -o fused.edgetl
    python examples/ten_lines_onnxruntime.py fused.edgetl/fused.onnx photo.jpg

The graph normalises, and has the head inside; `plain_onnxruntime.py` takes every kind of graph.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
labels, how = json.loads(about["edgetl.labels"]), json.loads(about["edgetl.preprocess"])
photo = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
width, height = (how["resize"] * side // min(photo.size) for side in photo.size)
photo = photo.resize((width, height), Image.Resampling[how["interpolation"].upper()])
left, top = round((width - how["size"]) / 2), round((height - how["size"]) / 2)
photo = photo.crop((left, top, left + how["size"], top + how["size"]))
probabilities = session.run(["probabilities"], {"images": np.asarray(photo)[np.newaxis]})[0][0]
print(labels[probabilities.argmax()], probabilities.max())
