"""The descent of a rehearsal against numpy's and torch's, on every instruction set and in numpy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgetl.native import _core, descent, reference_descent
from edgetl.native.checks import NOT_FINITE, OK, REFUSED

STRENGTHS = (1e-4, 1e4)
SIZES = [
    (64, 1280, 10),
    (63, 37, 2),
    (17, 5, 3),
    (2, 8, 2),
    (33, 257, 5),
    (40, 16, 1),
    (16, 1, 9),
    (130, 64, 21),
]
PLAN = (
    reference_descent.BATCH,
    reference_descent.SPREAD,
    reference_descent.RATE,
    reference_descent.MOMENTUM,
    reference_descent.SETTLED,
    reference_descent.AVERAGED,
    *STRENGTHS,
)


def samples(n, dim, classes, *, seed=0, shift=1.0, scale=1.0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, dim)) + shift * rng.normal(size=dim)
    return (
        (features * scale).astype(np.float32),
        rng.integers(0, classes, n),
        rng.uniform(0.1, 5, n),
    )


def somewhere(dim, classes, *, seed=1, scale=1.0):
    """A state of a descent: point, speed and average."""
    rng = np.random.default_rng(seed)
    size = 0.1 / scale / dim**0.5
    return tuple(
        (
            (size * rng.normal(size=(classes, dim))).astype(np.float32),
            rng.normal(size=classes).astype(np.float32),
        )
        for _ in range(3)
    )


def copied(state):
    return tuple((coef.copy(), intercept.copy()) for coef, intercept in state)


def in_core(batch, state, isa, plan=PLAN):
    """What the core itself answers, and the state and mean it leaves."""
    found, mean = copied(state), np.empty(batch[0].shape[1], np.float32)
    pairs = [array for pair in found for array in pair]
    return _core.softmax_descent(*batch, *pairs, mean, *plan, isa), found, mean


def assert_near(found, expected, features, within=1e-6):
    """Coefficients relative to the largest, intercepts also to what a mean makes of them."""
    middle = np.abs(features).max(axis=0).astype(np.float64)
    for (coef, intercept), (true_coef, true_intercept) in zip(found, expected, strict=True):
        assert np.abs(coef - true_coef).max() <= within * np.abs(true_coef).max()
        room = np.abs(true_intercept).max() + (np.abs(true_coef) @ middle).max()
        assert np.abs(intercept - true_intercept).max() <= within * room


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
@pytest.mark.parametrize("shift", [0.0, 1.0, 300.0])
def test_is_the_references(isa, sizes, scale, shift):
    batch = samples(*sizes, shift=shift, scale=scale)
    state = somewhere(*sizes[1:], scale=scale)
    expected = copied(state)
    mean, strength = reference_descent.softmax_descent(*batch, expected, STRENGTHS)
    (status, found_strength), found, found_mean = in_core(batch, state, isa)
    assert status == OK
    assert_near(found, expected, batch[0])
    np.testing.assert_array_equal(found_mean, mean)
    assert found_strength == pytest.approx(strength, rel=1e-6)


@pytest.mark.parametrize("sizes", SIZES)
def test_same_to_the_bit_on_every_instruction_set(sizes, isa):
    batch, state = samples(*sizes, seed=3), somewhere(*sizes[1:])
    answer, found, mean = in_core(batch, state, isa)
    first, same, same_mean = in_core(batch, state, "portable")
    assert answer == first
    np.testing.assert_array_equal(mean, same_mean)
    for pair, other in zip(found, same, strict=True):
        np.testing.assert_array_equal(pair[0], other[0])
        np.testing.assert_array_equal(pair[1], other[1])


@pytest.mark.parametrize("sizes", [(48, 20, 4), (37, 9, 3)])
def test_steps_are_torchs(way, sizes):
    """Autograd and torch's SGD on the centred and scaled features, part by part."""
    torch = pytest.importorskip("torch")
    features, codes, weights = samples(*sizes, seed=5)
    state = somewhere(*sizes[1:], seed=6)
    total = weights.sum()
    shares = weights / total
    mean = shares @ features.astype(np.float64)
    rows = features - mean
    squares = np.square(rows).sum(axis=1)
    strength = 1 / (shares @ squares)
    count = -(-sizes[0] // 16)
    ends = [sizes[0] * part // count for part in range(count + 1)]
    parts = [slice(a, b) for a, b in pairwise(ends)]
    root = np.sqrt(count * max(shares[some] @ squares[some] for some in parts) / 10)
    l2 = 1 / (strength * total * root**2)
    rate = min(0.4, 0.1 / (min(100, 2 * total) * l2))
    moved = [
        (torch.tensor(coef * root), torch.tensor(intercept + coef @ mean))
        for coef, intercept in ((c.astype(np.float64), i.astype(np.float64)) for c, i in state)
    ]
    point = [array.clone().requires_grad_() for array in moved[0]]
    optimiser = torch.optim.SGD(
        [{"params": [point[0]], "weight_decay": l2}, {"params": [point[1]]}], lr=rate, momentum=0.9
    )
    for parameter, speed in zip(point, moved[1], strict=True):
        optimiser.state[parameter]["momentum_buffer"] = speed.clone()
    average = [array.clone() for array in moved[2]]
    for some in parts:
        optimiser.zero_grad()
        scores = torch.tensor(rows[some] / root) @ point[0].T + point[1]
        losses = torch.nn.functional.cross_entropy(
            scores, torch.tensor(codes[some]), reduction="none"
        )
        (count * torch.tensor(shares[some]) * losses).sum().backward()
        optimiser.step()
        average = [0.96 * a + 0.04 * p.detach() for a, p in zip(average, point, strict=True)]
    speed = [optimiser.state[parameter]["momentum_buffer"] for parameter in point]
    expected = []
    for coef, intercept in (point, speed, average):
        outside = coef.detach().numpy() / root
        expected.append((outside, intercept.detach().numpy() - outside @ mean))
    before = copied(state)
    found, middle, chosen = descent.softmax_descent(features, codes, weights, state, STRENGTHS)
    assert_near(found, expected, features)
    np.testing.assert_allclose(middle, mean, rtol=1e-6, atol=1e-7)
    assert chosen == pytest.approx(strength, rel=1e-6)
    for pair, kept in zip(state, before, strict=True):
        np.testing.assert_array_equal(pair[0], kept[0])


def odd_batches():
    features, codes, weights = samples(20, 6, 3)
    one = samples(1, 6, 3)
    return {
        "one sample": one,
        "all alike": (np.repeat(one[0], 20, axis=0), codes, weights),
        "far off": (features * np.float32(1e-4) + np.float32(1e4), codes, weights),
        "tiny": (features * np.float32(1e-20), codes, weights),
        "huge": (features * np.float32(1e18), codes, weights),
    }


@pytest.mark.parametrize("name", list(odd_batches()))
def test_what_float32_has_no_digits_for_is_numpys(way, name):
    batch, state = odd_batches()[name], somewhere(6, 3)
    if way != "numpy":
        assert in_core(batch, state, way)[0][0] == REFUSED
    if name == "huge":  # its scores are beyond range where coefficients are not as small
        state = tuple((coef * np.float32(1e-18), intercept) for coef, intercept in state)
    expected = copied(state)
    mean, strength = reference_descent.softmax_descent(*batch, expected, STRENGTHS)
    found = descent.softmax_descent(*batch, state, STRENGTHS)
    for pair, other in zip(found[0], expected, strict=True):
        np.testing.assert_array_equal(pair[0], other[0])
        np.testing.assert_array_equal(pair[1], other[1])
    np.testing.assert_array_equal(found[1], mean)
    assert found[2] == strength


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("what", ["features", "point", "intercept"])
def test_what_is_not_finite_is_refused(way, bad, what):
    batch, state = samples(20, 6, 3), somewhere(6, 3)
    {"features": batch[0], "point": state[0][0], "intercept": state[0][1]}[what].flat[-1] = bad
    if way != "numpy":
        assert in_core(batch, state, way)[0][0] in (NOT_FINITE, REFUSED)
    with pytest.raises(ValueError, match="NaN or infinite"):
        descent.softmax_descent(*batch, state, STRENGTHS)


def test_scores_beyond_range_are_not_finite(isa):
    batch, state = samples(20, 40, 3), somewhere(40, 3)
    state[0][0][...] = 3e38
    assert in_core(batch, state, isa)[0][0] == NOT_FINITE


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, np.zeros((20, 6)), TypeError, "features must be float32"),
        (0, np.zeros((20, 12), np.float32)[:, ::2], ValueError, "C-contiguous"),
        (1, np.full(20, 3), ValueError, "codes must be 0 to 2 and at least one, got 3 to 3"),
        (1, np.full(20, -1), ValueError, "codes must be 0 to 2"),
        (1, np.zeros(19, np.int64), ValueError, r"codes must have shape \(20\)"),
        (2, np.zeros(20), ValueError, "weights must be finite and positive"),
        (2, np.full(20, np.inf), ValueError, "weights must be finite and positive"),
        (3, somewhere(5, 3), ValueError, "coef of the point must have shape"),
        (3, (*somewhere(6, 3)[:2], somewhere(6, 4)[2]), ValueError, "coef of the average"),
    ],
)
def test_what_does_not_fit_is_told(way, place, value, error, message):
    arguments = [*samples(20, 6, 3), somewhere(6, 3)]
    arguments[place] = value
    with pytest.raises(error, match=message):
        descent.softmax_descent(*arguments, STRENGTHS)


def test_the_core_itself_refuses_what_does_not_fit():
    batch, state = samples(20, 6, 3), [a for pair in somewhere(6, 3) for a in pair]
    mean = np.empty(6, np.float32)
    for place, value in [
        (1, np.full(20, 3)),
        (1, np.full(20, -1)),
        (2, np.full(20, np.nan)),
        (3, np.zeros((3, 5), np.float32)),
        (4, np.zeros(2, np.float32)),
        (5, state[0]),
        (8, state[1]),
        (9, batch[0][0]),
        (10, 0),
        (18, "sse9"),
    ]:
        arguments = [*batch, *state, mean, *PLAN, "portable"]
        arguments[place] = value
        with pytest.raises(ValueError):
            _core.softmax_descent(*arguments)
