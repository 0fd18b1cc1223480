"""Small bundles for the tests of reports: photos of colours, and a backbone of mean colours."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from colours import save_mean_colours, write_photos

import edgetl
from edgetl.bundle import Bundle

sys.path.insert(0, str(Path(__file__).parent))  # for `browser` and `report_kit`

from report_kit import HOSTILE, export_record, extra


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(autouse=True)
def shared_cache(cache, private_cache, monkeypatch):
    """Features are computed once for this folder."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(cache))


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    """An ONNX file that gives the mean of each colour."""
    return save_mean_colours(tmp_path_factory.mktemp("backbone") / "means.onnx", size=8)


@pytest.fixture(scope="session")
def adapted(backbone, cache, tmp_path_factory):
    """Adapts to photos of classes that overlap; each set of labels once."""
    made = {}

    def adapt(labels, *, train=12, test=12):
        if labels not in made:
            root = tmp_path_factory.mktemp("colours")
            colours = {
                label: 90 + 25 * np.array([place % 3, place // 3, 1])
                for place, label in enumerate(labels)
            }
            generator = np.random.default_rng(0)
            look = {"shade": 9, "noise": 40, "size": (20, 24)}
            for part, count in (("train", train), ("test", test)):
                write_photos(root / "photos" / part, colours, count, generator, **look)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGETL_CACHE_DIR", str(cache))
                made[labels] = edgetl.adapt(
                    root / "photos",
                    backbone=backbone,
                    head="ridge",
                    output=root / "colours.edgetl",
                    options=edgetl.AdaptOptions(preprocess=edgetl.Preprocess(size=8, resize=8)),
                )
        return made[labels]

    return adapt


@pytest.fixture(scope="session")
def plain(adapted):
    """Four classes, of which some photos are mistaken."""
    return adapted(("azure", "beige", "coral", "dust"))


@pytest.fixture(scope="session")
def everything(adapted, tmp_path_factory):
    """A bundle with all there can be on a page, in words that try to break it."""
    made = adapted((*HOSTILE, "fern"))
    manifest = dataclasses.replace(
        made.manifest,
        evidence=dataclasses.replace(made.evidence, extra=extra()),
        export=export_record(),
    )
    path = tmp_path_factory.mktemp("everything") / f"{HOSTILE[0]}.edgetl"
    return dataclasses.replace(made, manifest=manifest).save(path)


@pytest.fixture
def changed(plain):
    """Makes a copy of the plain bundle, in memory, with other evidence or provenance."""

    def change(*, evidence=None, **manifest) -> Bundle:
        found = plain.manifest
        if evidence is not None:
            known = dataclasses.replace(found.evidence, **evidence)
            found = dataclasses.replace(found, evidence=known)
        return dataclasses.replace(plain, manifest=dataclasses.replace(found, **manifest))

    return change
