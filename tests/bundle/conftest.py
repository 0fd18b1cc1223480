"""What the tests of head updates share."""

import sys
from pathlib import Path

import pytest

from edgetl.bundle import SigningKey, generate_keys

sys.path.insert(0, str(Path(__file__).parent))  # for `delta_kit`

from delta_kit import NEW, OLD, bundle_of


@pytest.fixture
def pair(tmp_path):
    return bundle_of(tmp_path / "old", OLD), bundle_of(tmp_path / "new", NEW, seed=1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    generate_keys(folder / "key.pem", folder / "pub.pem")
    return SigningKey.load(folder / "key.pem"), folder / "pub.pem"
