"""The backbones in the assets, those too that neither timm nor torchvision has as they are.

The CIFAR ResNets (He et al. 2016, with shortcuts that have no parameters) and a ShuffleNet without
its last convolution are built here; they become backbones like any other.
"""

from __future__ import annotations

import torch
import torchvision
from measure import ASSETS
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from edgetl.backbone import Backbone
from edgetl.backbones import load_backbone
from edgetl.backbones.module import ModuleBackbone
from edgetl.backbones.source_classifier import find_source_classifier
from edgetl.preprocess import Preprocess

NAMES = (
    "mobilenetv2_100",
    "tf_mobilenetv3_small_100",
    "torchvision/squeezenet1_1",
    "shufflenet_v2_x0_5_features",
    "resnet20_cifar10",
    "resnet56_cifar10",
)


def asset_backbone(name: str) -> Backbone:
    """One of `NAMES`, with its weights."""
    file = ASSETS / "weights" / f"{name.rpartition('/')[2]}.safetensors"
    if name == "shufflenet_v2_x0_5_features":
        return _module(name, ShuffleFeatures(), file, Preprocess(size=224, resize=256, **_PLAIN))
    if name.endswith("_cifar10"):
        depth = int(name.removeprefix("resnet").removesuffix("_cifar10"))
        network = CifarResNet(blocks=(depth - 2) // 6)
        return _module(name, network, file, Preprocess(size=32, resize=32))
    return load_backbone(name, file)


_PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class ShuffleFeatures(nn.Module):
    """ShuffleNet V2 x0.5 up to its fourth stage, pooled: 192 features."""

    def __init__(self) -> None:
        super().__init__()
        whole = torchvision.models.shufflenet_v2_x0_5(weights=None)
        self.conv1, self.maxpool = whole.conv1, whole.maxpool
        self.stage2, self.stage3, self.stage4 = whole.stage2, whole.stage3, whole.stage4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) to (n, 192)."""
        x = self.stage2(self.maxpool(self.conv1(x)))
        return self.stage4(self.stage3(x)).mean((2, 3))


class CifarResNet(nn.Module):
    """ResNet of 6 * blocks + 2 layers for images of 32 x 32: 64 features."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks)
        self.layer2 = _stage(16, 32, blocks)
        self.layer3 = _stage(32, 64, blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 3, 32, 32) to (n, 64)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.padding = (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of two convolutions and the input, thinned out and padded with zeros."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.stride == 2:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(y + x)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        _Block(inputs, outputs), *(_Block(outputs, outputs) for _ in range(1, blocks))
    )


def _module(name: str, network: nn.Module, file, preprocess: Preprocess) -> ModuleBackbone:
    tensors = load_file(file)
    network.load_state_dict({key: value for key, value in tensors.items() if key[:6] != "linear"})
    backbone = ModuleBackbone(name, architecture=name, module=network, preprocess=preprocess)
    backbone.source_classifier = find_source_classifier(tensors, "linear", dim=backbone.dim)
    return backbone
