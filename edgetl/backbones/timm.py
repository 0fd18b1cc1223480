"""Backbones from timm: any of its classifiers, by ``architecture`` or ``architecture.tag``.

The features are what timm gives with ``num_classes=0``: pooled, after the last norm or head
convolution, before the classifier. It knows timm's names and configuration; weights files are
`edgetl.backbones.weights`' matter.
"""

from __future__ import annotations

import difflib
import math
import sys
from pathlib import Path
from typing import Any

import torch

from edgetl._extras import require
from edgetl.backbones.hub import fetch_from_hub, fetch_from_url
from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.nano import NAME as NANO
from edgetl.backbones.recorded import recorded_preprocess
from edgetl.backbones.source_classifier import find_source_classifier
from edgetl.backbones.weights import AUXILIARY, StateDict, fit_weights, read_weights
from edgetl.errors import WeightsError
from edgetl.preprocess import Preprocess


def load_timm(
    name: str,
    weights: Path | None = None,
    *,
    preprocess: Preprocess | None = None,
    untrained: bool = False,
) -> ModuleBackbone:
    """Load a timm network; see `edgetl.backbones.load_backbone`.

    With local weights that don't say how photos become their input, and no tag in the name, the
    preprocessing is that of the architecture's default tag. `untrained` leaves the weights as torch
    drew them.
    """
    timm = require("timm", extra="train")
    architecture, _, _ = name.partition(".")
    _check_name(timm, name)
    preprocess = preprocess or recorded_preprocess(weights, name)
    module = timm.create_model(name, pretrained=False, num_classes=0)
    config = dict(module.pretrained_cfg)
    own = preprocess_of(timm.data.resolve_model_data_config(module), name)
    if preprocess is not None and config.get("fixed_input_size") and preprocess.size != own.size:
        raise ValueError(
            f"{name} takes only {own.size} x {own.size} pixels, got size={preprocess.size}"
        )

    tensors: StateDict = {}
    if not untrained:
        path = weights or _fetch(config, name)
        tensors = read_weights(path)
        fit_weights(
            module,
            tensors,
            what=f"{path} does not fit {name}",
            spare=lambda: _classifier_names(timm, architecture, config),
            convert=getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None),
        )
    backbone = ModuleBackbone(
        name,
        architecture=f"timm {timm.__version__}/{architecture}",
        module=module,
        preprocess=preprocess or own,
    )
    backbone.source_classifier = find_source_classifier(
        tensors, config.get("classifier"), dim=backbone.dim
    )
    return backbone


def preprocess_of(config: dict[str, Any], name: str) -> Preprocess:
    """Preprocessing as ``timm.data.create_transform`` builds it from a data config.

    Raises:
        ValueError: The config wants what :class:`Preprocess` can't do.
    """
    channels, height, width = config["input_size"]
    if channels != 3 or height != width:
        raise ValueError(
            f"{name} takes {channels} x {height} x {width} inputs; square RGB is needed"
        )
    if config["crop_mode"] == "border":
        raise ValueError(f"{name} pads its photos (crop_mode='border'), which is not supported")
    if config["interpolation"] not in ("bilinear", "bicubic"):
        raise ValueError(
            f"{name} resizes by {config['interpolation']!r}; bilinear or bicubic is needed"
        )
    return Preprocess(
        size=height,
        # timm rounds down, and so 224 / 0.95 becomes 235.
        resize=math.floor(height / config["crop_pct"]),
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        fit="squash" if config["crop_mode"] == "squash" else "shortest",
    )


def _check_name(timm: Any, name: str) -> None:
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, [*timm.list_models(), NANO], n=3)
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"a backbone is {NANO}, a name of timm's, torchvision/NAME, "
            "open_clip/NAME.TAG, hf-clip/FOLDER, or the path of an .onnx file"
        )
        raise ValueError(f"timm has no network {architecture!r}; {hint}")
    if tag and name not in timm.list_pretrained(architecture + ".*"):
        tags = [item.partition(".")[2] for item in timm.list_pretrained(architecture + ".*")]
        raise ValueError(f"{architecture} has no tag {tag!r}; it has {', '.join(tags) or 'none'}")


def _fetch(config: dict[str, Any], name: str) -> Path:
    if config.get("hf_hub_id"):
        named = config.get("hf_hub_filename")
        filenames = (named,) if named else ("model.safetensors", "pytorch_model.bin")
        return fetch_from_hub(config["hf_hub_id"], filenames, name=name)
    if config.get("url"):
        return fetch_from_url(config["url"], name=name)
    raise WeightsError(
        f"timm has no pretrained weights for {name}; give a local file with --weights"
    )


def _classifier_names(timm: Any, architecture: str, config: dict[str, Any]) -> set[str]:
    """Names that only the network with its classifier has, and beginnings of such names."""
    classifiers = config.get("classifier") or ()
    starts = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    full: torch.nn.Module = timm.create_model(architecture, pretrained=False)
    return {*AUXILIARY, *(f"{start}." for start in starts), *full.state_dict()}
