"""Adapters to an unlabelled domain on arrays: the papers' formulas, and what adapters do."""

import numpy as np
import pytest
import torch
from scipy.linalg import fractional_matrix_power

from edgetl.heads import load_head
from edgetl.transfer.coral import CoralAdapter, CoralMap
from edgetl.transfer.dan import MmdAdapter, mmd2_loss
from edgetl.transfer.dann import DannAdapter, discriminator, domain_loss, reverse_gradient
from edgetl.transfer.domain_adapter import SourceOnly
from edgetl.transfer.domain_training import Coordinates
from edgetl.transfer.mmd import mmd2, mmd_test
from edgetl.transfer.shot import ShotAdapter, centroid_labels, information_loss
from edgetl.transfer.subspace_alignment import SubspaceAdapter

ADAPTERS = [
    SourceOnly(),
    CoralAdapter(),
    SubspaceAdapter(axes=6),
    MmdAdapter(steps=20, axes=8),
    DannAdapter(steps=20, axes=8),
    ShotAdapter(steps=20, axes=8),
]


def domains(n=120, dim=12, *, classes=3, seed=0, shifted=True):
    """(Xs, ys, Xt, yt): classes on a few axes; the target is displaced along them and stretched."""
    generator = np.random.default_rng(seed)
    means = np.zeros((classes, dim))
    means[np.arange(classes), np.arange(classes)] = 4
    found = []
    for domain in range(2):
        y = np.arange(n) % classes
        X = means[y] + generator.normal(size=(n, dim)) * 0.7
        if domain and shifted:
            X = X @ np.diag(np.linspace(1.5, 0.6, dim)) + 5 * np.sin(np.arange(dim) + 1)
        found += [X.astype(np.float32), y]
    return found


def test_coral_is_the_papers_formula_and_matches_both_moments():
    Xs, _, Xt, _ = (part.astype(float) for part in domains(n=60, dim=5))
    ridge = 1e-6
    whiten = fractional_matrix_power(np.cov(Xs.T) + ridge * np.eye(5), -0.5)
    colour = fractional_matrix_power(np.cov(Xt.T) + ridge * np.eye(5), 0.5)
    moved = CoralMap(Xs, Xt, ridge=ridge)(Xs)
    expected = (Xs - Xs.mean(0)) @ whiten @ colour + Xt.mean(0)
    np.testing.assert_allclose(moved, expected, atol=1e-9)
    np.testing.assert_allclose(np.cov(moved.T), np.cov(Xt.T), atol=1e-5)


def test_coral_is_the_same_with_more_features_than_samples():
    Xs, _, Xt, _ = (part.astype(float) for part in domains(n=10, dim=25))
    whiten = fractional_matrix_power(np.cov(Xs.T) + 0.3 * np.eye(25), -0.5)
    colour = fractional_matrix_power(np.cov(Xt.T) + 0.3 * np.eye(25), 0.5)
    expected = (Xs - Xs.mean(0)) @ whiten @ colour + Xt.mean(0)
    np.testing.assert_allclose(CoralMap(Xs, Xt, ridge=0.3)(Xs), expected, atol=1e-9)


def test_a_composed_subspace_head_is_the_head_on_coordinates():
    Xs, ys, Xt, _ = domains()
    for kind in ("softmax", "ridge"):
        adapter = SubspaceAdapter(axes=4, head=kind).fit(Xs, ys, Xt)
        head, found = adapter.head_, adapter.map_
        # On coordinates: those of a target sample through the axes give the same scores.
        back = found.of_target(Xt.astype(float)) @ found.target_axes + found.means[1]
        np.testing.assert_allclose(head.scores(back), head.scores(Xt), atol=1e-4)
        assert head.kind == kind and head.coef_.shape == (3, 12)
    with pytest.raises(ValueError, match="needs a linear head"):
        SubspaceAdapter(head="knn").fit(Xs, ys, Xt)


def gaussian_mean(A, B, widths):
    distances = ((A[:, None] - B[None]) ** 2).sum(-1)
    return np.mean([np.exp(-distances / width) for width in widths], axis=0)


def test_mmd_is_grettons_formula():
    Xs, _, Xt, _ = (part.astype(float)[:17] for part in domains(dim=4))
    Xt, widths = Xt[:11], [3.0, 20.0]
    n, m = len(Xs), len(Xt)
    kss, ktt, kst = (gaussian_mean(a, b, widths) for a, b in ((Xs, Xs), (Xt, Xt), (Xs, Xt)))
    biased = kss.mean() + ktt.mean() - 2 * kst.mean()
    assert mmd2(Xs, Xt, widths=widths, unbiased=False) == pytest.approx(biased, abs=1e-12)
    unbiased = (kss.sum() - n) / (n * (n - 1)) + (ktt.sum() - m) / (m * (m - 1)) - 2 * kst.mean()
    assert mmd2(Xs, Xt, widths=widths) == pytest.approx(unbiased, abs=1e-12)
    tensors = torch.from_numpy(Xs), torch.from_numpy(Xt)
    assert float(mmd2_loss(*tensors, widths=widths)) == pytest.approx(unbiased, abs=1e-12)
    assert float(mmd2_loss(*tensors)) == pytest.approx(mmd2(Xs, Xt), abs=1e-12)
    assert mmd2(Xs, Xs, unbiased=False) == pytest.approx(0, abs=1e-12)


def test_the_unbiased_mmd_is_zero_on_average_and_its_test_keeps_its_level():
    generator = np.random.default_rng(3)
    draws = [generator.normal(size=(2, 15, 3)) for _ in range(200)]
    values = [mmd2(*draw) for draw in draws]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))
    assert np.mean([mmd2(*draw, unbiased=False) for draw in draws]) > 0.02
    found = [mmd_test(*draw, permutations=19, seed=s).p_value for s, draw in enumerate(draws)]
    # 0.05 of 200 is 10; 19 is the 0.995 quantile.
    assert np.sum(np.array(found) <= 0.05) <= 19
    assert mmd_test(draws[0][0], draws[0][1] + 3, permutations=99).p_value == 0.01


def test_reversed_gradients_are_those_by_hand():
    source = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[3.0, 1.0]], dtype=torch.float64, requires_grad=True)
    judge = torch.nn.Sequential(torch.nn.Linear(2, 1).double())
    w, b = judge[0].weight.detach().numpy()[0], float(judge[0].bias.detach())
    loss = domain_loss(judge, source, target, 0.4)
    loss.backward()
    s, t = source.detach().numpy(), target.detach().numpy()
    chance_s, chance_t = (1 / (1 + np.exp(-(rows @ w + b))) for rows in (s, t))
    assert float(loss.detach()) == pytest.approx(
        -np.log(chance_s).mean() - np.log(1 - chance_t).mean()
    )
    # d/dz of softplus(-z) is p - 1, of softplus(z) is p; each domain is a mean.
    slope_s, slope_t = (chance_s - 1) / 2, chance_t
    np.testing.assert_allclose(judge[0].weight.grad[0], slope_s @ s + slope_t @ t, atol=1e-12)
    np.testing.assert_allclose(source.grad, -0.4 * slope_s[:, None] * w, atol=1e-12)
    np.testing.assert_allclose(target.grad, -0.4 * slope_t[:, None] * w, atol=1e-12)
    values = torch.randn(3, requires_grad=True)
    assert torch.equal(reverse_gradient(values, 2.0), values)


def test_shots_losses_and_pseudo_labels_are_the_papers():
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(7, 3))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -(p * np.log(p)).sum(1).mean() + (p.mean(0) * np.log(p.mean(0))).sum()
    found = float(information_loss(torch.from_numpy(logits)))
    assert found == pytest.approx(expected, abs=1e-6)
    features = generator.normal(size=(7, 4))
    rows = np.concatenate([features, np.ones((7, 1))], 1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centres = p.T @ rows / p.sum(0)[:, None]
    first = (rows @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T).argmax(1)
    assert set(first) == {0, 1, 2}, "all classes must keep a sample, or the test shows less"
    centres = np.stack([rows[first == c].mean(0) for c in range(3)])
    second = (rows @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T).argmax(1)
    labels = centroid_labels(torch.from_numpy(features), torch.from_numpy(p))
    assert labels.tolist() == second.tolist()


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda one: type(one).__name__)
def test_an_adapter_ships_as_a_head_and_repeats_itself(adapter):
    Xs, ys, Xt, yt = domains()
    names = np.array(["a", "b", "c"])
    fitted = type(adapter)(**vars(adapter)).fit(Xs, names[ys], Xt)
    head = fitted.head_
    shipped = load_head(head.kind, head.arrays())
    np.testing.assert_allclose(
        shipped.predict_proba(Xt), fitted.predict_proba(Xt), rtol=1e-3, atol=1e-5
    )
    assert set(fitted.predict(Xt)) <= set(names)
    again = type(adapter)(**vars(adapter)).fit(Xs, names[ys], Xt)
    np.testing.assert_array_equal(again.predict_proba(Xt), fitted.predict_proba(Xt))
    if not isinstance(adapter, SourceOnly):
        plain = SourceOnly().fit(Xs, names[ys], Xt)
        assert plain.score(Xt, names[yt]) < 0.8
        assert fitted.score(Xt, names[yt]) > 0.95
        # Source samples, moved, are answered as what they are.
        moved = fitted.move(Xs.astype(float))
        assert fitted.score(moved, names[ys]) > 0.95


def test_torchs_random_state_is_left_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    discriminator(3, 4, seed=2)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MmdAdapter(steps=0), "steps and axes must be 1 or more"),
        (lambda: MmdAdapter(weight=-1), "weight must be 0 or more"),
        (lambda: DannAdapter(hidden=0), "hidden 1 or more"),
        (lambda: ShotAdapter(refresh=0), "refresh 1 or more"),
        (lambda: MmdAdapter(learning_rate=0), "learning_rate must be above 0"),
        (lambda: CoralMap(np.eye(3), np.eye(3), ridge=0), "ridge must be above 0"),
        (lambda: CoralMap(np.eye(3), np.eye(4), ridge=1), "4 features"),
        (lambda: mmd2(np.eye(3)[:1], np.eye(3)), "need 2 samples or more of each domain"),
        (lambda: mmd2(np.eye(3), np.eye(3), widths=[0.0]), "widths must be above 0"),
        (lambda: CoralAdapter().fit(np.eye(3), [1, 1, 1], np.eye(3)), "2 classes or more"),
        (lambda: CoralAdapter().predict(np.eye(3)), "not fitted"),
    ],
)
def test_mistakes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("dim", [12, 400])
def test_coordinates_are_the_leading_principal_axes_of_both_domains(dim):
    Xs, _, Xt, _ = (part.astype(float) for part in domains(n=60, dim=dim))
    places = Coordinates.of(Xs, Xt, 5)
    centred = np.concatenate([Xs - Xs.mean(0), Xt - Xt.mean(0)])
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    scale = np.sqrt((sizes[:5] ** 2).sum() / (5 * len(centred)))
    signs = np.sign((places.matrix * axes[:5]).sum(axis=1))
    np.testing.assert_allclose(places.matrix * signs[:, None] * scale, axes[:5], atol=1e-7)
    np.testing.assert_allclose(places.target, Xt @ places.matrix.T + places.offset, atol=1e-4)
    both = np.concatenate([places.source, places.target])
    assert np.mean(both**2) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(both[:60].mean(axis=0), 0, atol=1e-5)
