"""A small backbone that exports in about a second, and a real one exported once."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgetl.backbones.module import ModuleBackbone
from edgetl.preprocess import Preprocess

sys.path.insert(0, str(Path(__file__).parent))  # for `networks` and `trt_harness`: programs' too

import networks


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


@pytest.fixture(scope="session")
def networks_folder(once):
    """Where `networks.load` keeps what it exports; a session's processes share it."""
    return once("networks", lambda folder: None)


_BUILDS = pytest.StashKey[list]()


@pytest.fixture
def trt_builds(request):
    """Where TensorRT builds are noted, for the summary at the end."""
    return request.config.stash.setdefault(_BUILDS, [])


def pytest_terminal_summary(terminalreporter, config):
    """Show what TensorRT built, how long that took and how large it is."""
    builds = config.stash.get(_BUILDS, [])
    if builds:
        terminalreporter.section("TensorRT builds, ahead of time on the CPU")
    for name, precision, seconds, size, layers in builds:
        terminalreporter.write_line(
            f"{name:36} {precision} {seconds:6.2f} s {size / 1e6:7.2f} MB {layers:5} layers"
        )


@pytest.fixture(scope="session")
def mobilenet(assets, networks_folder):
    """A real network with its weights, exported once: the backbone and its graph's path."""
    name = "tf_mobilenetv3_small_100"
    backbone, _ = networks.load(name, assets, networks_folder)
    return backbone, networks_folder / f"{name}.onnx"
