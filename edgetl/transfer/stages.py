"""The stages of a network: the pieces, in order, that fine-tuning freezes, frees and slows down.

A stage is what the field calls one, found from the network itself rather than from a table of
names: consecutive units between which nothing but one tensor passes, together as long as its shape
stays the same. For a CNN that is the stem and each change of resolution or width; for a ViT, whose
shape never changes, each block. It knows nothing about training.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from edgetl.transfer.network_split import clean_cuts, trace_units


@dataclass(frozen=True)
class Stage:
    """Consecutive units of a network.

    Attributes:
        name: What it is called, such as ``"layer4"`` or ``"blocks.6"``.
        units: Names of its modules, in the order they are called.
        parameters: How many numbers they hold that could be trained.
        shape: Shape of what the last of them gives for one image.
    """

    name: str
    units: tuple[str, ...]
    parameters: int
    shape: tuple[int, ...]

    @property
    def end(self) -> str:
        """The module after which the stage is over."""
        return self.units[-1]

    def has(self, name: str) -> bool:
        """Whether a parameter or module of this name belongs to it."""
        return any(name == unit or name.startswith(f"{unit}.") for unit in self.units)


def find_stages(module: torch.nn.Module, size: int) -> tuple[Stage, ...]:
    """Find the stages of a network, in the order of its forward pass.

    Modules that hold more than half of all parameters are looked into, and sequences in which the
    shape changes twice. Norms, activations, dropout and pooling belong to the stage before them,
    and so does a single further layer at the end, such as the last 1 x 1 convolution of a
    MobileNet.
    Parameters that belong to no unit, such as a ViT's position embedding, are in no stage.

    Args:
        module: A network without its classifier that maps (n, 3, size, size) to (n, dim).
        size: Side of its input in pixels.

    Raises:
        ValueError: Its forward code can't be traced, or nothing in it has parameters.
    """
    if not _count(module):
        raise ValueError(f"{type(module).__name__} has no parameters to train")
    shapes = _shapes(module, size)
    units = _find_units(module, shapes)
    stages: list[Stage] = []
    for unit in units:
        layer = module.get_submodule(unit)
        found = Stage(unit, (unit,), _count(layer), shapes[unit])
        if stages and (
            not found.parameters or _is_norm(layer) or _continues(module, stages, found)
        ):
            stages[-1] = _joined(stages[-1], found)
        else:
            stages.append(found)
    while len(stages) > 1 and _layers(module, stages[-1]) <= 1 < _layers(module, stages[-2]):
        stages[-2:] = [_joined(*stages[-2:])]
    return tuple(dataclasses.replace(stage, name=_name(module, stage, units)) for stage in stages)


def stage_of(stages: Sequence[Stage], name: str) -> int | None:
    """The position of the stage that a parameter or module belongs to, None if to none."""
    for place, stage in enumerate(stages):
        if stage.has(name):
            return place
    return None


def _find_units(module: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Modules between which one tensor passes, opening the large ones as far as that helps."""
    opened: set[str] = set()
    closed: set[str] = set()
    units = clean_cuts(trace_units(module, opened))
    if not units:
        raise ValueError(f"{type(module).__name__} calls no modules one after the other")
    half = _count(module) / 2
    while True:
        large = [
            unit
            for unit in units
            if unit not in closed
            and _has_children(module.get_submodule(unit))
            and (_count(module.get_submodule(unit)) > half or _changes(module, unit, shapes) > 1)
        ]
        if not large:
            return units
        try:
            inner = clean_cuts(trace_units(module, {*opened, large[0]}))
        except ValueError:
            inner = []
        if sum(unit.startswith(f"{large[0]}.") for unit in inner) > 1:
            opened.add(large[0])
            units = inner
        else:
            closed.add(large[0])


def _changes(module: torch.nn.Module, unit: str, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How often the shape changes between the members of a sequence; 0 of other modules."""
    sequence = module.get_submodule(unit)
    if not isinstance(sequence, torch.nn.Sequential):
        return 0
    found = [shapes[f"{unit}.{name}"] for name, _ in sequence.named_children()]
    return sum(first != second for first, second in itertools.pairwise(found))


def _continues(module: torch.nn.Module, stages: Sequence[Stage], found: Stage) -> bool:
    """Whether a unit goes on with a stage: it has the same shape.

    Neither do blocks after a stem's one layer, nor blocks of tokens, whose shape never changes.
    """
    if stages[-1].shape != found.shape or len(found.shape) == 2:
        return False
    stem = len(stages) == 1 and _layers(module, stages[0]) <= 1
    return not (stem and _layers(module, found) > 1)


def _shapes(module: torch.nn.Module, size: int) -> dict[str, tuple[int, ...]]:
    """What each module gives for one image, without the batch dimension."""
    shapes: dict[str, tuple[int, ...]] = {name: () for name, _ in module.named_modules()}

    def note(unit: str, output: object) -> None:
        shapes[unit] = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()

    hooks = [
        layer.register_forward_hook(lambda _module, _inputs, output, name=name: note(name, output))
        for name, layer in module.named_modules()
    ]
    parameter = next(module.parameters())
    try:
        with torch.inference_mode():
            module(torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _joined(first: Stage, second: Stage) -> Stage:
    return Stage(
        first.name,
        (*first.units, *second.units),
        first.parameters + second.parameters,
        second.shape,
    )


def _name(module: torch.nn.Module, stage: Stage, units: Sequence[str]) -> str:
    """The module that holds exactly this stage's weights, if there is one, else its first unit."""
    weighted = [unit for unit in units if _count(module.get_submodule(unit))]
    own = [unit for unit in stage.units if unit in weighted] or list(stage.units)
    parents = {unit.rpartition(".")[0] for unit in own}
    parent = parents.pop() if len(parents) == 1 else ""
    whole = {unit for unit in weighted if unit.startswith(f"{parent}.")}
    return parent if parent and whole == set(own) else own[0]


def _layers(module: torch.nn.Module, stage: Stage) -> int:
    """Convolutions, and matrices, of a stage."""
    return sum(
        parameter.ndim > 1
        for unit in stage.units
        for parameter in module.get_submodule(unit).parameters()
    )


def _is_norm(layer: torch.nn.Module) -> bool:
    return not _has_children(layer) and "norm" in type(layer).__name__.lower()


def _has_children(layer: torch.nn.Module) -> bool:
    return next(layer.children(), None) is not None


def _count(layer: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())
