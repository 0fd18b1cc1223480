"""Real networks as the search for an int8 graph wants them: prepared, with photos, calibrated."""

import dataclasses
import functools

import numpy as np
import onnx
from networks import load, photos
from onnx import numpy_helper

from edgetl.engines import OrtEngine
from edgetl.exporter.calibrate import calibrate
from edgetl.exporter.fold import fold_graph
from edgetl.exporter.prepare import prepare

SQUEEZENET = "torchvision/squeezenet1_1"


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A prepared float graph with photos for it, and what its tensors take on the first ones."""

    model: onnx.ModelProto
    dim: int
    photos: np.ndarray

    @functools.cached_property
    def calibration(self):
        return calibrate(self.model, (photo[None] for photo in self.photos[:8]))

    @functools.cache  # noqa: B019 - a handful of them, as long as the tests run
    def ranges(self, method="minmax"):
        return self.calibration.ranges(method)

    def features(self, model, batch=None):
        engine = OrtEngine(model.SerializeToString(), dim=self.dim, purpose="serve")
        return engine(self.photos if batch is None else batch)


@functools.cache
def network(name, assets, folder, count=16):
    backbone, model = load(name, assets, folder)
    batch = photos(assets, backbone.preprocess, count)
    return Network(prepare(fold_graph(model)), backbone.dim, batch)


def constants(model):
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def makers(model):
    return {name: node for node in model.graph.node for name in node.output}
