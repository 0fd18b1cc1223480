"""Backbones from torchvision: any of its ImageNet classifiers, as ``torchvision/architecture``.

The features are what the classifier's last layer sees, which is

- ResNet, ResNeXt, RegNet, DenseNet, Inception, GoogLeNet, ShuffleNet, MNASNet, MobileNetV2 and
  EfficientNet: the globally pooled last feature map;
- MobileNetV3: that, after the hidden layer of its classifier;
- ConvNeXt, Swin and ViT: the pooled map or class token, after the last norm;
- MaxViT: that, after its hidden layer and tanh;
- AlexNet and VGG: the second hidden layer of 4096, after its ReLU;
- SqueezeNet: the last feature map, which its classifier convolves, pooled.

It knows torchvision's builders; weights files are `edgetl.backbones.weights`' matter.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import torch

from edgetl._extras import require
from edgetl.backbones.hub import fetch_from_url
from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.recorded import recorded_preprocess
from edgetl.backbones.source_classifier import find_source_classifier
from edgetl.backbones.weights import AUXILIARY, StateDict, fit_weights, read_weights
from edgetl.preprocess import Preprocess

_CLASSES = 1000


def load_torchvision(
    name: str,
    weights: Path | None = None,
    *,
    preprocess: Preprocess | None = None,
    untrained: bool = False,
) -> ModuleBackbone:
    """Load a torchvision network; see `edgetl.backbones.load_backbone`.

    With local weights that don't say how photos become their input, and no tag in the name, the
    preprocessing is that of the architecture's default weights: for resnet50 those of V2, which
    resize to 232. Name the tag, as in ``"torchvision/resnet50.IMAGENET1K_V1"``, for weights of
    another recipe.

    Args:
        name: The architecture, with a dot and the name of its pretrained weights if wanted.
        weights: A local file; the pretrained weights if None.
        preprocess: How images become the input; if None, as the pretrained weights want it.
        untrained: Leave the weights as torch drew them.
    """
    models = require("torchvision.models", extra="train")
    version = require("torchvision", extra="train").__version__
    architecture, _, tag = name.partition(".")
    recipe = _find_recipe(models, architecture, tag)
    shown = f"torchvision/{name}"
    own = preprocess_of(recipe.transforms())
    module: torch.nn.Module = models.get_model(
        architecture, weights=None, **_build_options(architecture, own.size)
    )
    classifier = _remove_classifier(module)

    preprocess = preprocess or recorded_preprocess(weights, shown)
    tensors: StateDict = {}
    if not untrained:
        path = weights or fetch_from_url(recipe.url, name=shown)
        tensors = read_weights(path)
        fit_weights(
            module,
            tensors,
            what=f"{path} does not fit {shown}",
            spare=lambda: {f"{classifier}.", *AUXILIARY},
            convert=rename_old,
        )
    backbone = ModuleBackbone(
        shown,
        architecture=f"torchvision {version}/{architecture}",
        module=module,
        preprocess=preprocess or own,
    )
    backbone.source_classifier = find_source_classifier(tensors, classifier, dim=backbone.dim)
    return backbone


def preprocess_of(preset: Any) -> Preprocess:
    """Preprocessing as a preset of torchvision (``weights.transforms()``) does it."""
    return Preprocess(
        size=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _find_recipe(models: Any, architecture: str, tag: str) -> Any:
    names = models.list_models(module=models)
    if architecture not in names:
        close = difflib.get_close_matches(architecture, names, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"torchvision has no classifier {architecture!r}{hint}")
    recipes = models.get_model_weights(architecture)
    if not tag:
        return recipes.DEFAULT
    if tag not in recipes.__members__:
        raise ValueError(
            f"torchvision/{architecture} has no weights {tag!r}; "
            f"it has {', '.join(recipes.__members__)}"
        )
    return recipes[tag]


def _build_options(architecture: str, size: int) -> dict[str, Any]:
    """What torchvision's builders set by themselves when they load pretrained weights."""
    if architecture in ("inception_v3", "googlenet"):
        # These weights came from TensorFlow and renormalise the input inside the network.
        return {"transform_input": True, "aux_logits": False, "init_weights": False}
    if architecture.startswith("vit_"):
        return {"image_size": size}
    return {}


def rename_old(tensors: StateDict, _: torch.nn.Module) -> StateDict:
    """Names of published files that are older than a change in DenseNet or ViT, brought up."""
    renamed = {}
    for name, value in tensors.items():
        name = re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
        name = name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")
        renamed[name] = value
    return renamed


def _remove_classifier(module: torch.nn.Module) -> str:
    """Replace the layer that gives the classes by nothing; returns its name."""
    layers: list[tuple[str, torch.nn.Module]] = list(module.named_modules())
    for name, layer in reversed(layers):
        outputs = getattr(layer, "out_features", getattr(layer, "out_channels", None))
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and outputs == _CLASSES:
            parent, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(parent), leaf, torch.nn.Identity())
            return name
    raise ValueError(f"{type(module).__name__} has no layer of {_CLASSES} outputs to remove")
