"""An unfinished training on disk: tensors and where it stood, in one safetensors file.

The file is replaced at once, so that one killed while it is written costs nothing, and it holds no
code. It knows nothing about what is trained.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgetl._extras import require

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where a training is kept until it is finished.

    Args:
        path: The file.
        key: What the training is; a file of another training is not read.
    """

    path: Path
    key: str

    def save(self, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Keep tensors and a state of JSON types, in place of what was kept before."""
        save_file = require("safetensors.torch", extra="train").save_file
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        # Tied weights share memory, which the format does not have: each gets a copy.
        whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        about = {"format": str(_FORMAT), "key": self.key, "state": json.dumps(state)}
        try:
            save_file(whole, draft, metadata=about)
            draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """What was kept; None if there is nothing, or nothing of this training."""
        from safetensors import SafetensorError, safe_open

        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                if (about.get("format"), about.get("key")) != (str(_FORMAT), self.key):
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, json.loads(about["state"])
        except (SafetensorError, OSError, KeyError, ValueError):
            return None  # damaged: the training begins anew

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What an optimizer remembers of each parameter, by the parameter's place."""
    return {
        f"{place}.{name}": value
        for place, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, into an optimizer of the same parameters."""
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        place, _, name = key.partition(".")
        memory.setdefault(int(place), {})[name] = value
    content = optimizer.state_dict()
    content["state"] = memory
    optimizer.load_state_dict(content)
