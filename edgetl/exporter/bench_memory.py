"""How much memory this process holds, without a package for it.

It asks the operating system about the calling process and knows nothing about what fills the
memory.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Memory:
    """Physical memory of a process in bytes; None where the system does not tell.

    Args:
        resident: What it holds now.
        peak: The most it ever held.
    """

    resident: int | None
    peak: int | None


def process_memory() -> Memory:
    """The memory of this process.

    Linux tells both figures in ``/proc/self/status`` (proc_pid_status(5): VmRSS and VmHWM). Other
    Unix systems tell only the peak, through getrusage(2); Windows tells neither here.
    """
    try:
        text = _STATUS.read_text(encoding="ascii", errors="replace")
    except OSError:
        return Memory(None, _peak_by_getrusage())
    resident, peak = parse_status(text)
    return Memory(resident, peak if peak is not None else _peak_by_getrusage())


def parse_status(text: str) -> tuple[int | None, int | None]:
    """Bytes of VmRSS and VmHWM in the text of a ``status`` file; None for a line not there.

    The file says kB and means 1,024 bytes.
    """
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB$", text, re.MULTILINE))
    resident, peak = (
        int(found[name]) * 1024 if name in found else None for name in ("VmRSS", "VmHWM")
    )
    return resident, peak


def _peak_by_getrusage() -> int | None:
    """Bytes: ``ru_maxrss`` counts bytes on macOS, and 1,024 bytes elsewhere."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
