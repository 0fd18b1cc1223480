"""What the head kernels refuse, and in which words; the compiled core by itself as well."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.native import _core, heads


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": np.zeros((2, 3))}, TypeError, "features must be float32, got float64"),
        ({"features": [[1.0]]}, TypeError, "features must be a numpy array, got list"),
        ({"features": np.zeros((3, 2), np.float32).T}, ValueError, "features must be C-contiguous"),
        ({"features": np.zeros((2, 6), np.float32)[:, ::2]}, ValueError, "C-contiguous"),
        ({"features": np.zeros(3, np.float32)}, ValueError, r"shape \(any, any\), got \(3,\)"),
        ({"coef": np.zeros((4, 2))}, ValueError, r"coef must have shape \(any, 3\), got \(4, 2\)"),
        ({"coef": np.zeros((4, 3), np.float16)}, TypeError, "coef must be float64, got float16"),
        ({"intercept": np.zeros(3)}, ValueError, r"intercept must have shape \(4\)"),
    ],
)
def test_bad_arrays_are_refused(way, change, error, message):
    arrays = {"features": np.zeros((2, 3), np.float32), "coef": np.zeros((4, 3))}
    arrays = {**arrays, "intercept": np.zeros(4), **change}
    with pytest.raises(error, match=message):
        heads.linear_scores(**arrays)


@pytest.mark.parametrize("temperature", [0, -1, np.nan, np.inf])
def test_impossible_temperatures(way, temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        heads.softmax(np.zeros((1, 2)), temperature)


@pytest.mark.parametrize("k", [0, -1, 4])
def test_impossible_numbers_of_neighbours(way, k):
    with pytest.raises(ValueError, match="k must be 1 to 3"):
        heads.nearest(np.zeros((1, 2), np.float32), np.zeros((3, 2), np.float32), k)
    with pytest.raises(ValueError, match="k must be 1 to 3"):
        heads.largest(np.zeros((1, 3)), k)


def test_the_core_itself_refuses_what_does_not_fit():
    """The binding is safe on its own: a mistake in the wrapper must not become a crash."""
    f, c, b = np.zeros((2, 3), np.float32), np.zeros((4, 3)), np.zeros(4)
    out, codes, isa = np.zeros((2, 4)), np.array([0, 1]), "portable"
    single = np.zeros(6, np.float32)
    places = np.zeros((2, 2), np.int64)
    unaligned = np.frombuffer(bytearray(8 * 8 + 1), np.uint8)[1:].view(np.float64).reshape(2, 4)
    wrong = [
        lambda: _core.linear_scores(f, c, b[:3], out, isa),
        lambda: _core.linear_scores(f, c, b, out[:1], isa),
        lambda: _core.linear_scores(f, c, b, unaligned, isa),
        lambda: _core.linear_scores(f, out, b, out, isa),
        lambda: _core.linear_scores(f, c, b, out, "sse9"),
        lambda: _core.linear_probabilities(f, c, b, 0.0, out, isa),
        lambda: _core.linear_probabilities(f, c, b, np.nan, out, isa),
        lambda: _core.softmax(out, 1.0, out[:1], isa),
        lambda: _core.cosine(f, c, None, np.empty(6), out, isa),
        lambda: _core.cosine(f, c, b, np.empty(7), out, isa),
        lambda: _core.nearest(f, f, single[:5], places, np.empty((2, 2)), isa),
        lambda: _core.nearest(f, f[:1], single, places, np.empty((2, 2)), isa),
        lambda: _core.largest(out, np.empty((2, 5), np.int64), np.empty((2, 5))),
    ]
    good = [f, codes, None, c, b, None, None, 0.1, 0.0, 0.0, np.empty(8), isa]
    assert _core.softmax_step(*good)[0] == 0
    for place, value in {
        1: np.array([0, 4]),
        2: np.ones(3),
        4: np.zeros(3),
        9: 0.9,
        10: np.empty(7),
        11: "sse9",
    }.items():
        arguments = [*good[:place], value, *good[place + 1 :]]
        wrong.append(lambda arguments=arguments: _core.softmax_step(*arguments))
    for call in wrong:
        with pytest.raises(ValueError):
            call()
    for call in (
        lambda: _core.linear_scores(f.astype(np.float64), c, b, out, isa),
        lambda: _core.linear_scores(f[:, ::2], c, b, out, isa),
        lambda: _core.softmax(out, 1.0, np.empty((2, 4), np.float32), isa),
    ):
        with pytest.raises(TypeError):
            call()
