"""Weighted source samples and boosting as methods of adapt: on arrays, and into a bundle."""

import numpy as np
import pytest
from colours import reds_and_greens, save_mean_colours
from sklearn.linear_model import LogisticRegression

import edgetl
from edgetl.heads import KnnHead, RidgeHead, SoftmaxHead, load_head, select_head
from edgetl.transfer.importance import DomainWeights, Kliep, TradaBoost, Ulsif
from edgetl.transfer.method import HeadTask
from edgetl.transfer.methods import load_method
from edgetl.transfer.weighted_fit import fit_weighted


def bent(n=400, m=300, seed=0):
    """A rule that is bent, so that a linear head has to know where it will be asked.

    Source to the left, target to the right; one rule for both, up to a tenth of the labels.
    """
    generator = np.random.default_rng(seed)

    def draw(count, middle):
        X = generator.normal(size=(count, 2)) * [1.0, 1.0] + [middle, 0.0]
        y = (X[:, 1] > 1.4 * np.abs(X[:, 0]) - 1.2).astype(np.int64)
        flips = generator.random(count) < 0.05
        return X.astype(np.float32), np.where(flips, 1 - y, y)

    return *draw(n, -0.7), *draw(m, 1.0)


def task(X, y, unlabelled=None, source=None, head="softmax"):
    return HeadTask(
        features=X,
        targets=y,
        labels=tuple("ab"),
        samples=None,
        network=None,
        unlabelled=unlabelled,
        source=source,
        head=head,
    )


@pytest.mark.parametrize("method", [Kliep, Ulsif, DomainWeights])
def test_weighting_helps_where_the_head_is_too_simple(method):
    gains = []
    for seed in range(2):
        X, y, target, truth = bent(seed=seed)
        given = task(X, y, target)
        selection = method(components=2).fit(given)
        plain = select_head(X, y, head="softmax").head
        gains.append(selection.head.score(target, truth) - plain.score(target, truth))
        assert given.details["effective_samples"] < 400
        assert 0.5 < given.details["separation"] < 0.95
        again = load_head(selection.head.kind, selection.head.arrays())
        np.testing.assert_array_equal(again.predict(target), selection.head.predict(target))
    assert np.mean(gains) > 0.03


def test_it_is_the_weighted_fit_of_scikit_learn():
    X, y, target, _ = bent()
    weights, _ = Ulsif(components=2).weights(X, target)
    selection, power, why = fit_weighted(X, y, weights, head=SoftmaxHead(0.5, tol=1e-8), power=1.0)
    assert power == 1.0 and "given" in why
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000)
    labels = np.r_[y, 2]  # a third class of no weight makes it multinomial, as heads are
    theirs.fit(np.r_[X, X[:1]], labels, sample_weight=np.r_[np.maximum(weights, 1e-6), 1e-12])
    expected = theirs.coef_[1] - theirs.coef_[0]
    np.testing.assert_allclose(
        selection.head.coef_[1] - selection.head.coef_[0], expected, rtol=2e-3
    )


def test_the_power_is_chosen_by_importance_weighted_loss():
    X, y, target, _ = bent()
    weights, _ = Ulsif(components=2).weights(X, target)
    _, power, why = fit_weighted(X, y, weights, head="softmax")
    assert power > 0 and "lowest importance-weighted log loss" in why
    generator = np.random.default_rng(0)
    _, power, why = fit_weighted(X, y, generator.exponential(size=len(X)), head="softmax")
    assert power == 0
    _, power, why = fit_weighted(X[:2], np.array([0, 1]), np.array([1.0, 3.0]))
    assert power == 1 and "nothing can be held out" in why


def test_domains_that_lie_apart_are_warned_of():
    X, y, target, _ = bent()
    given = task(X, y, target + 30)
    selection = Ulsif(components=2).fit(given)
    assert given.details["separation"] > 0.99
    assert any("hardly overlap" in text for text in given.details["warnings"])
    assert "warning:" in selection.reason


def test_boosting_uses_the_source_as_far_as_it_agrees():
    generator = np.random.default_rng(0)
    means = generator.normal(size=(2, 30)) * 0.35
    source_labels = generator.integers(0, 2, 300)
    wrong = generator.random(300) < 0.3
    source = means[source_labels] + generator.normal(size=(300, 30))
    source_labels = np.where(wrong, 1 - source_labels, source_labels)
    y, truth = np.arange(12) % 2, np.arange(400) % 2
    X, queries = (means[t] + generator.normal(size=(len(t), 30)) for t in (y, truth))
    given = task(X, y, source=(source.astype(np.float32), source_labels), head="auto")
    selection = TradaBoost().fit(given)
    alone = select_head(X, y).head
    together = SoftmaxHead(0.1).fit(np.r_[source, X], np.r_[source_labels, y])
    boosted = selection.head.score(queries, truth)
    assert boosted > max(alone.score(queries, truth), together.score(queries, truth)) + 0.03
    assert selection.n_held_out == 12 and len(selection.hits) == 12
    assert sum(candidate.chosen for candidate in selection.candidates) == 1
    assert [candidate.parameters["C"] for candidate in selection.candidates] == [0.01, 0.1, 1.0]
    assert given.details["source_samples"] == 300
    assert "of the held-out target samples right" in selection.reason
    assert isinstance(selection.head, RidgeHead)
    one = TradaBoost(rounds=4).fit(task(X[:2], y[:2], source=given.source, head=RidgeHead(10.0)))
    assert one.n_held_out == 0 and one.hits is None
    with pytest.raises(ValueError, match="not KnnHead"):
        TradaBoost().fit(task(X, y, source=given.source, head=KnnHead()))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("kliep", {"clip": "1"}),
        ("kliep", {"components": "0"}),
        ("ulsif", {"alpha": "1"}),
        ("domain-weights", {"power": "2"}),
        ("tradaboost", {"rounds": "1"}),
        ("tradaboost", {"strengths": "0"}),
    ],
)
def test_options_are_checked(name, options):
    with pytest.raises(ValueError, match="must be"):
        load_method(name, options)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A graph of mean colours."""
    return save_mean_colours(tmp_path_factory.mktemp("importance") / "means.onnx", size=8)


@pytest.mark.parametrize("name", ["propagate", "kliep", "ulsif", "domain-weights", "tradaboost"])
def test_the_methods_make_bundles(backbone, tmp_path, name):
    target = reds_and_greens(30, seed=2, shift=(10, 0, 0))
    others = (
        {"source": reds_and_greens(60, seed=3)}
        if name == "tradaboost"
        else {"unlabelled": target[0]}
    )
    bundle = edgetl.adapt(
        reds_and_greens(40, seed=1),
        backbone=backbone,
        method=name,
        test=target,
        output=tmp_path / "bundle.edgetl",
        options=edgetl.AdaptOptions(preprocess=edgetl.Preprocess(size=8, resize=8), cache=False),
        **others,
    )
    record = bundle.evidence.extra["method"]
    assert record["name"] == name and record["paper"]
    assert ("labels of" if name == "propagate" else "source") in record["reason"]
    assert bundle.evidence.accuracy > 0.8 and "no adaptation" in bundle.evidence.baselines
    served = edgetl.load(tmp_path / "bundle.edgetl").predict(target[0][0])
    assert served.label in ("red", "green")
