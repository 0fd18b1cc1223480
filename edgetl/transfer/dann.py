"""DANN: an adapter whose features a domain classifier can't tell apart, by gradient reversal.

Ganin et al., "Domain-Adversarial Training of Neural Networks" (JMLR 2016), on features. It knows
torch and arrays, no networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

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


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -weight on the way back."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor, weight: float) -> torch.Tensor:
        context.weight = weight
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -context.weight * gradients[0], None


def reverse_gradient(values: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """`values` as they are; their gradient is that of ``-weight`` times what follows."""
    reversed_: torch.Tensor = _Reversal.apply(values, weight)
    return reversed_


def domain_loss(
    discriminator: nn.Module, source: torch.Tensor, target: torch.Tensor, weight: float
) -> torch.Tensor:
    """The domain classifier's log loss, which it lowers and what comes before it raises.

    ``mean(-log D(source)) + mean(-log(1 - D(target)))`` with D the sigmoid of the classifier's
    output (k) -> (1): both domains count the same, however many samples a batch has of them.
    """
    both = discriminator(reverse_gradient(torch.cat([source, target]), weight))[:, 0]
    ours, others = both[: len(source)], both[len(source) :]
    return functional.softplus(-ours).mean() + functional.softplus(others).mean()


@dataclass(kw_only=True)
class DannAdapter(TrainedAdapter):
    """A linear adapter trained on the source's labels and against a domain classifier.

    Args:
        weight: Of the reversed gradient; it grows from 0 by Ganin's schedule.
        hidden: Units of the domain classifier's hidden layer.
    """

    weight: float = 0.3
    hidden: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < np.inf or self.hidden < 1:
            raise ValueError(
                f"weight must be 0 or more and hidden 1 or more, got {self.weight} and "
                f"{self.hidden}"
            )

    def _fit(self, source: FloatArray, codes: NDArray[np.int64], target: FloatArray) -> Selection:
        places = self._places(source, target)
        network = start(places.source, codes, seed=self.seed)
        judge = discriminator(places.source.shape[1], self.hidden, seed=self.seed)

        def penalty(step: Step) -> torch.Tensor:
            weight = self.weight * ramp(step.progress)
            return domain_loss(judge, step.source, step.target, weight)

        parameters = [*network.parameters(), *judge.parameters()]
        train(network, places, codes, penalty, self, parameters=parameters)
        return shipped(
            network, places, "trained on the source's labels and against a domain classifier"
        )


def discriminator(width: int, hidden: int, *, seed: int) -> nn.Sequential:
    """A domain classifier with one hidden layer; torch's own random state is left as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))
