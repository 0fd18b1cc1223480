"""What `gpu.py` measures: each part makes its data, runs the contestants and returns figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    photos: int
    sides: tuple[tuple[int, int], ...]
    batch: int
    batches: int
    backbones: tuple[str, ...]
    size: int
    resize: int
    rows: int
    dim: int
    classes: int
    queries: tuple[int, ...]
    repeats: int


FULL = Scale(
    photos=512,
    sides=((375, 500), (500, 375), (333, 500), (480, 640), (500, 500)),
    batch=256,
    batches=24,
    backbones=("resnet50", "mobilenetv2_100"),
    size=224,
    resize=256,
    rows=1_000_000,
    dim=1280,
    classes=100,
    queries=(1, 16, 64, 1024),
    repeats=15,
)
DRY = Scale(
    photos=6,
    sides=((48, 64), (50, 40)),
    batch=4,
    batches=3,
    backbones=("test_resnet",),
    size=32,
    resize=36,
    rows=600,
    dim=16,
    classes=4,
    queries=(1, 3),
    repeats=2,
)


class Clock:
    """Medians of contestants run in turns, by CUDA events or by the clock."""

    BALLAST = (1 << 30, 8)  # bytes to fill, and how often: some milliseconds

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self._ballast: torch.Tensor | None = None

    def synchronize(self) -> None:
        """Wait until the GPU has done everything."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _keep_busy(self) -> None:
        """Queue other work, behind which the host has the time to queue what is to be timed.

        A GPU that waits for the host between two events would be timed as if it worked. It also
        leaves nothing of use in the cache.
        """
        size, times = self.BALLAST
        if self._ballast is None:
            self._ballast = torch.empty(size, dtype=torch.uint8, device=self.device)
        for number in range(times):
            self._ballast.fill_(number)

    def of_device(self, contestants: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Seconds of the GPU for what each call queues, which should take the host a moment."""
        if self.device.type != "cuda":
            return self.of_host(contestants)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for call in contestants.values():
            for _ in range(3):
                call()
        self.synchronize()
        for _ in range(self.repeats):
            for name, call in contestants.items():
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                self._keep_busy()
                begin.record()
                call()
                end.record()
                end.synchronize()
                seconds[name].append(begin.elapsed_time(end) / 1000)
        return {name: statistics.median(values) for name, values in seconds.items()}

    def of_host(
        self, contestants: Mapping[str, Callable[[], object]], *, repeats: int | None = None
    ) -> dict[str, float]:
        """Seconds from the call until the GPU has done all of it."""
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for call in contestants.values():
            call()
        self.synchronize()
        for _ in range(repeats or self.repeats):
            for name, call in contestants.items():
                start = time.perf_counter()
                call()
                self.synchronize()
                seconds[name].append(time.perf_counter() - start)
        return {name: statistics.median(values) for name, values in seconds.items()}


def make_photos(scale: Scale) -> list[np.ndarray]:
    """Smooth pictures with some noise: they compress about as photos do."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(scale.photos):
        height, width = scale.sides[number % len(scale.sides)]
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int16)
        noisy = smooth + rng.integers(-8, 9, (height, width, 3))
        made.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return made


def measure_copy(clock: Clock, total: int) -> float:
    """Bytes per second of a copy on the device that reads and writes `total` bytes together."""
    source = torch.zeros(max(total // 2, 1), dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    seconds = clock.of_device({"copy": lambda: target.copy_(source)})["copy"]
    return 2 * len(source) / seconds


def torchvision_way(size: int, resize: int) -> Callable[[torch.Tensor], torch.Tensor]:
    from torchvision.transforms import v2

    transform: Callable[[torch.Tensor], torch.Tensor] = v2.Compose(
        [
            v2.Resize(resize, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return transform


def measure_preprocess(clock: Clock, scale: Scale, images: list[np.ndarray]) -> dict[str, Any]:
    from gpu_checks import Batch

    from edgetl import Preprocess

    device = clock.device
    definition = Preprocess(size=scale.size, resize=scale.resize)
    kinds = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    batches = {
        f"{name} {layout}": Batch(images, definition, device, dtype=dtype, last=layout == "nhwc")
        for name, dtype in kinds.items()
        for layout in ("nhwc", "nchw")
    }
    seconds = clock.of_device({name: batch.run for name, batch in batches.items()})
    bandwidth = {
        name: (batch.read_bytes() + batch.out.nbytes) / seconds[name]
        for name, batch in batches.items()
    }
    copy = measure_copy(clock, max(b.read_bytes() + b.out.nbytes for b in batches.values()))
    there = [torch.from_numpy(image).permute(2, 0, 1).contiguous().to(device) for image in images]
    alike = torch.stack([x for x in there if x.shape == there[0].shape])
    way = torchvision_way(scale.size, scale.resize)
    ours = batches["bfloat16 nhwc"]
    # Photo by photo it is the host that takes the time, so these are timed by the clock.
    peers = clock.of_host(
        {
            "edgetl": ours.run,
            "torchvision": lambda: (
                torch.stack([way(x) for x in there])
                .to(torch.bfloat16)
                .contiguous(memory_format=torch.channels_last)
            ),
            "torchvision, one size": lambda: (
                way(alike).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
            ),
        }
    )
    return {
        "copy_bytes_per_second": copy,
        "bytes_per_second": bandwidth,
        "share_of_copy": {name: value / copy for name, value in bandwidth.items()},
        "images_per_second": {
            "edgetl": len(images) / peers["edgetl"],
            "torchvision": len(images) / peers["torchvision"],
            "torchvision, one size": len(alike) / peers["torchvision, one size"],
        },
        "times_torchvision": peers["torchvision"] / peers["edgetl"],
    }


def measure_head(clock: Clock, scale: Scale) -> dict[str, Any]:
    """One strength; torch's solver stops when it has reached edgetl's objective."""
    from edgetl.heads import SoftmaxHead
    from edgetl.transfer.torch_fit import fit_head

    generator = torch.Generator(clock.device).manual_seed(0)
    classes = torch.arange(scale.rows, device=clock.device) % scale.classes
    centres = torch.randn(scale.classes, scale.dim, device=clock.device, generator=generator)
    features = torch.randn(scale.rows, scale.dim, device=clock.device, generator=generator)
    features += 0.15 * centres[classes]
    strength = 1.0

    def objective(coef: torch.Tensor, intercept: torch.Tensor) -> torch.Tensor:
        logits = features @ coef.T + intercept
        loss = torch.nn.functional.cross_entropy(logits, classes)
        return loss + coef.square().sum() / (2 * strength * scale.rows)

    fit_head(SoftmaxHead(C=strength, tol=0.1), features, classes)  # warm
    clock.synchronize()
    start = time.perf_counter()
    head = fit_head(SoftmaxHead(C=strength), features, classes)
    clock.synchronize()
    ours = time.perf_counter() - start
    with torch.no_grad():
        arrays = [
            torch.as_tensor(x, dtype=torch.float32, device=clock.device)
            for x in (head.coef_, head.intercept_)
        ]
        if len(arrays[0]) != scale.classes:
            raise RuntimeError(f"the head has {len(arrays[0])} rows for {scale.classes} classes")
        reached = float(objective(*arrays))
    coef = torch.zeros(scale.classes, scale.dim, device=clock.device, requires_grad=True)
    intercept = torch.zeros(scale.classes, device=clock.device, requires_grad=True)
    solver = torch.optim.LBFGS(
        [coef, intercept], max_iter=5, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = objective(coef, intercept)
        loss.backward()
        return loss

    clock.synchronize()
    start, theirs = time.perf_counter(), float("inf")
    for _ in range(60):
        theirs = min(theirs, float(solver.step(closure).detach()))
        with torch.no_grad():
            theirs = min(theirs, float(objective(coef, intercept)))
        if theirs <= reached * (1 + 1e-4):
            break
    clock.synchronize()
    other = time.perf_counter() - start
    return {
        "samples": scale.rows,
        "dim": scale.dim,
        "classes": scale.classes,
        "seconds": {"edgetl": ours, "torch.optim.LBFGS": other},
        "objective": {"edgetl": reached, "torch.optim.LBFGS": theirs},
        "ratio": other / ours,
    }


def measure_nearest(clock: Clock, scale: Scale) -> dict[str, Any]:
    from edgetl.transfer.torch_search import nearest_rows, search_fused, search_product

    generator = torch.Generator(clock.device).manual_seed(0)
    memory = torch.randn(scale.rows, scale.dim, device=clock.device, generator=generator)
    memory = torch.nn.functional.normalize(memory, dim=1).half()
    figures = {}
    for count in scale.queries:
        queries = memory[:count].contiguous()
        contestants: dict[str, Callable[[], object]] = {
            "picked": lambda queries=queries: nearest_rows(queries, memory, 10),
            "fused": lambda queries=queries: search_fused(queries, memory, 10),
            "product and top-k": lambda queries=queries: search_product(queries, memory, 10),
        }
        figures[f"{count} queries"] = clock.of_device(contestants)
    return figures
