"""Fixtures shared by all tests."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

# The engine hides it from openvino; tests that import openvino themselves must not fork a sender.
sys.modules.setdefault("openvino_telemetry", None)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("EDGETL_ASSETS", ROOT.parent / "shared" / "assets"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no assets at {folder}; set EDGETL_ASSETS")
    return folder.resolve()


@pytest.fixture(scope="session")
def copy_flowers(assets):
    """Copies the first so many real photos of each part and class into a folder."""

    def copy(root, labels, **counts):
        for part, count in counts.items():
            for label in labels:
                folder = root / part / label
                folder.mkdir(parents=True)
                found = sorted((assets / "data/flower_photos" / part / label).iterdir())
                for photo in found[:count]:
                    shutil.copy(photo, folder)
        return root

    return copy


@pytest.fixture(scope="session")
def flowers(assets, request):
    """(X_train, y_train, X_test, y_test) of mobilenetv2_100, 1,280 features, 5 classes.

    They take half a minute, and are kept in pytest's cache.
    """
    import numpy as np

    from edgetl.backbones import load_backbone
    from edgetl.data import load_dataset
    from edgetl.decode import read_image
    from edgetl.engines import OrtEngine
    from edgetl.exporter.graph import feature_graph
    from edgetl.features import ExtractOptions, extract

    backbone = load_backbone("mobilenetv2_100", assets / "weights/mobilenetv2_100.safetensors")
    parts = load_dataset(assets / "data/flower_photos").split()
    key = hashlib.sha256(backbone.fingerprint.encode()).hexdigest()[:16]
    folder = request.config.cache.mkdir("flower_features")
    file = folder / f"{key}.npz"
    if not file.is_file():
        images = [read_image(x, preprocess=backbone.preprocess) for x in parts[0].sources[:8]]
        probe = np.stack([backbone.preprocess.apply(image) for image in images])
        graph = feature_graph(backbone, probe=probe, cache_dir=folder)
        engine = OrtEngine(graph.path, dim=graph.dim, graph_fingerprint=graph.fingerprint)
        found = [
            extract(
                part.sources,
                names=part.names,
                engine=engine,
                preprocess=backbone.preprocess,
                store=None,
                options=ExtractOptions(strict=True),
            ).features
            for part in parts
        ]
        np.savez(file, train=found[0], test=found[1])
    with np.load(file) as kept:
        return kept["train"], parts[0].targets, kept["test"], parts[1].targets


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    """Keep every test out of the user's cache and off the network."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("EDGETL_OFFLINE", "1")
    monkeypatch.setenv("EDGETL_REQUIRE_NATIVE", "1")
