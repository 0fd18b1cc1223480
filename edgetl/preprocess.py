"""The one definition of preprocessing, for training and for the device.

Resize, centre crop, normalisation and layout, applied by the compiled core. It knows nothing about
files (see `edgetl.decode`) and nothing about networks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgetl import native

_ARITHMETIC = 1
"""Raised whenever the same definition would give other numbers; part of every fingerprint."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How a decoded photo becomes the backbone's input.

    The shorter side is resized to `resize` (``fit="shortest"``), or both sides are, ignoring the
    aspect ratio (``fit="squash"``); then the centre `size` x `size` is cropped and each channel
    becomes ``(value / 255 - mean) / std``. Resizing is antialiased and equals Pillow 13's
    ``Image.resize`` to the bit (older ones differ by a rounding where the height shrinks by more
    than twice as many pixels as the width). The size of the resized image and the place of the crop
    follow torchvision's ``Resize`` and ``CenterCrop``.

    Args:
        size: Side of the output in pixels.
        resize: Length of the shorter side after resizing, in pixels; at least `size`.
        interpolation: ``"bilinear"`` or ``"bicubic"`` (Catmull-Rom, a = -0.5, as in Pillow).
        mean: Mean of each channel on the 0-1 scale.
        std: Standard deviation of each channel on the 0-1 scale.
        layout: ``"nchw"`` or ``"nhwc"``.
        fit: ``"shortest"`` or ``"squash"``.
        decode: ``"full"``, or ``"scaled"``: JPEG files much larger than needed are decoded at a
            reduced size by the codec's DCT scaling (never below twice `resize`); faster, and
            features change slightly.

    Raises:
        ValueError: A value is out of range.
    """

    size: int = 224
    resize: int = 256
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    layout: Literal["nchw", "nhwc"] = "nchw"
    fit: Literal["shortest", "squash"] = "shortest"
    decode: Literal["full", "scaled"] = "full"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or not all(np.isfinite(values)):
                raise ValueError(f"{name} must be three finite numbers, got {values}")
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        if not 1 <= self.size <= self.resize <= 16384:
            raise ValueError(
                f"need 1 <= size <= resize <= 16384, got size={self.size}, resize={self.resize}"
            )
        for name, allowed in (
            ("interpolation", ("bilinear", "bicubic")),
            ("layout", ("nchw", "nhwc")),
            ("fit", ("shortest", "squash")),
            ("decode", ("full", "scaled")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one preprocessed image, without the batch dimension."""
        if self.layout == "nchw":
            return (3, self.size, self.size)
        return (self.size, self.size, 3)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the output, as 64 hexadecimal digits."""
        text = json.dumps({"arithmetic": _ARITHMETIC, **self.to_json()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def apply(
        self, image: NDArray[np.uint8], *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Preprocess one decoded image.

        Args:
            image: (h, w, 3) uint8 RGB; rows may be strided, pixels must be packed.
            out: Where to write the result, C-contiguous with shape `shape`; allocated if None.

        Returns:
            `out`, float32 of shape `shape`.

        Raises:
            TypeError: `image` is not uint8, or `out` not float32.
            ValueError: A shape does not fit.
        """
        if out is None:
            out = np.empty(self.shape, dtype=np.float32)
        native.preprocess(image, out, self)
        return out

    def to_json(self) -> dict[str, Any]:
        """The definition as plain JSON types."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocess:
        """Read what `to_json` wrote.

        Raises:
            ValueError: A key is unknown or missing, or a value out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"preprocess needs exactly the keys {sorted(names)}, got {sorted(values)}"
            )
        values = dict(values, mean=tuple(values["mean"]), std=tuple(values["std"]))
        return cls(**values)
