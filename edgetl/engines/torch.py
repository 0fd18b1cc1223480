"""The torch engine: a backbone's own module, on the CPU or a GPU.

Workstation side: the only engine that imports torch. It knows nothing about graphs or files.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.engines.base import check_batch, engine_fingerprint
from edgetl.errors import MissingDependencyError
from edgetl.preprocess import Preprocess
from edgetl.targets import Torch

if TYPE_CHECKING:
    import torch


class TorchNetwork(Protocol):
    """What the engine needs of a backbone; `edgetl.backbones.module.ModuleBackbone` has it."""

    @property
    def module(self) -> torch.nn.Module:
        """A module in evaluation mode that maps (n, 3, h, w) to (n, dim)."""

    @property
    def dim(self) -> int:
        """Length of one feature vector."""

    @property
    def preprocess(self) -> Preprocess:
        """What the input looks like."""

    @property
    def fingerprint(self) -> str:
        """A hash of the weights and the preprocessing."""


class TorchEngine:
    """A backbone run by torch, channels last.

    On a GPU, ``"fp32"`` follows torch's own settings of TensorFloat-32 for convolutions and matrix
    products. The fingerprint has them as they are when the engine is made: don't change them
    between that and the last batch.

    Args:
        backbone: A backbone that has a torch module.
        target: Device and precision.

    Raises:
        MissingDependencyError: torch, or the device, is not there.
        TypeError: The backbone has no torch module (an ONNX file).
        ValueError: The device's name is not one of torch's.
    """

    def __init__(self, backbone: TorchNetwork, *, target: Torch | None = None) -> None:
        self.target = target or Torch()
        if not hasattr(backbone, "module"):
            raise TypeError("this backbone has no torch module; use the OnnxRuntime target")
        version = require("torch", extra="train").__version__
        self._device = _find_device(self.target.device)
        self._backbone = backbone
        self.dim = backbone.dim
        self.concurrency = 1  # torch spreads one call over all cores by itself
        self.preferred_batch = 32 if self._device.type == "cpu" else 128
        self.fingerprint = engine_fingerprint(
            engine="torch",
            version=str(version),
            device=self._device.type,
            precision=_precision(self.target.precision, self._device),
            graph=backbone.fingerprint,
        )
        self._lock = threading.Lock()
        self._module: torch.nn.Module | None = None

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the features of a batch; see :class:`edgetl.engines.Engine`."""
        import torch

        batch = check_batch(batch, self._backbone.preprocess.shape)
        if len(batch) == 0:
            return np.empty((0, self.dim), np.float32)
        module = self._module or self._load()
        half = self.target.precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half),
        ):
            images = torch.from_numpy(np.require(batch, requirements=["W"]))
            images = images.to(self._device, memory_format=torch.channels_last)
            features = module(images)
        result: NDArray[np.float32] = features.float().cpu().numpy()
        return result

    def _load(self) -> torch.nn.Module:
        import torch

        with self._lock:
            if self._module is None:
                # A copy, since moving a module changes it in place, and it is the backbone's.
                module = copy.deepcopy(self._backbone.module).eval()
                self._module = module.to(self._device).to(memory_format=torch.channels_last)
            return self._module


def _precision(name: str, device: torch.device) -> str:
    """What decides the rounding: the target's precision and, on a GPU, torch's own settings."""
    import torch

    if device.type != "cuda":
        return name
    # Unlike the older allow_tf32, these can be read whichever way they were set.
    cudnn: Any = torch.backends.cudnn
    convolutions = cudnn.conv.fp32_precision
    products = torch.backends.cuda.matmul.fp32_precision
    return f"{name}, convolutions {convolutions}, products {products}"


def _find_device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is no torch device; use such as 'cpu' or 'cuda:0'") from error
    if device.type == "cpu":
        return device
    backend = getattr(torch, device.type, None)
    count = backend.device_count() if backend is not None and backend.is_available() else 0
    if (device.index or 0) >= count:
        raise MissingDependencyError(
            f"torch {torch.__version__} sees {count} {device.type} devices here, not {name!r}; "
            "use device='cpu', or install a torch that supports this machine's device"
        )
    return device
