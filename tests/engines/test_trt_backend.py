"""Which TensorRT compiles, and the stamps of engines as files may have them."""

import sys
import types

import pytest

from edgetl.engines.cuda import CudaDevice
from edgetl.engines.trt_backend import ANY_DEVICE, EngineStamp, find_backend, make_stamp
from edgetl.errors import CorruptError, MissingDependencyError
from edgetl.targets import TensorRT

GPU = CudaDevice("NVIDIA Test", "8.9", "13.0")


def installed(monkeypatch, *, tensorrt, rtx, device):
    for name, version in (("tensorrt", tensorrt), ("tensorrt_rtx", rtx)):
        module = None
        if version is not None:
            module = types.ModuleType(name)
            module.__version__ = version
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("edgetl.engines.cuda.find_device", lambda: device)


@pytest.mark.parametrize("device", [None, GPU])
@pytest.mark.parametrize("tensorrt", [None, "10.9.0"])
def test_ahead_of_time_takes_tensorrt_rtx(tensorrt, device, monkeypatch):
    """Also where a GPU is: the engine is for another one."""
    installed(monkeypatch, tensorrt=tensorrt, rtx="1.7.1", device=device)
    backend = find_backend(ahead_of_time=True)
    assert (backend.name, backend.device) == ("tensorrt_rtx", ANY_DEVICE)
    assert make_stamp(backend, graph="g", target=TensorRT()).device == ANY_DEVICE
    here = find_backend().name
    assert here == ("tensorrt" if device and tensorrt else "tensorrt_rtx")


@pytest.mark.parametrize(
    ("tensorrt", "device", "ahead_of_time", "told"),
    [
        (None, None, True, r"takes TensorRT for RTX; .*pip install tensorrt_rtx$"),
        (None, GPU, True, r"takes TensorRT for RTX; .*pip install tensorrt_rtx$"),
        ("10.9.0", GPU, True, r"\(tensorrt 10.9.0 only compiles on it\).*install tensorrt_rtx$"),
        ("10.9.0", None, False, r"CUDA finds none here.*pip install tensorrt_rtx$"),
        (None, None, False, r"pip install 'edgetl\[tensorrt\]'"),
    ],
)
def test_what_to_install(tensorrt, device, ahead_of_time, told, monkeypatch):
    installed(monkeypatch, tensorrt=tensorrt, rtx=None, device=device)
    with pytest.raises(MissingDependencyError, match=told) as caught:
        find_backend(ahead_of_time=ahead_of_time)
    assert caught.value.exit_code == 3


STAMP = EngineStamp(
    backend="tensorrt", version="10.9", device="A", graph="g", max_batch=4, options=""
)


def test_a_stamp_is_read_again():
    assert EngineStamp.from_json(STAMP.to_json()) == STAMP


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        ["x"],
        "abc",
        7,
        {},
        {**STAMP.to_json(), "max_batch": "4"},
        {**STAMP.to_json(), "more": 1},
        {name: value for name, value in STAMP.to_json().items() if name != "graph"},
    ],
)
def test_what_is_no_stamp(values):
    with pytest.raises(CorruptError, match="an engine's stamp has the entries"):
        EngineStamp.from_json(values)
