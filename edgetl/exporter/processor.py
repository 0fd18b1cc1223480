"""The machine that measures: its name, and what its int8 arithmetic can do. It knows no graphs."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

from edgetl.engines import available_cores

_PACKAGES = ("edgetl", "numpy", "onnxruntime", "tensorrt", "tensorrt_rtx")
_VNNI = {"avx512_vnni", "avx_vnni", "avx_vnni_int8"}


def saturates() -> bool:
    """Whether products of u8 and s8 may overflow here: x86 without VNNI adds pairs in 16 bits.

    Where the processor's flags can't be read (other systems than Linux), x86 is taken to be so.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686"):
        return False
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return True
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return not _VNNI.intersection(line.split())
    return True


def describe_machine() -> dict[str, str]:
    """Processor, cores, system and versions of the machine that something was measured on."""
    found = {
        "processor": _processor(),
        "cores": str(available_cores()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model\t", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
