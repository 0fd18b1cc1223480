"""AdaBN: a network whose batch norms have the statistics of the target domain.

Li, Wang, Shi, Liu and Hou, "Revisiting Batch Normalization for Practical Domain Adaptation"
(2016). Nothing is trained: weights, scales and shifts stay, and the running means and variances
become those of unlabelled target samples. It knows torch modules and batches, no files.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def adapt_batchnorm(
    module: nn.Module, batches: Iterable[NDArray[np.float32]], *, share: float = 1.0
) -> nn.Module:
    """A copy of a network with the target domain's batch-norm statistics.

    Each batch norm normalises by the statistics of the batch at hand, so that what later layers see
    is normalised already; what was seen over all batches becomes the running
    statistics. Variances count how the batches' means differ too, so for the first such layer they
    are those of all samples exactly, and for later ones as far as batches are alike.

    Args:
        module: The network; it is not changed.
        batches: Preprocessed samples, (n, ...) each, at least 2 per batch; 32 or more are better.
        share: How much the target's statistics count, above 0 to 1; the rest stays the source's.

    Returns:
        The copy, in evaluation mode.

    Raises:
        ValueError: The network has no batch norm with running statistics, there is no batch, a
            batch has one sample, or `share` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")
    adapted = copy.deepcopy(module).eval()
    layers = [
        layer
        for layer in adapted.modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    ]
    if not layers:
        raise ValueError("the network has no batch norm with running statistics to adapt")
    moments = {layer: _Moments() for layer in layers}
    hooks = [layer.register_forward_pre_hook(moments[layer].add) for layer in layers]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.train()
            layer.momentum = 0.0  # the statistics are gathered by the hooks
        for batch in batches:
            if len(batch) < 2:
                raise ValueError("a batch of one sample has no statistics; batches need 2 or more")
            with torch.inference_mode():
                adapted(torch.from_numpy(np.require(batch, np.float32, ["C", "W"])))
    finally:
        for hook, layer, momentum in zip(hooks, layers, momenta, strict=True):
            hook.remove()
            layer.momentum = momentum
            layer.eval()
    for layer, found in moments.items():
        _set(layer, found, share)
    return adapted


class _Moments:
    """Mean and squared deviations of a layer's input per channel, merged over batches.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances" (1979): in float64 between batches, in the input's precision within one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self.deviations = torch.zeros(())

    def add(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Take in a batch (n, channels, ...)."""
        values = inputs[0].detach()
        axes = [axis for axis in range(values.ndim) if axis != 1]
        variance, mean = torch.var_mean(values, axes, correction=0)
        count = values.numel() // values.shape[1]
        mean, deviations = mean.double(), variance.double() * count
        if self.count:
            change, total = mean - self.mean, self.count + count
            deviations += self.deviations + change**2 * (self.count * count / total)
            mean = self.mean + change * (count / total)
        self.count += count
        self.mean, self.deviations = mean, deviations


def _set(layer: _BatchNorm, found: _Moments, share: float) -> None:
    """Put the statistics into the layer; the variance with n - 1, as torch's running one."""
    if found.count < 2:
        raise ValueError("no batch reached a batch norm: there is nothing to adapt to")
    if layer.running_mean is None or layer.running_var is None:  # pragma: no cover
        raise RuntimeError("a batch norm lost its running statistics")
    variance = found.deviations / (found.count - 1)
    for old, new in ((layer.running_mean, found.mean), (layer.running_var, variance)):
        # A copy out of inference mode: the module may be trained or exported later.
        old.copy_(torch.lerp(old.double(), new.clone(), share).to(old.dtype))
