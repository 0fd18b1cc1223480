"""JPEG files decoded where torch is: by nvJPEG on a GPU, through torchvision's operators.

Its functions warn that they will move elsewhere, so the operators behind them are called. It knows
nothing about batches or networks.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch

from edgetl._extras import require
from edgetl.errors import MissingDependencyError


def decode_planes(files: Sequence[bytes], device: torch.device) -> list[torch.Tensor]:
    """JPEG files as (3, h, w) uint8 on the device: by nvJPEG on a GPU, else by libjpeg-turbo.

    Raises:
        RuntimeError: One of them can't be decoded.
    """
    import torchvision

    mode = torchvision.io.ImageReadMode.RGB.value
    data = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for file in files]
    operators: Any = torch.ops.image
    if device.type == "cuda":
        planes: list[torch.Tensor] = operators.decode_jpegs_cuda(data, mode, device)
    else:
        planes = [operators.decode_jpeg(one, mode, False) for one in data]
    return [plane.contiguous() for plane in planes]


def check_decoder(device: torch.device) -> None:
    """See that the device can decode; else features would be kept as what they are not.

    Raises:
        MissingDependencyError: It can't.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "JPEG")
    try:
        decode_planes([buffer.getvalue()], device)
    except (AttributeError, RuntimeError) as error:  # no such operator; not built with nvJPEG
        raise MissingDependencyError(
            f"this torchvision can't decode JPEG files on {device}: {error}; use decoder='cpu'"
        ) from error


def gpu_decoder() -> str:
    """What decides the pixels of photos that a GPU decodes; part of an engine's fingerprint."""
    torchvision = require("torchvision", extra="train")
    return f"nvjpeg of torchvision {torchvision.__version__}, CUDA {torch.version.cuda}"
