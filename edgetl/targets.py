"""Targets: what runs the backbone graph, as types. It knows nothing about how the engines work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime:
    """Run the ONNX graph with ONNX Runtime (extra ``ort`` or ``ort-gpu``).

    Args:
        provider: ``"cpu"`` or ``"cuda"``.
        threads: Threads of one call; 0 means one call at a time on all cores when serving, and one
            call per core when extracting.
    """

    provider: Literal["cpu", "cuda"] = "cpu"
    threads: int = 0

    def __post_init__(self) -> None:
        _one_of("provider", self.provider, ("cpu", "cuda"))
        _not_negative("threads", self.threads)


@dataclass(frozen=True, kw_only=True)
class OpenVino:
    """Run the ONNX graph with OpenVINO on the CPU (extra ``openvino``).

    Args:
        threads: Threads of one call; 0 means as for :class:`OnnxRuntime`.
    """

    threads: int = 0

    def __post_init__(self) -> None:
        _not_negative("threads", self.threads)


@dataclass(frozen=True, kw_only=True)
class Torch:
    """Run the network in torch (extra ``train``): for extraction on a GPU; never on a device.

    Args:
        device: A torch device string such as ``"cpu"`` or ``"cuda"``.
        precision: ``"fp32"``, or ``"bf16"`` under autocast.
    """

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, ("fp32", "bf16"))


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def _not_negative(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number, 0 or more, got {value!r}")


Target: TypeAlias = OnnxRuntime | OpenVino | Torch
