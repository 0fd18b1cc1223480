"""Ranges from histograms, beside what numpy finds with all numbers in memory."""

import numpy as np
import pytest

from edgetl.exporter.histogram import METHODS, Histogram


def histogram(*pieces):
    made = Histogram()
    for piece in pieces:
        piece = np.asarray(piece, np.float32)
        made.add(piece, low=float(piece.min()), high=float(piece.max()))
    return made


def after_relu(seed=0, count=400_000, outliers=20):
    """Half zeros, half a normal distribution's upper part, and a few far outliers."""
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.normal(0, 1, count), 0).astype(np.float32)
    values[rng.integers(0, count, outliers)] = rng.uniform(20, 40, outliers)
    return values


def squared_error(values, low, high):
    """Of 256 evenly spaced levels, zero among them, as every quantizer of activations has it."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(values.astype(np.float64) / step) + zero, 0, 255)
    return float((((codes - zero) * step - values) ** 2).mean())


def test_counts_are_those_of_numpy():
    values = np.random.default_rng(0).normal(1, 3, 100_000).astype(np.float32)
    found = histogram(values)
    assert found.reach == 2.0 ** np.ceil(np.log2(np.abs(values).max()))
    wanted, _ = np.histogram(values, bins=4096, range=(-found.reach, found.reach))
    np.testing.assert_array_equal(found.counts, wanted)
    assert found.range("minmax") == (values.min(), values.max())
    middle = np.average(found.centers, weights=found.counts)
    assert abs(middle - values.mean(dtype=np.float64)) < found.reach / 4096


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_are_those_of_numpy_up_to_a_bin(seed):
    rng = np.random.default_rng(seed)
    values = (rng.standard_t(3, 500_000) + seed).astype(np.float32)
    found = histogram(values)
    low, high = found.range("percentile")
    width = 2 * found.reach / 4096
    # The outer edges of the bins in which the quantiles lie.
    assert 0 <= np.quantile(values, 1e-5) - low <= 1.01 * width
    assert 0 <= high - np.quantile(values, 1 - 1e-5) <= 1.01 * width
    assert values.min() <= low
    assert high <= values.max()


def test_few_numbers_say_nothing_about_their_tails():
    """Of a large tensor only some numbers are counted; its extremes must not be lost to that."""
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    found = Histogram()
    found.add(values, low=-9.0, high=7.0)
    assert found.range("percentile") == (-9.0, 7.0)


@pytest.mark.parametrize(
    "values",
    [
        after_relu(),
        np.random.default_rng(1).standard_t(3, 300_000).astype(np.float32),
        np.random.default_rng(2).uniform(-1, 5, 300_000).astype(np.float32),
    ],
    ids=["after a ReLU", "heavy tails", "uniform"],
)
def test_least_squares_are_nearly_those_of_a_search_over_all_numbers(values):
    low, high = histogram(values).range("mse")
    factors = np.linspace(0.05, 1, 200)
    best = min(squared_error(values, values.min() * f, values.max() * f) for f in factors)
    assert squared_error(values, low, high) <= 1.05 * best
    everything = squared_error(values, values.min(), values.max())
    assert squared_error(values, low, high) <= everything * (1 + 1e-6)


def test_entropy_cuts_outliers_and_keeps_the_bulk():
    values = after_relu()
    low, high = histogram(values).range("entropy")
    assert low == 0
    bulk = np.quantile(values, 0.999)
    assert bulk < high < 12  # a factor of three and more below the largest outlier
    assert squared_error(values[values < 5], low, high) < 0.2 * squared_error(
        values[values < 5], 0, values.max()
    )
    even = np.random.default_rng(0).uniform(0, 3.9, 300_000).astype(np.float32)
    assert histogram(even).range("entropy")[1] > 3.8  # nothing to cut


@pytest.mark.parametrize("growth", [(1, 1, 1), (0.001, 1, 700), (700, 0.001, 1)])
def test_pieces_give_what_all_at_once_gives(growth):
    rng = np.random.default_rng(0)
    pieces = [rng.normal(0, scale, 50_000).astype(np.float32) for scale in growth]
    streamed, whole = histogram(*pieces), histogram(np.concatenate(pieces))
    assert streamed.reach == whole.reach
    assert (streamed.low, streamed.high) == (whole.low, whole.high)
    np.testing.assert_array_equal(streamed.counts, whole.counts)
    for method in METHODS:
        assert streamed.range(method) == whole.range(method)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    values = np.array([1, bad, 2], np.float32)
    found = histogram([1, 2])
    with pytest.raises(ValueError, match="not finite"):
        found.add(values, low=float(values.min()), high=float(values.max()))
    assert found.range("minmax") == (1, 2)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_and_constants_have_ranges(method):
    assert histogram(np.zeros(1000)).range(method) == (0, 0)
    low, high = histogram(np.full(200_000, 6.0)).range(method)
    assert low <= 6
    # Within half a level of what 256 levels up to the constant itself would give.
    assert squared_error(np.full(10, 6.0, np.float32), low, high) <= (6 / 255) ** 2
    low, high = histogram(np.full(200_000, -6.0)).range(method)
    assert squared_error(np.full(10, -6.0, np.float32), low, high) <= (6 / 255) ** 2


def test_masks_near_the_largest_float_do_not_overflow():
    """Attention masks are often the most negative number of float32."""
    least = np.finfo(np.float32).min
    found = histogram([0, 1, least])
    assert found.range("minmax") == (least, 1)
    assert found.counts[0] == 1
    assert found.counts[2048] == 2


def test_what_was_not_counted_has_no_range():
    with pytest.raises(ValueError, match="no number"):
        Histogram().range("minmax")
    with pytest.raises(ValueError, match="median"):
        histogram([1]).range("median")
