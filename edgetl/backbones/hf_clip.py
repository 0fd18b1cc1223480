"""CLIP as transformers keeps it: ``hf-clip/FOLDER``, or ``hf-clip/OWNER/NAME`` on the hub.

The features are the image tower's embeddings, after the projection, with norm 1; the text tower
comes with the backbone. It knows transformers' files and its CLIPModel; weights files are
`edgetl.backbones.weights`' matter.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgetl._extras import require
from edgetl.backbones.hub import fetch_from_hub
from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.text_tower import ImageTower, TextTower, local_folder
from edgetl.backbones.weights import fit_weights, read_weights
from edgetl.errors import WeightsError
from edgetl.preprocess import Preprocess

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Either of these sets of files."""
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
# Buffers that files of older versions have.
_SPARE = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def load_hf_clip(
    name: str, weights: Path | None = None, *, preprocess: Preprocess | None = None
) -> ModuleBackbone:
    """Load a CLIPModel of transformers; see `edgetl.backbones.load_backbone`.

    Args:
        name: A folder with ``config.json``, a preprocessor's configuration, a tokenizer and
            weights, or a repository on the hub, ``owner/name`` with ``@revision`` if wanted.
        weights: A local file with both towers; the folder's or the repository's if None.
        preprocess: How images become the input; if None, as the preprocessor's configuration says.
    """
    library = require("transformers", extra="clip")
    shown = f"hf-clip/{name}"
    folder = local_folder(name)
    if folder is None and name.count("/") != 1:
        raise ValueError(f"{shown}: {name!r} is neither a folder nor OWNER/NAME on the hub")
    if folder is None:
        folder = _fetched(name, shown, weights is None)
    config = _json(folder / "config.json", shown)
    if config.get("model_type") != "clip":
        raise ValueError(
            f"{shown} is a model of the type {config.get('model_type')!r}; 'clip' is supported"
        )
    model = library.CLIPModel(library.CLIPConfig(**config)).eval().requires_grad_(False)
    path = weights or _file_in(folder, _WEIGHTS, shown)
    fit_weights(
        model, read_weights(path), what=f"{path} does not fit {shown}", spare=lambda: _SPARE
    )
    own = preprocess_of(_processor(folder, shown), shown)
    size = model.config.vision_config.image_size
    if (preprocess or own).size != size:
        raise ValueError(
            f"{shown} takes only {size} x {size} pixels, got size={(preprocess or own).size}"
        )
    kind = json.dumps(model.config.vision_config.to_diff_dict(), sort_keys=True, default=str)
    backbone = ModuleBackbone(
        shown,
        architecture=f"transformers {library.__version__}/clip/{kind}",
        module=ImageTower(_Vision(model)),
        preprocess=preprocess or own,
    )
    backbone.text_tower = _text_tower(library, model, folder, shown)
    return backbone


def preprocess_of(config: Mapping[str, Any], name: str) -> Preprocess:
    """Preprocessing as a CLIPImageProcessor with this configuration does it.

    Raises:
        ValueError: It wants what :class:`Preprocess` can't do.
    """
    size, crop = _side(config.get("size", 224)), _side(config.get("crop_size", 224))
    off = [
        step for step in ("do_resize", "do_rescale", "do_normalize") if not config.get(step, True)
    ]
    interpolation = _INTERPOLATIONS.get(config.get("resample", 3))
    if off or interpolation is None or size is None:
        raise ValueError(
            f"{name} prepares photos in a way that is not supported: size={config.get('size')}, "
            f"resample={config.get('resample')}, without {', '.join(off) or 'nothing'}"
        )
    squash = isinstance(config.get("size"), dict) and "shortest_edge" not in config["size"]
    if not config.get("do_center_crop", True) or crop is None:
        crop = size
    return Preprocess(
        size=crop,
        resize=size,
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
        mean=tuple(config.get("image_mean", (0.48145466, 0.4578275, 0.40821073))),
        std=tuple(config.get("image_std", (0.26862954, 0.26130258, 0.27577711))),
        fit="squash" if squash else "shortest",
    )


def _side(value: Any) -> int | None:
    """The one length that a size says: a number, a shortest edge, or equal height and width."""
    if isinstance(value, dict):
        sides = {value[key] for key in ("shortest_edge", "height", "width") if value.get(key)}
        return int(sides.pop()) if len(sides) == 1 else None
    return int(value) if isinstance(value, int) else None


class _Vision(torch.nn.Module):
    """The image tower with its projection."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision_model = model.vision_model
        self.visual_projection = model.visual_projection

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.vision_model(pixel_values=images).pooler_output
        embedded: torch.Tensor = self.visual_projection(pooled)
        return embedded


def _text_tower(library: Any, model: Any, folder: Path, name: str) -> TextTower:
    tokenizers: list[Any] = []

    def tokenizer() -> Any:
        """Made when it is first needed: whoever wants features alone needs no files of it."""
        if not tokenizers:
            # Without files transformers makes one that knows no word, and says nothing.
            if not any(all((folder / file).is_file() for file in own) for own in _TOKENIZERS):
                raise WeightsError(
                    f"the tokenizer of {name} can't be had: {folder} has neither tokenizer.json "
                    "nor vocab.json with merges.txt"
                )
            try:
                tokenizers.append(
                    library.AutoTokenizer.from_pretrained(folder, local_files_only=True)
                )
            except (OSError, ValueError, ImportError) as error:
                raise WeightsError(
                    f"the tokenizer of {name} can't be had: {str(error).splitlines()[0]}"
                ) from error
        return tokenizers[0]

    def encode(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer()(texts, padding=True, return_tensors="pt")
        pooled = model.text_model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).pooler_output
        embedded: torch.Tensor = model.text_projection(pooled)
        return embedded

    return TextTower(
        name,
        encode=encode,
        count=lambda text: len(tokenizer()(text)["input_ids"]),
        context=int(model.config.text_config.max_position_embeddings),
        scale=float(model.logit_scale.exp()),
        tensors={
            key: value
            for key, value in model.state_dict().items()
            if not key.startswith(("vision_model.", "visual_projection."))
        },
    )


def _fetched(repository: str, name: str, weights: bool) -> Path:
    """The folder of the hub's cache with the files that are needed."""
    config = fetch_from_hub(repository, ("config.json",), name=name)
    fetch_from_hub(repository, _PROCESSORS, name=name)
    for filename in (filename for own in _TOKENIZERS for filename in own):
        with contextlib.suppress(WeightsError):  # missed when it is needed, if it is
            fetch_from_hub(repository, (filename,), name=name)
    if weights:
        fetch_from_hub(repository, _WEIGHTS, name=name)
    return config.parent


def _processor(folder: Path, name: str) -> dict[str, Any]:
    path = _file_in(folder, _PROCESSORS, name)
    content = _json(path, name)
    inner = content.get("image_processor", content)
    return dict(inner)


def _file_in(folder: Path, filenames: tuple[str, ...], name: str) -> Path:
    for filename in filenames:
        if (folder / filename).is_file():
            return folder / filename
    raise WeightsError(f"{name}: {folder} has none of {', '.join(filenames)}")


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{name}: there is no {path}") from None
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a configuration")
    return content
