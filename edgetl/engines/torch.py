"""The torch engine: a backbone's own module, on the CPU or a GPU.

Workstation side: with its ``torch_`` neighbours all that imports torch here. It knows nothing about
graphs or files.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.engines.base import PhotoStream, check_batch, engine_fingerprint
from edgetl.errors import MissingDependencyError
from edgetl.native import cuda
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
    between that and the last batch. There `open_photos` gives the fast way from photos to features:
    decoding, copies, preparation and network overlap.

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
        version = require("torch", extra="train").__version__
        if not hasattr(backbone, "module"):
            raise TypeError("this backbone has no torch module; use the OnnxRuntime target")
        self._device = find_device(self.target.device)
        self._backbone = backbone
        self.dim = backbone.dim
        self.concurrency = 1  # torch spreads one call over all cores by itself
        self.preferred_batch = 32 if self._device.type == "cpu" else 128
        self.fingerprint = engine_fingerprint(
            engine="torch",
            version=str(version),
            device=self._device.type,
            precision=_precision(self.target, self._device),
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

    def open_photos(self, batch_size: int) -> PhotoStream | None:
        """A way to give the engine photos rather than batches, prepared on the GPU.

        Returns:
            None where the CPU's kernels have to prepare photos: the engine runs on the CPU, or the
            CUDA module is missing, which is said once.
        """
        if self._device.type != "cuda":
            return None
        if not cuda.available():
            cuda.announce_fallback()
            return None
        from edgetl.engines.torch_photos import TorchPhotos

        return TorchPhotos(
            self._load,
            self._backbone.preprocess,
            dim=self.dim,
            device=self._device,
            batch_size=batch_size,
            half=self.target.precision == "bf16",
            execution=self.target.execution,
            decoder=self.target.decoder,
        )

    def _load(self) -> torch.nn.Module:
        import torch

        with self._lock:
            if self._module is None:
                # A copy, since moving a module changes it in place, and it is the backbone's.
                module = copy.deepcopy(self._backbone.module).eval()
                self._module = module.to(self._device).to(memory_format=torch.channels_last)
            return self._module


def _precision(target: Torch, device: torch.device) -> str:
    """What decides the numbers: the target's precision and, on a GPU, a few things more.

    These are torch's own settings, compilation, whether 16-bit maps are pooled in float32 by
    edgetl's own kernel, and a decoder other than the one that every feature's key has.
    """
    import torch

    name: str = target.precision
    if device.type != "cuda":
        return name
    if target.precision == "bf16" and cuda.available():
        name += ", pooled in float32"
    if target.execution == "compile":
        name += ", compiled"
    if target.decoder == "gpu":
        from edgetl.engines.torch_jpeg import gpu_decoder

        name += f", decoded by {gpu_decoder()}"
    # Unlike the older allow_tf32, these can be read whichever way they were set.
    cudnn: Any = torch.backends.cudnn
    convolutions = cudnn.conv.fp32_precision
    products = torch.backends.cuda.matmul.fp32_precision
    return f"{name}, convolutions {convolutions}, products {products}"


def find_device(name: str) -> torch.device:
    """A device of torch by its name.

    Raises:
        ValueError: The name is not one of torch's.
        MissingDependencyError: torch sees no such device here, or is not installed.
    """
    require("torch", extra="train")
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
    if device.type == "cuda" and ":" not in name:
        # The current device is each thread's own, and the engine works in several.
        return torch.device("cuda", torch.cuda.current_device())
    return device
