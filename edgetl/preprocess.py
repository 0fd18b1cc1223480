"""The one definition of preprocessing, for training and for the device.

Resize, centre crop, normalisation and layout, applied by the compiled core. It knows nothing about
files (see `edgetl.decode`) and nothing about networks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
from collections.abc import Iterable
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

    With ``dtype="float16"`` and ``"bfloat16"`` the float32 result is rounded once more, ties to
    even. With ``dtype="uint8"`` the cropped bytes are the result, and the graph normalises them:
    `mean` and `std` are then what the graph has inside.

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
        dtype: ``"float32"``, ``"float16"``, ``"bfloat16"``, or ``"uint8"`` for what normalises by
            itself. Numpy has no bfloat16: those arrays are uint16 and hold the bits; in torch,
            ``tensor.view(torch.bfloat16)``.

    Raises:
        TypeError: A size is not an integer, or a mean or deviation not a number.
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
    dtype: Literal["float32", "float16", "bfloat16", "uint8"] = "float32"

    def __post_init__(self) -> None:
        for name in ("size", "resize"):
            object.__setattr__(self, name, _integer(name, getattr(self, name)))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _three_numbers(name, getattr(self, name)))
        if np.array(self.std, np.float32).min() <= 0:
            raise ValueError(f"std must be positive, in float32 too, got {self.std}")
        if not 1 <= self.size <= self.resize <= 16384:
            raise ValueError(
                f"need 1 <= size <= resize <= 16384, got size={self.size}, resize={self.resize}"
            )
        for name, allowed in (
            ("interpolation", ("bilinear", "bicubic")),
            ("layout", ("nchw", "nhwc")),
            ("fit", ("shortest", "squash")),
            ("decode", ("full", "scaled")),
            ("dtype", ("float32", "float16", "bfloat16", "uint8")),
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
    def array_type(self) -> np.dtype[Any]:
        """The numpy type of a preprocessed image: `dtype`, and uint16 for bfloat16."""
        return np.dtype(np.uint16 if self.dtype == "bfloat16" else self.dtype)

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the output, as 64 hexadecimal digits."""
        text = json.dumps({"arithmetic": _ARITHMETIC, **self.to_json()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def apply(self, image: NDArray[np.uint8], *, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Preprocess one decoded image.

        Args:
            image: (h, w, 3) uint8 RGB; rows may be strided, pixels must be packed.
            out: Where to write the result, C-contiguous with shape `shape`; allocated if None.

        Returns:
            `out`, of shape `shape` and type `array_type`.

        Raises:
            TypeError: `image` is not uint8, or `out` not of type `array_type`.
            ValueError: A shape does not fit.
        """
        if out is None:
            out = np.empty(self.shape, dtype=self.array_type)
        native.preprocess(image, out, self)
        return out

    def to_json(self) -> dict[str, Any]:
        """The definition as plain JSON types.

        ``dtype`` is left out where it is ``"float32"``, as in definitions older than it.
        """
        values = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
        if self.dtype == "float32":
            del values["dtype"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocess:
        """Read what `to_json` wrote.

        Raises:
            ValueError: A key is unknown or missing, or a value of another type or out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) | {"dtype"} != names:
            raise ValueError(
                f"preprocess needs exactly the keys {sorted(names - {'dtype'})}, and dtype where "
                f"it is not float32; got {sorted(values)}"
            )
        try:
            return cls(**values)
        except TypeError as error:  # in a file it is the value that is wrong
            raise ValueError(str(error)) from error


def _integer(name: str, value: Any) -> int:
    """A size as a plain int; numpy's integers are converted."""
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def _three_numbers(name: str, values: Any) -> tuple[float, float, float]:
    """One number per channel as plain floats; float32, in which they are used, must hold them."""
    text = isinstance(values, (str, bytes))  # whose items would pass for digits
    if text or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be three numbers, got {values!r}")
    given = tuple(values)
    if any(isinstance(value, (str, bytes, bool)) for value in given):
        raise TypeError(f"{name} must be three numbers, got {values!r}")
    numbers = [float(value) for value in given]
    with np.errstate(over="ignore"):
        finite = bool(np.isfinite(np.array(numbers, np.float32)).all())
    if len(numbers) != 3 or not finite:
        raise ValueError(f"{name} must be three finite numbers, in float32 too, got {values}")
    red, green, blue = numbers
    return red, green, blue
