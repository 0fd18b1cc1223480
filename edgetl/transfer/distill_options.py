"""Choices of `edgetl.distill`, checked when made. It knows nothing of how they are used."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from edgetl.features import ExtractOptions
from edgetl.features.views import ViewOptions
from edgetl.preprocess import Preprocess
from edgetl.transfer.distill import Loss


@dataclass(frozen=True, kw_only=True)
class DistillRecipe:
    """How a student is trained.

    Args:
        epochs: Passes over the photos, each with another view of every photo, at most.
        batch_size: Photos of one step.
        learning_rate: The highest, of AdamW; it falls to 0 along half a cosine.
        weight_decay: Of matrices and filters; biases and norms have none.
        warmup: Share of all steps in which the rate rises.
        ema: Decay of the running mean of the weights, which is what is kept; 0 for the last ones.
        loss: ``"cosine"`` or ``"mse"``.
        relational: Weight of the loss on distances between photos; 0 for none.
        whitening: 0 only centres the teacher's features, 1 gives all their directions one spread.
        patience: Epochs without a better held-out cosine after which it ends.

    Raises:
        ValueError: A value is out of range.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    ema: float = 0.998
    loss: Loss = "cosine"
    relational: float = 0.0
    whitening: float = 0.5
    patience: int = 5

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch_size", 2), ("patience", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be {low} or more, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate:g}")
        for name in ("weight_decay", "relational"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name):g}")
        for name, high in (("warmup", 1), ("ema", 1), ("whitening", 1 + 1e-9)):
            if not 0 <= getattr(self, name) < high:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name):g}")
        if self.loss not in ("cosine", "mse"):
            raise ValueError(f"loss must be 'cosine' or 'mse', got {self.loss!r}")


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Choices of `distill` that have good defaults.

    Args:
        seed: Of views, held-out photos, order, and of random weights to begin with.
        recipe: How the student is trained.
        views: Of each photo: the plain one, as a device sees it, and random ones. An epoch shows
            one of each photo; the teachers' features of all of them are computed once and cached.
        view: What the random ones look like.
        size: Side of the student's input in pixels; as its weights want it if None.
        preprocess: All of the student's preprocessing, in place of `size`.
        untrained: Whether the student begins with random weights.
        held_out: Share of photos to measure on, and to end the training by; at most 2000 are.
        device: Of torch, ``"cpu"`` or ``"cuda"``: where the student is trained, and teachers run
            (on the CPU in ONNX Runtime, as ONNX files always do).
        bf16: Whether the student is trained in bfloat16.
        storage: Precision of cached features.
        cache: Whether teachers' features are cached.
        extract: Batch size, workers, progress, and whether an unreadable photo is an error.

    Raises:
        ValueError: A value is out of range, or both a size and a preprocessing are given.
    """

    seed: int = 0
    recipe: DistillRecipe = field(default_factory=DistillRecipe)
    views: int = 4
    view: ViewOptions = field(default_factory=ViewOptions)
    size: int | None = None
    preprocess: Preprocess | None = None
    untrained: bool = False
    held_out: float = 0.1
    device: str = "cpu"
    bf16: bool = False
    storage: Literal["float16", "float32"] = "float16"
    cache: bool = True
    extract: ExtractOptions = field(default_factory=ExtractOptions)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if self.views < 1:
            raise ValueError(f"views must be 1 or more, got {self.views}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be between 0 and 1, got {self.held_out:g}")
        if self.size is not None and self.preprocess is not None:
            raise ValueError("give a size or a whole preprocessing, not both")
        if self.size is not None and self.size < 8:
            raise ValueError(f"size must be 8 or more pixels, got {self.size}")
