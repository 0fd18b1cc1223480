"""Photos to features on one GPU: decoding, copies, preparation and network overlap.

Two batches are under way at once, each in buffers of its own. What was decoded on the CPU goes
through pinned memory; upright JPEG files may be decoded by nvJPEG. One kernel prepares the whole
batch (`edgetl.native.cuda`), in the network's own type and layout, and the features are copied back
while the next batch is at work. On the CPU the same code runs with the kernels' host twin, for
tests. It knows nothing about files or caches.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl import decode
from edgetl._extras import require
from edgetl.engines.torch_jpeg import check_decoder, decode_planes
from edgetl.engines.torch_lanes import FixedBatch, Lanes
from edgetl.errors import DataError
from edgetl.native import cuda
from edgetl.preprocess import Preprocess

_DEPTH = 2
_PACKERS = 4
_FILLER = np.zeros((1, 1, 3), np.uint8)
"""Stands where a batch has no photo."""


@dataclass
class _Slot:
    """The buffers of one batch that is under way."""

    images: torch.Tensor
    features: torch.Tensor
    host_features: torch.Tensor
    table: torch.Tensor
    host_table: torch.Tensor
    network: FixedBatch
    pixels: torch.Tensor
    host_pixels: torch.Tensor
    workspace: torch.Tensor
    count: int = 0
    done: torch.cuda.Event | None = None
    failures: dict[int, str] = field(default_factory=dict)
    kept: list[torch.Tensor] = field(default_factory=list)
    """Decoded photos, and others that the device may still be reading."""


class TorchPhotos:
    """A :class:`edgetl.engines.base.PhotoStream` of torch; loads the network at the first batch.

    Args:
        load: Gives the network: in evaluation mode, on `device`, channels last; it maps
            (n, 3, h, w) to (n, dim).
        preprocess: How photos become its input.
        dim: Length of one feature vector.
        device: A GPU, or the CPU, where everything is done by the host twin, slowly.
        batch_size: Photos of one run.
        half: Whether to run in bfloat16.
        execution: See `edgetl.targets.Torch`.
        decoder: Likewise.
    """

    depth = _DEPTH

    def __init__(
        self,
        load: Callable[[], torch.nn.Module],
        preprocess: Preprocess,
        *,
        dim: int,
        device: torch.device,
        batch_size: int,
        half: bool = False,
        execution: Literal["graph", "eager", "compile"] = "graph",
        decoder: Literal["cpu", "gpu"] = "cpu",
    ) -> None:
        self._load = load
        self._preprocess = preprocess
        self._dim = dim
        self._batch_size = batch_size
        self._half = half
        self._execution = execution
        self._lanes = Lanes(device)
        self.decodes = decoder == "gpu"
        if self.decodes:
            require("torchvision", extra="train")
        self._packers = ThreadPoolExecutor(_PACKERS, thread_name_prefix="edgetl-pack")
        self._free: deque[_Slot] = deque()
        self._busy: deque[_Slot] = deque()

    def submit(self, photos: Sequence[NDArray[np.uint8] | bytes]) -> None:
        """Start a batch; see `edgetl.engines.base.PhotoStream`.

        Raises:
            ValueError: There are more photos than the batch size, or `depth` batches under way.
        """
        if not self._free and not self._busy:
            self._free.extend(self._open())
        if not 1 <= len(photos) <= self._batch_size or not self._free:
            raise ValueError(
                f"{len(photos)} photos for a batch of {self._batch_size}, with "
                f"{len(self._busy)} of {_DEPTH} batches under way; collect one first"
            )
        slot = self._free.popleft()
        try:
            self._fill(photos, slot)
        except BaseException:
            self._free.append(slot)
            self._lanes.synchronize()  # part of the work may be queued
            raise
        self._busy.append(slot)

    def _fill(self, photos: Sequence[NDArray[np.uint8] | bytes], slot: _Slot) -> None:
        """Put a batch into a slot, and queue all work on it."""
        slot.count, slot.failures, slot.kept = len(photos), {}, []
        files = {n: photo for n, photo in enumerate(photos) if isinstance(photo, bytes)}
        arrays = {n: photo for n, photo in enumerate(photos) if not isinstance(photo, bytes)}
        decoded = self._decode(files, arrays, slot)
        spare = self._place(arrays, decoded, slot)
        late = self._plan(arrays, decoded, spare, slot)
        self._start(late, slot)

    def collect(self) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Wait for the oldest batch; see `edgetl.engines.base.PhotoStream`.

        Raises:
            ValueError: None is under way.
        """
        if not self._busy:
            raise ValueError("no batch is under way; submit one first")
        slot = self._busy.popleft()
        if slot.done is not None:
            slot.done.synchronize()
        features: NDArray[np.float32] = slot.host_features[: slot.count].numpy().copy()
        slot.kept = []
        self._free.append(slot)
        return features, slot.failures

    def close(self) -> None:
        """Wait for what is under way and let go of it; see `edgetl.engines.base.PhotoStream`."""
        self._packers.shutdown()
        try:
            # Memory that is given back may be written to again at once, on any stream.
            self._lanes.synchronize()
        finally:
            self._free.clear()
            self._busy.clear()

    def _open(self) -> list[_Slot]:
        """Load the network and make the buffers."""
        lanes, size = self._lanes, self._preprocess.size
        if self.decodes:
            check_decoder(lanes.device)
        module = self._load()
        slots = []
        for _ in range(_DEPTH):
            images = lanes.empty(
                (self._batch_size, 3, size, size), torch.bfloat16 if self._half else torch.float32
            ).contiguous(memory_format=torch.channels_last)
            features = lanes.empty((self._batch_size, self._dim), torch.float32)
            network = FixedBatch(
                module,
                images,
                features,
                half=self._half,
                execution=self._execution,
                lanes=lanes,
            )
            slot = _Slot(
                images=images,
                features=features,
                host_features=lanes.host((self._batch_size, self._dim), torch.float32),
                table=lanes.empty((self._batch_size, 10), torch.int64),
                host_table=lanes.host((self._batch_size, 10), torch.int64),
                network=network,
                pixels=lanes.empty((16,), torch.uint8),
                host_pixels=lanes.host((16,), torch.uint8),
                workspace=lanes.empty((16,), torch.uint8),
            )
            slots.append(slot)
        lanes.synchronize()  # the buffers were made on another stream
        return slots

    def _decode(
        self, files: dict[int, bytes], arrays: dict[int, NDArray[np.uint8]], slot: _Slot
    ) -> dict[int, torch.Tensor]:
        """Planes (3, h, w) of JPEG files on the device; what it refuses joins the arrays."""
        if not files:
            return {}
        try:
            with self._lanes.on("in"):
                planes = decode_planes(list(files.values()), self._lanes.device)
            decoded = dict(zip(files, planes, strict=True))
        except RuntimeError:
            decoded = self._decode_apart(files, arrays, slot)
        slot.kept += decoded.values()
        return decoded

    def _decode_apart(
        self, files: dict[int, bytes], arrays: dict[int, NDArray[np.uint8]], slot: _Slot
    ) -> dict[int, torch.Tensor]:
        """`_decode` file by file: which one of a batch is refused isn't said."""
        decoded: dict[int, torch.Tensor] = {}
        self._lanes.synchronize()  # what was given back may still be written to
        for number, data in files.items():
            try:
                with self._lanes.on("in"):
                    decoded[number] = decode_planes([data], self._lanes.device)[0]
                continue
            except RuntimeError as error:
                logging.getLogger(__name__).info("a photo is decoded on the CPU: %s", error)
            self._lanes.synchronize()
            try:
                arrays[number] = decode.read_image(data, preprocess=self._preprocess)
            except DataError as error:
                slot.failures[number] = str(error)
        return decoded

    def _place(
        self, arrays: dict[int, NDArray[np.uint8]], decoded: dict[int, torch.Tensor], slot: _Slot
    ) -> NDArray[np.int64]:
        """Put the arrays into pinned memory, start their copy, and fill in the host's table.

        Its offsets are addresses until `_start`.

        Returns:
            The table's row for where there is no photo.
        """
        order = sorted(arrays)
        packed, size = cuda.lay_out([_FILLER.shape, *(arrays[n].shape for n in order)])
        with self._lanes.on("in"):
            if slot.host_pixels.numel() < size:
                slot.host_pixels = self._lanes.host((size + size // 4,), torch.uint8)
                slot.pixels = self._lanes.empty((size + size // 4,), torch.uint8)
            pixels = slot.host_pixels.numpy()

            def pack(place: int, number: int) -> None:
                image = arrays[number]
                pixels[place : place + image.size].reshape(image.shape)[...] = image

            # One thread copies less than the bus can carry.
            list(self._packers.map(pack, packed[1:, 0].tolist(), order))
            slot.pixels[:size].copy_(slot.host_pixels[:size], non_blocking=True)
        packed[:, 0] += slot.pixels.data_ptr()
        table: NDArray[np.int64] = slot.host_table.numpy()
        table[:] = packed[0]
        table[order] = packed[1:]
        for number, planes in decoded.items():
            _, height, width = planes.shape
            table[number, :5] = planes.data_ptr(), width, height, width, height * width
        spare: NDArray[np.int64] = packed[0]
        return spare

    def _plan(
        self,
        arrays: dict[int, NDArray[np.uint8]],
        decoded: dict[int, torch.Tensor],
        spare: NDArray[np.int64],
        slot: _Slot,
    ) -> dict[int, torch.Tensor]:
        """Complete the table; photos that shrink too much for the kernel are prepared here.

        Returns:
            Those, as the network's input (3, size, size), by number.
        """
        late: dict[int, torch.Tensor] = {}
        table: NDArray[np.int64] = slot.host_table.numpy()
        left_out, needed = self._fit(table, spare, [*arrays, *decoded])
        for number in left_out:
            image = arrays.get(number)
            if image is None:
                with self._lanes.on("in"):  # where it was decoded
                    planes = decoded[number].permute(1, 2, 0).cpu()
                image = np.ascontiguousarray(planes.numpy())
            definition = dataclasses.replace(self._preprocess, dtype="float32", layout="nchw")
            late[number] = torch.from_numpy(definition.apply(image))
        if slot.workspace.numel() < needed:
            with self._lanes.on("work"):
                slot.workspace = self._lanes.empty((needed + needed // 4,), torch.uint8)
        return late

    def _fit(
        self, table: NDArray[np.int64], spare: NDArray[np.int64], numbers: list[int]
    ) -> tuple[list[int], int]:
        """Complete the table, with `spare` in place of photos that the kernel can't take.

        Returns:
            The numbers of those, and the bytes of workspace.
        """
        left_out: list[int] = []
        try:
            return left_out, self._complete(table)
        except ValueError:
            pass
        for number in numbers:
            try:
                self._complete(table[number : number + 1])
            except ValueError:
                left_out.append(number)
        taken = [number for number in numbers if number not in left_out]
        # A very wide one beside a very tall one may be too much, though each could be taken.
        height, width, rows, columns = table[:, [2, 3, 5, 6]].T
        shrinks = np.maximum(height / rows, width / columns)
        taken.sort(key=lambda number: float(shrinks[number]))
        while True:
            table[left_out] = spare
            try:
                return left_out, self._complete(table)
            except ValueError:
                if not taken:
                    raise
                left_out.append(taken.pop())

    def _complete(self, table: NDArray[np.int64]) -> int:
        """Fill in the table's geometry; returns bytes of workspace."""
        base, size = _extent(table)
        index = self._lanes.device.index or 0 if self._lanes.real else None
        table[:, 0] -= base
        try:
            return cuda.plan(table, size, self._preprocess, index)
        finally:
            table[:, 0] += base

    def _start(self, late: dict[int, torch.Tensor], slot: _Slot) -> None:
        """Queue everything else: the table's copy, the kernels, the network, the way back."""
        lanes = self._lanes
        table: NDArray[np.int64] = slot.host_table.numpy()
        base, size = _extent(table)
        table[:, 0] -= base
        with lanes.on("in"):
            slot.table.copy_(slot.host_table, non_blocking=True)
        lanes.wait("work", lanes.mark("in"))
        with lanes.on("work"), torch.inference_mode():
            cuda.preprocess_at(
                base,
                size,
                table,
                slot.table,
                definition=self._preprocess,
                workspace=slot.workspace,
                out=slot.images,
                stream=lanes.number(),
            )
            for number, image in late.items():
                slot.images[number].copy_(image)
            slot.network.run()
        lanes.wait("out", lanes.mark("work"))
        with lanes.on("out"):
            slot.host_features.copy_(slot.features, non_blocking=True)
        slot.done = lanes.mark("out")


def _extent(table: NDArray[np.int64]) -> tuple[int, int]:
    """The lowest address of a table's photos, a multiple of 16, and the bytes from there."""
    offset, stride, height, width, plane = table[:, :5].T
    line = np.where(plane == 0, 3 * width, width)
    base = int(offset.min()) // cuda.ALIGNMENT * cuda.ALIGNMENT
    end = int((offset + 2 * plane + (height - 1) * stride + line).max())
    return base, end - base
