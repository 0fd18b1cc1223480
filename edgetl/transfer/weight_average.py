"""The moving average of a network's weights while it trains, which is what is kept.

Polyak and Juditsky (1992); as an exponential average in Tarvainen and Valpola (2017). It knows
tensors by name; it knows nothing about what trains them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def ema_decay(step: int, decay: float) -> float:
    """The decay at a step: less at the beginning, which would weigh too much in the mean."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def average_into(
    mean: Mapping[str, torch.Tensor], current: Mapping[str, torch.Tensor], *, decay: float
) -> None:
    """Move tensors a little towards others, in place; whole numbers are copied.

    Args:
        mean: By name; those of a ``state_dict`` are the module's own.
        current: Of the same names.
        decay: What stays of the mean.
    """
    for name, old in mean.items():
        if old.is_floating_point():
            old.lerp_(current[name], 1 - decay)
        else:
            old.copy_(current[name])
