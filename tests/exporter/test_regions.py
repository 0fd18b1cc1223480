"""Parts to switch: they cover what is quantized, and the odd ones of real networks are found."""

import collections

import pytest
from int8_parts import SQUEEZENET, network
from onnx import TensorProto, helper

from edgetl.exporter.quantize import QuantConfig, quantizable
from edgetl.exporter.regions import regions, switches

NAMES = [SQUEEZENET, "mobilenetv2_100", "tf_mobilenetv3_small_100"]
CONFIGS = [QuantConfig(), QuantConfig(operators="compute")]


@pytest.mark.parametrize("config", CONFIGS, ids=["fused", "compute"])
@pytest.mark.parametrize("name", NAMES)
def test_regions_and_chunks_cover_the_quantizable_nodes(name, config, assets, networks_folder):
    model = network(name, assets, networks_folder).model
    wanted = {node.name for node in quantizable(model, config)}
    groups = regions(model, config)
    # Each once.
    assert collections.Counter(x for group in groups for x in group) == dict.fromkeys(wanted, 1)
    operators = {node.name: node.op_type for node in model.graph.node}
    for group in groups:
        assert sum(operators[x] in ("Conv", "Gemm", "MatMul") for x in group) == 1
    for chunks in (1, 4, 10, 1000):
        found = switches(model, config, chunks=chunks)
        assert frozenset().union(*found.values()) == wanted
        parts = [names for what, names in found.items() if what.startswith("part")]
        assert len(parts) == min(chunks, len(groups))
        assert collections.Counter(x for part in parts for x in part) == dict.fromkeys(wanted, 1)
        sizes = [sum(group <= part for group in groups) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    assert {what for what in switches(model, config) if what.startswith(("first", "last"))} == {
        f"{end} {width}" for end in ("first", "last") for width in (1, 2, 3)
    }


def test_depthwise_convolutions_are_found(assets, networks_folder):
    backbone = network("mobilenetv2_100", assets, networks_folder)
    found = switches(backbone.model, QuantConfig())["depthwise convolutions"]
    groups = {
        node.name: next(item.i for item in node.attribute if item.name == "group")
        for node in backbone.model.graph.node
        if node.op_type == "Conv"
    }
    assert found == {name for name, count in groups.items() if count > 1}
    assert len(found) == 17  # Sandler et al., 2018, table 2: one in each bottleneck
    assert "convolutions of single pixels" not in switches(backbone.model, QuantConfig())


def test_gates_of_squeeze_and_excitation_are_found(assets, networks_folder):
    model = network("tf_mobilenetv3_small_100", assets, networks_folder).model
    found = switches(model, QuantConfig())["convolutions of single pixels"]
    pooled = {node.output[0] for node in model.graph.node if node.op_type == "GlobalAveragePool"}
    reducing = {x.name for x in model.graph.node if x.op_type == "Conv" and x.input[0] in pooled}
    # Howard et al., 2019, table 2: 9 of the 11 bottlenecks have one, of two convolutions each; the
    # last convolution of the network works on a pooled pixel too.
    assert reducing <= found
    assert len(reducing) == 10
    assert len(found) == 2 * 9 + 1


def test_nothing_to_switch_is_an_empty_answer():
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in ("images", "y")]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["y"])], "g", ends[:1], ends[1:]
    )
    model = helper.make_model(graph)
    assert regions(model, QuantConfig()) == []
    assert switches(model, QuantConfig()) == {}
