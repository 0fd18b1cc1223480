"""What a bundle stores comes back; what was damaged is refused."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from edgetl.errors import CorruptError
from edgetl.heads import HEADS, STORED, load_head

EVERY = pytest.mark.parametrize("kind", sorted(HEADS))


@pytest.fixture(scope="module")
def fitted(digits):
    return {kind: HEADS[kind]().fit(*digits[:2]) for kind in HEADS}


@EVERY
def test_round_trip_through_safetensors(kind, fitted, digits):
    arrays = load(save(fitted[kind].arrays()))
    head = load_head(kind, arrays)
    expected = fitted[kind].predict_proba(digits[2])
    np.testing.assert_allclose(head.predict_proba(digits[2]), expected, atol=1e-5)
    assert head.classes_.tolist() == list(range(10))
    assert head.n_features_in_ == 64
    assert head.chosen() == fitted[kind].chosen()  # so that it can be fitted again as it was
    again = head.arrays()
    assert all(np.array_equal(again[name], arrays[name]) for name in arrays | again)


@pytest.mark.parametrize("kind", sorted(STORED))
def test_exact_arrays_come_back_to_the_bit(kind, digits):
    head = STORED[kind]().fit(*digits[:2])
    exact, short = head.exact_arrays(), head.arrays()
    assert {n: a.shape for n, a in exact.items()} == {n: a.shape for n, a in short.items()}
    restored = STORED[kind].from_arrays(exact)
    again = restored.exact_arrays()
    assert all(a.dtype == exact[n].dtype and np.array_equal(a, exact[n]) for n, a in again.items())
    scores = head.scores(digits[2]), restored.scores(digits[2])
    np.testing.assert_array_equal(*scores)


@EVERY
def test_names_are_left_to_the_bundle(kind, digits):
    X, y = digits[:2]
    head = HEADS[kind]().fit(X, np.array([f"digit {c}" for c in y]))
    restored = load_head(kind, head.arrays())
    assert restored.classes_.tolist() == list(range(10))
    assert all(array.dtype.kind in "fi" for array in head.arrays().values())


def damages(arrays):
    for name, array in arrays.items():
        yield f"{name} missing", {key: value for key, value in arrays.items() if key != name}
        yield f"{name} reshaped", arrays | {name: np.zeros((2, 3, 4), array.dtype)}
        yield f"{name} as text", arrays | {name: np.full(array.shape, "x")}
        if array.dtype.kind == "f":
            yield f"{name} with NaN", arrays | {name: np.full_like(array, np.nan)}
        if array.ndim and name != "classes":
            yield f"{name} cut", arrays | {name: array[:-1]}
    yield "temperature zero", arrays | {"temperature": np.array(0.0)}
    yield "temperature negative", arrays | {"temperature": np.array(-1.0)}
    yield "classes unsorted", arrays | {"classes": arrays["classes"][::-1].copy()}


@EVERY
def test_damaged_arrays_are_refused(kind, fitted):
    for what, damaged in damages(fitted[kind].arrays()):
        if what == "classes missing":
            continue  # not stored for labels that are names
        with pytest.raises(CorruptError):
            load_head(kind, damaged)
            pytest.fail(f"accepted: {what}")


@pytest.mark.parametrize(
    "change",
    [
        {"codes": np.full(600, 10)},
        {"codes": np.full(600, -1)},
        {"n_neighbors": np.array(0)},
        {"n_classes": np.array(10**12)},
        {"weights": np.zeros(600)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_knn_that_can_not_vote_is_refused(change, fitted):
    with pytest.raises(CorruptError):
        load_head("knn", fitted["knn"].arrays() | change)


def test_one_class_or_no_features_is_refused():
    arrays = {"coef": np.zeros((1, 4)), "intercept": np.zeros(1)}
    arrays |= {"temperature": np.array(1.0), "strength": np.array(1.0)}
    with pytest.raises(CorruptError, match="1 classes of 4 features"):
        load_head("ridge", arrays)
    arrays = {"coef": np.zeros((3, 0)), "intercept": np.zeros(3)}
    arrays |= {"temperature": np.array(1.0), "strength": np.array(1.0)}
    with pytest.raises(CorruptError, match="3 classes of 0 features"):
        load_head("ridge", arrays)


def test_unknown_kind_is_refused():
    with pytest.raises(CorruptError, match="unknown kind of head 'forest'"):
        load_head("forest", {})
