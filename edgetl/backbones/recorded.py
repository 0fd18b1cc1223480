"""Weights files that say what they are: the network, and how photos become its input.

A network trained for another size than its architecture's own would otherwise be fed wrongly by
whoever loads it. The record is in the metadata of the safetensors file, so the two can't be
separated; other files have none. It knows files and names; it knows nothing of what trained them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl._extras import require
from edgetl.errors import WeightsError
from edgetl.preprocess import Preprocess

if TYPE_CHECKING:
    import torch

_BACKBONE, _PREPROCESS = "edgetl.backbone", "edgetl.preprocess"


def save_recorded(
    path: Path,
    module: torch.nn.Module,
    *,
    name: str,
    preprocess: Preprocess,
    more: dict[str, str] | None = None,
) -> None:
    """Write a network's tensors, with its name and preprocessing; replaces the file at once.

    Args:
        path: Ends in ``.safetensors``.
        module: The network without a classifier, as a backbone has it.
        name: What `edgetl.backbones.load_backbone` calls it.
        preprocess: How photos become its input.
        more: Further metadata.
    """
    import torch

    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in module.state_dict().items()
    }
    about = {
        **(more or {}),
        _BACKBONE: name,
        _PREPROCESS: json.dumps(preprocess.to_json(), sort_keys=True),
    }
    write_tensors(path, tensors, {"format": "pt", **about})


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file in place of the last one, which stays until the new one is there.

    Args:
        path: The file; its folder exists.
        tensors: On the CPU, contiguous, none sharing memory.
        metadata: What the file says of itself.
    """
    save_file = require("safetensors.torch", extra="train").save_file
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), draft, metadata=dict(metadata))
        # Otherwise a machine that loses power may know the new name, and not yet what is in it.
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for other files, and where there is none."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return {}  # reading the tensors will say what is wrong with it


def recorded_backbone(path: Path) -> str | None:
    """The network that the weights at `path` are of, if the file says so."""
    return read_record(path).get(_BACKBONE)


def recorded_preprocess(path: Path | None, name: str) -> Preprocess | None:
    """How photos become the input of the weights at `path`, if the file says so.

    Args:
        path: A weights file; None for weights that are still to be fetched.
        name: The network that the weights are to be loaded into.

    Raises:
        WeightsError: The file says that it is of another network, or its record can't be read.
            Networks of one shape may differ in an activation or a padding.
    """
    record = {} if path is None else read_record(path)
    of = record.get(_BACKBONE)
    if of is not None and of.partition(".")[0] != name.partition(".")[0]:
        raise WeightsError(f"{path} says that it is of {of}, not of {name}")
    text = record.get(_PREPROCESS)
    if text is None:
        return None
    try:
        return Preprocess.from_json(json.loads(text))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} has a preprocessing that can't be read: {error}") from error
