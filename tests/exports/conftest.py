"""A SqueezeNet adapted to real photos and exported: made once for the tests of this folder."""

import sys
from pathlib import Path

import pytest

import edgetl

sys.path.insert(0, str(Path(__file__).parent))  # for `export_kit`
from export_kit import FLOWERS, options


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(autouse=True)
def shared_cache(cache, private_cache, monkeypatch):
    """Features are computed once for this folder."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))


@pytest.fixture(scope="session")
def photos(copy_flowers, tmp_path_factory):
    """Real photos of five classes: 30 to train on and 20 to test on of each."""
    return copy_flowers(tmp_path_factory.mktemp("photos"), FLOWERS, train=30, test=20)


@pytest.fixture(scope="session")
def adapted(photos, assets, cache, tmp_path_factory):
    """A SqueezeNet adapted to them: its weights do not lie on an int8 grid."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETL_CACHE_DIR", str(cache))
        return edgetl.adapt(
            photos,
            backbone="torchvision/squeezenet1_1",
            weights=assets / "weights/squeezenet1_1.safetensors",
            head="ridge",
            output=tmp_path_factory.mktemp("bundles") / "flowers.edgetl",
        )


@pytest.fixture(scope="session")
def exported(adapted, cache, tmp_path_factory):
    """What each kind of export gives; every one is made once."""
    made = {}

    def export(name, target, **graph):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGETL_CACHE_DIR", str(cache))
                made[name] = edgetl.export(
                    adapted,
                    target,
                    output=tmp_path_factory.mktemp("exports") / f"{name}.edgetl",
                    max_drop=2.0,
                    options=options(**graph),
                )
        return made[name]

    return export
