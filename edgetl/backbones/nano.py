"""edgetl_nano: the small backbone whose weights travel with the package.

Eight 3x3 convolutions and a 1x1 one, each with a bias and a ReLU, then the mean over the map: what
every runtime and every int8 kernel does well. For training each 3x3 convolution has branches, a
1x1 kernel and an identity (RepVGG, Ding et al. 2021), and one batch norm; the branches are added
as kernels, before the convolution, so that they cost nothing in training, and `fold` makes one
convolution of all of it. It knows the network and where its weights lie; `examples/train_nano.py`
trained them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.recorded import recorded_preprocess
from edgetl.backbones.weights import fit_weights, read_weights
from edgetl.preprocess import Preprocess

NAME = "edgetl_nano"
DIM = 256
INPUT = Preprocess(
    size=96,
    resize=104,
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
"""How photos become its input."""

_LAYERS = ((32, 2), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1))
"""Channels and stride of each 3x3 convolution."""
_ARCHITECTURE = f"{NAME} 1"
"""What the fingerprint knows the code by; raised when the same weights would mean something else."""


class Nano(nn.Module):
    """Maps (n, 3, h, w) to pooled features (n, 256), none of them below zero."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width, stride in _LAYERS:
            layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, DIM, 1), nn.ReLU())

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
        for width, stride in _LAYERS:
            layers.append(_Branched(channels, width, stride))
            channels = width
        self.layers = nn.Sequential(*layers, _Branched(channels, DIM, 1, side=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of a batch."""
        features: torch.Tensor = self.layers(images).mean(dim=(2, 3))
        return features

    def fold(self) -> Nano:
        """The network that computes the same in evaluation mode, of plain convolutions."""
        plain = Nano().eval()
        convolutions = [layer for layer in plain.layers if isinstance(layer, nn.Conv2d)]
        with torch.no_grad():
            for target, branched in zip(convolutions, self.layers, strict=True):
                kernel, bias = branched.folded()  # type: ignore[operator]
                target.weight.copy_(kernel)
                target.bias.copy_(bias)  # type: ignore[union-attr]
        return plain


class _Branched(nn.Module):
    """A convolution of several kernels added up, batch norm, ReLU."""

    def __init__(self, channels: int, width: int, stride: int, *, side: int = 3) -> None:
        super().__init__()
        self.stride, self.padding = stride, side // 2
        self.kernel = nn.Parameter(torch.empty(width, channels, side, side))
        nn.init.kaiming_normal_(self.kernel, mode="fan_out", nonlinearity="relu")
        self.point = self.identity = None
        if side > 1:
            self.point = nn.Parameter(torch.empty(width, channels, 1, 1))
            nn.init.kaiming_normal_(self.point, mode="fan_out", nonlinearity="relu")
        if stride == 1 and channels == width:
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

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Kernel and bias of the convolution that does what this one and its norm do."""
        norm = self.norm
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator]
        kernel = self.whole() * scale[:, None, None, None]
        return kernel, norm.bias - norm.running_mean * scale  # type: ignore[operator]


def untrained_nano(*, seed: int) -> ModuleBackbone:
    """The network with branches and random weights, to be trained.

    Args:
        seed: Of the weights; torch's own generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = BranchedNano()
    return ModuleBackbone(NAME, architecture=_ARCHITECTURE, module=module, preprocess=INPUT)


def shipped_weights() -> Path:
    """The weights file of the package."""
    return Path(__file__).with_name("nano.safetensors")


def load_nano(
    weights: Path | None = None, *, preprocess: Preprocess | None = None
) -> ModuleBackbone:
    """Load edgetl_nano; see `edgetl.backbones.load_backbone`.

    Args:
        weights: A local file; the package's own if None. They may be float16, and are computed with
            in float32.
        preprocess: How images become the input; if None, as the weights file says.
    """
    path = weights or shipped_weights()
    preprocess = preprocess or recorded_preprocess(path, NAME) or INPUT
    module = Nano()
    tensors = read_weights(path)
    fit_weights(module, tensors, what=f"{path} does not fit {NAME}", spare=tuple)
    return ModuleBackbone(NAME, architecture=_ARCHITECTURE, module=module, preprocess=preprocess)
