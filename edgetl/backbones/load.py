"""The door to all backbones: it knows which origin a name belongs to, and leaves the rest to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgetl._extras import require
from edgetl.backbone import Backbone
from edgetl.errors import MissingDependencyError
from edgetl.preprocess import Preprocess

if TYPE_CHECKING:
    from edgetl.backbones.module import ModuleBackbone


def load_backbone(
    name: str | Path, weights: str | Path | None = None, *, preprocess: Preprocess | None = None
) -> Backbone:
    """Load a pretrained network as a backbone.

    Args:
        name: ``"edgetl_nano"``, whose weights come with the package and which needs no torch;
            ``"mobilenetv2_100"`` or ``"resnet50.a1_in1k"`` (timm), ``"torchvision/resnet50"`` or
            ``"torchvision/resnet50.IMAGENET1K_V1"``, the image half of an image-text pair such as
            ``"open_clip/ViT-B-32.laion2b_s34b_b79k"`` or ``"hf-clip/FOLDER"``, or the path of an
            ONNX file, which must end in ``.onnx``; a ``~`` at its beginning is the home folder. A
            `Path` is always a file.
        weights: A local .safetensors or torch state-dict file; if None, the pretrained weights of
            the name's origin: from its cache on this machine, or downloaded. None for an ONNX file.
        preprocess: How images become the input; if None, as the weights file says (one of
            `edgetl.distill` does), or as the pretrained weights want it.

    Raises:
        MissingDependencyError: timm, torchvision, onnx, open_clip or transformers is not installed.
        TypeError: `name` is neither a string nor a path.
        ValueError: No network has this name, or it can't take what `preprocess` gives.
        WeightsError: The weights can't be had, are damaged, or don't fit the network.
    """
    if not isinstance(name, (str, Path)):
        raise TypeError(f"a backbone is a name or a path, got {type(name).__name__}")
    if isinstance(name, Path) and name.suffix.lower() != ".onnx":
        raise ValueError(f"a backbone's path must end in .onnx, got {name}; names are strings")
    name = str(name)
    path = None if weights is None else Path(weights).expanduser()
    if name.lower().endswith(".onnx"):
        if weights is not None:
            raise ValueError(f"{name} has its weights inside; weights={str(weights)!r} has no use")
        from edgetl.backbones.onnx_file import load_onnx_file

        return load_onnx_file(Path(name).expanduser(), preprocess=preprocess)
    if name == "edgetl_nano":
        from edgetl.backbones.nano import load_nano

        return load_nano(path, preprocess=preprocess)
    try:
        require("torch", extra="train")
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{error}; edgetl_nano and ONNX files need none") from None
    if name.startswith("torchvision/"):
        from edgetl.backbones.torchvision import load_torchvision

        return load_torchvision(name.removeprefix("torchvision/"), path, preprocess=preprocess)
    if name.startswith("open_clip/"):
        from edgetl.backbones.open_clip import load_open_clip

        return load_open_clip(name.removeprefix("open_clip/"), path, preprocess=preprocess)
    if name.startswith("hf-clip/"):
        from edgetl.backbones.hf_clip import load_hf_clip

        return load_hf_clip(name.removeprefix("hf-clip/"), path, preprocess=preprocess)
    from edgetl.backbones.timm import load_timm

    return load_timm(name, path, preprocess=preprocess)


def untrained_backbone(
    name: str, *, seed: int, preprocess: Preprocess | None = None
) -> ModuleBackbone:
    """Build a network with random weights, to be trained.

    Args:
        name: A timm name, ``"torchvision/NAME"``, or ``"edgetl_nano"``, which is given the branches
            it is trained with.
        seed: Of the weights; torch's own generator is left as it was.
        preprocess: How images become the input; if None, as pretrained weights would want it.

    Raises:
        MissingDependencyError: timm or torchvision is not installed.
        ValueError: No network has this name, or it can't take what `preprocess` gives.
    """
    torch = require("torch", extra="train")
    if name == "edgetl_nano":
        from edgetl.backbones.nano_training import untrained_nano

        return untrained_nano(seed=seed, preprocess=preprocess)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith("torchvision/"):
            from edgetl.backbones.torchvision import load_torchvision

            return load_torchvision(
                name.removeprefix("torchvision/"), preprocess=preprocess, untrained=True
            )
        from edgetl.backbones.timm import load_timm

        return load_timm(name, preprocess=preprocess, untrained=True)
