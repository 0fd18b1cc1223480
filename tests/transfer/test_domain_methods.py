"""Domain adaptation as methods of `edgetl.adapt`: what ships, beside no adaptation."""

import numpy as np
import pytest
import torch
from colours import reds_and_greens, save_mean_colours
from torch import nn

import edgetl
from edgetl.backbones.module import ModuleBackbone
from edgetl.data import load_dataset, load_unlabelled
from edgetl.preprocess import Preprocess
from edgetl.transfer import domain_methods
from edgetl.transfer.coral import CoralAdapter
from edgetl.transfer.domain_adapter import SourceOnly
from edgetl.transfer.domain_methods import AdaBn, Domain, Mmd, Shot
from edgetl.transfer.method import HeadTask, NetworkTask
from edgetl.transfer.methods import load_method
from edgetl.transfer.shot import ShotAdapter

DEFINITION = Preprocess(size=8, resize=8)


def photos(count, *, seed=0, shift=0):
    """Noisy photos of two colours; `shift` brightens what is not the colour."""
    return reds_and_greens(count, seed=seed, noise=50, shift=(shift, 0, shift))


@pytest.fixture
def network():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    return ModuleBackbone("tiny", architecture="tiny", module=module, preprocess=DEFINITION)


def tasks(method, network, *, shift=60):
    """What `edgetl.adapt` would give the method: the network's task, then the head's."""
    train = load_dataset(photos(40)).part("train")
    unlabelled = load_unlabelled(photos(40, seed=1, shift=shift)[0])
    details = {}
    adapted = method.network(
        NetworkTask(network=network, train=train, unlabelled=unlabelled, details=details)
    )

    def features(samples):
        return adapted.features(np.stack([DEFINITION.apply(image) for image in samples.sources]))

    return HeadTask(
        features=features(train),
        targets=train.targets,
        labels=train.labels,
        samples=train,
        network=adapted,
        unlabelled=features(unlabelled),
        details=details,
    )


@pytest.mark.parametrize("name", ["coral", "subspace", "mmd", "dann", "shot"])
def test_a_method_fits_a_head_for_the_target(network, name):
    options = {"steps": "10"} if name in ("mmd", "dann", "shot") else {}
    method = load_method(name, options)
    task = tasks(method, network)
    assert task.network is network and method.unlabelled == "needed" and not method.learns
    selection = method.fit(task)
    images, labels = photos(40, seed=2, shift=60)
    X = network.features(np.stack([DEFINITION.apply(image) for image in images]))
    truth = np.array([task.labels.index(label) for label in labels])
    assert selection.head.score(X, truth) > 0.8
    assert task.details["domains"]["p_value"] < 0.05
    assert selection.head.classes_.tolist() == [0, 1]


def test_adabn_changes_the_network_and_keeps_the_sources_head(network):
    method = AdaBn()
    task = tasks(method, network)
    assert task.network.fingerprint != network.fingerprint
    assert task.network.name == "tiny+adabn"
    head = method.fit(task).head
    X, y = network.features(np.stack([DEFINITION.apply(i) for i in photos(40)[0]])), task.targets
    assert head.score(X, y) > 0.9  # fitted to the source, by the source's statistics
    images, labels = photos(40, seed=2, shift=60)
    truth = np.array([task.labels.index(label) for label in labels])
    batch = np.stack([DEFINITION.apply(image) for image in images])
    assert head.score(task.network.features(batch), truth) > 0.8


def test_stages_are_trained_through(network):
    method = Mmd(stages=("0",), epochs=1, steps=5)
    task = tasks(method, network)
    assert task.network.name == "tiny+mmd"
    assert task.details["stages"] == {"photos": [40, 40]}
    assert not torch.equal(task.network.module[0].weight, network.module[0].weight)
    assert method.fit(task).head.kind == "softmax"
    with pytest.raises(ValueError, match="no parameter's name begins with 'blocks'"):
        tasks(Mmd(stages=("blocks",)), network)


def test_the_choice_is_told(network, monkeypatch):
    few = {"none": SourceOnly(), "coral": CoralAdapter(), "shot": ShotAdapter(steps=5)}
    assert set(few) < set(domain_methods.default_candidates())
    monkeypatch.setattr(domain_methods, "default_candidates", lambda **_: few)
    method = Domain()
    task = tasks(method, network)
    selection = method.fit(task)
    choice = task.details["choice"]
    assert choice["domains"]["p_value"] < 0.05
    assert {one["name"] for one in choice["candidates"]} == set(few)
    chosen = few[choice["chosen"]].fit(task.features, task.targets, task.unlabelled)
    np.testing.assert_array_equal(
        selection.head.predict_proba(task.unlabelled), chosen.predict_proba(task.unlabelled)
    )
    assert selection.reason.startswith(f"{choice['chosen']}, best of 3 by the criterion")
    same = tasks(method, network, shift=0)
    assert method.fit(same).head.kind and same.details["choice"]["chosen"] == "none"


def test_coral_ships_beside_no_adaptation(tmp_path):
    # The target's colours are mixed up more than a brighter light would.
    bundle = edgetl.adapt(
        photos(60),
        backbone=save_mean_colours(tmp_path / "means.onnx", size=8),
        options=edgetl.AdaptOptions(preprocess=DEFINITION),
        method="coral",
        unlabelled=photos(60, seed=1, shift=90)[0],
        test=photos(60, seed=2, shift=90),
    )
    evidence = bundle.evidence
    record = evidence.extra["method"]
    assert record["name"] == "coral" and record["options"] == {"ridge": 10.0}
    assert record["details"]["domains"]["p_value"] < 0.05
    assert "no adaptation" in evidence.baselines
    assert evidence.accuracy > 0.8


def test_mistakes_are_refused(network):
    with pytest.raises(ValueError, match="ridge must be above 0"):
        load_method("coral", {"ridge": "0"})
    with pytest.raises(ValueError, match="share must be above 0"):
        load_method("adabn", {"share": "2"})
    with pytest.raises(ValueError, match="trains a softmax head; head='knn'"):
        method = Shot(steps=1)
        task = tasks(method, network)
        method.fit(HeadTask(**{**vars(task), "head": "knn"}))

    with pytest.raises(ValueError, match="chooses among softmax heads; head='ridge'"):
        Domain().fit(HeadTask(**{**vars(task), "head": "ridge"}))

    class Graph:
        name = "graph.onnx"

    with pytest.raises(ValueError, match=r"graph\.onnx is no torch module"):
        AdaBn().network(NetworkTask(network=Graph(), train=None, unlabelled=None))
