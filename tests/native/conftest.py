"""What the tests of the compiled core share: every instruction set this machine has."""

import sys
from pathlib import Path

import pytest

from edgetl import native
from edgetl.native import checks, heads, pool, ridge

sys.path.insert(0, str(Path(__file__).parent))  # for `exact`, `head_cases`, `jpeg_corpus`

ISAS = native.instruction_sets()


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    """Runs a test with each instruction set."""
    for module in (heads, pool, ridge):
        monkeypatch.setattr(module, "instruction_set", lambda: request.param)
    return request.param


@pytest.fixture(params=[*ISAS, "numpy"])
def way(request, monkeypatch):
    """Runs a test with each instruction set, and without the compiled core."""
    for module in (heads, pool, ridge):
        if request.param == "numpy":
            monkeypatch.setattr(module, "compiled", lambda: False)
            monkeypatch.setattr(module, "_core", None)
        else:
            monkeypatch.setattr(module, "instruction_set", lambda: request.param)
    assert checks.compiled()
    return request.param
