"""The GPU's kernels against what the CPU computes: what `gpu.py` does first.

By itself it is short enough for the memory checker:

    compute-sanitizer --tool memcheck python benchmarks/gpu_checks.py

Photos are held against the CPU's kernel to the bit; pooling and neighbours against torch in
float64. Exits 1 where something differs, and 3 without a GPU (``--dry-run`` checks the host twin
instead).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch

from edgetl import Preprocess
from edgetl.native import cuda

ROUNDS = 40
"""Batches of photos."""


class Mismatch(Exception):
    """A kernel gave something else than the reference."""


def stream_of(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0


class Batch:
    """Photos on the device, and what one call of the kernel needs besides them.

    Args:
        images: (h, w, 3) uint8 each.
        definition: What to do with them.
        device: Where.
        planar: Numbers of those to lay out plane by plane.
        dtype: Of the output.
        last: Whether the output is channels last.
    """

    def __init__(
        self,
        images: list[np.ndarray],
        definition: Preprocess,
        device: torch.device,
        *,
        planar: frozenset[int] = frozenset(),
        dtype: torch.dtype = torch.float32,
        last: bool = True,
    ) -> None:
        self.definition, self.device = definition, device
        self.table, size = cuda.lay_out([image.shape for image in images])
        pixels = np.zeros(size, np.uint8)
        for number, (row, image) in enumerate(zip(self.table, images, strict=True)):
            if number in planar:
                row[1], row[4] = row[3], row[2] * row[3]
                image = image.transpose(2, 0, 1)
            pixels[row[0] : row[0] + image.size] = image.reshape(-1)
        index = (device.index or 0) if device.type == "cuda" else None
        needed = cuda.plan(self.table, size, definition, index)
        self.pixels = torch.from_numpy(pixels).to(device)
        self.device_table = torch.from_numpy(self.table).to(device)
        self.workspace = torch.empty(needed, dtype=torch.uint8, device=device)
        shape = (len(images), 3, definition.size, definition.size)
        layout = torch.channels_last if last else torch.contiguous_format
        self.out = torch.empty(shape, dtype=dtype, device=device, memory_format=layout)

    def run(self) -> torch.Tensor:
        """Queue the kernel on the current stream."""
        cuda.preprocess(
            self.pixels,
            self.table,
            self.device_table,
            definition=self.definition,
            workspace=self.workspace,
            out=self.out,
            stream=stream_of(self.device),
        )
        return self.out

    def read_bytes(self) -> int:
        """Bytes of the photos that the crops depend on at all."""
        total = 0
        size = self.definition.size
        radius = 2.0 if self.definition.interpolation == "bicubic" else 1.0
        for row in self.table.tolist():
            sides = []
            for length, resized, first in ((row[2], row[5], row[7]), (row[3], row[6], row[8])):
                scale = length / resized
                reach = radius * max(scale, 1.0)
                low = max(int((first + 0.5) * scale - reach + 0.5), 0)
                high = min(int((first + size - 0.5) * scale + reach + 0.5), length)
                sides.append(high - low)
            total += 3 * sides[0] * sides[1]
        return total


def photos(rng: np.random.Generator, shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    """Noise; half of it has extreme values only, which clip."""
    made = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
    return [
        np.where(x < 128, np.uint8(0), np.uint8(255)) if rng.random() < 0.5 else x for x in made
    ]


def check_preprocess(device: torch.device, rounds: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    fixed = [(375, 500), (500, 333), (1200, 250), (3000, 4000), (224, 224), (1, 1), (17, 31)]
    for number in range(rounds):
        count = int(rng.integers(1, 9))
        shapes = [tuple(rng.integers(1, 600, 2).tolist()) for _ in range(count)]
        resize = int(rng.integers(8, 300))
        size = int(rng.integers(1, resize + 1))
        if number == 0:
            shapes, size, resize = fixed, 224, 256
        fit = str(rng.choice(["shortest", "squash"]))
        name = str(rng.choice(["bilinear", "bicubic"]))
        definition = Preprocess(size=size, resize=resize, interpolation=name, fit=fit)
        images = photos(rng, shapes)
        dtype = kinds[int(rng.integers(3))]
        planar = frozenset(n for n in range(len(images)) if rng.random() < 0.3)
        try:
            batch = Batch(
                images, definition, device, planar=planar, dtype=dtype, last=rng.random() < 0.6
            )
        except ValueError as error:
            if "shrinks too much" in str(error):
                continue
            raise
        wanted = torch.from_numpy(np.stack([definition.apply(image) for image in images]))
        if not torch.equal(batch.run().cpu(), wanted.to(dtype)):
            raise Mismatch(f"preprocess: {definition}, {shapes}, {dtype}, planar {set(planar)}")
    yield f"preprocess: {rounds} batches equal the CPU to the bit"


def check_graph(device: torch.device) -> Iterator[str]:
    """A captured graph, replayed with other photos than it was captured with."""
    if device.type != "cuda":
        return
    rng = np.random.default_rng(1)
    definition = Preprocess(size=64, resize=72)
    first = Batch(photos(rng, [(90, 120), (200, 100)]), definition, device)
    first.run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        first.run()
    images = photos(rng, [(80, 100), (100, 90)])
    second = Batch(images, definition, device)
    first.pixels[: len(second.pixels)].copy_(second.pixels)
    first.device_table.copy_(second.device_table)
    graph.replay()
    wanted = torch.from_numpy(np.stack([definition.apply(image) for image in images]))
    if not torch.equal(first.out.cpu(), wanted):
        raise Mismatch("preprocess in a CUDA graph")
    yield "preprocess: a captured graph, replayed with other photos, equals the CPU to the bit"


def check_pool(device: torch.device) -> Iterator[str]:
    generator = torch.Generator().manual_seed(0)
    for channels, side in ((2048, 7), (1280, 7), (37, 5), (5, 1), (3, 90), (513, 2)):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            maps = torch.randn(9, channels, side, side, generator=generator).to(dtype)
            mean = maps.double().mean(dim=(2, 3))
            unit = torch.nn.functional.normalize(mean, dim=1)
            for layout in (torch.contiguous_format, torch.channels_last):
                there = maps.to(device).contiguous(memory_format=layout)
                for wanted, divide in ((mean, False), (unit, True)):
                    out = torch.empty(9, channels, device=device)
                    cuda.pool(there, out, unit=divide, stream=stream_of(device))
                    if not torch.allclose(out.cpu().double(), wanted, rtol=1e-4, atol=1e-6):
                        raise Mismatch(f"pool: {channels} channels, side {side}, {dtype}, {layout}")
    yield "pool: equals torch in float64 up to float32's rounding"


def check_nearest(device: torch.device) -> Iterator[str]:
    from edgetl.transfer.torch_search import search_fused

    generator = torch.Generator().manual_seed(0)
    for n, rows, dim, k in (
        (1, 5000, 64, 10),
        (17, 3000, 100, 5),
        (40, 700, 1280, 64),
        (1, 1, 1, 1),
    ):
        for dtype in (torch.float32, torch.float16):
            queries = torch.randn(n, dim, generator=generator).to(dtype)
            memory = torch.randn(rows, dim, generator=generator).to(dtype)
            indices, similarities = search_fused(queries.to(device), memory.to(device), k)
            products = queries.double() @ memory.double().T
            best = products.topk(k).values
            found = products.gather(1, indices.cpu())
            for given in (similarities.cpu().double(), found):
                if not torch.allclose(given, best, rtol=1e-4, atol=1e-3):
                    raise Mismatch(f"nearest: {n} queries, {rows} rows of {dim}, k={k}, {dtype}")
    kinds = torch.randint(-3, 4, (6, 10), generator=generator).float()  # exact products
    memory = kinds[torch.randint(0, 6, (4000,), generator=generator)]
    indices, _ = search_fused(kinds.to(device), memory.to(device), 40)
    wanted = np.argsort(-(kinds @ memory.T).numpy(), axis=1, kind="stable")[:, :40]
    if not np.array_equal(indices.cpu().numpy(), wanted):
        raise Mismatch("nearest: of equal rows the first ones must win")
    yield "nearest: equals torch in float64, and of equal rows the first ones win"


def check_photos(device: torch.device) -> Iterator[str]:
    """Two batches on their way at once give what one after the other gives on the CPU."""
    from edgetl.engines.torch_photos import TorchPhotos

    rng = np.random.default_rng(2)
    definition = Preprocess(size=48, resize=56)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten())
    module = module.append(torch.nn.Linear(16 * 46 * 46, 24)).eval()
    images = photos(rng, [tuple(rng.integers(20, 200, 2).tolist()) for _ in range(31)])
    batch = torch.from_numpy(np.stack([definition.apply(image) for image in images]))
    with torch.inference_mode():
        wanted = module(batch).numpy()
    for execution in ("eager", "graph"):
        there = module.to(device)
        stream = TorchPhotos(
            lambda there=there: there,
            definition,
            dim=24,
            device=device,
            batch_size=4,
            execution=execution,
        )
        found = []
        for start in range(0, len(images), 4):
            if start >= 8:
                found.append(stream.collect()[0])
            stream.submit(images[start : start + 4])
        found += [stream.collect()[0], stream.collect()[0]]
        if not np.allclose(np.concatenate(found), wanted, rtol=0.02, atol=0.02):
            raise Mismatch(f"photos to features, {execution}")
    yield "photos: batches that overlap give what the CPU gives"


CHECKS: tuple[Callable[[torch.device], Iterator[str]], ...] = (
    check_graph,
    check_pool,
    check_nearest,
    check_photos,
)


def run_checks(
    device: torch.device, rounds: int = ROUNDS, *, kernels_only: bool = False
) -> list[str]:
    """All checks, or those of single kernels; what held.

    Raises:
        Mismatch: One did not.
    """
    held = list(check_preprocess(device, rounds))
    for check in (check_pool, check_nearest) if kernels_only else CHECKS:
        held += check(device)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return held


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dry-run", action="store_true", help="check the host twin")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="batches of photos")
    options.add_argument("--kernels", action="store_true", help="no graphs and no networks")
    arguments = options.parse_args()
    reason = None if arguments.dry_run else cuda.why_not()
    if reason is not None:
        print(f"nothing was run: {reason}", file=sys.stderr)
        return 3
    try:
        device = torch.device("cpu" if arguments.dry_run else "cuda:0")
        held = run_checks(device, arguments.rounds, kernels_only=arguments.kernels)
    except Mismatch as error:
        print(f"MISMATCH: {error}", file=sys.stderr)
        return 1
    print("\n".join(held))
    return 0


if __name__ == "__main__":
    sys.exit(main())
