"""What edgetl does on a GPU, beside torch and torchvision on the same GPU.

First every kernel is checked against what the CPU computes (`gpu_checks.py`); then, interleaved, as
medians, timed by CUDA events where only the GPU works and by the clock where the host does too:

- the preprocessing kernel's bandwidth (bytes of the photos that the crops depend on, plus bytes
  written) beside a measured copy from device to device;
- the same kernel beside torchvision v2 on the GPU, photo by photo, since sizes differ; torchvision
  on photos of one size in one batch is printed too;
- photos to features with everything in host memory, as pixels and as JPEG files, beside the common
  way: torchvision's transforms on the GPU and ``torch.compile`` in bfloat16, channels last;
- a softmax head on very many features beside torch.optim.LBFGS on the same objective;
- nearest neighbours beside a matrix product and top-k.

Networks have random weights: nothing here is about accuracy. Where the CUDA module is not there, it
is built first, without a network: ``pip install`` into a temporary folder, which needs nvcc, CMake,
ninja, scikit-build-core and nanobind. Or bring built modules: with ``_core.abi3.so`` and
``_cuda.abi3.so`` in ``edgetl/native`` and the checkout in ``PYTHONPATH`` nothing is built. Exits 3
without a GPU; ``--dry-run`` goes through everything on the CPU, tiny, with the kernels' host twin.

    python benchmarks/gpu.py                 # build if need be, check, measure
    python benchmarks/gpu.py --sanitize      # the checks under compute-sanitizer
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import Bar, finish, machine, parser

ROOT = Path(__file__).resolve().parents[1]
COPY_SHARE, TORCHVISION, EXTRACTION = 0.7, 5.0, 1.5
NEEDED = ("safetensors", "simplejpeg", "timm", "torchvision")
PARTS = ("preprocess", "extraction", "head", "nearest")


def show(title: str, figures: Any, indent: int = 0) -> None:
    """Figures as lines of text."""
    space = "  " * indent
    if isinstance(figures, dict):
        print(f"{space}{title}:")
        for name, value in figures.items():
            show(name, value, indent + 1)
    else:
        print(
            f"{space}{title}: {figures:.6g}"
            if isinstance(figures, float)
            else f"{space}{title}: {figures}"
        )


def build_and_run_again() -> int:
    """Install the checkout with the CUDA module into a temporary folder, and start over with it."""
    folder = tempfile.mkdtemp(prefix="edgetl-gpu-")
    environment = {**os.environ, "EDGETL_CUDA": "ON", "EDGETL_GPU_BUILT": "1"}
    major, minor = torch.cuda.get_device_capability()
    environment.setdefault("CUDAARCHS", f"{major}{minor}-real")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    nvcc = Path("/usr/local/cuda/bin/nvcc")
    if shutil.which("nvcc") is None and nvcc.is_file():
        environment.setdefault("CUDACXX", str(nvcc))
    print("building the CUDA module", file=sys.stderr, flush=True)
    built = subprocess.run([*pip, "--target", folder, str(ROOT)], env=environment)
    if built.returncode:
        print("nothing was run: it can't be built here; bring built modules", file=sys.stderr)
        return 3
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [folder, os.environ.get("PYTHONPATH", "")])
    )
    return subprocess.run([sys.executable, *sys.argv], env=environment).returncode


def sanitize() -> int:
    """The checks under the memory checker and the race checker; 1 if one of them complains."""
    checks = [sys.executable, str(Path(__file__).with_name("gpu_checks.py")), "--rounds", "8"]
    codes = []
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(sanitizer).is_file():
        print("nothing was run: there is no compute-sanitizer here", file=sys.stderr)
        return 3
    # Memory that torch keeps for later is allocated as far as the checker knows, so it has to keep
    # none; then it can't capture graphs.
    without_cache = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for tool, more, environment in (
        ("memcheck", ["--kernels"], without_cache),
        ("memcheck", [], None),
        ("racecheck", ["--kernels"], None),
    ):
        print(f"compute-sanitizer, {' '.join([tool, *more])}:", flush=True)
        command = [sanitizer, "--tool", tool, "--error-exitcode", "1", *checks, *more]
        codes.append(subprocess.run(command, env=environment).returncode)
    return max(map(abs, codes))


def missing_module() -> bool:
    """Whether edgetl or its CUDA module can't be found."""
    if importlib.util.find_spec("edgetl") is None:
        return True
    return importlib.util.find_spec("edgetl.native._cuda") is None


def parse() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--dry-run", action="store_true", help="everything, tiny, on the CPU")
    options.add_argument("--sanitize", action="store_true", help="checks under compute-sanitizer")
    options.add_argument("--checks-only", action="store_true", help="no measurements")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options.add_argument("--rows", type=int, help="features of the head and the neighbours")
    return options.parse_args()


def main() -> int:
    arguments = parse()
    if not arguments.dry_run:
        if not torch.cuda.is_available():
            print("nothing was run: torch finds no GPU here", file=sys.stderr)
            return 3
        absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if absent:
            print(f"nothing was run: {', '.join(absent)} not installed here", file=sys.stderr)
            return 3
        if missing_module() and "EDGETL_GPU_BUILT" not in os.environ:
            return build_and_run_again()
    if arguments.sanitize:
        return sanitize()
    from gpu_checks import Mismatch, run_checks

    from edgetl.native import cuda

    device = torch.device("cpu" if arguments.dry_run else "cuda:0")
    if device.type == "cuda" and not cuda.available():
        print(f"nothing was run: {cuda.why_not()}", file=sys.stderr)
        return 3
    try:
        held = run_checks(device)
    except Mismatch as error:
        print(f"MISMATCH: {error}", file=sys.stderr)
        return 1
    if arguments.checks_only:
        print("\n".join(held))
        return 0
    return measure(arguments, device, held)


def measure(arguments: argparse.Namespace, device: torch.device, held: list[str]) -> int:
    from gpu_extraction import measure_extraction
    from gpu_parts import (
        DRY,
        FULL,
        Clock,
        make_photos,
        measure_head,
        measure_nearest,
        measure_preprocess,
    )

    scale = DRY if arguments.dry_run else FULL
    if arguments.rows:
        scale = dataclasses.replace(scale, rows=arguments.rows)
    clock = Clock(device, scale.repeats)
    images = make_photos(scale)
    name = "cpu, dry run" if device.type == "cpu" else torch.cuda.get_device_name(device)
    figures: dict[str, Any] = {
        "machine": f"{name}; {machine('torch', 'torchvision', 'timm')}",
        "checks": held,
    }
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "preprocess": lambda: measure_preprocess(clock, scale, images),
        "extraction": lambda: measure_extraction(clock, scale, images),
        "head": lambda: measure_head(clock, scale),
        "nearest": lambda: measure_nearest(clock, scale),
    }
    if not arguments.json:
        print(figures["machine"])
        print("\n".join(held))
    broken = []
    for title in arguments.parts:
        try:
            figures[title] = parts[title]()
            if title == "extraction":
                broken += [
                    f"{kind}: {way}"
                    for kind, values in figures[title].items()
                    for way in values["broken"]
                ]
        except Exception:  # what the other parts measure is worth having
            traceback.print_exc()
            broken.append(title)
            continue
        if not arguments.json:  # at once: a long run may be cut off
            show(title, figures[title])
            sys.stdout.flush()
    if device.type == "cpu":
        print("dry run: nothing above is a measurement")
        return 1 if broken else 0
    code = finish(figures, claims(figures), as_json=arguments.json)
    if broken:
        print(f"BROKEN: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else code


def claims(figures: dict[str, Any]) -> list[Bar]:
    """The bars of the parts that were measured."""
    bars = []
    if "preprocess" in figures:
        preprocess = figures["preprocess"]
        bars += [
            Bar(f"share of a device copy, {kind}", share, ">=", COPY_SHARE)
            for kind, share in preprocess["share_of_copy"].items()
        ]
        bars.append(Bar("times torchvision", preprocess["times_torchvision"], ">=", TORCHVISION))
    for kind, values in figures.get("extraction", {}).items():
        bars.append(Bar(f"extraction, {kind}", values["ratio"], ">=", EXTRACTION))
        bars.append(Bar(f"cosine, {kind}", values["lowest_cosine_to_common"], ">=", 0.99))
    if "head" in figures:
        bars.append(Bar("head, times torch.optim.LBFGS", figures["head"]["ratio"], ">=", 1.0))
    return bars


if __name__ == "__main__":
    sys.exit(main())
