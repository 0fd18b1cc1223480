"""Checkpoints of a training: safetensors with a line of JSON, written whole or not at all.

It knows tensors by name and plain values; it knows nothing about what they are for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgetl._extras import require

_FORMAT = 1


def save_state(
    path: Path, *, run: str, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Write a checkpoint in place of the last one, which stays until the new one is on the disk.

    Args:
        path: The file.
        run: What the run is known by; a checkpoint of another run is not its own.
        values: What JSON can hold.
        tensors: By name.
    """
    save = require("safetensors.torch", extra="train").save_file
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    metadata = {"format": str(_FORMAT), "run": run, "values": json.dumps(values)}
    try:
        # Some optimisers' tensors share memory with nothing, but lie channels last.
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save(whole, draft, metadata=metadata)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def load_state(path: Path, *, run: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
    """What `save_state` wrote for this run; None if there is nothing, or nothing whole."""
    from safetensors import SafetensorError

    safe_open = require("safetensors", extra="train").safe_open
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("run") != run or metadata.get("format") != str(_FORMAT):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            values: dict[str, Any] = json.loads(metadata["values"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return values, tensors


def keep_newest(own: Path, count: int) -> None:
    """Remove all checkpoints beside `own`, there or not, but so many of the newest."""
    if own.parent.is_dir():
        others = [path for path in own.parent.glob("*.safetensors") if path != own]
        others.sort(key=lambda path: path.stat().st_mtime)
        for path in others[: max(0, len(others) - count)]:
            path.unlink(missing_ok=True)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimiser as named tensors."""
    packed = {}
    for place, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                packed[f"optimizer/{place}/{key}"] = torch.as_tensor(value)
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put back what `pack_optimizer` gave."""
    whole = optimizer.state_dict()
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, place, key = name.split("/")
            state.setdefault(int(place), {})[key] = tensor
    whole["state"] = state
    optimizer.load_state_dict(whole)
