"""A network cut in two after one of its units: a part that stays frozen, and one that learns.

The forward code of the network, and of the modules that contain the cut, is traced with torch.fx;
every other module stays the object that it is. So both parts share the network's own modules and
parameters, and what trains the second part trains the network. It knows nothing about stages,
samples or training.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx


@dataclass(frozen=True)
class Split:
    """A network as two modules, one after the other.

    Attributes:
        unit: The name of the module after which it was cut; None where there is no first part.
        prefix: What maps images to the activations at the cut; None likewise.
        suffix: What maps those to the features.
    """

    unit: str | None
    prefix: torch.nn.Module | None
    suffix: torch.nn.Module


def trace_units(module: torch.nn.Module, opened: Collection[str]) -> fx.Graph:
    """The calls of a network's forward pass, with every module but `opened` left whole.

    Args:
        module: The network; its forward takes images, and its other arguments have defaults.
        opened: Names of modules to look into, apart from the network itself.

    Raises:
        ValueError: The code that would be traced depends on the values of its input.
    """
    defaults = {
        name: parameter.default
        for name, parameter in list(inspect.signature(module.forward).parameters.items())[1:]
        if parameter.default is not inspect.Parameter.empty
    }
    try:
        graph = _Tracer(frozenset(opened)).trace(module, concrete_args=defaults or None)
    except Exception as error:  # whatever the network's own code raises on a traced input
        raise ValueError(
            f"the forward code of {type(module).__name__} can't be traced: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
        ) from error
    _drop_defaults(graph)
    return graph


def clean_cuts(graph: fx.Graph) -> list[str]:
    """The modules after which everything that is left depends on their output alone, in order."""
    dependent = _dependent(graph)
    nodes = [node for node in graph.nodes if node in dependent]
    last_use = {node: max(map(_place(graph), node.users), default=-1) for node in nodes}
    place, cuts, open_until = _place(graph), [], -1
    for node in nodes:
        # Of what came before nothing may be used after this node.
        if node.op == "call_module" and open_until <= place(node):
            cuts.append(str(node.target))
        open_until = max(open_until, last_use[node])
    return cuts


def split_after(module: torch.nn.Module, unit: str | None) -> Split:
    """Cut a network after one of its modules.

    Args:
        module: The network.
        unit: The module's name; None for everything in the second part.

    Raises:
        ValueError: There is no such module, or the network can't be cut there: something besides
            the module's output is used further on, the module is called more than once, or
            parameters are used on both sides.
    """
    if unit is None:
        return Split(None, None, module)
    names = dict(module.named_modules())
    if unit not in names or not unit:
        near = difflib.get_close_matches(unit, filter(None, names), n=3)
        outer = ", ".join(name for name, _ in module.named_children())
        hint = f"did you mean {' or '.join(near)}?" if near else f"its outermost are {outer}"
        raise ValueError(f"{type(module).__name__} has no module {unit!r} to cut after; {hint}")
    parts = unit.split(".")
    graph = trace_units(module, {".".join(parts[:end]) for end in range(1, len(parts))})
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == unit]
    if len(calls) != 1:
        raise ValueError(f"module {unit!r} is called {len(calls)} times; a cut needs one call")
    if unit not in clean_cuts(graph):
        raise ValueError(
            f"the network can't be cut after {unit!r}: what comes before it is used after it too"
        )
    prefix = _module(module, _first_part(graph, calls[0]), "Prefix")
    suffix = _module(module, _second_part(graph, calls[0]), "Suffix")
    own = {id(tensor) for tensor in prefix.parameters()}
    shared = [name for name, tensor in suffix.named_parameters() if id(tensor) in own]
    if shared:
        raise ValueError(f"the network can't be cut after {unit!r}: {shared[0]} is on both sides")
    return Split(unit, prefix, suffix)


def _module(root: torch.nn.Module, graph: fx.Graph, name: str) -> torch.nn.Module:
    """A graph as a module that shares what it calls with `root`; what leads nowhere goes."""
    whole = fx.GraphModule(root, graph, name)
    whole.graph.eliminate_dead_code()
    # Once more: only what the graph names is taken from `root`, tensors too.
    return fx.GraphModule(root, whole.graph, name).train(root.training)


class _Tracer(fx.Tracer):
    """Leaves whole every module that is not to be opened."""

    def __init__(self, opened: frozenset[str]) -> None:
        super().__init__()
        self._opened = opened

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays one call."""
        return module_qualified_name not in self._opened


def _drop_defaults(graph: fx.Graph) -> None:
    """Remove arguments with defaults, and the checks that they have them."""
    for node in list(graph.nodes)[::-1]:
        if node.op == "call_function" and "assert" in getattr(node.target, "__name__", ""):
            extra = [item for item in node.all_input_nodes if item.op == "placeholder"]
            if any(item is not next(iter(graph.nodes)) for item in extra):
                graph.erase_node(node)
    for node in [node for node in graph.nodes if node.op == "placeholder"][1:]:
        for user in list(node.users)[::-1]:
            if not user.users:
                graph.erase_node(user)
        if not node.users:
            graph.erase_node(node)


def _place(graph: fx.Graph) -> Any:
    places = {node: place for place, node in enumerate(graph.nodes)}
    return places.__getitem__


def _dependent(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose value depends on the input."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(item in found for item in node.all_input_nodes):
            found.add(node)
    return found


def _first_part(graph: fx.Graph, cut: fx.Node) -> fx.Graph:
    part, known = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        known[node] = part.node_copy(node, known.__getitem__)
        if node is cut:
            break
    part.output(known[cut])
    return part


def _second_part(graph: fx.Graph, cut: fx.Node) -> fx.Graph:
    """The rest, and what it needs of earlier values that don't depend on the input."""
    part = fx.Graph()
    known = {cut: part.placeholder("activations")}
    dependent = _dependent(graph)
    for node in _around(graph, cut, dependent):
        known[node] = part.node_copy(node, known.__getitem__)
    return part


def _around(graph: fx.Graph, cut: fx.Node, dependent: set[fx.Node]) -> Iterator[fx.Node]:
    before = True
    for node in graph.nodes:
        if node is cut:
            before = False
        elif not before or node not in dependent:
            yield node
