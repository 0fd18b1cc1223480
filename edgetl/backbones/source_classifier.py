"""The classifier that a network was pretrained with, where it is linear in the features.

It gives the probabilities of the source classes from features that were computed without it. It
knows tensors by name, and nothing about labels of a new task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class SourceClassifier:
    """A linear layer from features to the source classes.

    Args:
        coef: (Z, dim).
        intercept: (Z,).
    """

    coef: NDArray[np.float32]
    intercept: NDArray[np.float32]

    def probabilities(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Softmax probabilities (n, Z) of the source classes, for features (n, dim)."""
        logits = features.astype(np.float32, copy=False) @ self.coef.T + self.intercept
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return np.asarray(logits)


def find_source_classifier(
    tensors: Mapping[str, torch.Tensor], name: object, *, dim: int
) -> SourceClassifier | None:
    """The classifier called `name` among the tensors of a weights file.

    None where the file has none, or one that is not a linear layer over the `dim` features, such as
    SqueezeNet's, which convolves them before they are pooled, or several.
    """
    if not isinstance(name, str):
        return None
    weight, bias = tensors.get(f"{name}.weight"), tensors.get(f"{name}.bias")
    if weight is None or bias is None or weight.ndim != 2:
        return None
    if weight.shape[1] != dim or bias.shape != weight.shape[:1]:
        return None
    return SourceClassifier(weight.float().numpy(), bias.float().numpy())
