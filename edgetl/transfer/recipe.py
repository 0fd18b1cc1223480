"""How a network is fine-tuned: every choice, with its default and where it comes from.

It knows values and their ranges; it knows nothing about torch, networks or samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Choices of fine-tuning.

    Args:
        unfreeze: How many stages train, counted from the last (see `edgetl.transfer.stages`).
        boundary: The module up to which, and with which, everything stays frozen, in place of
            `unfreeze`; ``""`` for none.
        epochs: Most passes over the training part.
        batch_size: Samples of one step.
        lr: Highest learning rate of the last stage and the classifier.
        layer_decay: Each stage further from the end learns at this multiple of the next one's rate
            (ULMFiT, Howard and Ruder 2018; "layer-wise decay" since BEiT).
        warmup: Share of all steps in which the rate grows linearly; then it falls along a cosine to
            0 (Loshchilov and Hutter 2017).
        weight_decay: Decoupled decay of matrices and kernels; none of norms and biases.
        l2_sp: Decoupled pull towards the pretrained weights (L2-SP, Li et al. 2018), in place of
            towards 0 for what was pretrained.
        label_smoothing: Share of each label that is spread over all classes.
        mixup: Alpha of the Beta distribution that two samples are mixed by (Zhang et al. 2018), at
            the cut: of activations (manifold mixup, Verma et al. 2019), of photos where nothing is
            frozen. 0 for none.
        dropout: Share of features that are dropped before the classifier while training.
        gradual: Epochs until the next stage is freed, from the last (gradual unfreezing); 0 frees
            all at once.
        batch_norm: ``"frozen"``: all statistics stay the pretrained ones; ``"train"``: those of the
            stages that train are learned too. Frozen stages' never change.
        ema: Decay per step of the moving average of the weights that is measured and shipped; 0
            for the weights themselves.
        validation: Share of the training part that is held out, class by class, to stop early and
            to choose and calibrate the head; 0 for none.
        patience: Epochs without a better validation part before training ends; 0 for never.
        optimizer: ``"adamw"``, or ``"sgd"`` with Nesterov momentum 0.9.
        start: What the classifier starts from: ``"probe"``, a head fitted to the features before
            (Kumar et al. 2022), or ``"zeros"``.
        views: Views of each photo: its own and random crops, half of them mirrored.
        min_area: Least share of a photo that a crop shows.
        cache: Whether activations at the cut are kept, so that an epoch costs the stages that train
            only.
        cache_gb: Most gigabytes of them; what doesn't fit is computed in each epoch.
        storage: Their type. ``"float32"`` gives plain fine-tuning's weights up to rounding.
        precision: ``"bf16"`` trains in bfloat16 by autocast.
        checkpointing: Whether activations inside the stages that train are computed again on the
            way back rather than kept: less memory, about a third more time.
        lora: Rank of low-rank updates of a ViT's attention (Hu et al. 2021), in place of training
            its weights; 0 for none.
        lora_alpha: Scale of them: the update counts `lora_alpha` / `lora` times.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: a GPU if there is one.

    Raises:
        ValueError: A number is out of range, or two choices exclude each other.
    """

    unfreeze: int = 2
    boundary: str = ""
    epochs: int = 12
    batch_size: int = 32
    lr: float = 3e-4
    layer_decay: float = 0.8
    warmup: float = 0.1
    weight_decay: float = 0.05
    l2_sp: float = 0.0
    label_smoothing: float = 0.1
    mixup: float = 0.0
    dropout: float = 0.2
    gradual: int = 0
    batch_norm: Literal["frozen", "train"] = "frozen"
    ema: float = 0.0
    validation: float = 0.15
    patience: int = 5
    optimizer: Literal["adamw", "sgd"] = "adamw"
    start: Literal["probe", "zeros"] = "probe"
    views: int = 8
    min_area: float = 0.35
    cache: bool = True
    cache_gb: float = 4.0
    storage: Literal["float16", "float32"] = "float16"
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpointing: bool = False
    lora: int = 0
    lora_alpha: float = 16.0
    device: str = "auto"

    def __post_init__(self) -> None:
        self._check_numbers()
        for name, allowed in (
            ("batch_norm", ("frozen", "train")),
            ("optimizer", ("adamw", "sgd")),
            ("start", ("probe", "zeros")),
            ("storage", ("float16", "float32")),
            ("precision", ("fp32", "bf16")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if self.lora and (self.l2_sp or self.batch_norm == "train"):
            raise ValueError(
                "lora leaves the pretrained weights as they are: it goes with neither l2_sp nor "
                'batch_norm="train"'
            )
        if self.batch_norm == "train" and self.batch_size < 3:  # the last batch may be one smaller
            raise ValueError(
                'batch_norm="train" learns from the samples of a step: batch_size must be 3 or '
                f"more, got {self.batch_size}"
            )
        if self.checkpointing and self.batch_norm == "train":
            raise ValueError(
                'checkpointing runs every layer twice, and batch_norm="train" would count each '
                "batch twice; choose one of them"
            )

    def _check_numbers(self) -> None:
        for names, holds, wanted in _RANGES:
            for name in names:
                if not holds(getattr(self, name)):
                    raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)}")


_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("unfreeze", "epochs", "batch_size", "views"), lambda value: value >= 1, "1 or more"),
    (
        ("gradual", "patience", "lora", "weight_decay", "l2_sp", "mixup", "cache_gb"),
        lambda value: 0 <= value < math.inf,
        "0 or more",
    ),
    (("lr", "lora_alpha"), lambda value: 0 < value < math.inf, "above 0"),
    (("layer_decay", "min_area"), lambda value: 0 < value <= 1, "above 0 and at most 1"),
    (("warmup",), lambda value: 0 <= value <= 1, "from 0 to 1"),
    (
        ("label_smoothing", "dropout", "ema", "validation"),
        lambda value: 0 <= value < 1,
        "at least 0 and below 1",
    ),
)
