"""What the trained part of a network sees: activations at the cut, of any view of any photo.

Computed from the photo each time, or kept: a cached row costs a read instead of decoding, resizing
and the frozen part's forward pass. Either way the numbers are those of the same frozen part, up to
the rounding of the rows' type. It knows nothing about labels or training.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl import decode
from edgetl.engines.base import available_cores
from edgetl.errors import DataError
from edgetl.features.pipeline import load
from edgetl.transfer.photo_views import TrainingViews
from edgetl.transfer.prefix_cache import ID_BYTES, PrefixCache

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgetl.decode import Source
    from edgetl.preprocess import Preprocess

_FORMAT = 1
_BATCH = 64
"""Images of one forward pass of the frozen part."""


@dataclass(frozen=True)
class Photos:
    """Photos that can be read.

    Attributes:
        sources: What is decoded.
        digests: Of each one's content.
        index: (n,) their positions among those given.
        skipped: Position and reason of those that can't be read.
    """

    sources: tuple[Source, ...]
    digests: tuple[bytes, ...]
    index: NDArray[np.int64]
    skipped: tuple[tuple[int, str], ...]


def open_photos(
    sources: Sequence[Source], preprocess: Preprocess, *, workers: int | None = None
) -> Photos:
    """Read and decode every photo once, to know its content and that it can be used."""

    def check(source: Source) -> bytes | str:
        try:
            content, digest, _ = load(source, preprocess)
            decode.read_image(content, preprocess=preprocess)
        except (DataError, ValueError) as error:  # the latter for an array without pixels
            return str(error)
        return digest

    with concurrent.futures.ThreadPoolExecutor(workers or available_cores()) as pool:
        found = list(pool.map(check, sources))
    index = [place for place, item in enumerate(found) if isinstance(item, bytes)]
    return Photos(
        tuple(sources[place] for place in index),
        tuple(item for item in found if isinstance(item, bytes)),
        np.array(index, np.int64),
        tuple((place, item) for place, item in enumerate(found) if isinstance(item, str)),
    )


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Whether and how activations are kept.

    Attributes:
        folder: Where; a temporary folder if None.
        dtype: ``"float32"``, or ``"float16"``: half the size, rounded to 11 bits.
        max_bytes: Largest size; what doesn't fit is computed each time.
        origin: What decides the frozen part: the network's fingerprint and the cut.
    """

    origin: str
    folder: Path | None = None
    dtype: Literal["float16", "float32"] = "float16"
    max_bytes: int = 4 << 30


class Activations:
    """Activations at the cut; see the module.

    Args:
        photos: The samples.
        prefix: The frozen part in evaluation mode; None where photos themselves are the input.
        preprocess: How photos become the network's input.
        views: How views are made.
        device: Where the network is.
        bf16: Whether the frozen part runs in bfloat16, as autocast does.
        cache: How activations are kept; None to compute them each time, as is done where there is
            no frozen part.
        workers: Threads that decode and resize.
    """

    def __init__(
        self,
        photos: Photos,
        prefix: torch.nn.Module | None,
        *,
        preprocess: Preprocess,
        views: TrainingViews,
        device: torch.device | None = None,
        bf16: bool = False,
        cache: CacheSettings | None = None,
        workers: int | None = None,
    ) -> None:
        self.photos = photos
        self.views = views
        self._prefix, self._preprocess, self._bf16 = prefix, preprocess, bf16
        self._device = device or torch.device("cpu")
        self._stack = contextlib.ExitStack()
        self._pool = self._stack.enter_context(
            concurrent.futures.ThreadPoolExecutor(workers or available_cores())
        )
        example = self._forward(np.zeros((1, *preprocess.shape), np.float32))
        self.shape = tuple(example.shape[1:])
        # Channels last in the file, as the network wants them.
        self._row_shape = tuple(_rows(example).shape[1:])
        distinct = {digest: place for place, digest in enumerate(dict.fromkeys(photos.digests))}
        self._content = np.array([distinct[digest] for digest in photos.digests], np.int64)
        self._cache = None
        if cache is not None and prefix is not None:
            self._cache = self._stack.enter_context(self._open(cache, list(distinct)))
            self._dtype = np.dtype(cache.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, and let go of what is kept."""
        self._stack.close()

    @property
    def cached(self) -> bool:
        """Whether activations are kept."""
        return self._cache is not None

    def batch(self, samples: NDArray[np.int64], views: NDArray[np.int64]) -> torch.Tensor:
        """Activations (n, *shape) float32 on the device.

        Args:
            samples: (n,) positions among the photos.
            views: (n,) the view of each.
        """
        if self._cache is None:
            return self._compute(samples, views)
        rows = np.empty((len(samples), *self._row_shape), self._dtype)
        positions = self._content[samples] * self.views.count + views
        missing = np.flatnonzero(~self._cache.read(positions, rows))
        if len(missing):
            rows[missing] = self._rounded(_rows(self._compute(samples[missing], views[missing])))
            self._cache.write(positions[missing], rows[missing])
        values = torch.from_numpy(rows).to(self._device).float()
        return values.permute(0, 3, 1, 2) if len(self.shape) == 3 else values

    def fill(
        self, samples: NDArray[np.int64], views: Sequence[int], *, say: Callable[[str], None]
    ) -> int:
        """Compute and keep what is not there yet, while there is room; each photo is decoded once.

        Args:
            samples: Positions among the photos.
            views: Which views of each.
            say: Told how far it is.

        Returns:
            The number of rows computed.
        """
        if self._cache is None:
            return 0
        numbers = np.asarray(views, np.int64)
        wanted = self._content[samples][:, None] * self.views.count + numbers
        todo = np.flatnonzero(~self._cache.kept[wanted].all(axis=1))
        step = max(1, _BATCH // len(numbers))
        done = 0
        for start in range(0, len(todo), step):
            if not self._cache.free:
                say("activations: no room for more; the rest is computed in each epoch")
                break
            chosen = samples[todo[start : start + step]]
            values = self._compute(np.repeat(chosen, len(numbers)), np.tile(numbers, len(chosen)))
            positions = self._content[chosen][:, None] * self.views.count + numbers
            self._cache.write(positions.reshape(-1), self._rounded(_rows(values)))
            done += len(values)
            if start // step % 16 == 15:
                say(f"activations: {start + len(chosen)} of {len(todo)} photos")
        return done

    def _open(self, cache: CacheSettings, digests: Sequence[bytes]) -> PrefixCache:
        words = [_FORMAT, cache.origin, self._preprocess.fingerprint, decode.DECODER, cache.dtype]
        words += [self._bf16, self._device.type, torch.__version__]
        key = hashlib.blake2b(json.dumps(words).encode(), digest_size=20).hexdigest()
        definitions = [
            json.dumps(self.views.definition(view)).encode() for view in range(self.views.count)
        ]
        ids = b"".join(
            hashlib.blake2b(digest + definition, digest_size=ID_BYTES).digest()
            for digest in digests
            for definition in definitions
        )
        return PrefixCache(
            cache.folder,
            key,
            np.frombuffer(ids, np.uint8).reshape(-1, ID_BYTES),
            self._row_shape,
            dtype=cache.dtype,
            max_bytes=cache.max_bytes,
        )

    def _compute(self, samples: NDArray[np.int64], views: NDArray[np.int64]) -> torch.Tensor:
        """Decode, resize and run the frozen part; neighbours that are one photo share a decode."""
        images = np.empty((len(samples), *self._preprocess.shape), np.float32)
        edges = np.flatnonzero(np.diff(samples, prepend=-1))

        def prepare(part: NDArray[np.int64]) -> None:
            sample = int(samples[part[0]])
            content, digest, _ = load(self.photos.sources[sample], self._preprocess)
            if digest != self.photos.digests[sample]:  # rows are kept by what was read at first
                raise DataError(f"sample {self.photos.index[sample]} changed while it was in use")
            photo = decode.read_image(content, preprocess=self._preprocess)
            for place in part.tolist():
                self.views.apply(
                    photo,
                    self._preprocess,
                    view=int(views[place]),
                    digest=self.photos.digests[sample],
                    out=images[place],
                )

        list(self._pool.map(prepare, np.split(np.arange(len(samples)), edges[1:])))
        parts = [
            self._forward(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)
        ]
        return torch.cat(parts)

    def _forward(self, images: NDArray[np.float32]) -> torch.Tensor:
        batch = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
        if self._prefix is None:
            return batch
        with (
            torch.no_grad(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._bf16),
        ):
            result: torch.Tensor = self._prefix(batch)
        return result.float()

    def _rounded(self, values: torch.Tensor) -> NDArray[Any]:
        with np.errstate(over="ignore"):  # said below, with the number
            rounded = values.detach().cpu().numpy().astype(self._dtype)
        if not np.isfinite(rounded).all():
            largest = float(values.abs().max())
            raise DataError(
                f"activations go up to {largest:.3g}, beyond what {self._dtype} holds; keep them "
                'in storage="float32"'
            )
        return rounded


def _rows(values: torch.Tensor) -> torch.Tensor:
    return values.permute(0, 2, 3, 1) if values.ndim == 4 else values
