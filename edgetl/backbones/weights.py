"""Weights: from a local file into a module, or a clear refusal.

It knows file formats and the names of tensors; it knows nothing about where files come from
(see `edgetl.backbones.hub`), and of architectures only how both origins name what they may drop.
"""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from edgetl._extras import require
from edgetl.errors import WeightsError

StateDict: TypeAlias = dict[str, torch.Tensor]

AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
"""Heads that only training uses, by the beginnings of their names."""

# Checkpoints of training runs nest the tensors; the averaged weights are the ones meant for use.
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
# Put in front of every name by DataParallel, torch.compile and Lightning.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_SHOWN = 5


def read_weights(path: Path) -> StateDict:
    """Read the tensors of a .safetensors file or of a torch state dict.

    A torch file is read with ``weights_only=True``: it runs no code. Tensors nested under the keys
    usual in training runs are found, and prefixes that all names share are taken off.

    Raises:
        WeightsError: The file can't be read, is damaged, or holds something other than tensors.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"the weights file {path} {kind}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for key in _NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a state dict")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise WeightsError(
            f"{path} holds no tensors; its keys are {_some(list(map(str, content)))}"
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def fit_weights(
    module: torch.nn.Module,
    tensors: StateDict,
    *,
    what: str,
    spare: Callable[[], Collection[str]],
    convert: Callable[[StateDict, torch.nn.Module], Mapping[str, torch.Tensor]] | None = None,
) -> None:
    """Load tensors into a module that has no classifier, strictly.

    Args:
        module: The network that is filled.
        tensors: What was read.
        what: The file and the architecture, for messages.
        spare: Gives the names, or beginnings of names ending in a dot, that a file may have too:
            the classifier's. Called only if there are names that the module lacks.
        convert: Renames the tensors of another code base; tried if they don't fit as they are.

    Raises:
        WeightsError: A tensor is missing, left over, of another shape, or not finite.
    """
    problems = _mismatches(module, tensors, spare)
    if problems and convert is not None:
        try:
            converted = dict(convert(dict(tensors), module))
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            converted = tensors  # made for files of another kind than this one
        if not _mismatches(module, converted, spare):
            tensors, problems = converted, []
    if problems:
        raise WeightsError(f"{what}: {'; '.join(problems)}")
    wanted = module.state_dict()
    used = {key: value for key, value in tensors.items() if key in wanted}
    broken = [
        key
        for key, value in used.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken:
        raise WeightsError(f"{what}: {len(broken)} tensors hold NaN or infinity: {_some(broken)}")
    wanted.update(used)  # it carries torch's version notes, which files may lack
    module.load_state_dict(wanted)


def _mismatches(
    module: torch.nn.Module,
    tensors: Mapping[str, torch.Tensor],
    spare: Callable[[], Collection[str]],
) -> list[str]:
    wanted = module.state_dict()
    missing = [
        key for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")
    ]
    computed = {key for key, _ in module.named_buffers()} - set(wanted)
    extra = [
        key
        for key in tensors
        if key not in wanted and key not in computed and not key.endswith("num_batches_tracked")
    ]
    if extra:
        allowed = spare()
        starts = tuple(key for key in allowed if key.endswith("."))
        extra = [key for key in extra if key not in allowed and not key.startswith(starts)]
    reshaped = [
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    return [
        f"{len(keys)} {fault}: {_some(keys)}"
        for keys, fault in (
            (missing, "tensors are missing"),
            (extra, "tensors are not the network's"),
            (reshaped, "tensors have another shape"),
        )
        if keys
    ]


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError

    load_file = require("safetensors.torch", extra="train").load_file
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not a whole safetensors file: {_first_line(error)}"
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        # timm's checkpoints keep their arguments beside the tensors; a Namespace runs no code.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about TorchScript; refused right below
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, OSError, RuntimeError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path} is not a readable torch state dict (whole objects, TorchScript archives and "
            f"damaged files are refused): {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _some(items: list[str]) -> str:
    left = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {left} more" if left > 0 else "")
