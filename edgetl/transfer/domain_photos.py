"""Photos and networks as the methods that change weights need them.

It reads photos of a data set, and puts changed weights behind a backbone; it knows nothing about
how they are changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl.backbone import Backbone
from edgetl.data import Dataset
from edgetl.decode import read_image
from edgetl.errors import DataError
from edgetl.preprocess import Preprocess

_BATCH = 32


def torch_module(network: Backbone, method: str) -> Any:
    """The torch module of a backbone.

    Raises:
        ValueError: It has none.
    """
    module = getattr(network, "module", None)
    if module is None:
        raise ValueError(
            f"method {method} changes weights, and {network.name} is no torch module; use a timm "
            "or torchvision backbone, or edgetl_nano"
        )
    return module


def with_module(network: Backbone, name: str, module: Any) -> Backbone:
    """The network with another module, and so with a fingerprint of its own."""
    from edgetl.backbones.module import ModuleBackbone

    architecture = getattr(network, "architecture", network.name)
    return ModuleBackbone(
        name, architecture=architecture, module=module, preprocess=network.preprocess
    )


def photo_batches(samples: Dataset, preprocess: Preprocess) -> Iterator[NDArray[np.float32]]:
    """Preprocessed photos in batches of 32 to 63; what can't be read is left out."""
    images: list[NDArray[np.float32]] = []
    for image in _read(samples, preprocess):
        images.append(image[1])
        if len(images) == 2 * _BATCH:
            yield np.stack(images[:_BATCH])
            del images[:_BATCH]
    if images:
        yield np.stack(images)


def all_photos(
    samples: Dataset, preprocess: Preprocess
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All photos that can be read, preprocessed, and their rows."""
    found = list(_read(samples, preprocess))
    if not found:
        raise DataError(f"none of the {len(samples)} photos can be read")
    return np.stack([image for _, image in found]), np.array([row for row, _ in found])


def _read(samples: Dataset, preprocess: Preprocess) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for row, source in enumerate(samples.sources):
        try:
            image = preprocess.apply(read_image(source, preprocess=preprocess))
        except (DataError, ValueError):  # extraction names it, with the reason
            continue
        yield row, image
