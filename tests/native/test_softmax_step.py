"""Steps of softmax regression against torch's, on every instruction set and without the core."""

from __future__ import annotations

import numpy as np
import pytest
from head_cases import BAD, SHAPES, SIZES, linear
from hypothesis import given
from hypothesis import strategies as st

from edgetl.native import heads
from edgetl.native.heads import SgdStep


@pytest.mark.parametrize("bad", BAD)
def test_a_step_on_what_is_not_finite_changes_nothing(way, bad):
    for spoil in ("features", "coef", "intercept"):
        features, coef, intercept = linear(3, 9, 4, 4)
        arrays = {"features": features, "coef": coef, "intercept": intercept}
        arrays[spoil].flat[-1] = bad
        before = coef.copy(), intercept.copy()
        codes = np.array([0, 1, 3])
        with pytest.raises(ValueError, match="NaN or infinite"):
            heads.softmax_step(features, codes, (coef, intercept), SgdStep(0.1))
        np.testing.assert_array_equal(coef, before[0])
        np.testing.assert_array_equal(intercept, before[1])


def torch_steps(features, codes, weights, coef, intercept, step, count):
    """Loss before the last step, and the parameters after it, by autograd and torch's SGD."""
    torch = pytest.importorskip("torch")
    coef = torch.tensor(coef, requires_grad=True)
    intercept = torch.tensor(intercept, requires_grad=True)
    groups = [
        {"params": [coef], "weight_decay": step.l2},
        {"params": [intercept], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.SGD(groups, lr=step.rate, momentum=step.momentum)
    for _ in range(count):
        optimiser.zero_grad()
        scores = torch.tensor(features).double() @ coef.T + intercept
        losses = torch.nn.functional.cross_entropy(scores, torch.tensor(codes), reduction="none")
        loss = (losses * torch.tensor(weights)).sum() / weights.sum()
        loss.backward()
        optimiser.step()
    return float(loss.detach()), coef.detach().numpy(), intercept.detach().numpy()


@given(
    SIZES.filter(lambda sizes: sizes[0] > 0),
    st.floats(1e-3, 1.0),
    st.floats(0, 0.5),
    st.sampled_from([0.0, 0.9]),
    st.booleans(),
)
@SHAPES
def test_steps_are_torchs(way, sizes, rate, l2, momentum, weighted):
    features, coef, intercept = linear(*sizes)
    n, _, classes, seed = sizes
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, classes, n)
    weights = rng.random(n) + 0.1 if weighted else None
    step = SgdStep(rate, l2=l2, momentum=momentum)
    shares = np.ones(n) if weights is None else weights
    expected = torch_steps(features, codes, shares, coef, intercept, step, 3)
    velocity = np.zeros_like(coef), np.zeros_like(intercept)
    for _ in range(3):
        loss = heads.softmax_step(
            features, codes, (coef, intercept), step, velocity=velocity, weights=weights
        )
    assert loss == pytest.approx(expected[0], rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(coef, expected[1], rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(intercept, expected[2], rtol=1e-10, atol=1e-11)
    assert momentum or not (velocity[0].any() or velocity[1].any())


def test_steps_of_large_batches_are_the_same(monkeypatch):
    results = []
    for limit in (heads._MANY_SAMPLES, 1):
        monkeypatch.setattr(heads, "_MANY_SAMPLES", limit)
        monkeypatch.setattr(heads, "FEW", limit)
        features, coef, intercept = linear(6, 30, 5, 9)
        velocity = np.ones_like(coef), np.ones_like(intercept)
        step = SgdStep(0.1, l2=0.1, momentum=0.5)
        codes = np.array([0, 1, 2, 3, 4, 0])
        loss = heads.softmax_step(features, codes, (coef, intercept), step, velocity=velocity)
        results.append([np.float64(loss), coef, intercept, *velocity])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)


def test_steps_learn():
    rng = np.random.default_rng(10)
    codes = rng.integers(0, 3, 300)
    features = (rng.standard_normal((300, 20)) + 2 * np.eye(3, 20)[codes]).astype(np.float32)
    parameters = np.zeros((3, 20)), np.zeros(3)
    losses = [
        heads.softmax_step(features, codes, parameters, SgdStep(0.5, l2=1e-3)) for _ in range(60)
    ]
    assert losses[0] == pytest.approx(np.log(3))
    assert losses[-1] < 0.4 and (np.diff(losses) < 0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"codes": np.array([0, 4])}, ValueError, "codes must be 0 to 3 .* got 0 to 4"),
        ({"codes": np.array([-1, 0])}, ValueError, "got -1 to 0"),
        ({"codes": np.array([0, 1], np.int32)}, TypeError, "codes must be int64"),
        ({"weights": np.array([1.0, -1.0])}, ValueError, "weights must be finite, not negative"),
        ({"weights": np.zeros(2)}, ValueError, "not all zero"),
        ({"weights": np.array([1.0, np.inf])}, ValueError, "finite"),
        ({"step": SgdStep(0.1, momentum=0.5)}, ValueError, "momentum of 0.5 needs a velocity"),
        (
            {"features": np.zeros((0, 3), np.float32), "codes": np.zeros(0, np.int64)},
            ValueError,
            "at least one, got no samples",
        ),
    ],
)
def test_bad_steps_are_refused(way, change, error, message):
    arguments = {
        "features": np.zeros((2, 3), np.float32),
        "codes": np.array([0, 3]),
        "parameters": (np.zeros((4, 3)), np.zeros(4)),
        "step": SgdStep(0.1),
        **change,
    }
    with pytest.raises(error, match=message):
        heads.softmax_step(**arguments)


def test_memory_that_is_changed_is_not_shared(way):
    memory = np.zeros(40)
    coef, intercept = memory[:12].reshape(4, 3), memory[8:12]
    features, codes = np.zeros((2, 3), np.float32), np.array([0, 1])
    with pytest.raises(ValueError, match="coef shares memory with intercept"):
        heads.softmax_step(features, codes, (coef, intercept), SgdStep(0.1))
    features = memory.view(np.float32)[20:26].reshape(2, 3)
    with pytest.raises(ValueError, match="coef shares memory with features"):
        heads.softmax_step(features, codes, (coef, memory[20:24]), SgdStep(0.1))
    coef.flags.writeable = False
    with pytest.raises(ValueError, match="coef must be writeable"):
        heads.softmax_step(features, codes, (coef, memory[20:24]), SgdStep(0.1))


@pytest.mark.parametrize(
    ("rate", "l2", "momentum"),
    [(0, 0, 0), (np.nan, 0, 0), (np.inf, 0, 0), (1, -1, 0), (1, 0, 1), (1, 0, -0.1)],
)
def test_impossible_steps(rate, l2, momentum):
    with pytest.raises(ValueError, match="must"):
        SgdStep(rate, l2=l2, momentum=momentum)
