"""The C library for tests: built, installed and called by ctypes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
OK, INVALID, UNSUPPORTED, IO, CORRUPT, NOT_FINITE = range(6)
SIGNATURE, BASE, STALE = 8, 9, 10
KINDS = ("linear", "softmax", "ridge", "lda", "prototype", "knn")
_SIZES = ("edgetl_head_classes", "edgetl_head_features")
_TEXTS = ("edgetl_last_error", "edgetl_head_name", "edgetl_bundle_graph")


class Options(ctypes.Structure):
    """edgetl_preprocess_options."""

    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        *((name, ctypes.c_int32) for name in ("size", "resize", "interpolation", "fit")),
        *((name, ctypes.c_int32) for name in ("layout", "dtype")),
        ("mean", ctypes.c_float * 3),
        ("std", ctypes.c_float * 3),
        *((name, ctypes.c_int32) for name in ("threads", "reserved")),
    )


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def cmake() -> str:
    """CMake's path, which CMAKE may name; skips the test where there is none."""
    if named := os.environ.get("CMAKE"):
        return named
    found = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    if found is None:
        pytest.skip("cmake is not installed")
    return found


def build(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The folder where the library is installed, and the examples built with it.

    EDGETL_TEST_CAPI may name a folder where that was done already.
    """
    if ready := os.environ.get("EDGETL_TEST_CAPI"):
        return Path(ready)
    if not (ROOT / "cpp_ext/CMakeLists.txt").is_file():
        pytest.skip("the sources are not here")
    if shutil.which("c++") is None or shutil.which("cc") is None:
        pytest.skip("no compilers named cc and c++")
    if sys.platform != "linux":
        pytest.skip("names of libraries as on Linux")
    return once("capi", _build)


def _build(folder: Path) -> None:
    made, prefix = folder / "build", folder / "prefix"
    switches = ("-DEDGETL_PYTHON=OFF", "-DEDGETL_CAPI=ON", "-DCMAKE_INSTALL_LIBDIR=lib")
    run(cmake(), "-S", ROOT / "cpp_ext", "-B", made, *switches)
    run(cmake(), "--build", made, "--parallel", 2, "--target", "edgetl_shared", "edgetl_static")
    run(cmake(), "--install", made, "--prefix", prefix)
    program = folder / "program"
    run(cmake(), "-S", ROOT / "examples/c", "-B", program, f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake(), "--build", program)


def load(installed: Path) -> ctypes.CDLL:
    """The shared library with the types of its results."""
    loaded = ctypes.CDLL(str(installed / "prefix/lib/libedgetl.so.1"))
    for name in _SIZES:
        getattr(loaded, name).restype = ctypes.c_size_t
    for name in _TEXTS:
        getattr(loaded, name).restype = ctypes.c_char_p
    loaded.edgetl_head_labels.restype = ctypes.POINTER(ctypes.c_int64)
    loaded.edgetl_bundle_head.restype = ctypes.c_void_p
    loaded.edgetl_bundle_generation.restype = ctypes.c_int64
    return loaded


class RefusedError(Exception):
    """A status that is not EDGETL_OK, and the library's words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Handle:
    """Something of the library's that has to be freed; None inside once it was."""

    def __init__(self, library, kind: str, make: Callable[[ctypes.c_void_p], int]) -> None:
        self.library, self.kind = library, kind
        self.value = ctypes.c_void_p(1)
        try:
            check(library, make(ctypes.byref(self.value)))
        except RefusedError:
            assert self.value.value is None
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        getattr(self.library, f"edgetl_{self.kind}_free")(self.value)
        self.value = None


def check(library, status: int) -> None:
    """Raise unless the status is EDGETL_OK."""
    if status != OK:
        raise RefusedError(status, library.edgetl_last_error().decode())


def pointer(array):
    """A pointer to an array without gaps; to nothing for None."""
    assert array is None or array.flags.c_contiguous
    return ctypes.c_void_p(None if array is None else array.ctypes.data)


def probabilities(library, head, features) -> np.ndarray:
    """(n, classes) of a head's handle."""
    features = np.ascontiguousarray(features, np.float32)
    out = np.empty((len(features), library.edgetl_head_classes(head)))
    sizes = [ctypes.c_size_t(size) for size in (*features.shape, out.size)]
    check(
        library,
        library.edgetl_head_probabilities(
            head, pointer(features), *sizes[:2], pointer(out), sizes[2]
        ),
    )
    return out


def names(library, head) -> list[str]:
    """Names of a head's classes."""
    count = library.edgetl_head_classes(head)
    return [library.edgetl_head_name(head, ctypes.c_size_t(i)).decode() for i in range(count)]


def head_of(library, bundle):
    """A bundle's own head."""
    return ctypes.c_void_p(library.edgetl_bundle_head(bundle.value))


def load_head(library, path) -> Handle:
    return Handle(library, "head", lambda to: library.edgetl_head_load_file(bytes(path), to))


def open_bundle(library, path, task=None) -> Handle:
    return Handle(library, "bundle", lambda to: library.edgetl_bundle_open(bytes(path), task, to))


class Learner(Handle):
    """A learner of a bundle, or of a head."""

    @classmethod
    def of_bundle(cls, library, bundle):
        return cls(library, "learner", lambda to: library.edgetl_learner_open(bundle.value, to))

    @classmethod
    def of_head(cls, library, head, kind, learning=None):
        size = ctypes.c_size_t(len(learning or b""))
        number = KINDS.index(kind)

        def make(to):
            return library.edgetl_learner_create(head.value, number, learning, size, to)

        return cls(library, "learner", make)

    def learn(self, features, labels, weights=None):
        """By numbers if the labels are integers, else by names."""
        features = np.ascontiguousarray(features, np.float32)
        weights = None if weights is None else np.ascontiguousarray(weights, np.float64)
        sizes = [ctypes.c_size_t(size) for size in features.shape]
        if isinstance(labels[0], str):
            call, given = self.library.edgetl_learner_learn, (ctypes.c_char_p * len(labels))()
            given[:] = [label.encode() for label in labels]
        else:
            call = self.library.edgetl_learner_learn_labels
            given = pointer(np.array(labels, np.int64))
        done = call(self.value, pointer(features), *sizes, given, pointer(weights))
        check(self.library, done)

    def forget(self, label):
        if isinstance(label, str):
            done = self.library.edgetl_learner_forget(self.value, label.encode())
        else:
            done = self.library.edgetl_learner_forget_label(self.value, ctypes.c_int64(label))
        check(self.library, done)

    def head(self) -> Handle:
        library = self.library
        return Handle(library, "head", lambda to: library.edgetl_learner_head(self.value, to))

    def commit(self, bundle) -> Handle:
        library = self.library
        return Handle(
            library,
            "bundle",
            lambda to: library.edgetl_bundle_commit(bundle.value, self.value, to),
        )
