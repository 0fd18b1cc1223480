"""Three streams of a GPU that work side by side, and a network run on one of them at a fixed batch.

On the CPU, where everything happens at once, the streams do nothing: the same code runs. It knows
nothing about photos.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch

from edgetl.native import cuda

Lane: TypeAlias = Literal["in", "work", "out"]
"""Copies to the device and decoding; kernels and the network; copies back."""

_CUDA: Any = torch.cuda  # parts of it have no types

_WARM_UP = 3
"""Runs before a capture: libraries choose their algorithms and take their memory in these."""


def _stream(device: torch.device) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = _CUDA.Stream(device)
    return stream


class Lanes:
    """The streams of one device.

    Args:
        device: A GPU, or the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.real = device.type == "cuda"
        names: tuple[Lane, ...] = ("in", "work", "out")
        self._streams: dict[Lane, torch.cuda.Stream] = (
            {name: _stream(device) for name in names} if self.real else {}
        )

    def on(self, lane: Lane) -> contextlib.AbstractContextManager[Any]:
        """Make a lane the current stream."""
        if not self.real:
            return contextlib.nullcontext()
        return torch.cuda.stream(self._streams[lane])

    def stream(self, lane: Lane) -> torch.cuda.Stream | None:
        """The lane's stream; None on the CPU."""
        return self._streams.get(lane)

    def number(self) -> int:
        """The current stream as an integer."""
        return int(torch.cuda.current_stream(self.device).cuda_stream) if self.real else 0

    def mark(self, lane: Lane) -> torch.cuda.Event | None:
        """A point in a lane that others can wait for."""
        if not self.real:
            return None
        # Whoever waits on the host sleeps: its core is wanted for decoding.
        event: torch.cuda.Event = _CUDA.Event(blocking=True)
        event.record(self._streams[lane])
        return event

    def wait(self, lane: Lane, event: torch.cuda.Event | None) -> None:
        """Let a lane's later work wait for a point in another."""
        if event is not None:
            self._streams[lane].wait_event(event)

    def synchronize(self) -> None:
        """Wait for everything that was queued on the device."""
        if self.real:
            torch.cuda.synchronize(self.device)

    def host(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the host that the device can copy from and to by itself."""
        return torch.zeros(shape, dtype=dtype, pin_memory=self.real)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory of the device, zeroed on the current stream."""
        return torch.zeros(shape, dtype=dtype, device=self.device)


class FixedBatch:
    """A network that maps one tensor of images to one of features, again and again.

    Where the network ends in global average pooling, the pooling is done by `edgetl.native.cuda` in
    float32; whatever it gives is converted to float32 by the same kernel.

    Args:
        module: In evaluation mode on the lanes' device; maps (n, 3, h, w) to (n, dim).
        images: Its input, (n, 3, h, w); read at every run.
        features: (n, dim) float32; written at every run.
        half: Whether to run under autocast to bfloat16.
        execution: See `edgetl.targets.Torch`; on the CPU always eager.
        lanes: Where to run.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        images: torch.Tensor,
        features: torch.Tensor,
        *,
        half: bool,
        execution: Literal["graph", "eager", "compile"],
        lanes: Lanes,
    ) -> None:
        self._images = images
        self._features = features
        self._half = half
        self._lanes = lanes
        self._trunk: Callable[[torch.Tensor], torch.Tensor] = module
        self._graph: torch.cuda.CUDAGraph | None = None
        lanes.synchronize()  # weights and buffers were made on another stream
        with lanes.on("work"), self._mode():
            self._trunk = before_pooling(module, images.shape, images.dtype, lanes.device)
        if not lanes.real:
            return
        if execution == "compile":
            self._trunk = torch.compile(self._trunk)
        with lanes.on("work"):
            for _ in range(_WARM_UP):
                self._forward()
        if execution != "eager":
            self._capture()

    def run(self) -> None:
        """Queue one run on the lane ``"work"``, which must be the current one."""
        if self._graph is not None:
            self._graph.replay()
        else:
            self._forward()

    def _capture(self) -> None:
        self._lanes.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on allocating meanwhile.
        with torch.cuda.graph(
            graph, stream=self._lanes.stream("work"), capture_error_mode="thread_local"
        ):
            self._forward()
        self._graph = graph

    def _forward(self) -> None:
        with self._mode():
            maps = self._trunk(self._images)
            if maps.ndim == 2 and maps.shape[1] > cuda.MAX_CHANNELS:
                self._features.copy_(maps)
                return
            dense = maps.is_contiguous() or (
                maps.ndim == 4 and maps.is_contiguous(memory_format=torch.channels_last)
            )
            cuda.pool(
                maps if dense else maps.contiguous(), self._features, stream=self._lanes.number()
            )

    @contextlib.contextmanager
    def _mode(self) -> Any:
        # Without the cache of autocast, a graph casts the weights at every replay, in memory that
        # is its own; with it, the graph would refer to memory that is given back.
        with (
            torch.inference_mode(),
            torch.autocast(
                self._lanes.device.type,
                dtype=torch.bfloat16,
                enabled=self._half,
                cache_enabled=False,
            ),
        ):
            yield


def before_pooling(
    module: torch.nn.Module, shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network up to its last maps, where features are nothing but their mean; else all of it.

    timm's networks say how they end (``forward_features``, ``global_pool``), but not whether more
    comes after the pooling: that is found out with random images.

    Args:
        module: The network.
        shape: Of its input.
        dtype: Of its input.
        device: Where it is.
    """
    maps_of = getattr(module, "forward_features", None)
    if getattr(getattr(module, "global_pool", None), "pool_type", None) != "avg" or maps_of is None:
        return module
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *shape[1:], generator=generator).to(device, dtype)
    maps = maps_of(images)
    if maps.ndim != 4 or maps.shape[1] > cuda.MAX_CHANNELS:
        return module
    pooled, wanted = maps.float().mean(dim=(2, 3)), module(images).float()
    if pooled.shape != wanted.shape:
        return module
    difference = float((pooled - wanted).norm())
    same = difference <= 0.01 * float(wanted.norm())
    trunk: Callable[[torch.Tensor], torch.Tensor] = maps_of
    return trunk if same else module
