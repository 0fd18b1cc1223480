"""``edgetl doctor``: what is present on this machine, what is wrong with it, and how to mend it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl.cli.inventory import Inventory, Part

_SERVING = ("onnxruntime", "openvino", "tensorrt")
_TEXT = (
    "Show which parts of edgetl are present on this machine, and what is wrong with them. "
    "Exits with 0 if a bundle can run here, with 3 if not."
)

_MARKS = {"demo": "onnx", "train": "torch"}
"""Extras of workstations, each with a package that the smaller ones do not bring."""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    add_verb(verbs, "doctor", run, _TEXT)


def run(arguments: argparse.Namespace) -> int:
    """Print what is present; exit code 3 if no bundle could run here."""
    from edgetl.cli.inventory import take_inventory
    from edgetl.errors import MissingDependencyError

    try:
        inventory = take_inventory()
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"edgetl does not import here ({error}); mend it with: "
            "pip install --force-reinstall edgetl"
        ) from error
    stopping, other = problems(inventory), warnings(inventory)
    if arguments.json:
        found = dataclasses.asdict(inventory)
        found |= {"usable": not stopping, "problems": stopping, "warnings": other}
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        rows = _rows(inventory)
        width = max(map(len, rows))
        print("\n".join(f"{name:<{width}}  {text}" for name, text in rows.items()))
        for kind, texts in (("problem", stopping), ("warning", other)):
            for text in texts:
                print(f"{kind}: {text}")
    return MissingDependencyError.exit_code if stopping else 0


def problems(inventory: Inventory) -> list[str]:
    """What keeps any bundle from running here, each with how to mend it."""
    found = []
    if not any(inventory.engines[name].status == "ready" for name in _SERVING):
        broken = [name for name in _SERVING if inventory.engines[name].status == "broken"]
        what = f"{' and '.join(broken)} can't be used" if broken else "none is installed"
        found.append(
            f"no engine can run here: {what}; install one, such as with: "
            "pip install 'edgetl[ort]' (openvino, ort-gpu and tensorrt are the others)"
        )
    core = inventory.core
    if core.instruction_set is None:
        found.append(f"{core.reason}; unset it")
    if inventory.jpeg.status == "broken":
        found.append(f"{inventory.jpeg.reason}; unset it")
    if not core.compiled and os.environ.get("EDGETL_REQUIRE_NATIVE") == "1":
        found.append(f"EDGETL_REQUIRE_NATIVE is 1, and {_without_core(core.reason)}")
    for name, version in inventory.packages.get("", {}).items():
        if version is None:
            found.append(f"{name} is not installed; install it with: pip install {name}")
    return found


def warnings(inventory: Inventory) -> list[str]:
    """What works less well than it could, or soon will not, each with how to mend it."""
    found = []
    core, engine = inventory.core, inventory.engines["onnxruntime"]
    if not core.compiled and os.environ.get("EDGETL_REQUIRE_NATIVE") != "1":
        found.append(_without_core(core.reason))
    elif core.instruction_set is not None and core.instruction_set != core.best:
        found.append(
            f"EDGETL_ISA holds the kernels to {core.instruction_set}, where this machine has "
            f"{core.best}; unset it"
        )
    if len(engine.details.get("wheels", {})) > 1:
        wheels = engine.details["wheels"]
        found.append(
            f"{' and '.join(wheels)} are installed together and overwrite each other's files; "
            f"keep one: pip uninstall -y {' '.join(wheels)} && pip install 'edgetl[ort]' "
            "(or 'edgetl[ort-gpu]')"
        )
    for name, part in (*inventory.engines.items(), ("the CUDA module", inventory.cuda)):
        if part.status == "broken":
            found.append(f"{name}: {part.reason}; mend it with: {part.mend}")
    return found


def _without_core(reason: str | None) -> str:
    return (
        f"the compiled core is missing ({reason}): numpy gives the same numbers far more slowly; "
        "build it with: pip install --force-reinstall --no-deps edgetl (a wheel, or a C++17 "
        "compiler for the sources)"
    )


def _rows(inventory: Inventory) -> dict[str, str]:
    core = inventory.core
    rows = {
        "edgetl": f"{inventory.edgetl}, Python {inventory.python}, {inventory.platform}, "
        f"{inventory.cores} core{'s' if inventory.cores > 1 else ''}",
        "native core": str(core.path) if core.compiled else f"missing: {core.reason}",
        "instruction set": f"{core.instruction_set or 'none'} (this machine has {core.best}"
        + (f", EDGETL_ISA is {core.cap})" if core.cap else ")"),
        "JPEG decoder": _line(inventory.jpeg),
        "CUDA module": _line(inventory.cuda),
    }
    rows |= {name: _line(part) for name, part in inventory.engines.items()}
    for extra, packages in inventory.packages.items():
        if extra == "":
            rows["packages"] = _versions(packages)
        elif extra in _MARKS:
            absent = packages.get(_MARKS[extra], "") is None
            rows[f"extra {extra}"] = (
                f"not installed; pip install 'edgetl[{extra}]'" if absent else _versions(packages)
            )
    rows["cache"] = inventory.cache or "nowhere: set EDGETL_CACHE_DIR (platformdirs is missing)"
    rows["network"] = "offline" if inventory.offline else "may be used"
    return rows


def _line(part: Part) -> str:
    if part.reason is None:
        return part.about
    known = not part.about or part.about in part.reason
    text = part.reason if known else f"{part.about}: {part.reason}"
    return text if part.mend is None else f"{text}; {part.mend}"


def _versions(packages: Mapping[str, str | None]) -> str:
    there = [f"{name} {version}" for name, version in packages.items() if version is not None]
    gone = [name for name, version in packages.items() if version is None]
    return ", ".join(there) + ("; missing: " if there and gone else "") + ", ".join(gone)
