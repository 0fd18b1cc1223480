"""Heads are for devices: they fit and predict with numpy alone."""

import subprocess
import sys

PROGRAM = """
import sys
import types
blocked = ("torch", "sklearn", "scipy", "onnx", "timm", "pandas", "lance", "platformdirs")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from edgetl.heads import HEADS, load_head, select_head
generator = np.random.default_rng(0)
y = np.arange(60) % 3
X = generator.normal(size=(60, 80)) + 3 * np.eye(80)[y]
selection = select_head(X, y)
for kind in HEADS:
    head = load_head(kind, HEADS[kind]().fit(X, y).arrays())
    assert head.score(X, y) > 0.6, kind
try:
    HEADS["ridge"]().predict(X)
except ValueError as error:
    assert type(error).__name__ == "NotFittedError"
assert not any(name.split(".")[0] in blocked for name in sys.modules)
print("fine")
"""


def test_fits_with_numpy_alone():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=sys.prefix,  # not the checkout, whose uncompiled package would come first
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.strip() == "fine", done.stderr
