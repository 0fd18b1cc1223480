"""Examples run as users run them: by themselves, in a folder of their own, without network."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
DEVICE = ("torch", "timm", "sklearn", "onnx")
"""What a device does not have."""
TRAIN = ("torch", "timm", "torchvision", "onnxscript")
"""What a workstation without the extra `train` does not have."""
_BLOCKING = """
import runpy, sys
blocked, name, *words = sys.argv[1:]
sys.modules.update(dict.fromkeys(filter(None, blocked.split(","))))
sys.argv = [name, *words]
runpy.run_path(name, run_name="__main__")
"""


def run_example(name, *words, cwd, cache=None, without=(), **more):
    """Run an example to its end; what it printed.

    Args:
        name: The example's file.
        words: What stands behind it on the command line.
        cwd: The folder it runs in.
        cache: Where features are cached, for those of one example to be there for another; the
            test's own place if None.
        without: Packages that can't be imported.
        more: Further variables of the environment.
    """
    if cache is not None:
        more["EDGETL_CACHE_DIR"] = str(cache)
    result = subprocess.run(
        [sys.executable, "-c", _BLOCKING, ",".join(without), EXAMPLES / name, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "EDGETL_OFFLINE": "1", **more},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
