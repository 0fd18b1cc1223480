"""The resolvent of a growing scatter and its powers against numpy's inverses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetl.native import _core, instruction_sets
from edgetl.native.reference_heads import pack, unpack
from edgetl.native.resolvent import FEW_VECTORS, packed_multiply, resolvent_update

ISAS = instruction_sets()
CASES = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SIZES = st.tuples(st.integers(1, 60), st.integers(1, 5), st.integers(1, 8), st.integers(0, 2**31))


def start(dim, classes, orders, seed):
    """Rows of a scatter, vectors, and what the kernel keeps of both."""
    rng = np.random.default_rng(seed)
    rows, vectors = rng.standard_normal((dim // 2, dim)), rng.standard_normal((classes, dim))
    return rng, rows, vectors, *truth(rows, vectors, orders)


def truth(rows, vectors, orders):
    full = np.linalg.inv(rows.T @ rows + np.eye(vectors.shape[1]))
    powers = [vectors @ np.linalg.matrix_power(full, k + 1) for k in range(orders)]
    return pack((full + full.T) / 2), np.stack(powers)


@given(SIZES)
@CASES
def test_updates_are_a_new_inverse_and_its_powers(way, sizes):
    dim, classes, orders, _ = sizes
    rng, rows, vectors, inverse, powers = start(*sizes)
    for _ in range(5):
        z, shift = 3 * rng.standard_normal(dim), rng.standard_normal(classes)
        resolvent_update(inverse, powers, z, shift)
        rows, vectors = np.vstack([rows, z]), vectors + np.outer(shift, z)
    expected = truth(rows, vectors, orders)
    np.testing.assert_allclose(inverse, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(powers, expected[1], rtol=0, atol=1e-11 * np.abs(vectors).max())


@given(SIZES, st.integers(0, FEW_VECTORS + 3))
@CASES
def test_packed_products_are_numpys(way, sizes, n):
    rng = np.random.default_rng(sizes[3])
    matrix, vectors = (
        rng.standard_normal((2, sizes[0], sizes[0])),
        rng.standard_normal((n, sizes[0])),
    )
    symmetric = matrix[0] + matrix[0].T
    found = packed_multiply(pack(symmetric), vectors)
    np.testing.assert_allclose(found, vectors @ symmetric, rtol=0, atol=1e-12 * 60)


@given(SIZES)
@CASES
def test_instruction_sets_give_the_same_bits(sizes):
    dim, classes, orders, _ = sizes
    rng, _, vectors, inverse, powers = start(*sizes)
    z, shift = rng.standard_normal(dim), rng.standard_normal(classes)
    results = []
    for isa in ISAS:
        one, two, three = inverse.copy(), powers.copy(), np.empty_like(vectors)
        _core.packed_multiply(one, vectors, three, isa)
        _core.resolvent_update(one, two, z, shift, np.empty(orders * (dim + classes)), isa)
        results.append((one, two, three))
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, second)


def refused(arrays, message, error=ValueError):
    before = [array.copy() for array in arrays]
    with pytest.raises(error, match=message):
        resolvent_update(*arrays)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_what_is_not_finite_changes_nothing(way, bad):
    rng, _, _, inverse, powers = start(9, 2, 3, 0)
    z, shift = rng.standard_normal(9), np.zeros(2)
    wrong = z.copy()
    wrong[4] = bad
    refused([inverse, powers, wrong, shift], "NaN, infinity or numbers beyond range")
    if not np.isfinite(bad):
        refused([inverse, powers, z, np.array([0, bad])], "NaN, infinity")
        damaged = inverse.copy()
        damaged[7] = bad
        refused([damaged, powers, z, shift], "NaN, infinity")
        with pytest.raises(ValueError, match="NaN or infinite"):
            packed_multiply(damaged, z[None])


def test_an_inverse_that_is_none_is_refused(way):
    rng, _, _, inverse, powers = start(9, 2, 3, 1)
    refused([-inverse, powers, rng.standard_normal(9), np.zeros(2)], "not positive definite")


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, np.zeros(5), ValueError, r"inverse must have shape \(6\), got \(5,\)"),
        (0, np.zeros(6, np.float32), TypeError, "inverse must be float64"),
        (1, np.zeros((0, 2, 3)), ValueError, "at least the first"),
        (1, np.zeros((2, 3)), ValueError, "powers must have shape"),
        (2, np.zeros(4), ValueError, r"z must have shape \(3\)"),
        (2, np.zeros(6)[::2], ValueError, "z must be C-contiguous"),
        (3, np.zeros(3), ValueError, r"shift must have shape \(2\)"),
    ],
)
def test_what_does_not_fit_is_refused(way, place, value, error, message):
    arrays = [np.zeros(6), np.zeros((2, 2, 3)), np.zeros(3), np.zeros(2)]
    arrays[place] = value
    refused(arrays, message, error)


def test_memory_shared_with_an_input_is_refused(way):
    powers = np.zeros((2, 2, 3))
    refused([np.zeros(6), powers, powers[0, 0], np.zeros(2)], "powers shares memory with z")
    with pytest.raises(ValueError, match="matrix must have shape"):
        packed_multiply(np.zeros(5), np.zeros((1, 3)))


def test_the_core_itself_refuses_what_does_not_fit():
    good = [np.zeros(6), np.zeros((2, 2, 3)), np.zeros(3), np.zeros(2), np.empty(10), ISAS[0]]
    assert _core.resolvent_update(*good) == 0
    wrong = [np.zeros(5), np.zeros((0, 2, 3)), np.zeros(2), np.zeros(3), np.empty(9), "sse9"]
    for place, value in enumerate([*wrong, good[1][0, 0]]):
        place = 2 if place == len(wrong) else place  # an input inside an output
        with pytest.raises(ValueError):
            _core.resolvent_update(*good[:place], value, *good[place + 1 :])
    with pytest.raises(ValueError):
        _core.packed_multiply(np.zeros(6), np.zeros((2, 3)), np.zeros((1, 3)), ISAS[0])


def test_the_packed_triangle_comes_back():
    rng = np.random.default_rng(3)
    for dim in (1, 2, 3, 17, 200):
        matrix = rng.standard_normal((dim, dim))
        triangle = pack(matrix + matrix.T)
        np.testing.assert_array_equal(triangle, (matrix + matrix.T)[np.tril_indices(dim)])
        np.testing.assert_array_equal(unpack(triangle), matrix + matrix.T)
