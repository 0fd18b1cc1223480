"""Pooling, normalising and rounding of features against numpy and torch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetl.native import _core, instruction_sets, reference_heads
from edgetl.native import pool as module
from edgetl.native.pool import BEYOND_RANGE, FINE, NOT_FINITE, pool, widen

ISAS = instruction_sets()
SHAPES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
try:
    import torch
except ImportError:  # where wheels are tested: numpy has no bfloat16
    torch = None
STORAGES = ["float16", "float32"] if torch is None else ["bfloat16", "float16", "float32"]


def to_storage(features, storage):
    """torch's rounding, the bits as they are stored; numpy's where it has the type."""
    if storage != "bfloat16":
        with np.errstate(over="ignore"):
            return features.astype(storage)
    rounded = torch.from_numpy(np.ascontiguousarray(features)).to(torch.bfloat16)
    return rounded.view(torch.int16).numpy().view(np.uint16)


def from_storage(values, storage):
    if storage == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


SIZES = st.tuples(
    st.integers(0, 4),
    st.integers(1, 70),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 2**31),
)


@given(SIZES, st.sampled_from(["nchw", "nhwc"]), st.sampled_from(STORAGES))
@SHAPES
def test_maps_are_pooled_as_numpy_pools_them(way, sizes, layout, storage):
    n, c, h, w, seed = sizes
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((n, c, h, w) if layout == "nchw" else (n, h, w, c), np.float32)
    axis = (2, 3) if layout == "nchw" else (1, 2)
    found = pool(maps, layout=layout, storage=storage)
    exact = maps.mean(axis=axis, dtype=np.float64)
    assert found.values.shape == (n, c)
    means = pool(maps, layout=layout, storage="float32").values
    np.testing.assert_array_max_ulp(means, exact.astype(np.float32), maxulp=1)
    np.testing.assert_array_equal(found.values, to_storage(means, storage), strict=True)
    assert (found.states == FINE).all()
    kept = from_storage(found.values, storage).astype(np.float64)
    losses = np.linalg.norm(means - kept, axis=1) / np.linalg.norm(means.astype(np.float64), axis=1)
    np.testing.assert_allclose(found.losses, losses, rtol=1e-9, atol=1e-15)


@given(SIZES, st.sampled_from([0.0, 1e-12, 3.0]), st.sampled_from(STORAGES))
@SHAPES
def test_normalising_is_torchs(way, sizes, eps, storage):
    n, c, h, w, seed = sizes
    maps = np.random.default_rng(seed).standard_normal((n, c, h, w), np.float32)
    found = pool(maps, eps=eps, storage=storage)
    pytest.importorskip("torch")
    means = torch.from_numpy(pool(maps, storage="float32").values)
    peer = torch.nn.functional.normalize(means.double(), eps=eps).float().numpy()
    unit = pool(maps, eps=eps, storage="float32").values
    np.testing.assert_array_max_ulp(unit, peer, maxulp=1)
    np.testing.assert_array_equal(found.values, to_storage(unit, storage))
    assert (found.states == FINE).all()


@given(st.integers(0, 5), st.integers(1, 600), st.sampled_from(STORAGES), st.data())
@SHAPES
def test_features_have_nothing_to_pool(way, n, dim, storage, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    features = rng.standard_normal((n, dim), np.float32)
    found = pool(features, storage=storage)
    np.testing.assert_array_equal(found.values, to_storage(features, storage), strict=True)
    assert found.states.dtype == np.uint8 and (found.states == FINE).all()
    assert (
        found.losses.max(initial=0) < {"float32": 1e-30, "float16": 1e-3, "bfloat16": 5e-3}[storage]
    )
    one_by_one = features.reshape(n, dim, 1, 1)
    np.testing.assert_array_equal(pool(one_by_one, storage=storage).values, found.values)


def every_float16():
    return np.arange(1 << 16, dtype=np.uint16)


def test_every_float16_is_widened(way):
    halves = every_float16().view(np.float16)
    out = np.empty(len(halves), np.float32)
    widen(halves, out)
    np.testing.assert_array_equal(out, halves.astype(np.float32))
    signs = np.signbit(out) == np.signbit(halves)
    assert signs.all()
    for count in range(20):  # what does not fill a vector
        short = np.empty(count, np.float32)
        widen(halves[15000 : 15000 + count], short)
        np.testing.assert_array_equal(short, out[15000 : 15000 + count])


@pytest.mark.parametrize("storage", [name for name in STORAGES if name != "float32"])
def test_values_near_the_middle_of_two_are_rounded_as_numpy_and_torch_round_them(way, storage):
    kept = from_storage(
        every_float16().view(np.float16 if storage == "float16" else np.uint16), storage
    )
    kept = kept[np.isfinite(kept)]
    middles = np.unique((kept[:-1].astype(np.float64) + kept[1:]) / 2).astype(np.float32)
    around = [np.nextafter(middles, np.float32(side)) for side in (-np.inf, np.inf)]
    tiny = np.array([0.0, -0.0, 1e-45, -1e-45, 2**-25, 65504, 65519.996, 65520, 3.4e38], np.float32)
    values = np.concatenate([middles, *around, tiny])
    with np.errstate(over="ignore"):
        values = values[np.isfinite(values)]
    found = pool(values[None], storage=storage)
    expected = to_storage(values[None], storage)
    bits = np.uint16
    np.testing.assert_array_equal(found.values.view(bits), expected.view(bits))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("place", [0, 7, 40])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("eps", [None, 1e-12])
def test_rows_that_are_not_finite_are_marked(way, storage, place, bad, eps):
    features = np.ones((3, 41), np.float32)
    features[1, place] = bad
    found = pool(features, storage=storage, eps=eps)
    np.testing.assert_array_equal(found.states, [FINE, NOT_FINITE, FINE])
    np.testing.assert_array_equal(
        found.values[[0, 2]],
        to_storage(pool(features[[0, 2]], storage="float32", eps=eps).values, storage),
    )
    assert not np.isfinite(from_storage(found.values[1], storage)).all()
    maps = features[:, :, None, None].repeat(4, axis=3)
    np.testing.assert_array_equal(pool(maps, storage=storage, eps=eps).states, found.states)


def test_rows_beyond_the_range_are_marked(way):
    features = np.array([[1, 65519.9], [1, -65520], [3e38, -3.4e38], [0, 0]], np.float32)
    half = pool(features)
    np.testing.assert_array_equal(half.states, [FINE, BEYOND_RANGE, BEYOND_RANGE, FINE])
    np.testing.assert_array_equal(half.values[1], np.array([1, -np.inf], np.float16))
    assert half.losses[3] == 0
    brain = pool(np.array([[3.4e38], [3.3e38]], np.float32), storage="bfloat16")
    np.testing.assert_array_equal(brain.states, [BEYOND_RANGE, FINE])
    assert (pool(features, storage="float32").states == FINE).all()
    assert (pool(features, eps=0.0).states == FINE).all()  # of norm 1, or zeros


def test_means_of_huge_values_do_not_overflow(way):
    maps = np.full((1, 3, 4, 4), 3.4e38, np.float32)
    found = pool(maps, storage="float32")
    np.testing.assert_array_equal(found.values, maps[:, :, 0, 0])
    unit = pool(maps, storage="float32", eps=1e-12).values
    np.testing.assert_allclose(unit, 3**-0.5, rtol=1e-6)
    tiny = pool(maps * np.float32(1e-45) * 0 + np.float32(1e-45), storage="float32", eps=0.0)
    np.testing.assert_allclose(tiny.values, 3**-0.5, rtol=1e-6)


def test_what_rounding_loses_is_told(way):
    features = np.array([[1e-7, 2e-7], [1.0, 2.0], [0.0, 0.0], [1e-9, 0.0]], np.float32)
    found = pool(features)
    exact = features.astype(np.float64)
    changed = np.linalg.norm(exact - exact.astype(np.float16), axis=1)
    with np.errstate(invalid="ignore"):
        losses = changed / np.linalg.norm(exact, axis=1)
    losses[2] = 0
    np.testing.assert_allclose(found.losses, losses, rtol=1e-12)
    assert found.losses[3] == 1


@given(SIZES, st.booleans(), st.sampled_from([None, 1e-12]), st.sampled_from(STORAGES))
@SHAPES
def test_instruction_sets_give_the_same_bits(sizes, nhwc, eps, storage):
    n, c, h, w, seed = sizes
    rng = np.random.default_rng(seed)
    maps = rng.standard_normal((n, h * w, c) if nhwc else (n, c, h * w), np.float32)
    if maps.size:
        maps.flat[rng.integers(maps.size)] = rng.choice([np.nan, np.inf, 1e6, 0, -np.nan])
    results = []
    for isa in ISAS:
        out = np.empty((n, c), np.float32 if storage == "float32" else np.uint16)
        states, losses = np.empty(n, np.uint8), np.empty(n)
        getattr(_core, f"pool_{storage}")(maps, nhwc, eps, out, states, losses, isa)
        results.append((out.view(np.uint32 if storage == "float32" else np.uint16), states, losses))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][1], other[1])
        fine = results[0][1] == FINE
        np.testing.assert_array_equal(results[0][0][fine], other[0][fine])
        np.testing.assert_array_equal(results[0][2][fine], other[2][fine])
        if storage == "float16":  # conversions of the processor drop the payload of NaN too
            np.testing.assert_array_equal(results[0][0], other[0])


def test_the_input_is_left_alone(way):
    features = np.arange(1.0, 25, dtype=np.float32).reshape(2, 12)
    before = features.copy()
    found = pool(features, eps=1e-12, storage="float32")
    np.testing.assert_array_equal(features, before)
    assert not np.may_share_memory(found.values, features)
    assert not np.may_share_memory(pool(features, storage="float32").values, features)


@pytest.mark.parametrize(
    ("maps", "options", "error", "message"),
    [
        (np.zeros((2, 3)), {}, TypeError, "maps must be float32, got float64"),
        ([[0.0]], {}, TypeError, "maps must be a numpy array, got list"),
        (np.zeros((2, 3, 4), np.float32), {}, ValueError, r"2 or 4 axes, got shape \(2, 3, 4\)"),
        (np.zeros((2, 6), np.float32)[:, ::2], {}, ValueError, "maps must be C-contiguous"),
        (np.zeros((2, 3, 0, 4), np.float32), {}, ValueError, "have no positions"),
        (np.zeros((2, 3), np.float32), {"eps": -1.0}, ValueError, "eps must be finite"),
        (np.zeros((2, 3), np.float32), {"eps": np.nan}, ValueError, "eps must be finite"),
        (np.zeros((2, 3), np.float32), {"storage": "int8"}, ValueError, "storage must be one of"),
        (np.zeros((2, 3), np.float32), {"layout": "hwc"}, ValueError, "layout must be"),
    ],
)
def test_bad_arguments_are_refused(way, maps, options, error, message):
    with pytest.raises(error, match=message):
        pool(maps, **options)


def test_bad_copies_are_refused(way):
    halves = np.zeros((4, 6), np.float16)
    with pytest.raises(TypeError, match="values must be float16, got float32"):
        widen(np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32))
    with pytest.raises(ValueError, match=r"out must have shape \(4, 6\)"):
        widen(halves, np.zeros((4, 5), np.float32))
    with pytest.raises(ValueError, match="out must be C-contiguous"):
        widen(halves, np.zeros((6, 4), np.float32).T)
    with pytest.raises(ValueError, match="values must be C-contiguous"):
        widen(halves.T, np.zeros((6, 4), np.float32))
    out = np.zeros((4, 6), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        widen(halves, out)


def test_the_core_itself_refuses_what_does_not_fit():
    def call(maps, out, *, nhwc=False, eps=None, states=2, losses=2, isa="portable"):
        arrays = (np.empty(states, np.uint8), np.empty(losses))
        _core.pool_float16(maps, nhwc, eps, out, *arrays, isa)

    maps, out = np.zeros((2, 3, 4), np.float32), np.empty((2, 3), np.uint16)
    call(maps, out)
    for wrong in (
        lambda: call(maps, out[:1]),
        lambda: call(maps, out, nhwc=True),
        lambda: call(maps, out, states=1),
        lambda: call(maps, out, losses=3),
        lambda: call(maps, out, eps=-1.0),
        lambda: call(maps, out, eps=np.inf),
        lambda: call(maps, out, isa="sse9"),
        lambda: call(np.zeros((2, 3, 0), np.float32), out),
        lambda: call(maps, maps.view(np.uint16).reshape(-1)[:6].reshape(2, 3)),
    ):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(TypeError):
        call(maps, np.empty((2, 3), np.float32))
    halves = np.zeros(8, np.uint16)
    with pytest.raises(ValueError):
        _core.widen_float16(halves, np.empty(7, np.float32), "portable")
    with pytest.raises(ValueError, match="shares memory"):
        _core.widen_float16(halves[:4], halves.view(np.float32), "portable")


@pytest.mark.skipif(torch is None, reason="needs torch")
def test_the_reference_rounds_to_bfloat16_as_torch_does():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    bits = reference_heads.to_bfloat16(values)
    np.testing.assert_array_equal(bits, to_storage(values[None], "bfloat16")[0])
    np.testing.assert_array_equal(
        reference_heads.from_bfloat16(bits), from_storage(bits, "bfloat16")
    )
    assert module.FINE == 0
