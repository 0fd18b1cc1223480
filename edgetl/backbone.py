"""What a backbone is: a pretrained network as a feature function (workstation side).

It knows nothing about where networks come from (see `edgetl.backbones`), and nothing about heads,
labels or data sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl.preprocess import Preprocess


class Backbone(Protocol):
    """A frozen pretrained network that turns preprocessed images into features.

    One that comes from torch also has ``module``, the ``torch.nn.Module`` in evaluation mode that
    maps (n, 3, h, w) to (n, dim), and ``source_classifier``, what it was pretrained with, or None;
    one from an ONNX file has neither. edgetl_nano has ``module`` where torch is installed.
    """

    @property
    def name(self) -> str:
        """The name it was loaded by."""

    @property
    def dim(self) -> int:
        """Length of one feature vector."""

    @property
    def preprocess(self) -> Preprocess:
        """How images become its input."""

    @property
    def fingerprint(self) -> str:
        """A hash of the architecture, every weight and the preprocessing."""

    def features(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The reference: features (n, dim) of a batch, by the framework the network came from."""

    def to_onnx(self, path: Path) -> None:
        """Write the feature graph: ``images`` (n, ...) in, ``features`` (n, dim) out, n free."""
