"""Small bundles for the tests of reports: photos of colours, and a backbone of mean colours."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def draw_photos(root, labels, *, train, test):
    """Noisy photos, each class with a colour of its own that its neighbours' noise reaches."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for place, label in enumerate(labels):
            folder = root / part / label
            folder.mkdir(parents=True)
            for number in range(count):
                colour = 90 + 25 * np.array([place % 3, place // 3, 1]) + generator.normal(0, 9, 3)
                noise = generator.integers(-40, 40, (20, 24, 3)) + colour
                pixels = noise.clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number} {part}.png")
    return root


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    """An ONNX file that gives the mean of each colour."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("backbone") / "means.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def adapted(backbone, cache, tmp_path_factory):
    """Adapts to photos of classes that overlap; each set of labels once."""
    made = {}

    def adapt(labels, *, train=12, test=12):
        if labels not in made:
            root = tmp_path_factory.mktemp("colours")
            photos = draw_photos(root / "photos", labels, train=train, test=test)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("EDGETL_CACHE_DIR", str(cache))
                made[labels] = edgetl.adapt(
                    photos,
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
