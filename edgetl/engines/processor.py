"""What this processor's int8 arithmetic can do, and whether a graph uses any.

Features of a float graph differ between processors by rounding. Those of an int8 graph may differ
by much more: where sums of products are kept in 16 bits, they overflow. It knows the processor's
flags and the bytes of graphs, and runs nothing.
"""

from __future__ import annotations

import platform
from pathlib import Path

_X86 = ("x86_64", "amd64", "i386", "i686")
_VNNI = {"avx512_vnni", "avx_vnni", "avx_vnni_int8"}
_INT8_OPERATORS = (b"QuantizeLinear", b"QLinear", b"ConvInteger", b"MatMulInteger")
"""Parts of the names of operators whose results are 8-bit integers, or that take such."""
_PIECE = 1 << 20


def is_x86() -> bool:
    """Whether this processor is of the x86 family."""
    return platform.machine().lower() in _X86


def saturates() -> bool:
    """Whether products of u8 and s8 may overflow here: x86 without VNNI adds pairs in 16 bits.

    Where the processor's flags can't be read (other systems than Linux), x86 is taken to be so.
    """
    if not is_x86():
        return False
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return True
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return not _VNNI.intersection(line.split())
    return True


def is_quantized(graph: Path | bytes) -> bool:
    """Whether a graph computes in int8; a file that can't be read does not.

    Operators are found by their names, which stand in ONNX files and in ONNX Runtime's own alike.
    """
    if isinstance(graph, bytes):
        return any(name in graph for name in _INT8_OPERATORS)
    overlap = max(map(len, _INT8_OPERATORS)) - 1
    before = b""
    try:
        with graph.open("rb") as stream:
            while piece := stream.read(_PIECE):
                if is_quantized(before + piece):
                    return True
                before = piece[-overlap:]
    except OSError:
        return False
    return False


def arithmetic(graph: Path | bytes) -> str:
    """What a fingerprint says of the arithmetic that runs a graph on this processor.

    ``"fp32"``, or of a graph in int8, ``"int8"`` with the kind of processor, since another kind may
    give other features.
    """
    if not is_quantized(graph):
        return "fp32"
    kind = platform.machine().lower()
    return f"int8, {kind}, {'sums of 16 bits' if saturates() else 'sums of 32 bits'}"
