"""A SqueezeNet adapted to real photos and exported: made once for the tests of this folder."""

import sys
from pathlib import Path

import pytest

import edgetl
from edgetl.bundle import Bundle

sys.path.insert(0, str(Path(__file__).parent))  # for `export_kit`
from export_kit import FLOWERS, options


@pytest.fixture(scope="session")
def cache(once):
    return once("exports-cache", lambda folder: None)


@pytest.fixture(autouse=True)
def shared_cache(cache, private_cache, monkeypatch):
    """Features are computed once for this folder."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))


@pytest.fixture(scope="session")
def photos(copy_flowers, once):
    """Real photos of five classes: 30 to train on and 20 to test on of each."""
    return once("exports-photos", lambda root: copy_flowers(root, FLOWERS, train=30, test=20))


@pytest.fixture(scope="session")
def adapted(photos, assets, cache, once):
    """A SqueezeNet adapted to them: its weights do not lie on an int8 grid."""

    def adapt(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EDGETL_CACHE_DIR", str(cache))
            edgetl.adapt(
                photos,
                backbone="torchvision/squeezenet1_1",
                weights=assets / "weights/squeezenet1_1.safetensors",
                head="ridge",
                output=folder / "flowers.edgetl",
            )

    return Bundle.load(once("exports-adapted", adapt) / "flowers.edgetl")


@pytest.fixture(scope="session")
def exported(adapted, cache, once):
    """What each kind of export gives; every one is made once."""
    opened = {}

    def export(name, target, **graph):
        def make(folder):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGETL_CACHE_DIR", str(cache))
                edgetl.export(
                    adapted,
                    target,
                    output=folder / f"{name}.edgetl",
                    max_drop=2.0,
                    options=options(**graph),
                )

        if name not in opened:
            opened[name] = Bundle.load(once(f"exports-{name}", make) / f"{name}.edgetl")
        return opened[name]

    return export
