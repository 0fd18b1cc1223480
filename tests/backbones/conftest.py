"""Fixtures of the backbones' tests: real photos, and random weights as files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="session")
def photos(assets):
    """Twelve photos of all sizes: flowers and objects."""
    data = assets / "data"
    folders = sorted((data / "flower_photos" / "test").iterdir())
    folders += sorted((data / "caltech101_20" / "test").iterdir())[:7]
    return [sorted(folder.iterdir())[0] for folder in folders]


@pytest.fixture
def save_weights(tmp_path):
    """Save a module's tensors as safetensors; returns the file."""

    def save(module: torch.nn.Module, name: str = "weights.safetensors") -> Path:
        path = tmp_path / name
        save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
        return path

    return save
