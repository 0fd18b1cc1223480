"""Density ratios against the papers' formulas, written out slowly, and the package `adapt`.

What `adapt` 0.4.5 gave for fixed inputs lies in adapt_instance_reference.json, for the test of
TrAdaBoost too.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from edgetl.transfer.density_ratio import (
    Reduction,
    effective_size,
    gaussian,
    settled_weights,
    squared_distances,
)
from edgetl.transfer.domain_classifier import area_under_curve, domain_ratio
from edgetl.transfer.kliep import kliep
from edgetl.transfer.ulsif import left_out_errors, ulsif

REFERENCE = json.loads(
    (Path(__file__).parent / "adapt_instance_reference.json").read_text(encoding="utf-8")
)
SOURCE, TARGET = np.array(REFERENCE["source"]), np.array(REFERENCE["target"])
WIDTH = 1.0
"""`adapt` calls it gamma = 1 / (2 width^2) = 0.5."""


def shifted(n=300, m=200, seed=0):
    """Source, target, and the true ratio at the source samples: two Gaussians in 3 dimensions."""
    generator = np.random.default_rng(seed)
    middle, spread = np.array([0.8, 0.0, -0.4]), 0.7
    source = generator.normal(size=(n, 3))
    target = generator.normal(size=(m, 3)) * spread + middle
    above = -((source - middle) ** 2).sum(1) / (2 * spread**2) - 3 * np.log(spread)
    return source, target, np.exp(above + (source**2).sum(1) / 2)


def test_kliep_agrees_with_adapt():
    found = kliep(SOURCE, TARGET, widths=WIDTH, tolerance=1e-8, max_iter=10**6)
    np.testing.assert_allclose(found(SOURCE), REFERENCE["kliep"]["weights"], atol=1e-4)
    assert found(SOURCE).mean() == pytest.approx(1, abs=1e-12)
    assert not found.scores


@pytest.mark.parametrize("penalty", ["0.1", "1"])
@pytest.mark.parametrize(("alpha", "name"), [(0.0, "ulsif"), (0.2, "rulsif")])
def test_ulsif_agrees_with_adapt(alpha, name, penalty):
    found = ulsif(SOURCE, TARGET, alpha=alpha, widths=WIDTH, penalties=float(penalty))
    expected = REFERENCE[f"{name}_{penalty}"]["weights"]
    np.testing.assert_allclose(found(SOURCE), expected, atol=1e-7)


def test_kliep_is_at_the_maximum_of_the_paper():
    """No proportion of kernels has a positive slope left, and the constraint holds."""
    source, target, _ = shifted(80, 60)
    found = kliep(source, target, widths=1.2, tolerance=1e-6)
    kernels = np.array([[np.exp(-np.sum((x - c) ** 2) / 2.88) for c in target] for x in target])
    means = np.array(
        [np.mean([np.exp(-np.sum((x - c) ** 2) / 2.88) for x in source]) for c in target]
    )
    assert found.coefficients.min() >= 0
    assert means @ found.coefficients == pytest.approx(1)
    slope = np.mean(kernels / (kernels @ found.coefficients)[:, None], axis=0) / means
    assert slope.max() <= 1 + 1e-6
    generator = np.random.default_rng(1)
    best = np.log(kernels @ found.coefficients).mean()
    for _ in range(50):
        other = generator.dirichlet(np.ones(len(means)) * 0.2) / means
        mixed = 0.9 * found.coefficients + 0.1 * other
        assert np.log(kernels @ mixed).mean() <= best + 1e-6


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_leaving_out_in_closed_form_is_leaving_out(alpha):
    source, target, _ = shifted(20, 15)
    centres = target[:7]
    first = gaussian(squared_distances(source, centres), 1.0)
    second = gaussian(squared_distances(target, centres), 1.0)
    penalties = [0.01, 0.5]
    pairs = np.arange(15)[::-1]
    expected = []
    for penalty in penalties:
        losses = []
        for i, j in zip(np.arange(15), pairs, strict=True):
            a, b = np.delete(first, i, axis=0), np.delete(second, j, axis=0)
            square = (1 - alpha) * a.T @ a / 19 + alpha * b.T @ b / 14
            found = np.linalg.solve(square + penalty * np.eye(7), b.mean(0))
            found = np.maximum(found, 0)
            at_source, at_target = first[i] @ found, second[j] @ found
            losses.append(((1 - alpha) * at_source**2 + alpha * at_target**2) / 2 - at_target)
        expected.append(np.mean(losses))
    errors = left_out_errors(first, second, np.arange(15), pairs, alpha=alpha, penalties=penalties)
    np.testing.assert_allclose(errors, expected, rtol=1e-9)


@pytest.mark.parametrize("estimate", [kliep, ulsif])
def test_kernels_find_the_true_ratio(estimate):
    source, target, truth = shifted()
    found = estimate(source, target)
    assert np.corrcoef(found(source), truth)[0, 1] > 0.85
    assert max(found.scores.values()) > min(found.scores.values())
    chosen = (found.width,) if found.penalty is None else (found.width, found.penalty)
    assert found.scores[chosen] == max(found.scores.values())


def test_the_relative_ratio_has_its_limit():
    source, target, _ = shifted()
    plain, relative = ulsif(source, target), ulsif(source, target, alpha=0.5)
    assert relative(source).max() < 2.3 < plain(source).max()


def test_a_classifier_finds_the_true_ratio():
    source, target, truth = shifted()
    found = domain_ratio(source, target)
    assert np.corrcoef(np.log(found.source), np.log(truth))[0, 1] > 0.75
    assert np.corrcoef(np.log(found(source)), np.log(truth))[0, 1] > 0.75
    assert 0.7 < found.separation < 0.9
    assert found.source.mean() == pytest.approx(1, abs=0.35)


def test_a_classifier_of_two_halves_of_one_sample_finds_nothing():
    generator = np.random.default_rng(3)
    rows = generator.normal(size=(200, 60))
    found = domain_ratio(rows[:100], rows[100:])
    assert abs(found.separation - 0.5) < 0.12
    weights, report = settled_weights(found.source)
    assert report.effective > 90 and not report.degenerate
    assert weights.mean() == pytest.approx(1)


def test_the_area_under_the_curve_counts_pairs():
    generator = np.random.default_rng(4)
    lower, higher = generator.integers(0, 9, 30) / 1.0, generator.integers(3, 12, 20) / 1.0
    pairs = [(b > a) + 0.5 * (b == a) for a in lower for b in higher]
    assert area_under_curve(lower, higher) == pytest.approx(np.mean(pairs))


def test_weights_are_cut_and_reported():
    ratios = np.r_[np.ones(99), 101.0]
    weights, report = settled_weights(ratios, clip=10)
    assert report.clipped == 1
    assert weights.max() / weights.min() == pytest.approx(20)  # 10 times the mean, which is 2
    assert report.effective == pytest.approx(119**2 / (99 + 400))
    assert effective_size(np.ones(7)) == pytest.approx(7)
    uncut, alone = settled_weights(np.r_[np.full(99, 1e-6), 1.0])
    assert alone.degenerate and "1.0 of 100 source samples" in alone.warning()
    assert uncut.mean() == pytest.approx(1)
    assert settled_weights(np.ones(40))[1].warning() is None


@pytest.mark.parametrize("ratios", [[0.0, 0.0], [1.0, np.nan], [1.0, -1.0], [[1.0]]])
def test_unusable_ratios_are_refused(ratios):
    with pytest.raises(ValueError, match="ratio"):
        settled_weights(ratios)


def test_reduction_keeps_what_varies_most():
    generator = np.random.default_rng(5)
    parts = [generator.normal(size=(n, 12)) * np.r_[5, 3, np.full(10, 0.1)] for n in (30, 40)]
    reduction = Reduction.of(*parts, components=2)
    both = np.concatenate(parts)
    found = reduction(both)
    assert found.shape == (70, 2)
    centred = both - both.mean(0)
    _, sizes, _ = np.linalg.svd(centred)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), sizes[:2], rtol=1e-5)
    assert Reduction.of(*parts, components=99)(both).shape == (70, 12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kliep(SOURCE, TARGET[:1]), "at least 2"),
        (lambda: kliep(SOURCE, TARGET, widths=0.0), "widths"),
        (lambda: kliep(SOURCE, TARGET, centres=0), "centres"),
        (lambda: kliep(SOURCE, TARGET, tolerance=0), "tolerance"),
        (lambda: kliep(SOURCE, TARGET + 1e4, widths=1.0), "do not overlap"),
        (lambda: ulsif(SOURCE, TARGET, alpha=1.0), "alpha"),
        (lambda: ulsif(SOURCE, TARGET[:, :2]), "features"),
        (lambda: ulsif(SOURCE * 0, TARGET * 0), "all samples are alike"),
        (lambda: settled_weights([1.0, 2.0], clip=1.0), "clip"),
        (lambda: Reduction.of(SOURCE, components=0), "components"),
        (lambda: Reduction.of(SOURCE, TARGET * np.nan, components=2), "contains NaN"),
        (lambda: Reduction.of(SOURCE, TARGET[:, :2], components=2), "features"),
    ],
)
def test_bad_arguments_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
