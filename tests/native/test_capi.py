"""The C library against Python: built, found by CMake, called by ctypes and by a C program."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest
import safetensors.numpy
from capi import CORRUPT, INVALID, OK, ROOT, UNSUPPORTED, Options

from edgetl.heads import KnnHead, LdaHead, PrototypeHead, RidgeHead, SoftmaxHead
from edgetl.preprocess import Preprocess

FORMATS = {"rgb": 1, "bgr": 2, "rgba": 3, "bgra": 4, "nv12": 5, "nv21": 6}


class Frame(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        *((name, ctypes.c_int32) for name in ("format", "range", "width", "height")),
        *((name, ctypes.c_int32) for name in ("rotation", "reserved")),
        ("planes", ctypes.c_void_p * 2),
        ("strides", ctypes.c_int64 * 2),
    )


def yuv_to_rgb(light, pairs, *, full, v_first=False):
    """edgetl.h's formula, its numbers from BT.601's weights of red and blue."""
    red, blue = 0.299, 0.114
    green = 1 - red - blue
    top, side = (255, 255) if full else (219, 224)

    def fixed(value):
        return round(value * 65536)

    light = fixed(255 / top) * (light.astype(np.int64) - (0 if full else 16))
    wide = np.repeat(np.repeat(pairs.astype(np.int64) - 128, 2, axis=0), 2, axis=1)
    wide = wide[: light.shape[0], : light.shape[1]]
    u, v = (wide[..., 1], wide[..., 0]) if v_first else (wide[..., 0], wide[..., 1])
    of_v, of_u = 2 * (1 - red) * 255 / side, 2 * (1 - blue) * 255 / side
    channels = (
        light + fixed(of_v) * v,
        light - fixed(of_u * blue / green) * u - fixed(of_v * red / green) * v,
        light + fixed(of_u) * u,
    )
    return np.clip((np.stack(channels, -1) + 32768) >> 16, 0, 255).astype(np.uint8)


def camera(rng, name, height, width, *, full):
    """A frame's planes, with gaps behind the rows, and the same as RGB."""

    def plane(*shape):
        wide = rng.integers(0, 256, (shape[0], shape[1] + 3, *shape[2:]), dtype=np.uint8)
        return wide[:, : shape[1]]

    if name.startswith("nv"):
        light, pairs = plane(height, width), plane((height + 1) // 2, (width + 1) // 2, 2)
        return [light, pairs], yuv_to_rgb(light, pairs, full=full, v_first=name == "nv21")
    pixels = plane(height, width, len(name))
    return [pixels], pixels[..., [name.index(channel) for channel in "rgb"]]


def call(library, planes, definition, out, *, name, full=True, rotation=0):
    height, width = planes[0].shape[:2]
    frame = Frame(ctypes.sizeof(Frame), FORMATS[name], int(full), width, height, rotation)
    for index, plane in enumerate(planes):
        frame.planes[index] = plane.ctypes.data
        frame.strides[index] = plane.strides[0]
    options = Options(
        ctypes.sizeof(Options),
        definition.size,
        definition.resize,
        ("bicubic", "bilinear").index(definition.interpolation),
        ("shortest", "squash").index(definition.fit),
        ("nchw", "nhwc").index(definition.layout),
        ("float32", "float16", "uint8").index(definition.dtype),
        (ctypes.c_float * 3)(*definition.mean),
        (ctypes.c_float * 3)(*definition.std),
    )
    return library.edgetl_preprocess(
        ctypes.byref(frame),
        ctypes.byref(options),
        ctypes.c_void_p(out.ctypes.data),
        ctypes.c_size_t(out.nbytes),
    )


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("name", FORMATS)
def test_frames_equal_python_to_the_bit(library, name, rotation):
    rng = np.random.default_rng(rotation)
    for number, dtype in enumerate(("float32", "float16", "uint8")):
        for full in (False, True):
            definition = Preprocess(
                size=40,
                resize=48,
                dtype=dtype,
                layout=("nchw", "nhwc")[int(full)],
                fit=("shortest", "squash")[number % 2],
                interpolation=("bicubic", "bilinear")[int(full)],
            )
            planes, rgb = camera(rng, name, 101, 75, full=full)
            upright = np.ascontiguousarray(np.rot90(rgb, -rotation // 90))
            out = np.empty(definition.shape, definition.array_type)
            done = call(library, planes, definition, out, name=name, full=full, rotation=rotation)
            assert done == OK, library.edgetl_last_error()
            np.testing.assert_array_equal(out, definition.apply(upright))


@pytest.mark.parametrize("full", [False, True])
def test_colours_follow_the_formula_to_the_last_unit(library, full):
    """Frames that nothing is resized of, with pixels enough to show each number off by one."""
    planes, rgb = camera(np.random.default_rng(7), "nv12", 1024, 1024, full=full)
    definition = Preprocess(size=1024, resize=1024, dtype="uint8", layout="nhwc")
    out = np.empty_like(rgb)
    assert call(library, planes, definition, out, name="nv12", full=full) == OK
    np.testing.assert_array_equal(out, rgb)


def test_a_buffer_too_small_is_refused_in_words(library):
    planes, _ = camera(np.random.default_rng(0), "rgb", 9, 9, full=True)
    definition = Preprocess(size=4, resize=4)
    assert call(library, planes, definition, np.empty(47, np.float32), name="rgb") == INVALID
    assert library.edgetl_last_error() == b"out has 188 bytes, needs 192"


def fitted(kind, labels):
    rng = np.random.default_rng(3)
    features = rng.normal(size=(90, 33)).astype(np.float32)
    codes = np.arange(90) % 3
    features[:, :3] += 2 * np.eye(3, dtype=np.float32)[codes]
    return kind().fit(features, np.asarray(labels)[codes]), features


@pytest.mark.parametrize("kind", [SoftmaxHead, RidgeHead, LdaHead, PrototypeHead, KnnHead])
@pytest.mark.parametrize("labels", [["a", "b", "c"], [-2, 5, 11]])
def test_heads_equal_python(library, installed, tmp_path, kind, labels):
    head, features = fitted(kind, labels)
    path = tmp_path / "head.safetensors"
    path.write_bytes(safetensors.numpy.save(head.arrays()))
    expected = kind.from_arrays(safetensors.numpy.load_file(path)).predict_proba(features)

    handle = ctypes.c_void_p()
    assert library.edgetl_head_load_file(str(path).encode(), ctypes.byref(handle)) == OK
    assert library.edgetl_head_classes(handle) == 3
    assert library.edgetl_head_features(handle) == 33
    numbers = library.edgetl_head_labels(handle)
    assert bool(numbers) == isinstance(labels[0], int)
    if numbers:
        assert numbers[:3] == labels
    out = np.empty_like(expected)
    sizes = [ctypes.c_size_t(size) for size in (len(features), 33, out.size)]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (features, out)]
    status = library.edgetl_head_probabilities(
        handle, pointers[0], *sizes[:2], pointers[1], sizes[2]
    )
    assert status == OK, library.edgetl_last_error()
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-15)
    library.edgetl_head_free(handle)

    for linked in ("shared", "static"):
        printed = subprocess.run(
            [installed / f"program/classify_{linked}", "score", path],
            input=features.tobytes(),
            capture_output=True,
            check=True,
        ).stdout
        rows = [[float(word) for word in line.split()] for line in printed.splitlines()]
        np.testing.assert_allclose(rows, expected, rtol=1e-12, atol=1e-15)


def test_other_files_are_refused(library, tmp_path):
    path = tmp_path / "head.safetensors"
    handle = ctypes.c_void_p(1)
    path.write_bytes(safetensors.numpy.save({"biases": np.ones(3)}))
    assert library.edgetl_head_load_file(str(path).encode(), ctypes.byref(handle)) == UNSUPPORTED
    assert not handle
    head, _ = fitted(RidgeHead, [0, 1, 2])
    path.write_bytes(safetensors.numpy.save(head.arrays())[:-1])
    assert library.edgetl_head_load_file(str(path).encode(), ctypes.byref(handle)) == CORRUPT
    assert b"whole safetensors" in library.edgetl_last_error()


def test_the_example_prepares_a_frame(installed, tmp_path):
    planes, rgb = camera(np.random.default_rng(5), "nv12", 301, 399, full=False)
    path = tmp_path / "frame.nv12"
    path.write_bytes(b"".join(plane.tobytes() for plane in planes))
    expected = Preprocess().apply(rgb).tobytes()
    for linked in ("shared", "static"):
        program = installed / f"program/classify_{linked}"
        done = subprocess.run([program, "frame", path, "399", "301"], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == expected


def test_nothing_but_the_versioned_symbols_is_exported(installed):
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    shared = installed / "prefix/lib/libedgetl.so.1"
    listed = subprocess.run([nm, "-D", "--defined-only", shared], capture_output=True, text=True)
    text = (ROOT / "cpp_ext/capi/edgetl.map").read_text()
    declared = {
        f"{name}@@{version}"
        for version, body in re.findall(r"(EDGETL_\w+) \{(.*?)\}", text, re.DOTALL)
        for name in re.findall(r"edgetl_\w+", body)
    }
    versions = {name.split("@@")[1] for name in declared}
    assert versions == {"EDGETL_1", "EDGETL_1_1"}
    assert {line.split()[-1] for line in listed.stdout.splitlines()} == declared | versions
