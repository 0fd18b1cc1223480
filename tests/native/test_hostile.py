"""The compiled core's bindings under arguments that nobody should pass.

Whatever is passed, a call either refuses with TypeError or ValueError and leaves its output alone,
or computes what the numpy reference computes. The checks in Python are bypassed on purpose: the
binding has to be safe on its own.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from edgetl import Preprocess, native
from edgetl.native import _core, reference

HUGE = (1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63), 1 << 63, 1 << 70)
sizes = st.one_of(st.integers(1, 12), st.sampled_from((0, -1, 16385, *HUGE)))
numbers = st.one_of(
    st.floats(0.01, 2), st.sampled_from((0.0, -1.0, float("nan"), float("inf"), 1e-46, 1e300))
)
threes = st.tuples(numbers, numbers, numbers)
ISAS = (*native.INSTRUCTION_SETS, "", "sse9")
DTYPES = ("float32", "float16", "bfloat16", "uint8", "float64")


ODDITIES = ("empty", "channels", "type", "view", "out", "threads", "isa", "whole", "origin")


def read_only(array):
    array.flags.writeable = False
    return array


VIEWS = {
    "rows": lambda image: image[::-1],
    "gaps": lambda image: image[::2],
    "columns": lambda image: image[:, ::2],
    "channels": lambda image: image[..., ::-1],
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: image.transpose(1, 0, 2),
    "fortran": np.asfortranarray,
    "flat": lambda image: image.reshape(-1),
    "batch": lambda image: image[None],
    "same row": lambda image: np.broadcast_to(np.zeros((1, 4, 3), np.uint8), (9, 4, 3)),
    "one pixel": lambda image: np.broadcast_to(np.uint8(7), (5, native.MAX_SIDE + 1, 3)),
    "too long": lambda image: np.broadcast_to(
        np.zeros((1, 4, 3), np.uint8), (native.MAX_SIDE + 1, 4, 3)
    ),
    "read-only": read_only,
}


@st.composite
def images(draw, odd):
    """Arrays that are photos, or nearly."""
    least = 0 if "empty" in odd else 1
    height, width = draw(st.integers(least, 20)), draw(st.integers(least, 20))
    channels = draw(st.integers(0, 5)) if "channels" in odd else 3
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if "type" in odd:
        types = ("int8", "float32", "uint16", ">u2", "bool", "object")
        image = image.astype(draw(st.sampled_from(types)))
    if "view" in odd:
        image = VIEWS[draw(st.sampled_from(sorted(VIEWS)))](image)
    return image


@st.composite
def outputs(draw, definition, odd):
    """Arrays that can hold the output, or nearly."""
    shape, dtype = definition.shape, definition.array_type
    changes = ("type", "shape", "order", "gaps", "read-only", "unaligned", "flat", "empty")
    change = draw(st.sampled_from(changes)) if "out" in odd else ""
    if change == "type":
        dtype = np.dtype(draw(st.sampled_from(("float64", "int32", "int8", "complex64", ">f4"))))
    if change == "shape":
        shape = (shape[0] + 1, *shape[1:])
    if change == "empty":
        shape = (0, *shape[1:])
    out = np.zeros(shape, dtype)
    if change == "order":
        out = out.transpose(2, 1, 0)
    elif change == "gaps":
        out = np.zeros((*shape[:2], 2 * shape[2]), dtype)[:, :, ::2]
    elif change == "read-only":
        out.flags.writeable = False
    elif change == "unaligned":
        out = np.zeros(out.nbytes + 1, np.uint8)[1:].view(dtype).reshape(shape)
    elif change == "flat":
        out = out.reshape(-1)
    return out


@st.composite
def calls(draw, *, oddities=ODDITIES):
    """Arguments of a call with at most two oddities."""
    odd = draw(st.sets(st.sampled_from(oddities), max_size=2))
    event(f"odd: {', '.join(sorted(odd))}")
    resize = draw(st.integers(1, 12))
    definition = Preprocess(
        size=draw(st.integers(1, resize)),
        resize=resize,
        interpolation=draw(st.sampled_from(("bilinear", "bicubic"))),
        layout=draw(st.sampled_from(("nchw", "nhwc"))),
        fit=draw(st.sampled_from(("shortest", "squash"))),
        dtype=draw(st.sampled_from(DTYPES[:4])),
    )
    image = draw(images(odd))
    out = draw(outputs(definition, odd))
    threads = draw(st.sampled_from((0, -1, 3, 1 << 31, 1 << 40))) if "threads" in odd else 1
    isa = draw(st.sampled_from(ISAS)) if "isa" in odd else native.instruction_sets()[-1]
    whole = draw(st.tuples(sizes, sizes)) if "whole" in odd else None
    origin = draw(st.tuples(sizes, sizes)) if "origin" in odd else (0, 0)
    return definition, image, out, threads, isa, whole, origin


@settings(max_examples=400, deadline=None, derandomize=True)
@given(calls())
def test_preprocess_refuses_or_computes(call):
    definition, image, out, threads, isa, whole, origin = call
    before = out.copy()
    try:
        _core.preprocess(
            image, out, native.compiled_definition(definition), threads, isa, whole, origin
        )
    except (TypeError, ValueError):
        event("refused")
        np.testing.assert_array_equal(out, before)
        return
    event("computed")
    expected = np.zeros(definition.shape, definition.array_type)
    reference.preprocess(image, expected, definition, whole=whole, origin=origin)
    np.testing.assert_array_equal(out, expected)


def may_be_computed(image, out, definition, threads):
    """What the docstring of `native.preprocess` allows, for a whole photo."""
    return (
        image.dtype == np.uint8
        and image.ndim == 3
        and image.shape[2] == 3
        and min(image.shape) >= 1
        and max(image.shape) <= native.MAX_SIDE
        and image.strides[2] == 1
        and (image.shape[1] == 1 or image.strides[1] == 3)
        and out.dtype == definition.array_type
        and out.shape == definition.shape
        and out.flags.c_contiguous
        and out.flags.aligned
        and out.flags.writeable
        and 1 <= threads < 1 << 31
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(calls(oddities=ODDITIES[:6]))
def test_what_the_docstring_allows_is_not_refused(call):
    definition, image, out, threads, _, _, _ = call
    allowed = may_be_computed(image, out, definition, threads)
    event(f"allowed: {allowed}")
    if allowed:
        native.preprocess(image, out, definition, threads=threads)
        return
    with pytest.raises((TypeError, ValueError)):
        native.preprocess(image, out, definition, threads=threads)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(size=sizes, resize=sizes, mean=threes, std=threes, dtype=st.sampled_from(DTYPES))
def test_definitions_out_of_range_are_refused_before_memory_is_taken(
    size, resize, mean, std, dtype
):
    image, out = np.zeros((4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.float32)
    fits = size == 4 and 4 <= resize <= 16384 and dtype == "float32"
    with np.errstate(over="ignore"):
        numbers_fit = np.isfinite(np.float32(mean)).all() and (np.float32(std) > 0).all()
    try:
        definition = _core.Definition(size, resize, True, False, False, dtype, mean, std)
        _core.preprocess(image, out, definition, 1, "portable")
    except (TypeError, ValueError):
        assert not (fits and numbers_fit)
    else:
        assert fits and numbers_fit


@settings(max_examples=200, deadline=None, derandomize=True)
@given(height=sizes, width=sizes, size=sizes, resize=sizes)
def test_needed_lies_in_the_photo_or_is_refused(height, width, size, resize):
    try:
        definition = _core.Definition(
            size, resize, True, False, False, "uint8", (0, 0, 0), (1, 1, 1)
        )
        top, left, rows, columns = _core.needed(height, width, definition)
    except (TypeError, ValueError):
        return
    assert 1 <= size <= resize <= 16384
    assert 0 <= top < top + rows <= height <= native.MAX_SIDE
    assert 0 <= left < left + columns <= width <= native.MAX_SIDE


LIMITED = """
import resource
import numpy as np
from edgetl.native import _core
image, out = np.zeros((4, 4, 3), np.uint8), np.zeros((3, 4, 4), np.float32)
plain = (True, False, False, "float32", (0, 0, 0), (1, 1, 1))
good = _core.Definition(4, 4, *plain)
_core.preprocess(image, out, good, 1, "portable")
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), now + (64 << 20)))
for huge in (16385, 1 << 20, (1 << 20) + 1, 1 << 31, 1 << 40, (1 << 63) - 1):
    for definition, whole in (
        (_core.Definition(huge, huge, *plain), None),
        (_core.Definition(4, huge, *plain), None),
        (good, (huge, huge)),
        (good, (4, huge)),
    ):
        try:
            _core.preprocess(image, out, definition, 1, "portable", whole)
        except ValueError:
            continue
        # A long photo whose middle is needed: allowed, unless its part is not at hand.
        raise AssertionError((huge, whole))
print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is read from /proc")
def test_huge_sizes_are_refused_with_little_memory_left():
    result = subprocess.run(
        [sys.executable, "-c", LIMITED], cwd=sys.prefix, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "refused", result.stderr
