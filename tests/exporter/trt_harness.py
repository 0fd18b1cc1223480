"""TensorRT's real parser and builder on a machine without a GPU; for tests and benchmarks only.

Two packages are put together: NVIDIA's Python bindings of TensorRT (``tensorrt-cu13-bindings``)
and the libraries of TensorRT for RTX (inside ``onnxruntime-ep-nv-tensorrt-rtx-cu13``), which build
ahead of time on a CPU. The bindings look for three libraries by other names, so three tiny shared
objects with those names are compiled: two that only depend on the RTX libraries, and one with the
single function that the bindings want of the plugin library. It is no supported way to run
TensorRT: users install ``tensorrt`` or ``tensorrt-rtx``.
"""

import ctypes
import functools
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_PLUGINS = """
#include <stdbool.h>
bool initLibNvInferPlugins(void *logger, const char *space) {
  (void)logger;
  (void)space;
  return true;
}
"""


def why_not() -> str | None:
    """Why TensorRT can't be had on this machine; None if it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"TensorRT's wheels are for Linux on x86_64, this is {platform.platform()}"
    return None


@functools.cache
def load():
    """The bindings, working; the same module as ``tensorrt_rtx`` would be."""
    spec = importlib.util.find_spec("onnxruntime_ep_nv_tensorrt_rtx")
    if spec is None or spec.origin is None:
        raise RuntimeError("the extra 'test' is not installed: no TensorRT for RTX libraries")
    folder = Path(spec.origin).parent
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("a C compiler is needed, as for edgetl itself")
    (library,) = folder.glob("libtensorrt_rtx.so.*")
    (parser,) = folder.glob("libtensorrt_onnxparser_rtx.so.*")
    for path in (library, parser):
        ctypes.CDLL(str(path))  # whoever needs them later finds them loaded
    with tempfile.TemporaryDirectory() as workplace:
        source, empty = Path(workplace) / "plugins.c", Path(workplace) / "empty.c"
        source.write_text(_PLUGINS)
        empty.write_text("")
        for name, code, needed in (
            ("libnvinfer.so.11", empty, [library]),
            ("libnvonnxparser.so.11", empty, [parser]),
            ("libnvinfer_plugin.so.11", source, []),
        ):
            made = Path(workplace) / name
            command = [compiler, "-shared", "-fPIC", "-Wl,--no-as-needed", f"-Wl,-soname,{name}"]
            command += ["-o", made, code, *needed]
            subprocess.run(list(map(str, command)), check=True, capture_output=True)
            ctypes.CDLL(str(made))
        import tensorrt_bindings
    return tensorrt_bindings
