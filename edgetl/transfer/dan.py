"""DAN: an adapter that lowers the kernels' discrepancy between the domains with the source's loss.

Long, Cao, Wang and Jordan, "Learning Transferable Features with Deep Adaptation Networks" (ICML
2015), on features: one adapted layer, and kernel weights that are equal and stay so. It knows
torch and arrays, no networks; `edgetl.transfer.mmd` measures the same quantity without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl.heads import Selection
from edgetl.transfer.domain_adapter import FloatArray
from edgetl.transfer.domain_training import (
    Step,
    TrainedAdapter,
    ramp,
    shipped,
    start,
    train,
)
from edgetl.transfer.mmd import WIDTHS


def mmd2_loss(
    source: torch.Tensor, target: torch.Tensor, *, widths: Sequence[float] | None = None
) -> torch.Tensor:
    """`edgetl.transfer.mmd.mmd2`, unbiased, of (n, k) and (m, k), with its gradient.

    Widths that follow the data, where none are given, are held constant for the gradient: else
    spreading all samples out would seem to change nothing.
    """
    n, m = len(source), len(target)
    rows = torch.cat([source, target])
    norms = (rows**2).sum(dim=1)
    distances = (norms[:, None] + norms - 2 * rows @ rows.T).clamp_min(0)
    if widths is None:
        unit = float(distances.detach().sum()) / ((n + m) * (n + m - 1))
        widths = [width * unit if unit > 0 else 1.0 for width in WIDTHS]
    kernel = torch.stack([torch.exp(-distances / width) for width in widths]).mean(dim=0)
    kernel = kernel * (1 - torch.eye(n + m, dtype=kernel.dtype))
    within = kernel[:n, :n].sum() / (n * (n - 1)) + kernel[n:, n:].sum() / (m * (m - 1))
    return within - 2 * kernel[:n, n:].mean()


@dataclass(kw_only=True)
class MmdAdapter(TrainedAdapter):
    """A linear adapter trained on the source's labels and the discrepancy of the domains.

    Args:
        weight: Of the discrepancy beside the log loss; it grows from 0 as in DANN.
        batch: At most so many samples of each domain per step; the time goes with its square.
    """

    weight: float = 1.0
    batch: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < np.inf:
            raise ValueError(f"weight must be 0 or more, got {self.weight}")

    def _fit(self, source: FloatArray, codes: NDArray[np.int64], target: FloatArray) -> Selection:
        places = self._places(source, target)
        network = start(places.source, codes, seed=self.seed)

        def penalty(step: Step) -> torch.Tensor:
            return self.weight * ramp(step.progress) * mmd2_loss(step.source, step.target)

        train(network, places, codes, penalty, self, parameters=list(network.parameters()))
        return shipped(network, places, "trained on the source's labels and the domains' MMD")
