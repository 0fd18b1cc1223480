"""Fixtures shared by all tests."""

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


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    """Keep every test out of the user's cache and off the network."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("EDGETL_OFFLINE", "1")
    monkeypatch.setenv("EDGETL_REQUIRE_NATIVE", "1")
