"""The criteria by their formulas, and what is chosen with them."""

import numpy as np
import pytest

from edgetl.heads import SoftmaxHead
from edgetl.transfer import domain_choice, domain_criteria, neighbour_graph
from edgetl.transfer.coral import CoralAdapter
from edgetl.transfer.domain_adapter import SourceOnly
from edgetl.transfer.domain_choice import NONE, choose_adapter
from edgetl.transfer.domain_criteria import (
    deep_embedded_validation,
    effective_size,
    importance,
    importance_weighted_risk,
    information,
    mean_entropy,
    nearest_samples,
    neighbour_information,
    neighbourhood_density,
    nuclear_norm,
)


def answers(n=9, classes=3, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), n)


def test_entropy_and_information():
    shares = answers()
    assert mean_entropy(shares) == pytest.approx(-(shares * np.log(shares)).sum(1).mean())
    mean = shares.mean(0)
    expected = -(mean * np.log(mean)).sum() - mean_entropy(shares)
    assert information(shares) == pytest.approx(expected)
    assert information(np.eye(4)) == pytest.approx(np.log(4))
    assert information(np.eye(4)[[1, 1, 1]]) == pytest.approx(0)


def test_soft_neighbourhood_density_is_saitos():
    shares = answers()
    rows = shares / np.linalg.norm(shares, axis=1, keepdims=True)
    entropies = []
    for i in range(len(rows)):
        others = np.array([rows[i] @ rows[j] for j in range(len(rows)) if j != i]) / 0.05
        p = np.exp(others - others.max())
        p /= p.sum()
        entropies.append(-(p * np.log(p)).sum())
    assert neighbourhood_density(shares) == pytest.approx(np.mean(entropies))


def test_criteria_on_pairs_of_samples_go_by_blocks(monkeypatch):
    shares = answers(23)
    whole = neighbourhood_density(shares)
    monkeypatch.setattr(domain_criteria, "_BLOCK", 100)  # four rows at a time
    assert neighbourhood_density(shares) == pytest.approx(whole)
    features = np.random.default_rng(3).normal(size=(50, 6)) + 4
    rows = features - features.mean(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = rows @ rows.T - 3 * np.eye(50)
    monkeypatch.setattr(neighbour_graph, "_BLOCK", 200)
    np.testing.assert_array_equal(nearest_samples(features), np.argsort(-likeness, axis=1)[:, :5])


def test_nuclear_norm_is_largest_where_answers_are_sure_and_varied():
    shares = answers(30)
    assert nuclear_norm(np.eye(3)[np.arange(30) % 3]) == pytest.approx(1)
    sizes = np.sqrt(np.linalg.eigvalsh(shares.T @ shares))
    assert nuclear_norm(shares) == pytest.approx(sizes.sum() / np.sqrt(90))
    assert nuclear_norm(np.eye(3)[np.zeros(30, int)]) == pytest.approx(1 / np.sqrt(3))


def test_neighbour_information_wants_connected_and_varied_classes():
    generator = np.random.default_rng(1)
    truth = np.arange(90) % 3
    features = 6 * np.eye(5)[truth] + generator.normal(size=(90, 5)) * 0.3
    nearest = nearest_samples(features)
    assert nearest.shape == (90, 5)
    assert neighbour_information(nearest, truth) == pytest.approx(np.log(3))
    assert neighbour_information(nearest, np.zeros(90, int)) == pytest.approx(0)
    assert neighbour_information(nearest, generator.permutation(truth)) < 0.1
    merged = np.minimum(truth, 1)
    assert 0.5 < neighbour_information(nearest, merged) < np.log(3) - 0.3
    # One neighbour, counted by hand: 0 and 1 see each other, as do 2 and 3.
    line = nearest_samples(np.array([[0.0, 1], [0.1, 1], [1, 0.1], [1, 0]]), k=1)
    assert neighbour_information(line, np.array([0, 0, 1, 1])) == pytest.approx(np.log(2))
    assert neighbour_information(line, np.array([0, 1, 0, 1])) == pytest.approx(np.log(2))


def test_importance_is_the_ratio_of_densities():
    generator = np.random.default_rng(2)
    source, held = generator.normal(size=(4000, 1)), generator.normal(size=(2000, 1))
    target = generator.normal(size=(1500, 1)) + 1
    weights = importance(source, held, target)
    expected = np.exp(held[:, 0] - 0.5)  # N(1, 1) over N(0, 1)
    middle = np.abs(held[:, 0]) < 1.5
    np.testing.assert_allclose(weights[middle], expected[middle], rtol=0.2)
    assert weights.mean() == pytest.approx(1, abs=0.15)
    assert effective_size(np.ones(7)) == 7
    assert effective_size(weights) < 0.6 * len(held)


def test_importance_weighted_risks():
    generator = np.random.default_rng(3)
    losses, weights = generator.random(20), generator.random(20) * 2
    assert importance_weighted_risk(losses, weights) == np.mean(losses * weights)
    weighted = losses * weights
    eta = -np.cov(weighted, weights, ddof=1)[0, 1] / np.var(weights, ddof=1)
    expected = weighted.mean() + eta * weights.mean() - eta
    assert deep_embedded_validation(losses, weights) == pytest.approx(expected)
    assert deep_embedded_validation(losses, np.ones(20)) == pytest.approx(losses.mean())
    # The control variate takes out what the mean weight is off by, where all losses are alike.
    assert deep_embedded_validation(np.full(20, 0.4), weights) == pytest.approx(0.4)


def domains(shift, *, n=150, seed=0):
    generator = np.random.default_rng(seed)
    found = []
    for domain in range(2):
        y = np.arange(n) % 3
        X = 5 * np.eye(8)[y] + generator.normal(size=(n, 8))
        found += [X + domain * shift * np.array([4.0, -3, 2, 1, 1, 0, 0, 0]), y]
    return found


CANDIDATES = {NONE: SourceOnly(head="softmax"), "coral": CoralAdapter()}


def test_an_adapter_is_chosen_where_the_domains_differ_and_helps():
    Xs, ys, Xt, yt = domains(2.0)
    choice = choose_adapter(Xs, ys, Xt, candidates=CANDIDATES, weighted=True)
    assert choice.chosen == "coral" and choice.test.p_value < 0.01
    plain, adapted = (CANDIDATES[name].fit(Xs, ys, Xt).score(Xt, yt) for name in CANDIDATES)
    assert adapted > plain + 0.2
    assert set(choice.judged[0].values) >= {"neighbours", "importance", "dev", "density"}
    record = choice.to_json()
    assert record["chosen"] == "coral" and len(record["candidates"]) == 2
    assert choose_adapter(Xs, ys, Xt, candidates=CANDIDATES, weighted=True) == choice
    again = choose_adapter(Xs, ys, Xt, candidates=CANDIDATES)
    assert "dev" not in again.judged[0].values and again.chosen == "coral"


def test_nothing_is_adapted_where_the_domains_are_the_same():
    Xs, ys, Xt, _ = domains(0.0)
    choice = choose_adapter(Xs, ys, Xt, candidates=CANDIDATES)
    assert choice.chosen == NONE and choice.test.p_value > 0.05
    assert "no difference between the domains was found" in choice.reason


def test_what_answers_did_not_shape_the_classifier():
    """Each half of the target is answered by adapters that saw the other half."""
    Xs, ys, Xt, _ = domains(1.0)
    seen = []

    class Spy(SourceOnly):
        def _fit(self, source, codes, target):
            seen.append(("fit", {row.tobytes() for row in target}))
            return super()._fit(source, codes, target)

        def predict_proba(self, X):
            seen.append(("answer", {row.tobytes() for row in np.asarray(X)}))
            return super().predict_proba(X)

    choose_adapter(Xs, ys, Xt, candidates={NONE: Spy(head=SoftmaxHead(C=1.0))})
    kinds = [kind for kind, _ in seen]
    assert kinds == ["fit", "answer"] * 2
    assert not seen[0][1] & seen[1][1] and not seen[2][1] & seen[3][1]
    assert len(seen[1][1] | seen[3][1]) == len(Xt)


def test_of_many_target_samples_some_are_drawn(monkeypatch):
    Xs, ys, Xt, _ = domains(2.0)
    monkeypatch.setattr(domain_choice, "_JUDGED", 60)
    choice = choose_adapter(Xs, ys, Xt, candidates=CANDIDATES)
    assert choice.chosen == "coral"
    shares = np.array(choice.judged[0].shares) * 60
    np.testing.assert_allclose(shares, shares.round(), atol=1e-9)
    assert choose_adapter(Xs, ys, Xt, candidates=CANDIDATES) == choice
    assert choose_adapter(Xs, ys, Xt, candidates=CANDIDATES, seed=1) != choice


def test_mistakes_are_refused():
    Xs, ys, Xt, _ = domains(1.0)
    with pytest.raises(ValueError, match="one candidate must be called 'none'"):
        choose_adapter(Xs, ys, Xt, candidates={"coral": CoralAdapter()})
    with pytest.raises(ValueError, match="need 20 target samples"):
        choose_adapter(Xs, ys, Xt[:19], candidates=CANDIDATES)
