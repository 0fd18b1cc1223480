"""What of edgetl is present on this machine: the parts, their versions, and why one is not there.

Looks and judges nothing: `doctor` says what it means. It never imports torch, which takes seconds,
and needs neither the network nor any package of edgetl's to be whole.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal

import edgetl

ONNXRUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
)
"""Wheels that put their files into the same folder."""

Status = Literal["ready", "missing", "broken", "not tried"]


@dataclass(frozen=True, kw_only=True)
class Core:
    """The compiled core.

    Args:
        compiled: Whether it is there.
        path: Its file.
        reason: Why it is not there, or why no instruction set is in use.
        instruction_set: What its kernels use; None if ``EDGETL_ISA`` names none.
        best: What this machine could use.
        cap: ``EDGETL_ISA``, if it is set.
    """

    compiled: bool
    path: str | None = None
    reason: str | None = None
    instruction_set: str | None = None
    best: str | None = None
    cap: str | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something optional: an engine, the JPEG decoder, the CUDA module.

    Args:
        status: Whether it can be used; ``"not tried"`` if finding out takes too long.
        about: What it is, in a few words: versions, a path, a device.
        reason: Why it can't be used.
        mend: What to do about that.
        details: More, for machines.
    """

    status: Status
    about: str = ""
    reason: str | None = None
    mend: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All that is present.

    Args:
        edgetl: The version of edgetl.
        python: The version of Python.
        platform: Operating system and processor type.
        cores: Processor cores that this process may use.
        core: The compiled core.
        jpeg: The JPEG decoder inside the core.
        cuda: The module of GPU kernels.
        engines: What can run a bundle's graph, and torch.
        packages: Versions of the packages of each extra (``""``: always needed); None where one is
            missing.
        cache: The cache folder; None where nothing tells.
        offline: Whether the network may not be used.
    """

    edgetl: str
    python: str
    platform: str
    cores: int
    core: Core
    jpeg: Part
    cuda: Part
    engines: Mapping[str, Part]
    packages: Mapping[str, Mapping[str, str | None]]
    cache: str | None
    offline: bool


def take_inventory() -> Inventory:
    """Look for everything; takes about a second, most of it to import the engines."""
    from edgetl._paths import offline
    from edgetl.engines import available_cores

    core = _core()
    return Inventory(
        edgetl=edgetl.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=available_cores(),
        core=core,
        jpeg=_jpeg(),
        cuda=_cuda(),
        engines={
            "onnxruntime": _onnxruntime(),
            "openvino": _openvino(),
            "tensorrt": _tensorrt(),
            "torch": _torch(),
        },
        packages=_packages(),
        cache=_cache(),
        offline=offline(),
    )


def version(distribution: str) -> str | None:
    """The installed version of a distribution, read without importing it; None if there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _core() -> Core:
    from edgetl import native

    cap = os.environ.get("EDGETL_ISA") or None
    path = reason = None
    best = "portable"
    try:
        module: Any = importlib.import_module("edgetl.native._core")
        path, best = str(module.__file__), native.instruction_sets()[-1]
    except ImportError as error:
        reason = str(error)
    in_use = None
    try:
        in_use = native.instruction_set()
    except ValueError as error:
        reason = str(error)
    return Core(
        compiled=native.COMPILED,
        path=path,
        reason=reason,
        instruction_set=in_use,
        best=best,
        cap=cap,
    )


def _jpeg() -> Part:
    from edgetl.native import jpeg

    try:
        library, description = jpeg.library(), jpeg.description()
    except ValueError as error:
        return Part(status="broken", reason=str(error))
    if library is None:
        reason = description.removeprefix("none: ")
        return Part(status="missing", reason=f"{reason}; Python decodes, which takes longer")
    found = _libjpeg_turbo()
    about = f"libjpeg-turbo{f' {found}' if found else ''} in the core, {description}"
    return Part(status="ready", about=about, details={"version": found, "path": description})


def _libjpeg_turbo() -> str | None:
    """The version of Pillow's libjpeg-turbo; the library itself does not tell its own."""
    try:
        features: Any = importlib.import_module("PIL.features")
        found: str | None = features.version_feature("libjpeg_turbo")
    except Exception:  # whatever a damaged installation raises
        return None
    return found


def _cuda() -> Part:
    mend = "EDGETL_CUDA=ON pip install . (where nvcc is; see CONTRIBUTING)"
    try:
        module: Any = importlib.import_module("edgetl.native._cuda")
    except ModuleNotFoundError:
        return Part(status="missing", reason="not built", mend=mend)
    except ImportError as error:
        return Part(status="broken", reason=str(error), mend=mend)
    path = str(module.__file__)
    count = int(module.device_count())
    if count == 0:
        why = module.why_no_device() or "it counts 0 devices"
        reason = f"built, but there is no GPU here that CUDA can use: {why}"
        return Part(status="missing", about=path, reason=reason, details={"path": path})
    devices = f"{count} device{'s' if count > 1 else ''}"
    return Part(status="ready", about=devices, details={"path": path, "devices": count})


def _onnxruntime() -> Part:
    wheels = {name: found for name in ONNXRUNTIMES if (found := version(name)) is not None}
    named = ", ".join(f"{name} {found}" for name, found in wheels.items())
    details: dict[str, Any] = {"wheels": wheels}
    try:
        module: Any = importlib.import_module("onnxruntime")
        providers = list(module.get_available_providers())
        found = str(module.__version__)
    except Exception as error:  # whatever a damaged installation raises
        if not wheels and isinstance(error, ModuleNotFoundError):
            return _not_installed("ort")
        mend = f"pip uninstall -y {' '.join(wheels)} && pip install 'edgetl[ort]'"
        return _broken(named, error, mend, details)
    details |= {"version": found, "providers": providers}
    if len(wheels) > 1:
        found = f"{found} (of {named})"
    return Part(status="ready", about=f"{found}: {', '.join(providers)}", details=details)


def _openvino() -> Part:
    from edgetl.engines.openvino import import_openvino
    from edgetl.errors import MissingDependencyError

    found = version("openvino")
    try:
        module = import_openvino()
    except MissingDependencyError:
        return _not_installed("openvino")
    except Exception as error:  # whatever a damaged installation raises
        return _broken(found or "", error, "pip install --force-reinstall openvino", {})
    found = found or str(module.__version__)
    return Part(status="ready", about=found, details={"version": found})


def _tensorrt() -> Part:
    from edgetl.engines import cuda
    from edgetl.engines.trt_backend import find_backend
    from edgetl.errors import MissingDependencyError

    try:
        device = cuda.find_device()
        backend = find_backend()
    except MissingDependencyError as error:
        if any(version(name) for name in ("tensorrt", "tensorrt_rtx")):
            return Part(status="missing", reason=str(error))
        return _not_installed("tensorrt")
    except Exception as error:  # whatever a damaged installation or a driver raises
        return _broken("", error, "pip install --force-reinstall 'edgetl[tensorrt]'", {})
    details = {"version": backend.version, "device": str(device) if device else None}
    if device is None:
        reason = f"{backend} compiles here, but CUDA finds no GPU to run on"
        return Part(status="missing", about=str(backend), reason=reason, details=details)
    return Part(status="ready", about=f"{backend} on {device}", details=details)


def _torch() -> Part:
    found = version("torch")
    if found is None:
        return _not_installed("train")
    return Part(status="not tried", about=found, details={"version": found})


def _not_installed(extra: str) -> Part:
    mend = f"pip install 'edgetl[{extra}]'"
    return Part(status="missing", reason="not installed", mend=mend)


def _broken(about: str, error: Exception, mend: str, details: Mapping[str, Any]) -> Part:
    reason = f"installed, but it does not import: {type(error).__name__}: {error}"
    return Part(status="broken", about=about, reason=reason, mend=mend, details=details)


def _packages() -> dict[str, dict[str, str | None]]:
    """What edgetl's own metadata asks for, by extra; nothing where there is no such metadata."""
    try:
        lines = metadata.requires("edgetl") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, dict[str, str | None]] = {}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", line)
        if name is not None:
            group = found.setdefault(extra[1] if extra else "", {})
            group[name[0]] = version(name[0])
    return found


def _cache() -> str | None:
    from edgetl._paths import cache_dir
    from edgetl.errors import MissingDependencyError

    try:
        return str(cache_dir())
    except MissingDependencyError:
        return None
