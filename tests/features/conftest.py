import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `toy`, which is a program too


@pytest.fixture(scope="session")
def photos(assets):
    """120 photos of different content, as paths."""
    found = sorted((assets / "data" / "flower_photos" / "test").rglob("*.jpg"))
    assert len(found) >= 120
    return found[:120]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"
