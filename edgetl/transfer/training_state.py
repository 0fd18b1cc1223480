"""An unfinished training on disk: tensors and where it stood, in one safetensors file.

The file is written whole or not at all, so that one killed while it is written costs nothing, and
it holds no code. It knows tensors by name and plain values; it knows nothing about what is trained.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgetl._extras import require
from edgetl.backbones.recorded import write_tensors

_FORMAT = 2
_ABANDONED_SECONDS = 3600.0


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept until it is finished.

    Args:
        path: The file.
        key: What decides the training's result; a file of another training is not read.
    """

    path: Path
    key: str

    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Keep tensors and a state of JSON types, in place of what was kept before."""
        # Tied weights share memory, which the format does not have: each gets a copy.
        whole = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        about = {"format": str(_FORMAT), "key": self.key, "state": json.dumps(state)}
        write_tensors(self.path, whole, about)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What was kept; None if there is nothing, nothing whole, or nothing of this training."""
        from safetensors import SafetensorError

        safe_open = require("safetensors", extra="train").safe_open
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                if (about.get("format"), about.get("key")) != (str(_FORMAT), self.key):
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, json.loads(about["state"])
        except (OSError, SafetensorError, KeyError, ValueError):
            return None  # damaged: the training begins anew

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def keep_newest(own: Path, count: int) -> None:
    """Remove all checkpoints beside `own`, there or not, but so many of the newest.

    What a killed process had not finished writing goes too, after an hour.
    """
    others: list[tuple[float, Path]] = []
    for path in own.parent.glob("*.safetensors*"):
        with contextlib.suppress(FileNotFoundError):  # another process removes some too
            used = path.stat().st_mtime
            if path.name.startswith("."):
                if time.time() - used > _ABANDONED_SECONDS:
                    path.unlink()
            elif path != own:
                others.append((used, path))
    for _, path in sorted(others)[: max(0, len(others) - count)]:
        path.unlink(missing_ok=True)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimiser remembers of each parameter, by the parameter's place."""
    return {
        f"{place}.{name}": torch.as_tensor(value)
        for place, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if value is not None
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `pack_optimizer` gave, into an optimiser of the same parameters."""
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        place, _, name = key.partition(".")
        memory.setdefault(int(place), {})[name] = value
    whole = optimizer.state_dict()
    whole["state"] = memory
    optimizer.load_state_dict(whole)


def pack(parts: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Parts of named tensors as one, each name led by its part's."""
    return {
        f"{part}/{name}": tensor for part, all_ in parts.items() for name, tensor in all_.items()
    }


def unpack(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """What `pack` was given, without the parts that were empty."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return parts
