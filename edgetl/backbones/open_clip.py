"""Image-text pairs of open_clip, as ``open_clip/ARCHITECTURE.TAG`` or ``open_clip/FOLDER``.

The features are the image tower's embeddings, after the projection, with norm 1; the text tower
comes with the backbone. A folder is what open_clip saves for the hub: ``open_clip_config.json``
with weights beside it. It knows open_clip's names and configuration; weights files are
`edgetl.backbones.weights`' matter.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from edgetl._extras import require
from edgetl._paths import offline
from edgetl.backbones.hub import fetch_from_hub
from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.text_tower import ImageTower, TextTower, local_folder
from edgetl.backbones.weights import StateDict, fit_weights, read_weights
from edgetl.errors import WeightsError
from edgetl.preprocess import Preprocess

_CONFIG = "open_clip_config.json"
_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
# What OpenAI's files have beside the weights, and older versions of transformers.
_SPARE = (
    "input_resolution",
    "context_length",
    "vocab_size",
    "text.transformer.embeddings.position_ids",
)


def load_open_clip(
    name: str, weights: Path | None = None, *, preprocess: Preprocess | None = None
) -> ModuleBackbone:
    """Load a pair of open_clip; see `edgetl.backbones.load_backbone`.

    Args:
        name: The architecture, with a dot and the tag of its pretrained weights, or a folder. The
            tag also says how photos become the input and which GELU is meant, so name it with
            local weights too, where they are of such a recipe.
        weights: A local file with both towers; the tag's or the folder's if None.
        preprocess: How images become the input; if None, as the pretrained weights want it.
    """
    library = require("open_clip", extra="clip")
    shown = f"open_clip/{name}"
    folder = local_folder(name)
    if folder is not None:
        config, recipe = _read_config(folder, shown)
        path = weights or _file_in(folder)
        source = f"local-dir:{folder}"
    else:
        source, _, tag = name.partition(".")
        config, recipe = _find(library, source, tag)
        path = weights or _fetch(recipe, source, shown, library)
    model = _build(library, source, config, quick=bool(recipe.get("quick_gelu")), name=shown)
    fit_weights(
        model,
        read_weights(path),
        what=f"{path} does not fit {shown}",
        spare=lambda: _SPARE,
        convert=_converted,
    )
    own = preprocess_of({**vars(library.transform.PreprocessCfg()), **recipe}, model.visual, shown)
    if preprocess is not None and preprocess.size != own.size:
        raise ValueError(
            f"{shown} takes only {own.size} x {own.size} pixels, got size={preprocess.size}"
        )
    kind = json.dumps(config, sort_keys=True)
    backbone = ModuleBackbone(
        shown,
        architecture=f"open_clip {library.__version__}/{kind}/{bool(recipe.get('quick_gelu'))}",
        module=ImageTower(model.visual),
        preprocess=preprocess or own,
    )
    backbone.text_tower = _text_tower(library, model, source, config["text_cfg"], shown)
    return backbone


def preprocess_of(recipe: Mapping[str, Any], visual: Any, name: str) -> Preprocess:
    """Preprocessing as ``open_clip.image_transform`` builds it from a recipe.

    Args:
        recipe: ``mean``, ``std``, ``interpolation`` and ``resize_mode`` by open_clip's names.
        visual: The image tower, whose ``image_size`` counts.
        name: For messages.

    Raises:
        ValueError: It wants what :class:`Preprocess` can't do.
    """
    size = visual.image_size
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    fits = {"shortest": "shortest", "squash": "squash"}
    if height != width or recipe["resize_mode"] not in fits:
        raise ValueError(
            f"{name} takes {height} x {width} pixels by resize_mode={recipe['resize_mode']!r}; "
            "square photos by 'shortest' or 'squash' are supported"
        )
    if recipe["interpolation"] not in ("bilinear", "bicubic"):
        raise ValueError(
            f"{name} resizes by {recipe['interpolation']!r}; bilinear or bicubic is needed"
        )
    return Preprocess(
        size=height,
        resize=height,
        interpolation=recipe["interpolation"],
        mean=tuple(recipe["mean"]),
        std=tuple(recipe["std"]),
        fit="squash" if recipe["resize_mode"] == "squash" else "shortest",
    )


def _find(library: Any, architecture: str, tag: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of an architecture, and the recipe of its weights; empty without a tag."""
    config = library.get_model_config(architecture)
    if config is None:
        close = difflib.get_close_matches(architecture, library.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"open_clip has no pair {architecture!r}, nor is it a folder{hint}")
    recipe = library.get_pretrained_cfg(architecture, tag) if tag else {}
    if tag and not recipe:
        tags = library.list_pretrained_tags_by_model(architecture)
        raise ValueError(f"{architecture} has no tag {tag!r}; it has {', '.join(tags) or 'none'}")
    return dict(config), dict(recipe)


def _fetch(recipe: Mapping[str, Any], architecture: str, name: str, library: Any) -> Path:
    if not recipe:
        tags = ", ".join(library.list_pretrained_tags_by_model(architecture)) or "none"
        raise ValueError(
            f"{name} names no pretrained weights; add a tag with a dot ({tags}), or give a local "
            "file with --weights"
        )
    repository, _, named = str(recipe.get("hf_hub", "")).rpartition("/")
    if not repository:
        raise WeightsError(
            f"open_clip has no address on the hub for {name}; give a local file with --weights"
        )
    return fetch_from_hub(repository, (named,) if named else _FILES, name=name)


def _read_config(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    path = folder / _CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["model_cfg"]), dict(content.get("preprocess_cfg", {}))
    except FileNotFoundError:
        raise WeightsError(f"{name}: {folder} has no {_CONFIG}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is no configuration of open_clip: {error}") from error


def _file_in(folder: Path) -> Path:
    for filename in _FILES:
        if (folder / filename).is_file():
            return folder / filename
    raise WeightsError(f"{folder} has none of {', '.join(_FILES)}; give a file with --weights")


def _build(library: Any, source: str, config: Mapping[str, Any], *, quick: bool, name: str) -> Any:
    """The pair, a module with random weights; at most a tower's configuration is fetched."""
    if "multimodal_cfg" in config:
        raise ValueError(f"{name} writes captions too (CoCa); pairs of two towers are supported")
    if "hf_model_name" in config.get("text_cfg", {}) and offline():
        raise WeightsError(
            f"the text tower of {name} is made from a configuration on the hub, and EDGETL_OFFLINE "
            "or HF_HUB_OFFLINE is set; take a pair with a text tower of open_clip's own"
        )
    with _without_remarks():
        try:
            model = library.create_model(
                source, load_weights=False, pretrained_text=False, force_quick_gelu=quick
            )
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise WeightsError(
                f"open_clip can't build {name}: {str(error).splitlines()[0]}"
            ) from error
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """open_clip remarks on the root logger that weights are random, which they are not for long."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _converted(tensors: StateDict, model: torch.nn.Module) -> StateDict:
    """Other code bases' names, and numbers stored as arrays or the other way round."""
    convert = require("open_clip.convert", extra="clip")
    factory = require("open_clip.factory", extra="clip")
    tensors = dict(convert.convert_state_dict(model, tensors))
    if "positional_embedding" in tensors and not hasattr(model, "positional_embedding"):
        tensors = dict(factory.convert_to_custom_text_state_dict(tensors))
    wanted = model.state_dict()
    for key in ("logit_scale", "logit_bias"):
        if key in tensors and key in wanted:
            tensors[key] = tensors[key].reshape(wanted[key].shape)
    return tensors


def _text_tower(
    library: Any, model: Any, source: str, config: Mapping[str, Any], name: str
) -> TextTower:
    tokenizers: list[Any] = []

    def tokenizer() -> Any:
        """Made when it is first needed: some come from the hub, and heads may not need them."""
        if not tokenizers:
            local = {"local_files_only": True} if offline() else {}
            try:
                tokenizers.append(
                    library.get_tokenizer(
                        source, **(local if config.get("hf_tokenizer_name") else {})
                    )
                )
            except (OSError, ValueError) as error:
                raise WeightsError(
                    f"the tokenizer of {name} can't be had: {str(error).splitlines()[0]}"
                ) from error
        return tokenizers[0]

    def encode(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer()(texts, context_length=int(model.context_length))
        found: torch.Tensor = model.encode_text(tokens)
        return found

    def count(text: str) -> int:
        found = tokenizer()
        if hasattr(found, "tokenizer"):  # one of transformers
            return len(found.tokenizer(found.clean_fn(text))["input_ids"])
        return len(found.encode(text)) + 2

    return TextTower(
        name,
        encode=encode,
        count=count,
        context=int(model.context_length),
        scale=float(model.logit_scale.exp()),
        tensors={
            key: value for key, value in model.state_dict().items() if not key.startswith("visual.")
        },
    )
