"""Which TensorRT there is, and what a compiled engine is tied to.

Two packages have the same Python interface. They are looked for in this order:

1. ``tensorrt``: compiles on the GPU that will run the engine, and so needs one to compile;
2. ``tensorrt_rtx`` (TensorRT for RTX): compiles ahead of time, without a GPU, for RTX cards of the
   Ampere generation and later, and finishes the work on the card when the engine is first loaded.

So ``tensorrt`` is taken where it is installed and there is a GPU, ``tensorrt_rtx`` otherwise, and
wherever an engine is to be compiled ahead of time. It knows nothing about graphs.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgetl._extras import require
from edgetl.engines import cuda
from edgetl.errors import CorruptError, MissingDependencyError
from edgetl.targets import TensorRT

ANY_DEVICE = "any"
"""The device of an engine that is finished on whatever card it is loaded on."""
_AMPERE_OR_LATER = "Ampere or later"
_OLDEST = 10


@dataclass(frozen=True)
class Backend:
    """A TensorRT that is installed.

    Args:
        name: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        module: The package.
        version: Its version.
        device: The GPU of this machine, or `ANY_DEVICE` if there is none.
    """

    name: Literal["tensorrt", "tensorrt_rtx"]
    module: Any
    version: str
    device: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class EngineStamp:
    """What a compiled engine is tied to; with any of it changed it has to be compiled again.

    Args:
        backend: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        version: That package's version.
        device: The GPU it was compiled for, with its driver; or which ones it runs on.
        graph: The sha256 of the ONNX file's bytes.
        max_batch: The largest batch that it takes.
        options: The target's further options that change the engine.
    """

    backend: str
    version: str
    device: str
    graph: str
    max_batch: int
    options: str

    @property
    def key(self) -> str:
        """A hash of all of it, for the names of files."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]

    def to_json(self) -> dict[str, str | int]:
        """The stamp as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EngineStamp:
        """Read what `to_json` wrote.

        Raises:
            CorruptError: Something is missing, unknown or of another type.
        """
        types = {name: int if name == "max_batch" else str for name in cls.__dataclass_fields__}
        found = {}
        if isinstance(values, dict):  # it comes out of a file, and may be anything
            found = {name: type(value) for name, value in values.items()}
        if found != types:
            raise CorruptError(f"an engine's stamp has the entries {sorted(types)}, got {values!r}")
        return cls(**values)

    def misfit(self, other: EngineStamp) -> str | None:
        """Why an engine with this stamp can't do the work of one with `other`; None if it can.

        Options that only change how it was compiled are no reason.
        """
        for what, mine, wanted in (
            ("graph", self.graph[:12], other.graph[:12]),
            ("TensorRT", f"{self.backend} {self.version}", f"{other.backend} {other.version}"),
        ):
            if mine != wanted:
                return f"it was compiled for another {what} ({mine}, here it is {wanted})"
        if self.device not in (other.device, ANY_DEVICE, _AMPERE_OR_LATER):
            return f"it was compiled for another device ({self.device}, here it is {other.device})"
        if self.max_batch < other.max_batch:
            return f"it takes batches of {self.max_batch}, and {other.max_batch} are wanted"
        return None


def find_backend(*, ahead_of_time: bool = False) -> Backend:
    """The TensorRT that compiles here.

    Args:
        ahead_of_time: Compile for a GPU that is not here, whether there is another one or not:
            only ``tensorrt_rtx`` does.

    Raises:
        MissingDependencyError: Neither package is installed, the one there is too old, or only
            ``tensorrt`` is and there is no GPU for it.
    """
    device = None if ahead_of_time else cuda.find_device()
    module = _import("tensorrt")
    if module is not None and device is not None:
        _check_version(module)
        return Backend("tensorrt", module, module.__version__, str(device))
    ahead = _import("tensorrt_rtx")
    if ahead is not None:
        return Backend(
            "tensorrt_rtx",
            ahead,
            ahead.__version__,
            ANY_DEVICE if device is None else str(device),
        )
    if ahead_of_time:
        there = "" if module is None else f" (tensorrt {module.__version__} only compiles on it)"
        raise MissingDependencyError(
            f"compiling without the device's GPU takes TensorRT for RTX{there}; install it with: "
            "pip install tensorrt_rtx"
        )
    if module is not None:
        raise MissingDependencyError(
            f"tensorrt {module.__version__} is installed, but it compiles on a GPU and CUDA finds "
            "none here; compile on the machine that will run the engine (with pip install "
            "'edgetl[tensorrt]'), or install TensorRT for RTX, which compiles without a GPU: "
            "pip install tensorrt_rtx"
        )
    require("tensorrt", extra="tensorrt")  # raises the error that names the extra
    raise AssertionError("unreachable")


def make_stamp(backend: Backend, *, graph: str, target: TensorRT) -> EngineStamp:
    """The stamp of an engine compiled here.

    Args:
        backend: What compiles.
        graph: The sha256 of the ONNX file's bytes.
        target: The options.
    """
    device = backend.device
    if target.hardware_compatible and device != ANY_DEVICE:
        device = _AMPERE_OR_LATER
    return EngineStamp(
        backend=backend.name,
        version=backend.version,
        device=device,
        graph=graph,
        max_batch=target.max_batch,
        options=f"workspace={target.workspace} hardware_compatible={target.hardware_compatible}",
    )


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None


def _check_version(module: Any) -> None:
    major = str(module.__version__).partition(".")[0]
    if major.isdigit() and int(major) < _OLDEST:
        raise MissingDependencyError(
            f"tensorrt {module.__version__} is too old: its networks are not strongly typed; "
            f"install {_OLDEST}.0 or later with: pip install -U 'edgetl[tensorrt]'"
        )
