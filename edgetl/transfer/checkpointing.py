"""Gradient checkpointing for any module: its insides are computed again on the way back.

Chen et al., "Training deep nets with sublinear memory cost" (2016). It knows nothing about
networks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointed(modules: Sequence[torch.nn.Module], *, enabled: bool = True) -> Iterator[None]:
    """Keep only the inputs of these modules for the backward pass, while the context lasts.

    Batch norm must not collect statistics inside: it would count every batch twice.

    Args:
        modules: Modules that take tensors; none within another.
        enabled: Whether to do it at all.
    """
    chosen = list(modules) if enabled else []
    for module in chosen:
        inner = functools.partial(checkpoint, module.forward, use_reentrant=False)
        object.__setattr__(module, "forward", inner)
    try:
        yield
    finally:
        for module in chosen:
            object.__delattr__(module, "forward")
