"""What the tests of the compiled core share: every instruction set, every kind of loop."""

import sys
import types
from pathlib import Path

import pytest

from edgetl import native
from edgetl.native import checks, descent, heads, pool, resolvent, ridge
from edgetl.native import loader as loaders

sys.path.insert(0, str(Path(__file__).parent))  # for `capi`, `exact`, ...

import capi

ISAS = native.instruction_sets()


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    """Runs a test with each instruction set."""
    for module in (descent, heads, pool, resolvent, ridge):
        monkeypatch.setattr(module, "instruction_set", lambda: request.param)
    return request.param


@pytest.fixture(params=[*ISAS, "numpy"])
def way(request, monkeypatch):
    """Runs a test with each instruction set, and without the compiled core."""
    for module in (descent, heads, pool, resolvent, ridge):
        if request.param == "numpy":
            monkeypatch.setattr(module, "compiled", lambda: False)
            monkeypatch.setattr(module, "_core", None)
        else:
            monkeypatch.setattr(module, "instruction_set", lambda: request.param)
    assert checks.compiled()
    return request.param


@pytest.fixture(params=["core", "python", "twin"])
def kind(request, monkeypatch):
    """The compiled loop; the same without a JPEG library; the loop in Python."""
    if request.param == "python":
        monkeypatch.setenv("EDGETL_DECODER", "python")
    if request.param == "twin":
        monkeypatch.setattr(loaders, "native", types.SimpleNamespace(COMPILED=False))
    return request.param


@pytest.fixture(scope="session")
def installed(once):
    """Where the C library is installed, and the examples built with it."""
    return capi.build(once)


@pytest.fixture(scope="session")
def library(installed):
    """The C library, loaded."""
    return capi.load(installed)
