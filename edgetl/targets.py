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
        precision: What `edgetl.export` makes of the graph; float32 if None. For running a bundle,
            None means whatever its graph has, and another precision than that is refused.
    """

    provider: Literal["cpu", "cuda"] = "cpu"
    threads: int = 0
    precision: Literal["fp32", "fp16", "int8"] | None = None

    def __post_init__(self) -> None:
        _one_of("provider", self.provider, ("cpu", "cuda"))
        _one_of("precision", self.precision, (None, "fp32", "fp16", "int8"))
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
class TensorRT:
    """Run the graph with TensorRT, or TensorRT for RTX, on an NVIDIA GPU (extra ``tensorrt``).

    Args:
        precision: As for :class:`OnnxRuntime`.
        max_batch: The largest batch of one call; larger ones are cut into several calls.
        workspace: Bytes of GPU memory that building may use; TensorRT's own limit if None.
        timing_cache: Whether timings of a build are kept for the next one on the same device.
        hardware_compatible: Build for other GPUs of the Ampere generation and later too, at some
            cost in speed.
    """

    precision: Literal["fp32", "fp16", "bf16", "int8"] | None = None
    max_batch: int = 1
    workspace: int | None = None
    timing_cache: bool = True
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, (None, "fp32", "fp16", "bf16", "int8"))
        _positive("max_batch", self.max_batch)
        if self.workspace is not None:
            _positive("workspace", self.workspace)
        _flag("timing_cache", self.timing_cache)
        _flag("hardware_compatible", self.hardware_compatible)


@dataclass(frozen=True, kw_only=True)
class Torch:
    """Run the network in torch (extra ``train``): for extraction on a GPU; never on a device.

    Args:
        device: A torch device string such as ``"cpu"`` or ``"cuda"``.
        precision: ``"fp32"``, or ``"bf16"`` under autocast.
        execution: How a GPU runs the batches of an extraction: ``"graph"`` replays a captured CUDA
            graph, ``"eager"`` launches kernel by kernel, ``"compile"`` captures what
            ``torch.compile`` makes of the network, which takes a minute at the start and rounds
            differently.
        decoder: ``"cpu"``, or ``"gpu"``: upright JPEG files are decoded by nvJPEG. That is faster,
            and its pixels differ a little from those that a device will decode.
    """

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    execution: Literal["graph", "eager", "compile"] = "graph"
    decoder: Literal["cpu", "gpu"] = "cpu"

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, ("fp32", "bf16"))
        _one_of("execution", self.execution, ("graph", "eager", "compile"))
        _one_of("decoder", self.decoder, ("cpu", "gpu"))


def _one_of(name: str, value: str | None, allowed: tuple[str | None, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}")


def _not_negative(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number, 0 or more, got {value!r}")


def _positive(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number, 1 or more, got {value!r}")


def _flag(name: str, value: bool) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


ServingTarget: TypeAlias = OnnxRuntime | OpenVino | TensorRT
"""What runs a bundle on a device."""

Target: TypeAlias = ServingTarget | Torch
