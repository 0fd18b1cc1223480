"""edgetl_nano: the small backbone whose weights travel with the package, without torch.

Eight 3x3 convolutions and a 1x1 one, each with a bias and a ReLU, then the mean over the map: what
every runtime and every int8 kernel does well. It knows the layers, where their weights lie, what
they compute and the graph they become. What trains, and the network as a torch module, is in
`edgetl.backbones.nano_training`; `examples/train_nano.py` trained the weights.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.backbones.onnx_ends import OPSET
from edgetl.backbones.recorded import recorded_preprocess
from edgetl.backbones.tensors import fit_arrays, hash_arrays, read_arrays
from edgetl.errors import MissingDependencyError
from edgetl.preprocess import Preprocess

if TYPE_CHECKING:
    import torch

NAME = "edgetl_nano"
DIM = 256
INPUT = Preprocess(
    size=96,
    resize=104,
    interpolation="bilinear",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
"""How photos become its input."""
LAYERS = (
    *((32, 3, 2), (64, 3, 2), (64, 3, 1), (128, 3, 2), (128, 3, 1), (128, 3, 1)),
    *((256, 3, 2), (256, 3, 1), (DIM, 1, 1)),
)
"""Channels, side of the kernel and stride of each convolution."""
ARCHITECTURE = f"{NAME} 1"
"""What the fingerprint knows the code by; raised when the same weights mean something new."""

_IR_VERSION = 8
"""The ONNX file format that came with the operator set; older runtimes refuse newer ones."""
_STEP = 32
"""Images that the reference computes at once: some 40 MB of columns."""
_EPS = 1e-5
"""Of torch's batch norm."""


class NanoBackbone:
    """edgetl_nano with its weights, as a backbone; see `edgetl.backbone.Backbone`.

    Where torch is installed it has ``module`` too, made when it is asked for: a copy of the
    weights, for what trains networks or runs them on a GPU. Without torch it has no such attribute.

    Args:
        tensors: Kernels (out, in, side, side) and biases (out,), as ``layers.N.weight`` and
            ``layers.N.bias``, N being twice the place of the layer.
        preprocess: How images become its input.

    Raises:
        ValueError: The input would be no float32 image (3, size, size).
    """

    name = NAME
    dim = DIM
    architecture = ARCHITECTURE
    source_classifier = None
    text_tower = None

    def __init__(
        self, tensors: Mapping[str, NDArray[np.float32]], *, preprocess: Preprocess
    ) -> None:
        if preprocess.layout != "nchw" or preprocess.dtype != "float32":
            raise ValueError(
                f"{NAME} needs layout='nchw' and dtype='float32', got {preprocess.layout!r} and "
                f"{preprocess.dtype!r}"
            )
        self.preprocess = preprocess
        self._tensors = dict(tensors)

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of the architecture, every tensor with its name and type, and `preprocess`."""
        digest = hashlib.sha256(f"{ARCHITECTURE}\n{self.preprocess.fingerprint}\n".encode())
        hash_arrays(digest, self._tensors)
        return digest.hexdigest()

    def features(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (n, 256), none below zero, of preprocessed images (n, 3, size, size), by numpy.

        It is the reference that the graph is held to, some ten times slower than a runtime.
        """
        rows = [np.empty((0, DIM), np.float32)]
        for start in range(0, len(batch), _STEP):
            maps = batch[start : start + _STEP].astype(np.float32, copy=False)
            for place, (_, _, stride) in enumerate(LAYERS):
                maps = np.maximum(_convolved(maps, *self._layer(place), stride), 0)
            rows.append(maps.mean(axis=(2, 3)))
        return np.concatenate(rows)

    def to_onnx(self, path: Path) -> None:
        """Write the feature graph at opset 18; the batch is dynamic.

        Raises:
            MissingDependencyError: onnx is not installed.
        """
        onnx = require("onnx", extra="demo")
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        nodes: list[Any] = []
        end = "images"
        for place, (_, side, stride) in enumerate(LAYERS):
            mapped, relu = f"layer_{place}", f"relu_{place}"
            nodes += [
                helper.make_node(
                    "Conv",
                    [end, *_names(place)],
                    [mapped],
                    name=f"node_{mapped}",
                    kernel_shape=[side, side],
                    strides=[stride, stride],
                    pads=[side // 2] * 4,
                ),
                helper.make_node("Relu", [mapped], [relu], name=f"node_{relu}"),
            ]
            end = relu
        nodes += [
            helper.make_node("GlobalAveragePool", [end], ["pooled"], name="node_pooled"),
            helper.make_node("Flatten", ["pooled"], ["features"], name="node_features"),
        ]
        graph = helper.make_graph(
            nodes,
            "backbone",
            [helper.make_tensor_value_info("images", kind, ["batch", *self.preprocess.shape])],
            [helper.make_tensor_value_info("features", kind, ["batch", DIM])],
            [onnx.numpy_helper.from_array(array, name) for name, array in self._tensors.items()],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION
        )
        path.write_bytes(model.SerializeToString(deterministic=True))

    @property
    def module(self) -> torch.nn.Module:
        """The network as a torch module, frozen and in evaluation mode.

        Raises:
            AttributeError: torch is not installed, so that ``hasattr`` tells.
        """
        try:
            require("torch", extra="train")
        except MissingDependencyError as error:
            raise AttributeError(f"{NAME} has no torch module here: {error}") from None
        return self._module

    @functools.cached_property
    def _module(self) -> torch.nn.Module:
        from edgetl.backbones.nano_training import nano_module

        return nano_module(self._tensors)

    def _layer(self, place: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        kernel, bias = _names(place)
        return self._tensors[kernel], self._tensors[bias]


def load_nano(weights: Path | None = None, *, preprocess: Preprocess | None = None) -> NanoBackbone:
    """Load edgetl_nano; see `edgetl.backbones.load_backbone`.

    Args:
        weights: A local file; the package's own if None. They may be float16, and are computed with
            in float32; or those of the network with branches, as training leaves them, which are
            folded. A file other than safetensors needs torch.
        preprocess: How images become the input; if None, as the weights file says.

    Raises:
        WeightsError: The weights can't be read, or don't fit.
        MissingDependencyError: The file needs torch, which is not installed.
    """
    path = weights or shipped_weights()
    preprocess = preprocess or recorded_preprocess(path, NAME) or INPUT
    tensors = read_arrays(path)
    if "layers.0.kernel" in tensors:
        tensors = fold_branches(fit_arrays(tensors, branched_shapes(), what=_misfit(path)))
    fitted = fit_arrays(tensors, plain_shapes(), what=_misfit(path))
    return NanoBackbone(fitted, preprocess=preprocess)


def shipped_weights() -> Path:
    """The weights file of the package."""
    return Path(__file__).with_name("nano.safetensors")


def plain_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of the plain network, layer by layer."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for place, (width, side, _) in enumerate(LAYERS):
        kernel, bias = _names(place)
        shapes |= {kernel: (width, channels, side, side), bias: (width,)}
        channels = width
    return shapes


def branched_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of the network with branches, layer by layer."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for place, (width, side, stride) in enumerate(LAYERS):
        shapes[f"layers.{place}.kernel"] = (width, channels, side, side)
        if side > 1:
            shapes[f"layers.{place}.point"] = (width, channels, 1, 1)
        if has_identity(channels, width, stride):
            shapes[f"layers.{place}.identity"] = (width,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"layers.{place}.norm.{name}"] = (width,)
        channels = width
    return shapes


def has_identity(channels: int, width: int, stride: int) -> bool:
    """Whether a layer has a branch that hands its input on."""
    return stride == 1 and channels == width


def fold_branches(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The plain network's tensors from those of `edgetl.backbones.nano_training.BranchedNano`.

    A layer's branches are added up as one kernel, and its batch norm, which in evaluation mode
    scales and shifts each channel, goes into kernel and bias (RepVGG, Ding et al. 2021).
    """
    plain: dict[str, NDArray[np.float32]] = {}
    for place, (width, side, _) in enumerate(LAYERS):
        own = {
            name.removeprefix(f"layers.{place}."): np.asarray(array, np.float64)
            for name, array in tensors.items()
            if name.startswith(f"layers.{place}.")
        }
        kernel, middle = own["kernel"].copy(), side // 2
        if "point" in own:
            kernel[:, :, middle, middle] += own["point"][:, :, 0, 0]
        if "identity" in own:
            diagonal = np.arange(width)
            kernel[diagonal, diagonal, middle, middle] += own["identity"]
        scale = own["norm.weight"] / np.sqrt(own["norm.running_var"] + _EPS)
        bias = own["norm.bias"] - own["norm.running_mean"] * scale
        for name, array in zip(
            _names(place), (scale[:, None, None, None] * kernel, bias), strict=True
        ):
            plain[name] = array.astype(np.float32)
    return plain


def _names(place: int) -> tuple[str, str]:
    return f"layers.{2 * place}.weight", f"layers.{2 * place}.bias"


def _misfit(path: Path) -> str:
    return f"{path} does not fit {NAME}"


def _convolved(
    maps: NDArray[np.float32], kernel: NDArray[np.float32], bias: NDArray[np.float32], stride: int
) -> NDArray[np.float32]:
    """Maps (n, c, h, w) to (n, out, h / stride, w / stride), rounded up: columns times kernel."""
    width, _, side, _ = kernel.shape
    around = (side // 2, side // 2)
    padded = np.pad(maps, ((0, 0), (0, 0), around, around))
    windows = sliding_window_view(padded, (side, side), axis=(2, 3))[:, :, ::stride, ::stride]
    columns = windows.transpose(0, 2, 3, 1, 4, 5)
    n, high, wide = columns.shape[:3]
    products = columns.reshape(n * high * wide, -1) @ kernel.reshape(width, -1).T + bias
    result: NDArray[np.float32] = products.reshape(n, high, wide, width).transpose(0, 3, 1, 2)
    return result
