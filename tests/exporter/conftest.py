"""A small backbone that exports in about a second."""

import numpy as np
import pytest
import torch

from edgetl.backbones.module import ModuleBackbone
from edgetl.preprocess import Preprocess


def build(seed=0):
    torch.manual_seed(seed)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
    )
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2)
    return ModuleBackbone(
        "small", architecture="test/small", module=module, preprocess=Preprocess(size=16, resize=16)
    )


@pytest.fixture
def small():
    return build()


@pytest.fixture(scope="session")
def make_small():
    return build


@pytest.fixture
def probe():
    return np.random.default_rng(0).standard_normal((4, 3, 16, 16), np.float32)
