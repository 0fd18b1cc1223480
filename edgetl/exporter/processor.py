"""The machine that measures: its name, its versions, and what its int8 arithmetic can do.

It knows no graphs; what a device has to know of its processor is in `edgetl.engines.processor`.
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

from edgetl.engines import available_cores
from edgetl.engines.processor import is_x86, saturates

__all__ = ["describe_machine", "is_x86", "saturates"]

_PACKAGES = (
    *("edgetl", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("tensorrt", "tensorrt_rtx"),
)


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
