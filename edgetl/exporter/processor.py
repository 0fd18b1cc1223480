"""What the processor's int8 arithmetic can do. It knows nothing about graphs."""

from __future__ import annotations

import platform
from pathlib import Path

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
