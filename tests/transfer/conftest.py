"""Features for the tests of ways of adapting: skewed synthetic ones, and those of real photos."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for what files of tests share


def clusters(shots, classes, *, queries=20, dim=40, apart=2.5, seed=0):
    """(X, y, queries, truth): non-negative features of Gaussian classes, as pooling gives them."""
    generator = np.random.default_rng(seed)
    counts = [shots] * classes if np.isscalar(shots) else list(shots)
    spread = np.exp(-np.arange(dim) / 15)
    means = apart * generator.normal(size=(len(counts), dim)) * spread

    def draw(numbers):
        y = np.repeat(np.arange(len(numbers)), numbers)
        X = means[y] + generator.normal(size=(len(y), dim)) * spread
        return np.maximum(X + 1, 0).astype(np.float32), y

    return *draw(counts), *draw([queries] * len(counts))


@pytest.fixture(scope="session")
def make_clusters():
    """The function that makes features."""
    return clusters


@pytest.fixture(scope="session")
def real_task(assets):
    """Features of real photos by mobilenetv2_100: (X, y, queries, truth, labels) of 8 classes."""
    import timm
    import torch
    from safetensors.torch import load_file

    from edgetl.data import load_dataset
    from edgetl.decode import read_image
    from edgetl.preprocess import Preprocess

    network = timm.create_model("mobilenetv2_100", num_classes=0)
    weights = load_file(assets / "weights/mobilenetv2_100.safetensors")
    network.load_state_dict(weights, strict=False)
    network.eval()
    preprocess = Preprocess(size=128, resize=146)
    whole = load_dataset(assets / "data/caltech101_20")
    labels = ("Leopards", "bonsai", "ewer", "kangaroo", "ketch", "laptop", "starfish", "umbrella")
    parts = []
    for name, count in (("train", 6), ("test", 8)):
        part = whole.part(name)
        rows = [
            row
            for label in labels
            for row in np.flatnonzero(part.targets == part.labels.index(label))[:count]
        ]
        photos = [
            preprocess.apply(read_image(part.sources[row], preprocess=preprocess)) for row in rows
        ]
        with torch.no_grad():
            parts.append(network(torch.from_numpy(np.stack(photos))).numpy())
        parts.append(np.repeat(np.arange(len(labels)), count))
    return *parts, labels
