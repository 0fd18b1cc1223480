"""A torch module as a backbone: its features, its fingerprint and its ONNX graph.

It knows torch, and nothing about timm, torchvision or where the weights came from.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.backbones.onnx_ends import MAX_BYTES, OPSET
from edgetl.backbones.source_classifier import SourceClassifier
from edgetl.backbones.tensors import hash_arrays
from edgetl.errors import WeightsError
from edgetl.preprocess import Preprocess

if TYPE_CHECKING:
    from edgetl.backbones.text_tower import TextTower


class ModuleBackbone:
    """A torch module that maps (n, 3, size, size) to pooled features (n, dim).

    Args:
        name: The name it was loaded by.
        architecture: What the fingerprint knows the code by: the package, its version and the
            network, such as ``"timm 1.0.20/mobilenetv2_100"``. Weights alone don't tell an
            activation or a padding, which a new version may change.
        module: The network without its classifier; put into evaluation mode and frozen.
        preprocess: How images become its input.

    Attributes:
        source_classifier: The classifier that it was pretrained with, where its weights have one
            that is linear in the features; the loader sets it. No feature depends on it.

    Raises:
        ValueError: The network can't take such an input, or gives no (n, dim) features.
    """

    def __init__(
        self, name: str, *, architecture: str, module: torch.nn.Module, preprocess: Preprocess
    ) -> None:
        if preprocess.layout != "nchw":
            raise ValueError(f"torch networks need layout='nchw', got {preprocess.layout!r}")
        if preprocess.dtype != "float32":
            raise ValueError(f"a backbone's graph takes float32, got dtype={preprocess.dtype!r}")
        self.name = name
        self.architecture = architecture
        self.module = module.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.dim = self._measure_dim()
        self.source_classifier: SourceClassifier | None = None
        self.text_tower: TextTower | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """The sha256 of the architecture, every tensor with its name and type, and `preprocess`."""
        digest = hashlib.sha256(f"{self.architecture}\n{self.preprocess.fingerprint}\n".encode())
        hash_tensors(digest, self.module.state_dict())
        return digest.hexdigest()

    def features(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (n, dim) of preprocessed images (n, 3, size, size), by torch on the CPU."""
        batch = np.require(batch, np.float32, ["C", "W"])  # torch warns of read-only memory
        with torch.inference_mode():
            features: NDArray[np.float32] = self.module(torch.from_numpy(batch)).numpy()
        return features

    def to_onnx(self, path: Path) -> None:
        """Write the feature graph at opset 18; the batch is dynamic, batch norm is folded.

        Raises:
            WeightsError: The network can't be written as one ONNX file.
        """
        require("onnxscript", extra="train")
        size = sum(tensor.nbytes for tensor in self.module.state_dict().values())
        if size > MAX_BYTES:
            raise WeightsError(
                f"{self.name} has {size / 2**30:.1f} GiB of weights, and one ONNX file holds less "
                "than 2 GiB; use a smaller backbone"
            )
        # Two images, since the exporter takes a batch of one for a constant.
        example = torch.zeros(2, *self.preprocess.shape)
        logs = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
        levels = [log.level for log in logs]
        for log in logs:
            log.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                # Deprecations inside torch and onnxscript are theirs to mend.
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", FutureWarning)
                program = torch.onnx.export(
                    self.module,
                    (example,),
                    input_names=["images"],
                    output_names=["features"],
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    opset_version=OPSET,
                    dynamo=True,
                    optimize=True,
                    verbose=False,
                )
        except torch.onnx.errors.OnnxExporterError as error:
            raise WeightsError(
                f"{self.name} can't be exported to ONNX by torch {torch.__version__}: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)
        if program is None:  # only with dynamo=False
            raise RuntimeError("torch.onnx.export returned nothing")
        path.write_bytes(program.model_proto.SerializeToString(deterministic=True))

    def _measure_dim(self) -> int:
        shape = self.preprocess.shape
        try:
            with torch.inference_mode():
                output = self.module(torch.zeros(1, *shape))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(
                f"{self.name} can't take inputs of {shape[1]} x {shape[2]} pixels: "
                f"{str(error).strip().splitlines()[0] if str(error) else type(error).__name__}"
            ) from error
        if not isinstance(output, torch.Tensor) or output.ndim != 2:
            found = (
                tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            )
            raise ValueError(f"{self.name} gives {found} for one image, not features (1, dim)")
        return int(output.shape[1])


def hash_tensors(digest: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    """Feed every tensor with its name and type, in the order of names, to a hash of `hashlib`."""
    arrays = {
        name: tensor.detach().cpu().contiguous().numpy()
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")  # counts training steps; no feature sees it
    }
    hash_arrays(digest, arrays)
