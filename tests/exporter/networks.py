"""The networks that half precision and TensorRT are tried on, and real photos for them."""

import functools
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from edgetl.decode import read_image

ASSETS = {
    "mobilenetv2_100": "mobilenetv2_100",
    "torchvision/squeezenet1_1": "squeezenet1_1",
    "tf_mobilenetv3_small_100": "tf_mobilenetv3_small_100",
}
"""Those with real weights; all others get random ones."""


@functools.cache
def load(name: str, assets: Path, folder: Path):
    """A backbone and its ONNX model, ``NAME.onnx`` in the folder: exported by who comes first."""
    import fcntl

    import timm
    import torch
    from safetensors.torch import save_file
    from torchvision import models

    from edgetl.backbones import load_backbone

    if name in ASSETS:
        weights = assets / "weights" / f"{ASSETS[name]}.safetensors"
    else:
        torch.manual_seed(0)
        bare = name.rpartition("/")[2].partition(".")[0]
        torchvision = name.startswith("torchvision/")
        module = models.get_model(bare) if torchvision else timm.create_model(bare)
        weights = folder / f"{bare}-{os.getpid()}.safetensors"  # the same ones in each process
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, weights)
    backbone = load_backbone(name, weights)
    path = folder / f"{name.rpartition('/')[2]}.onnx"
    draft = folder / f"draft-{path.name}"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            backbone.to_onnx(draft)
            draft.replace(path)
    return backbone, onnx.load(path)


def photos(assets: Path, preprocess, count: int = 4):
    """Preprocessed photos of flowers, (count, 3, size, size)."""
    paths = sorted((assets / "data" / "flower_photos" / "test").glob("*/*"))
    chosen = paths[:: len(paths) // count][:count]
    return np.stack([preprocess.apply(read_image(x, preprocess=preprocess)) for x in chosen])


def run(model, batch, *, names=None, optimize=True):
    """Outputs of a model by onnxruntime; the first one unless names are given."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs = session.run(names, {session.get_inputs()[0].name: batch})
    return outputs[0] if names is None else outputs


def observe(model, names, batch):
    """Least and greatest value of tensors of a model on a batch."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    ends = {item.name for item in (*copy.graph.input, *copy.graph.output)}
    copy.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in ends
    )
    image = model.graph.input[0].name
    inner = [name for name in names if name != image]
    values = dict(zip(inner, run(copy, batch, names=inner), strict=True)) | {image: batch}
    return {name: (float(values[name].min()), float(values[name].max())) for name in names}
