"""Low-rank updates of attention, by peft, which leave no trace in the network that ships.

Hu et al., "LoRA: low-rank adaptation of large language models" (2021). After training the updates
are added to the weights, and the layers are plain again. It knows ViTs of timm and torchvision by
what their attention is made of; it knows nothing about training.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from edgetl._extras import require


def attention_layers(module: torch.nn.Module) -> list[str]:
    """Names of the layers that LoRA updates: attention's projections.

    Linear layers inside of what calls itself attention, and torch's own multi-head attention.
    """
    found = []
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.MultiheadAttention):
            found.append(name)
        elif isinstance(layer, torch.nn.Linear):
            parent = module.get_submodule(name.rpartition(".")[0])
            inside = "attention" in type(parent).__name__.lower()
            if inside and not isinstance(parent, torch.nn.MultiheadAttention):
                found.append(name)
    return found


def add_lora(module: torch.nn.Module, layers: list[str], *, rank: int, alpha: float) -> Any:
    """Put low-rank updates beside layers, in place; they start as no change.

    Args:
        module: The network; what it computes stays the same.
        layers: Names of linear layers or multi-head attentions.
        rank: Of the updates.
        alpha: They count ``alpha / rank`` times.

    Returns:
        What `merge_lora` takes.

    Raises:
        MissingDependencyError: peft is not installed.
        ValueError: `layers` is empty: the part of the network that trains has no attention.
    """
    if not layers:
        raise ValueError(
            "LoRA is for attention, and the part of this network that trains has none; use lora=0"
        )
    peft = require("peft", extra="lora")
    config = peft.LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=layers, bias="none"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return peft.LoraModel(module, {"default": config}, "default")


def merge_lora(model: Any) -> torch.nn.Module:
    """Add the updates to the weights; the network again, made of its own layers alone."""
    module: torch.nn.Module = model.merge_and_unload()
    return module
