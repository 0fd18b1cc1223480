"""A small network to search for an int8 graph of, and a model of costs in the clock's place."""

import functools

import numpy as np
import onnx
from int8_parts import constants, makers
from onnx import TensorProto, helper, numpy_helper

from edgetl.engines import OrtEngine
from edgetl.exporter.calibrate import calibrate
from edgetl.exporter.prepare import prepare
from edgetl.exporter.search import Verdict
from edgetl.exporter.timing import Timing

LAYERS, WIDTH = 6, 8
FLOAT_MS = 20.0


def build_network():
    """Six convolutions with ReLUs, then pooling."""
    rng = np.random.default_rng(0)
    nodes, weights, last, channels = [], [], "images", 3
    for number in range(LAYERS):
        shape = (WIDTH, channels, 3, 3)
        spread = rng.uniform(0.2, 2, (WIDTH, 1, 1, 1)) * np.sqrt(2 / (channels * 9))
        values = (rng.normal(size=shape) * spread).astype(np.float32)
        bias = rng.normal(0, 0.1, WIDTH).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        weights.append(numpy_helper.from_array(bias, f"b{number}"))
        names = [last, f"w{number}", f"b{number}"]
        nodes.append(
            helper.make_node("Conv", names, [f"c{number}"], name=f"conv{number}", pads=[1] * 4)
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], name=f"relu{number}"))
        last, channels = f"r{number}", WIDTH
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    ends = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", WIDTH]),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return prepare(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    )


MODEL = build_network()
SAMPLES = np.random.default_rng(1).normal(size=(6, 3, 16, 16)).astype(np.float32)
CALIBRATION = calibrate(MODEL, [SAMPLES])
# All searches here ask for the same ranges.
vars(CALIBRATION)["ranges"] = functools.cache(CALIBRATION.ranges)


def in_int8(model):
    """Numbers of the convolutions whose weights are integers."""
    sources = makers(model)
    return {
        int(node.name.removeprefix("conv"))
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in sources
    }


def weights_of(model):
    """The integers of each convolution in int8, with the type of its input."""
    values, sources = constants(model), makers(model)
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in sources:
            image = values[sources[node.input[0]].input[2]].dtype
            yield values[sources[node.input[1]].input[0]], image


class Bench:
    """Opens graphs, and says of each how long it takes by a model of costs."""

    def __init__(self, cost):
        self.cost, self.last, self.compared = cost, None, []

    def open(self, graph):
        engine = OrtEngine(graph, dim=WIDTH, purpose="serve")

        def call(batch):
            self.last = graph
            return engine(batch)

        return call

    def interleaved(self, contestants, **_):
        found = {}
        for name, contestant in contestants.items():
            contestant()
            model = onnx.load_model_from_string(self.last)
            seconds = (FLOAT_MS if name == "float" else self.cost(model)) / 1e3
            found[name] = Timing((np.full(3, seconds), np.full(3, seconds)))
        self.compared.append(len(found) - 1)
        return found


def accept(graph):
    return Verdict(accepted=True, accuracy=0.9, reason="fine")


def linear(model):
    """Each convolution in int8 saves a millisecond."""
    return FLOAT_MS - len(in_int8(model))


def refusing(count):
    """A judge that refuses the first few graphs, and remembers all."""

    def judge(graph):
        judge.seen.append(graph)
        accepted = len(judge.seen) > count
        reason = "fine" if accepted else f"lost too much, number {len(judge.seen)}"
        return Verdict(accepted=accepted, accuracy=0.5, reason=reason)

    judge.seen = []
    return judge


def wanting(layers):
    """A judge that refuses graphs with more convolutions in int8, and remembers all."""

    def judge(graph):
        judge.seen.append(graph)
        accepted = len(in_int8(onnx.load_model_from_string(graph))) <= layers
        reason = "fine" if accepted else f"lost too much, number {len(judge.seen)}"
        return Verdict(accepted=accepted, accuracy=0.5, reason=reason)

    judge.seen = []
    return judge
