"""What edgetl.native checks before it calls, and how it picks what to call."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgetl import Preprocess, native
from edgetl.native import _core

SMALL = Preprocess(size=8, resize=8)


def image(height=10, width=12, *, dtype=np.uint8):
    return np.arange(height * width * 3).reshape(height, width, 3).astype(dtype)


def output(definition=SMALL):
    return np.empty(definition.shape, dtype=np.float32)


def test_the_core_is_compiled():
    assert native.COMPILED
    assert native.instruction_set() in native.INSTRUCTION_SETS


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([[0]], TypeError, "image must be a numpy array, got list"),
        (image(dtype=np.float64), TypeError, "image must be uint8, got float64"),
        (image(dtype=np.int8), TypeError, "image must be uint8, got int8"),
        (image()[..., 0], ValueError, r"shape \(h, w, 3\), got \(10, 12\)"),
        (image()[..., :2], ValueError, r"got \(10, 12, 2\)"),
        (np.empty((0, 5, 3), np.uint8), ValueError, "got 0 x 5"),
        (np.empty((5, 0, 3), np.uint8), ValueError, "got 5 x 0"),
        (image()[:, ::2], ValueError, "ascontiguousarray"),
        (image()[:, ::-1], ValueError, "ascontiguousarray"),
        (image()[..., ::-1], ValueError, "ascontiguousarray"),
        (image().transpose(1, 0, 2), ValueError, "ascontiguousarray"),
        (np.broadcast_to(np.uint8(1), (native.MAX_SIDE + 1, 1, 3)), ValueError, "1048577 x 1"),
    ],
)
def test_bad_images_are_refused(bad, error, message):
    with pytest.raises(error, match=message):
        native.preprocess(bad, output(), SMALL)


def unaligned():
    return np.frombuffer(bytearray(3 * 8 * 8 * 4 + 1), dtype=np.uint8)[1:].view(np.float32)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (None, TypeError, "out must be a numpy array"),
        (np.empty((3, 8, 8)), TypeError, "out must be float32, got float64"),
        (np.empty((8, 8, 3), np.float32), ValueError, r"shape \(3, 8, 8\), got \(8, 8, 3\)"),
        (np.empty((3, 8, 16), np.float32)[:, :, ::2], ValueError, "C-contiguous"),
        (unaligned().reshape(3, 8, 8), ValueError, "aligned"),
        (np.broadcast_to(np.float32(0), (3, 8, 8)), ValueError, "C-contiguous"),
    ],
)
def test_bad_outputs_are_refused(bad, error, message):
    with pytest.raises(error, match=message):
        native.preprocess(image(), bad, SMALL)


def test_read_only_output_is_refused_and_left_alone():
    out = np.zeros((3, 8, 8), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        native.preprocess(image(), out, SMALL)
    assert not out.any()


@pytest.mark.parametrize("threads", [0, -3])
def test_threads_must_be_positive(threads):
    with pytest.raises(ValueError, match="threads must be at least 1"):
        native.preprocess(image(), output(), SMALL, threads=threads)


def test_the_core_itself_refuses_what_does_not_fit():
    """The binding is safe on its own: a mistake in the wrapper must not become a crash."""

    def call(picture, out, *, threads=1, isa="avx2", whole=None, origin=(0, 0), **changes):
        values = {"size": 8, "resize": 8, "mean": (0, 0, 0), "std": (1, 1, 1)} | changes
        compiled = _core.Definition(
            bicubic=True, nhwc=False, squash=False, dtype="float32", **values
        )
        _core.preprocess(picture, out, compiled, threads, isa, whole, origin)

    call(image(), output())
    with pytest.raises(TypeError):
        call(image().astype(np.float32), output())
    with pytest.raises(TypeError):
        call(image(), np.empty((3, 8, 8), np.float64))
    for wrong in (
        lambda: call(image()[..., :2], output()),
        lambda: call(image()[:, ::2], output()),
        lambda: call(np.empty((0, 4, 3), np.uint8), output()),
        lambda: call(image(), np.empty((3, 7, 8), np.float32)),
        lambda: call(image(), output(), size=-8),
        lambda: call(image(), output(), resize=7),
        lambda: call(image(), output(), resize=1 << 40),
        lambda: call(image(), output(), std=(1, 0, 1)),
        lambda: call(image(), output(), mean=(np.nan, 0, 1)),
        lambda: call(image(), output(), threads=0),
        lambda: call(image(), output(), isa="sse9"),
        lambda: call(image(), output(), whole=(9, 12)),
        lambda: call(image(), output(), whole=(1 << 40, 12)),
        lambda: call(image(), output(), origin=(0, -1)),
        lambda: call(image(), output(), origin=(1, 0)),
        lambda: call(image(), output(), whole=(20, 24)),
        lambda: call(image(), output(), whole=(20, 24), origin=(1 << 62, 1 << 62)),
    ):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(ValueError, match="float64"):
        _core.Definition(8, 8, True, False, False, "float64", (0, 0, 0), (1, 1, 1))


PART = Preprocess(size=4, resize=8)


@pytest.mark.parametrize(
    ("whole", "origin", "message"),
    [
        ((9, 12), (0, 0), r"10 x 12 pixels at \(0, 0\) does not lie inside the photo of 9 x 12"),
        ((10, 12), (0, 1), r"at \(0, 1\) does not lie inside"),
        ((10, 13), (0, -1), r"at \(0, -1\) does not lie inside"),
        ((40, 12), (0, 0), r"must cover \d+ x \d+ pixels at \(\d+, \d+\), got 10 x 12 at \(0, 0\)"),
        ((10, 90), (0, 70), "must cover"),
        ((native.MAX_SIDE + 1, 12), (0, 0), "image sides must be 1 to 1048576"),
    ],
)
def test_parts_that_do_not_fit_are_refused(whole, origin, message):
    out = np.empty(PART.shape, np.float32)
    with pytest.raises(ValueError, match=message):
        native.preprocess(image(), out, PART, whole=whole, origin=origin)


BYTES = Preprocess(size=8, resize=8, layout="nhwc", dtype="uint8")


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (np.empty((8, 8, 3), np.float32), TypeError, "out must be uint8, got float32"),
        (np.empty((3, 8, 8), np.uint8), ValueError, r"shape \(8, 8, 3\), got \(3, 8, 8\)"),
        (np.empty((8, 8, 6), np.uint8)[:, :, ::2], ValueError, "C-contiguous"),
        (np.broadcast_to(np.uint8(0), (8, 8, 3)), ValueError, "C-contiguous"),
    ],
)
def test_bad_outputs_of_bytes_are_refused(bad, error, message):
    with pytest.raises(error, match=message):
        native.preprocess(image(), bad, BYTES)


def test_the_core_itself_refuses_what_does_not_fit_bytes():
    def call(picture, out, *, size=8, resize=8, threads=1, isa="avx2"):
        compiled = _core.Definition(size, resize, True, True, False, "uint8", (0, 0, 0), (1, 1, 1))
        _core.preprocess(picture, out, compiled, threads, isa)

    fitting = np.empty((8, 8, 3), np.uint8)
    call(image(), fitting)
    with pytest.raises(TypeError):
        call(image(), np.empty((8, 8, 3), np.float32))
    for wrong in (
        lambda: call(image(), np.empty((3, 8, 8), np.uint8)),
        lambda: call(image()[:, ::2], fitting),
        lambda: call(image(), fitting, resize=7),
        lambda: call(image(), fitting, size=-8),
        lambda: call(image(), fitting, threads=0),
        lambda: call(image(), fitting, isa="sse9"),
    ):
        with pytest.raises(ValueError):
            wrong()


def test_read_only_images_are_fine():
    picture = np.frombuffer(image().tobytes(), dtype=np.uint8).reshape(10, 12, 3)
    assert not picture.flags.writeable
    out = output()
    native.preprocess(picture, out, SMALL)
    np.testing.assert_array_equal(out, SMALL.apply(image()))


def test_many_python_threads_at_once():
    rng = np.random.default_rng(0)
    pictures = [
        rng.integers(0, 256, (*rng.integers(20, 200, 2), 3), dtype=np.uint8) for _ in range(60)
    ]
    alone = [SMALL.apply(picture) for picture in pictures]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(SMALL.apply, pictures * 3))
    for one, other in zip(alone * 3, together, strict=True):
        np.testing.assert_array_equal(one, other)


def python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=sys.prefix,  # not the checkout, whose uncompiled package would come first
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("isa", native.INSTRUCTION_SETS)
def test_environment_picks_the_instruction_set(isa):
    result = python("from edgetl import native; print(native.instruction_set())", EDGETL_ISA=isa)
    there = native.instruction_sets()
    assert result.stdout.strip() == (isa if isa in there else there[-1])


def test_environment_naming_nothing_known_is_an_error():
    result = python("from edgetl import native; native.instruction_set()", EDGETL_ISA="mmx")
    assert result.returncode == 1
    assert "EDGETL_ISA must be one of ('portable', 'neon', 'avx2'" in result.stderr


def test_an_unknown_instruction_set_is_no_reason_to_use_numpy():
    code = "import numpy as np; from edgetl.native import heads;heads.softmax(np.zeros((1, 2)))"
    result = python(code, EDGETL_ISA="mmx")
    assert result.returncode == 1
    assert "EDGETL_ISA must be one of" in result.stderr
    assert "got 'mmx'" in result.stderr


WITHOUT_CORE = """
import sys
sys.modules["edgetl.native._core"] = None
import numpy as np
from edgetl import Preprocess, native
assert not native.COMPILED and native.instruction_set() == "portable"
image = np.arange(20 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(20, 30, 3)
for _ in range(2):
    result = Preprocess(size=8, resize=8).apply(image)
print(result.tobytes().hex())
"""


def test_without_the_core_numpy_gives_the_same_and_says_so_once():
    result = python(WITHOUT_CORE, EDGETL_REQUIRE_NATIVE="0")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("the compiled core of edgetl is missing") == 1
    picture = np.arange(20 * 30 * 3, dtype=np.uint32).astype(np.uint8).reshape(20, 30, 3)
    assert result.stdout.strip() == SMALL.apply(picture).tobytes().hex()


def test_without_the_core_it_can_be_demanded():
    result = python(WITHOUT_CORE, EDGETL_REQUIRE_NATIVE="1")
    assert result.returncode == 1
    assert "MissingDependencyError: the compiled core of edgetl is missing" in result.stderr
