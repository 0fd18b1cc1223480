"""Methods by name with options from text; and the seam between a method and `edgetl.adapt`."""

import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from colours import reds_and_greens, save_mean_colours

import edgetl
from edgetl.backbones import load_backbone
from edgetl.heads import select_head
from edgetl.transfer.method import Method
from edgetl.transfer.methods import load_method
from edgetl.transfer.names import ABOUT, METHODS, options_of


@dataclass(frozen=True)
class Toy(Method):
    name: ClassVar[str] = "toy"
    epochs: int = 3
    lr: float | None = 0.1
    mode: Literal["fast", "slow"] = "fast"
    stages: tuple[int, ...] = ()
    strict: bool = False
    model: str | None = None


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", "a_module_of_toys:Toy")
    monkeypatch.setitem(sys.modules, "a_module_of_toys", types.SimpleNamespace(Toy=Toy))


def test_options_come_from_text(toy):
    texts = ["epochs= 10", "lr=1e-3", "mode=slow", "stages=1, 2", "strict=true", "model=none"]
    assert load_method("toy", options_of(texts)) == Toy(10, 1e-3, "slow", (1, 2), True, None)
    assert load_method("toy", {"lr": "none", "model": "a=b"}) == Toy(lr=None, model="a=b")
    assert load_method("toy").options["epochs"] == 3


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("epochs=ten", "option epochs of method toy: must be a whole number, got 'ten'"),
        ("lr=nan", "must be a finite number"),
        ("lr=fast", "must be none, got 'fast'|must be a number, got 'fast'"),
        ("mode=medium", "must be one of fast, slow, got 'medium'"),
        ("strict=yes", "must be one of true, false"),
        ("epoch=3", "has no option 'epoch'; it has epochs, lr"),
    ],
)
def test_a_bad_option_is_refused_by_name(toy, option, message):
    with pytest.raises(ValueError, match=message):
        load_method("toy", options_of([option]))


def test_bad_texts_and_names_are_refused():
    with pytest.raises(ValueError, match="expected NAME=VALUE"):
        options_of(["epochs"])
    with pytest.raises(ValueError, match="given twice"):
        options_of(["a=1", "a=2"])
    with pytest.raises(ValueError, match="no method is called 'magic'; there are head"):
        load_method("magic")
    with pytest.raises(ValueError, match="'corral' \\(did you mean coral"):
        load_method("corral")
    with pytest.raises(ValueError, match="no option 'x'; it has none"):
        load_method("head", {"x": "1"})


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_loads_with_its_defaults_and_names_its_source(name):
    method = load_method(name)
    assert method.name == name
    assert method.paper or name == "head"
    assert method.options == load_method(name).options


def test_every_method_says_what_it_does_and_needs():
    assert list(ABOUT) == list(METHODS)
    for name, about in ABOUT.items():
        method = load_method(name)
        assert ("needs --unlabelled" in about) == (method.unlabelled == "needed"), name
        assert ("needs --source" in about) == (method.source == "needed"), name
        assert ("needs --groups" in about) == method.for_groups, name


# In an adaptation.


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Photos of two noisy colours as (images, labels), a backbone of mean colours, its input."""
    path = save_mean_colours(tmp_path_factory.mktemp("methods") / "means.onnx", size=8)
    return path, edgetl.Preprocess(size=8, resize=8)


@dataclass(frozen=True)
class Reversed(Method):
    """Answers the wrong class, so that the figures show whether its head was used."""

    name: ClassVar[str] = "reversed"
    paper: ClassVar[str] = "none"
    unlabelled: ClassVar = "optional"
    source: ClassVar = "optional"
    learns: ClassVar[bool] = False
    tell: str = "told"

    def fit(self, task):
        task.details["seen"] = {
            "unlabelled": None if task.unlabelled is None else list(task.unlabelled.shape),
            "source": None if task.source is None else len(task.source[1]),
            "names": list(task.samples.names[:1]),
        }
        return select_head(task.features, 1 - task.targets, head=task.head, seed=task.seed)


def adapted(colours, data, **arguments):
    path, definition = colours
    return edgetl.adapt(
        data, backbone=path, options=edgetl.AdaptOptions(preprocess=definition), **arguments
    )


def test_a_methods_head_ships_beside_no_adaptation(colours):
    bundle = adapted(colours, reds_and_greens(60), method=Reversed(), head="ridge")
    evidence = bundle.evidence
    assert evidence.accuracy < 0.2
    plain = evidence.baselines["no adaptation"]
    assert plain.accuracy > 0.8 and plain.gain_high < 0
    record = evidence.extra["method"]
    assert record["name"] == "reversed" and record["options"] == {"tell": "told"}
    assert record["details"]["seen"]["unlabelled"] is None
    assert bundle.learning is None
    assert "no adaptation" not in adapted(colours, reds_and_greens(60)).evidence.baselines


def test_further_samples_reach_the_method(colours):
    images, labels = reds_and_greens(20, seed=2)
    bundle = adapted(
        colours,
        reds_and_greens(40),
        method=Reversed(),
        unlabelled=reds_and_greens(12, seed=1)[0],
        source=reds_and_greens(10, seed=3),
        test=(images, labels),
    )
    assert bundle.evidence.n_train == 40 and bundle.evidence.n_test == 20
    seen = bundle.evidence.extra["method"]["details"]["seen"]
    assert seen["unlabelled"] == [12, 3] and seen["source"] == 10


def test_where_the_figures_come_from_is_said(colours):
    bundle = adapted(
        colours, reds_and_greens(40), method=Reversed(), unlabelled=reds_and_greens(12, seed=1)[0]
    )
    assert any("measured on samples of the labelled data" in n for n in bundle.evidence.run.notes)
    images, labels = reds_and_greens(20, seed=2)
    bundle = adapted(
        colours,
        reds_and_greens(40),
        method=Reversed(),
        unlabelled=images[:8],
        test=(images, labels),
    )
    assert any("8 of 20 test samples are among" in n for n in bundle.evidence.run.notes)


def test_labels_of_test_samples_in_the_source_are_told(colours):
    images, labels = reds_and_greens(20, seed=2)
    bundle = adapted(
        colours,
        reds_and_greens(40),
        method=Reversed(),
        source=(images[:6], labels[:6]),
        test=(images, labels),
    )
    assert bundle.evidence.run.n_duplicates == 6
    assert "6: image[0] = image[0]" in str(bundle.evidence)
    assert "method       reversed" in str(bundle.evidence)
    seen = edgetl.evaluate_bundle(bundle, (images, labels)).run
    assert any("6 of these 20" in note for note in seen.notes)


@dataclass(frozen=True)
class Halved(Method):
    """Another network: the same graph under another name."""

    name: ClassVar[str] = "halved"
    path: str = ""

    def network(self, task):
        task.details["trained on"] = len(task.train)
        return load_backbone(self.path, preprocess=edgetl.Preprocess(size=8, resize=8))


def test_a_methods_network_ships_beside_the_given_one(colours, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(colours[0])
    node = onnx.helper.make_node("Neg", ["features"], ["negative"])
    model.graph.node.append(node)
    model.graph.output[0].name = "negative"
    onnx.save(model, tmp_path / "negative.onnx")
    bundle = adapted(colours, reds_and_greens(60), method=Halved(str(tmp_path / "negative.onnx")))
    assert bundle.manifest.backbone.endswith("negative.onnx")
    assert bundle.evidence.baselines["no adaptation"].accuracy == bundle.evidence.accuracy
    assert bundle.evidence.extra["method"]["details"] == {"trained on": bundle.evidence.n_train}
    plain = adapted(colours, reds_and_greens(60)).checks.probe_features
    np.testing.assert_array_equal(bundle.checks.probe_features, -plain)


def test_samples_that_a_method_does_not_take_are_refused(colours):
    with pytest.raises(ValueError, match="head has no use for unlabelled"):
        adapted(colours, reds_and_greens(20), unlabelled=reds_and_greens(5)[0])
    with pytest.raises(ValueError, match="head has no use for source"):
        adapted(colours, reds_and_greens(20), source=reds_and_greens(5))
    needy = type("Needy", (Reversed,), {"unlabelled": "needed", "name": "needy"})
    with pytest.raises(ValueError, match="needy needs unlabelled: unlabelled samples"):
        adapted(colours, reds_and_greens(20), method=needy())
    with pytest.raises(TypeError, match="method must be a name or a Method, got int"):
        adapted(colours, reds_and_greens(20), method=3)


def test_unseen_classes_need_photos_to_measure_on_alone(colours, tmp_path):
    """Word vectors are the colours that the words mean, and purple has no photo to train on."""
    meant = {
        "red": (200, 60, 60),
        "green": (60, 200, 60),
        "blue": (60, 60, 200),
        "grey": (120, 120, 120),
        "yellow": (200, 200, 60),
        "purple": (200, 60, 200),
    }
    np.savez(
        tmp_path / "words.npz",
        words=np.array(list(meant)),
        vectors=np.array(list(meant.values()), np.float32) / 255,
    )
    generator = np.random.default_rng(0)
    names, parts = [], []
    for label in meant:
        parts += ["train"] * (0 if label == "purple" else 10) + ["test"] * 6
        names += [label] * (len(parts) - len(names))
    images = tuple(
        np.clip(generator.normal(meant[name], 30, (8, 8, 3)), 0, 255).astype(np.uint8)
        for name in names
    )
    labels = tuple(sorted(meant))
    data = edgetl.Dataset(
        tuple(f"photo {place}" for place in range(len(names))),
        images,
        np.array([labels.index(name) for name in names]),
        labels,
        tuple(parts),
    )
    method = load_method("zeroshot", {"vectors": str(tmp_path / "words.npz"), "unseen": "purple"})
    bundle = adapted(colours, data, method=method)
    score = bundle.evidence.per_class[labels.index("purple")]
    assert (score.n_train, score.n) == (0, 6) and score.recall > 0.8
    assert bundle.labels == labels and bundle.evidence.n_test == 36
    saved = edgetl.load(bundle.save(tmp_path / "colours.edgetl").path)
    purple = np.full((8, 8, 3), meant["purple"], np.uint8)
    assert saved.predict(purple).label == "purple"
    apart = adapted(colours, data.part("train"), test=data.part("test"), method=method)
    assert apart.labels == labels
    assert apart.evidence.per_class == bundle.evidence.per_class
    with pytest.raises(edgetl.errors.DataError, match="no training samples: 'purple'; add"):
        adapted(colours, data)


def test_the_documentation_says_of_every_method_what_it_needs_and_whether_it_learns():
    page = Path(__file__).parents[2] / "docs" / "how-to" / "adapt.md"
    section = page.read_text(encoding="utf-8").partition("\n| `--method` |")[2].partition("\n\n")[0]
    told = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4:
            told |= dict.fromkeys(re.findall(r"`([a-z-]+)`", cells[0]), cells[2:])
    assert set(METHODS) <= set(told)
    for name in METHODS:
        method, (needs, learns) = load_method(name), told[name]
        assert ("--unlabelled" in needs) == (method.unlabelled == "needed"), name
        assert ("--source" in needs) == (method.source == "needed"), name
        assert ("--groups" in needs) == method.for_groups, name
        assert learns == ("yes" if method.learns else "no"), name
