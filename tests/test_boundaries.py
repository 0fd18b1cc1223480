"""The arrows of the architecture: who may import whom, and what a device never needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgetl

PACKAGE = Path(edgetl.__file__).parent

DEVICE = {
    "errors": set(),
    "_extras": {"errors"},
    "targets": set(),
    "preprocess": {"native"},
    "native": {"errors", "preprocess"},
    "decode": {"errors", "native", "preprocess"},
    "engines": {"_extras", "errors", "targets"},
    "heads": {"errors", "native"},
    "bundle": {"_extras", "errors", "heads", "preprocess"},
    "runtime": {
        "bundle",
        "decode",
        "engines",
        "errors",
        "heads",
        "native",
        "preprocess",
        "targets",
    },
}
WORKSTATION = {
    "_paths": {"_extras"},
    "backbone": {"preprocess"},
    "backbones": {"_extras", "_paths", "backbone", "errors", "preprocess"},
    "data": {"_extras", "decode", "errors"},
    "features": {"_extras", "_paths", "decode", "engines", "errors", "native", "preprocess"},
    "transfer": {
        "_extras",
        "_paths",
        "backbone",
        "backbones",
        "bundle",
        "data",
        "decode",
        "engines",
        "errors",
        "evaluate",
        "features",
        "heads",
        "native",
        "preprocess",
        "runtime",
    },
    "evaluate": {"bundle", "errors", "heads"},
    "exporter": {
        "_extras",
        "_learning",
        "_parts",
        "_paths",
        "_records",
        "backbone",
        "backbones",
        "bundle",
        "data",
        "decode",
        "engines",
        "errors",
        "evaluate",
        "features",
        "heads",
        "preprocess",
        "runtime",
        "targets",
    },
    "_export": {
        "_baselines",
        "_records",
        "_tuned",
        "bundle",
        "data",
        "decode",
        "engines",
        "errors",
        "evaluate",
        "exporter",
        "targets",
    },
    "_offpolicy": {"bundle", "errors", "runtime", "transfer"},
    "_records": {"bundle", "features", "heads", "targets"},
    "_learning": {"_parts", "bundle", "heads", "runtime"},
    "_parts": {"_paths", "data", "decode", "engines", "errors", "features", "preprocess"},
    "_fewshot": {
        "_adapt",
        "_parts",
        "_paths",
        "backbones",
        "data",
        "engines",
        "exporter",
        "transfer",
    },
    "_candidates": {
        "_parts",
        "_paths",
        "backbones",
        "data",
        "engines",
        "exporter",
        "preprocess",
        "targets",
    },
    "_select": {
        "_candidates",
        "_parts",
        "_records",
        "data",
        "exporter",
        "features",
        "heads",
        "targets",
        "transfer",
    },
    "_shipped": {
        "_parts",
        "_paths",
        "backbone",
        "data",
        "engines",
        "exporter",
        "features",
        "preprocess",
        "targets",
    },
    "_explore": {
        "_adapt",
        "_parts",
        "_shipped",
        "backbones",
        "data",
        "errors",
        "native",
        "targets",
        "transfer",
    },
    "_distill": {
        "_candidates",
        "_distill_teachers",
        "_records",
        "backbones",
        "decode",
        "engines",
        "features",
        "preprocess",
        "transfer",
    },
    "_distill_teachers": {
        "_parts",
        "_paths",
        "_shipped",
        "backbone",
        "data",
        "errors",
        "features",
        "preprocess",
        "targets",
        "transfer",
    },
    "_tuned": {"_parts", "bundle", "heads", "transfer"},
    "_given": {"_parts", "_shipped", "backbone", "bundle", "data", "heads", "transfer"},
    "_from_words": {
        "_given",
        "_paths",
        "backbones",
        "bundle",
        "engines",
        "errors",
        "exporter",
        "heads",
        "preprocess",
        "transfer",
    },
    "_refusal": {"bundle", "errors"},
    "_baselines": {"_paths", "data", "decode", "evaluate", "features", "preprocess"},
    "_evaluate": {
        "_adapt",
        "_parts",
        "_records",
        "_refusal",
        "bundle",
        "data",
        "evaluate",
        "runtime",
        "targets",
    },
    "report": {"bundle", "data", "decode", "errors", "evaluate", "preprocess"},
    "_report": {
        "_parts",
        "bundle",
        "data",
        "errors",
        "evaluate",
        "exporter",
        "features",
        "report",
        "runtime",
        "targets",
    },
    "demo": {
        "_adapt",
        "_export",
        "_extras",
        "_report",
        "bundle",
        "errors",
        "exporter",
        "runtime",
        "targets",
    },
    "_adapt": {
        "_baselines",
        "_given",
        "_refusal",
        "_shipped",
        "transfer",
        "_learning",
        "_parts",
        "_paths",
        "_records",
        "backbone",
        "backbones",
        "bundle",
        "data",
        "decode",
        "engines",
        "errors",
        "evaluate",
        "exporter",
        "features",
        "heads",
        "preprocess",
        "runtime",
        "targets",
    },
}
ALLOWED = DEVICE | WORKSTATION
# Files that lie on the other side of the line from their folder.
EXCEPTIONS = {
    "engines/torch.py": {"_extras", "engines", "errors", "native", "preprocess", "targets"},
    "engines/torch_jpeg.py": {"_extras", "errors"},
    "engines/torch_lanes.py": {"engines", "native"},
    "engines/torch_photos.py": {
        "_extras",
        "decode",
        "engines",
        "errors",
        "native",
        "preprocess",
    },
}

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "sklearn",
    "scipy",
    "lance",
    "pyarrow",
    "platformdirs",
    "pandas",
)


def imported_parts(file: Path) -> set[str]:
    """Names of edgetl's parts that a file imports anywhere, also lazily or for type checking."""
    parts = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module]
            if node.module == "edgetl":
                names = [f"edgetl.{alias.name}" for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "edgetl":
                parts.add(rest.split(".")[0])
    return parts - {"", "__version__"}  # edgetl itself knows nobody


def part_files():
    for name in sorted(ALLOWED):
        folder = PACKAGE / name
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{name}.py"]
        for file in files:
            yield name, file


def test_every_part_has_its_place():
    found = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        and path.name not in {"__init__.py", "__main__.py", "cli"}
    }
    assert found <= set(ALLOWED)


@pytest.mark.parametrize(
    ("part", "file"),
    [pytest.param(*case, id=str(case[1].relative_to(PACKAGE))) for case in part_files()],
)
def test_arrows_point_down(part, file):
    allowed = EXCEPTIONS.get(file.relative_to(PACKAGE).as_posix(), ALLOWED[part])
    assert imported_parts(file) - {part} <= allowed


def test_the_arrows_have_no_cycle_but_the_definition_and_its_kernel():
    arrows = {name: set(targets) for name, targets in ALLOWED.items()}
    arrows["native"] = set()  # `native` names Preprocess in its signatures only
    while arrows:
        leaves = {name for name, targets in arrows.items() if not targets & set(arrows)}
        assert leaves, f"cycle among {sorted(arrows)}"
        for name in leaves:
            del arrows[name]


def test_the_device_side_imports_without_the_workstation(tmp_path):
    modules = sorted(
        "edgetl." + ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        for part, file in part_files()
        if part in DEVICE and file.relative_to(PACKAGE).as_posix() not in EXCEPTIONS
    )
    modules = [name.removesuffix(".__init__") for name in modules]
    blocked = [*HEAVY, *(f"edgetl.{name}" for name in WORKSTATION)]
    code = f"""
import importlib, sys
for name in {blocked!r}:
    sys.modules[name] = None
for name in {modules!r}:
    importlib.import_module(name)
import edgetl
edgetl.load, edgetl.Bundle, edgetl.Preprocess, edgetl.OnnxRuntime
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_importing_edgetl_imports_nothing_else(tmp_path):
    code = "import sys, edgetl; print([m for m in sys.modules if m in ('numpy', 'PIL')])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_the_core_knows_no_python():
    core = PACKAGE.parent / "cpp_ext"
    if not core.is_dir():  # an installed copy has no sources beside it
        core = Path(__file__).parent.parent / "cpp_ext"
    files = [
        file
        for folder in ("src", "include", "cuda")
        for file in (core / folder).rglob("*")
        if file.is_file()
    ]
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "Python.h" not in text and "nanobind" not in text, file
