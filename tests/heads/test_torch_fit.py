"""torch finds the optimum that numpy finds."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from edgetl.heads import HEADS, RidgeHead, SoftmaxHead, select_head
from edgetl.transfer import torch_fit


@pytest.mark.parametrize("kind", sorted(HEADS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_head_as_numpy(kind, dtype, shape):
    X, y = shape
    tensor = torch.as_tensor(X).to(dtype)
    ours = torch_fit.fit_head(HEADS[kind](), tensor, torch.as_tensor(y))
    theirs = HEADS[kind]().fit(tensor.numpy(), y)
    assert ours.chosen() == theirs.chosen()
    assert ours.temperature_ == pytest.approx(theirs.temperature_, rel=1e-3)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
    assert all(isinstance(array, np.ndarray) for array in ours.arrays().values())


def test_same_optimum_to_the_tolerance(shape):
    X, y = shape
    weights = np.random.default_rng(0).uniform(0, 2, len(y))
    weights[:4] = 0
    for head in (SoftmaxHead(C=1.0, tol=1e-10), RidgeHead(1.0)):
        ours = torch_fit.fit_head(clone(head), torch.as_tensor(X).double(), y, weights)
        theirs = head.fit(X.astype(np.float64), y, weights)
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)


def test_selection(shape):
    X, y = shape
    ours, theirs = torch_fit.select_head(torch.as_tensor(X), y), select_head(X, y)
    assert ours.head.kind == theirs.head.kind
    for mine, other in zip(ours.candidates, theirs.candidates, strict=True):
        assert mine.accuracy == pytest.approx(other.accuracy, abs=0.01)


def test_half_precision_is_widened(shape):
    X, y = shape
    head = torch_fit.fit_head(RidgeHead(), torch.as_tensor(X).bfloat16(), y)
    assert head.score(X, y) > 0.8


def test_unusable_tensors(shape):
    X, y = torch.as_tensor(shape[0]), shape[1]
    with pytest.raises(TypeError, match="torch tensor of floats"):
        torch_fit.fit_head(RidgeHead(), shape[0], y)
    with pytest.raises(ValueError, match=r"\(n, dim\)"):
        torch_fit.fit_head(RidgeHead(), X[0], y)
    with pytest.raises(ValueError, match="NaN"):
        torch_fit.fit_head(RidgeHead(), X * float("nan"), y)
    with pytest.raises(ValueError, match="at least 2 classes"):
        torch_fit.fit_head(RidgeHead(), X, np.zeros(len(y), dtype=int))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", sorted(HEADS))
def test_same_head_on_a_gpu(kind, shape):
    X, y = shape
    ours = torch_fit.fit_head(HEADS[kind](), torch.as_tensor(X).cuda(), y)
    theirs = HEADS[kind]().fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-3)
