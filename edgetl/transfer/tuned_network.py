"""A network before and after fine-tuning: which of its stages train, and what came out.

It knows networks, stages and where they may be cut; it knows nothing about photos or training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgetl.backbones.module import ModuleBackbone
from edgetl.transfer.network_split import Split
from edgetl.transfer.recipe import Recipe
from edgetl.transfer.stages import Stage, find_stages


class TunedBackbone(ModuleBackbone):
    """A network after fine-tuning: its own weights, and so its own fingerprint.

    Attributes:
        classifier: Weights (classes, dim) and intercepts (classes,) tuned with it.
        held_out: Positions, among the samples given, of those that no training step saw.
        held_out_names: Their names, where `Finetune` trained it.
        trained: Names of the stages that trained.
        history: One row per epoch.
        best_epoch: The epoch whose weights these are, from 1.
    """

    classifier: tuple[NDArray[np.float32], NDArray[np.float32]]
    held_out: NDArray[np.int64]
    held_out_names: frozenset[str] = frozenset()
    trained: list[str]
    history: list[dict[str, float]]
    best_epoch: int


@dataclass(frozen=True)
class Plan:
    """What trains and what stays frozen.

    Attributes:
        stages: Of the network.
        cut: The module up to which all is frozen; None for nothing.
    """

    stages: tuple[Stage, ...]
    cut: str | None

    @classmethod
    def of(cls, network: ModuleBackbone, recipe: Recipe) -> Plan:
        """The plan of a recipe for a network."""
        stages = find_stages(network.module, network.preprocess.size)
        if recipe.boundary:
            return cls(stages, recipe.boundary)
        if recipe.unfreeze >= len(stages):
            return cls(stages, None)
        return cls(stages, stages[-recipe.unfreeze - 1].end)

    def training(self, split: Split) -> list[str]:
        """Names of the stages that train, in whole or in part."""
        names = [name for name, _ in split.suffix.named_parameters()]
        return [stage.name for stage in self.stages if any(map(stage.has, names))]
