"""What `pip install "edgetl[ort]"` takes on a device: megabytes of files, folder by folder.

    python benchmarks/install.py                       # installs this checkout and looks
    python benchmarks/install.py --environment FOLDER  # looks where that was done before

Counted is what lies in site-packages, compiled .pyc files included, without pip itself. The bars
are the project's own: edgetl with its weights 12 MB, all of it 200 MB.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from measure import Bar, finish, machine, parser

ROOT = Path(__file__).resolve().parent.parent
OURS = "edgetl"
TOOLS = (
    "pip",
    "setuptools",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence",
    "__pycache__",
)
"""What an empty environment has already."""
ASK = "import sysconfig; print(sysconfig.get_path('purelib')); print(sysconfig.get_path('platlib'))"


def install(environment: Path) -> None:
    """Make an environment and install this checkout as a device would."""
    venv.create(environment, with_pip=True)
    command = [environment / "bin" / "pip", "install", "--quiet", f"{ROOT}[ort]"]
    subprocess.run([str(word) for word in command], check=True)


def length(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(length(Path(item)) for item in os.scandir(path) if not item.is_symlink())


def sizes(environment: Path) -> dict[str, int]:
    """Bytes of each folder, largest first; ``x.libs`` and ``x-1.0.dist-info`` are x's."""
    asked = subprocess.run(
        [str(environment / "bin" / "python"), "-c", ASK],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, int] = {}
    for folder in set(asked.stdout.split()):
        for item in Path(folder).iterdir():
            name = re.split(r"-\d|\.libs$|\.py$|\.pth$", item.name)[0].lower()
            if name not in TOOLS:
                found[name] = found.get(name, 0) + length(item)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def main() -> int:
    command = parser(__doc__)
    command.add_argument("--environment", type=Path, help="measure this one; none is made")
    arguments = command.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        environment = arguments.environment or Path(scratch) / "device"
        if arguments.environment is None:
            install(environment)
        found = {name: size / 1e6 for name, size in sizes(environment).items()}
    if OURS not in found:
        print(f"{environment} has no edgetl", file=sys.stderr)
        return 1
    total = sum(found.values())
    figures = {
        "machine": machine().rstrip(", "),
        "packages_mb": found,
        "edgetl_mb": found[OURS],
        "mb": total,
    }
    if not arguments.json:
        print(figures["machine"])
        for name, size in found.items():
            print(f"{name:24} {size:7.2f} MB")
        print(f"{'all of it':24} {total:7.2f} MB")
    bars = [
        Bar("edgetl with its weights, MB", found[OURS], "<=", 12),
        Bar("the device install, MB", total, "<=", 200),
    ]
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
