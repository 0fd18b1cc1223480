"""The compiled kernel against Pillow, on every instruction set this machine has."""

from __future__ import annotations

import numpy as np
import pytest
from exact import DTYPES, LAYOUTS, expected, random_case, run
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetl import Preprocess, native
from edgetl.native import _core, reference

ISAS = native.instruction_sets()
BEST = ISAS[-1]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("seed", range(6))
def test_equals_pillow_to_the_bit_on_random_cases(isa, seed):
    """A part of what ``benchmarks/exactness.py`` runs."""
    rng = np.random.default_rng(seed)
    for number in range(60):
        case = random_case(rng) if number % 3 == 0 else random_case(rng, longest=100, most=80)
        np.testing.assert_array_equal(
            case.run(isa), expected(case.image, case.definition), err_msg=f"{case}"
        )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width"),
    [
        (375, 500),  # the common case
        (500, 333),
        (1200, 1600),  # many taps
        (600, 201),  # so tall that the height is resized first
        (3000, 250),
        (256, 256),  # resize changes nothing
        (256, 300),  # one axis as it was
        (224, 224),
        (32, 32),  # enlarging
        (2, 3),
        (1, 1),
    ],
)
def test_equals_pillow_on_typical_sizes(isa, layout, dtype, interpolation, height, width):
    rng = np.random.default_rng(height * width)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for fit in ("shortest", "squash"):
        definition = Preprocess(layout=layout, dtype=dtype, interpolation=interpolation, fit=fit)
        np.testing.assert_array_equal(
            run(image, definition, isa=isa), expected(image, definition), err_msg=fit
        )


@pytest.mark.parametrize("seed", range(2))
def test_reference_equals_pillow(seed):
    rng = np.random.default_rng(100 + seed)
    for _ in range(20):
        case = random_case(rng, longest=120, most=64)
        out = np.empty(case.definition.shape, dtype=case.definition.array_type)
        with np.errstate(over="ignore"):
            reference.preprocess(case.image, out, case.definition)
        np.testing.assert_array_equal(out, expected(case.image, case.definition), err_msg=f"{case}")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "shape", [(1, 5000), (5000, 1), (2, 40_000), (40_000, 3), (1, native.MAX_SIDE)]
)
def test_elongated_images_cost_no_more_than_the_crop(isa, shape):
    # Pillow would make up to 33 million columns; the reference computes the crop alone.
    rng = np.random.default_rng(7)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    definition = Preprocess(size=24, resize=32)
    out = np.empty(definition.shape, dtype=np.float32)
    reference.preprocess(image, out, definition)
    np.testing.assert_array_equal(run(image, definition, isa=isa), out)


@pytest.mark.parametrize("isa", ISAS)
def test_strided_rows(isa):
    rng = np.random.default_rng(3)
    parent = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    definition = Preprocess(size=30, resize=32)
    views = {
        "window": parent[20:80, 11:99],
        "every second row": parent[::2],
        "upside down": parent[::-1],
        "the last rows, upside down": parent[:-40:-1],
        "one row repeated": np.broadcast_to(parent[5], (40, 120, 3)),
        "one column": parent[:, -1:],
        "last pixel": parent[-1:, -1:],
    }
    for name, view in views.items():
        actual = run(view, definition, isa=isa)
        np.testing.assert_array_equal(
            actual, run(np.ascontiguousarray(view), definition, isa=isa), err_msg=name
        )
        np.testing.assert_array_equal(actual, expected(np.ascontiguousarray(view), definition))


@pytest.mark.parametrize("seed", range(2))
def test_the_part_that_is_needed_is_enough(seed):
    # The kernel's own runs on parts are among the random cases above.
    rng = np.random.default_rng(200 + seed)
    for _ in range(30):
        case = random_case(rng, longest=120, most=64)
        definition, whole = case.definition, case.image.shape[:2]
        top, left, rows, columns = native.needed(*whole, definition)
        compiled = native.compiled_definition(definition)
        assert _core.needed(*whole, compiled) == (top, left, rows, columns)
        part = case.image[top : top + rows, left : left + columns]
        out = np.empty(definition.shape, definition.array_type)
        with np.errstate(over="ignore"):
            reference.preprocess(part, out, definition, whole=whole, origin=(top, left))
        np.testing.assert_array_equal(out, expected(case.image, definition), err_msg=f"{case}")


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_what_is_not_needed_does_not_matter(interpolation):
    rng = np.random.default_rng(8)
    for height, width in ((375, 500), (500, 333), (700, 90), (31, 40)):
        definition = Preprocess(size=60, resize=80, interpolation=interpolation)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        top, left, rows, columns = native.needed(height, width, definition)
        assert rows < height or columns < width
        other = 255 - image
        inside = np.s_[top : top + rows, left : left + columns]
        other[inside] = image[inside]
        np.testing.assert_array_equal(
            run(other, definition, isa=BEST), run(image, definition, isa=BEST)
        )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [2, 3, 7, 1000])
def test_threads_change_nothing(isa, threads):
    rng = np.random.default_rng(4)
    for height, width in ((1200, 1333), (3700, 900)):  # small ones are left to one thread
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for definition in (
            Preprocess(size=61, resize=64),
            Preprocess(size=61, resize=64, layout="nhwc", dtype="uint8"),
        ):
            np.testing.assert_array_equal(
                run(image, definition, isa=isa, threads=threads), run(image, definition, isa=isa)
            )


@pytest.mark.parametrize("isa", ISAS)
def test_normalisation_is_exact_for_any_mean_and_std(isa):
    # All 256 values in one image, so every entry of the table shows.
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    rng = np.random.default_rng(5)
    cases = [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        ((0.0, 0.0, 0.0), (1e-40, 1e-30, 1e30)),
    ]
    cases += [(tuple(rng.random(3)), tuple(rng.random(3) + 1e-3)) for _ in range(40)]
    for mean, std in cases:
        for layout in ("nchw", "nhwc"):
            definition = Preprocess(size=16, resize=16, mean=mean, std=std, layout=layout)
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                wanted = expected(image, definition)
            np.testing.assert_array_equal(run(image, definition, isa=isa), wanted)


side = st.integers(1, native.MAX_SIDE)


@settings(max_examples=300, deadline=None)
@given(height=side, width=side, resize=st.integers(1, 16384), data=st.data())
def test_reference_geometry_follows_torchvision(height, width, resize, data):
    transforms = pytest.importorskip("torchvision.transforms.functional")
    size = data.draw(st.integers(1, resize))
    rows, columns, top, left = reference.geometry(
        height, width, Preprocess(size=size, resize=resize)
    )
    assert [rows, columns] == transforms._compute_resized_output_size((height, width), [resize])
    assert (top, left) == (round((rows - size) / 2.0), round((columns - size) / 2.0))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    size=st.integers(1, 12),
    extra=st.integers(0, 40),
)
def test_kernel_places_the_crop_where_the_reference_does(height, width, size, extra):
    # A gradient along both axes: a crop that is off by one row or column shows.
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = (np.arange(height) % 251)[:, None]
    image[..., 1] = (np.arange(width) % 241)[None, :]
    definition = Preprocess(size=size, resize=size + extra, interpolation="bilinear")
    out = np.empty(definition.shape, dtype=np.float32)
    reference.preprocess(image, out, definition)
    np.testing.assert_array_equal(run(image, definition, isa=BEST), out)
