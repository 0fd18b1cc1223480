"""When each stage learns, and how fast: warm-up and cosine, decay by layer, gradual unfreezing.

It knows parameters by name and stages by number; it knows nothing about losses or samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgetl.transfer.recipe import Recipe


@dataclass(frozen=True)
class Learner:
    """A parameter that trains.

    Attributes:
        name: Its name.
        tensor: The parameter.
        depth: Stages between it and the classifier: 0 for the last stage and the classifier.
        pretrained: Whether it has pretrained values, which L2-SP pulls towards.
    """

    name: str
    tensor: torch.nn.Parameter
    depth: int
    pretrained: bool

    @property
    def decays(self) -> bool:
        """Whether weight decay is for it: a matrix or a kernel, no norm and no bias."""
        return self.tensor.ndim > 1


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """The multiple of the highest learning rate that a step takes.

    Args:
        step: From 0.
        steps: Of the whole training.
        warmup: Share of the steps in which it grows linearly, up to 1; then it falls along half a
            cosine, and would be 0 in step `steps`.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def freed_depth(epoch: int, gradual: int, deepest: int) -> int:
    """The depth down to which stages train in an epoch: one more every `gradual` epochs."""
    return deepest if gradual == 0 else min(deepest, epoch // gradual)


def parameter_groups(learners: list[Learner], recipe: Recipe) -> list[dict[str, Any]]:
    """Groups for a torch optimiser: by depth, and with or without decay.

    A group's ``peak`` is its highest learning rate. With L2-SP what is pretrained has no decay
    towards 0.
    """
    groups: dict[tuple[int, float], list[torch.nn.Parameter]] = {}
    for learner in learners:
        plain = learner.decays and not (recipe.l2_sp and learner.pretrained)
        decay = recipe.weight_decay if plain else 0.0
        groups.setdefault((learner.depth, decay), []).append(learner.tensor)
    rows = []
    for (depth, decay), tensors in sorted(groups.items(), key=lambda item: item[0]):
        peak = recipe.lr * recipe.layer_decay**depth
        rows.append({"params": tensors, "lr": peak, "peak": peak, "weight_decay": decay})
    return rows


def make_optimizer(learners: list[Learner], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser of a recipe."""
    groups = parameter_groups(learners, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr)
    return DecoupledSgd(groups, lr=recipe.lr)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to a multiple of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def pull_to_start(
    learners: list[Learner],
    start: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    strength: float,
) -> None:
    """L2-SP, decoupled as AdamW's decay is: a step of lr * strength of the way to the start.

    Only what took part in the step is pulled. Norms and biases are pulled too: the paper's penalty
    is on all pretrained parameters.
    """
    if not strength:
        return
    rates = {
        id(tensor): group["lr"] for group in optimizer.param_groups for tensor in group["params"]
    }
    with torch.no_grad():
        for learner in learners:
            if learner.pretrained and learner.tensor.grad is not None:
                learner.tensor.lerp_(start[learner.name], rates[id(learner.tensor)] * strength)


class DecoupledSgd(torch.optim.SGD):
    """SGD with Nesterov momentum, its weight decay decoupled from the momentum (SGDW).

    Args:
        groups: As for torch's.
        lr: Learning rate of groups without one.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float) -> None:
        for group in groups:
            group["decoupled"] = group.pop("weight_decay")
        super().__init__(groups, lr=lr, momentum=0.9, nesterov=True)

    def step(self, closure: Any = None) -> Any:
        """Decay, then step."""
        with torch.no_grad():
            for group in self.param_groups:
                for tensor in group["params"]:
                    if tensor.grad is not None:
                        tensor.mul_(1 - group["lr"] * group["decoupled"])
        return super().step(closure)
