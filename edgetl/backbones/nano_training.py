"""edgetl_nano in torch: the plain network, and the one with branches that is trained.

For training each 3x3 convolution has branches, a 1x1 kernel and an identity (RepVGG, Ding et al.
2021), and one batch norm; the branches are added as kernels, before the convolution, so that they
cost nothing in training, and `edgetl.backbones.nano.fold_branches` makes one convolution of all of
it. It knows the modules; layers, weights files and the graph are in `edgetl.backbones.nano`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.nano import ARCHITECTURE, INPUT, LAYERS, NAME, fold_branches, has_identity
from edgetl.preprocess import Preprocess


class Nano(nn.Module):
    """Maps (n, 3, h, w) to pooled features (n, 256), none of them below zero."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, side, stride in LAYERS:
            layers += [nn.Conv2d(channels, width, side, stride, padding=side // 2), nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of a batch."""
        features: torch.Tensor = self.layers(images).mean(dim=(2, 3))
        return features


class BranchedNano(nn.Module):
    """The same network for training: branches and batch norms, which `fold` turns into biases."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, side, stride in LAYERS:
            layers.append(_Branched(channels, width, side, stride))
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of a batch."""
        features: torch.Tensor = self.layers(images).mean(dim=(2, 3))
        return features

    def fold(self) -> Nano:
        """The network that computes the same in evaluation mode, of plain convolutions."""
        arrays = {name: value.cpu().numpy() for name, value in self.state_dict().items()}
        return nano_module(fold_branches(arrays))


class _Branched(nn.Module):
    """A convolution of several kernels added up, batch norm, ReLU."""

    def __init__(self, channels: int, width: int, side: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, side // 2
        self.kernel = nn.Parameter(torch.empty(width, channels, side, side))
        nn.init.kaiming_normal_(self.kernel, mode="fan_out", nonlinearity="relu")
        self.point = self.identity = None
        if side > 1:
            self.point = nn.Parameter(torch.empty(width, channels, 1, 1))
            nn.init.kaiming_normal_(self.point, mode="fan_out", nonlinearity="relu")
        if has_identity(channels, width, stride):
            self.identity = nn.Parameter(torch.ones(width))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mapped = nn.functional.conv2d(
            images, self.whole(), stride=self.stride, padding=self.padding
        )
        return nn.functional.relu(self.norm(mapped), inplace=True)

    def whole(self) -> torch.Tensor:
        """The sum of the branches, as one kernel."""
        kernel: torch.Tensor = self.kernel
        if self.point is not None:
            kernel = kernel + nn.functional.pad(self.point, [self.padding] * 4)
        if self.identity is not None:
            kernel = kernel + nn.functional.pad(
                torch.diag(self.identity)[:, :, None, None], [self.padding] * 4
            )
        return kernel


def nano_module(tensors: Mapping[str, NDArray[np.float32]]) -> Nano:
    """The plain network with these weights, frozen and in evaluation mode."""
    module = Nano()
    module.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
    return module.eval().requires_grad_(False)


def untrained_nano(*, seed: int, preprocess: Preprocess | None = None) -> ModuleBackbone:
    """The network with branches and random weights, to be trained.

    Args:
        seed: Of the weights; torch's own generator is left as it was.
        preprocess: How images become the input; that of the package's own weights if None.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = BranchedNano()
    return ModuleBackbone(
        NAME, architecture=ARCHITECTURE, module=module, preprocess=preprocess or INPUT
    )
