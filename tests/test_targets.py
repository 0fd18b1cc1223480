"""Targets refuse what no engine could do."""

import pytest

from edgetl.targets import OnnxRuntime, OpenVino, TensorRT, Torch


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (OnnxRuntime, {"provider": "gpu"}, "provider"),
        (OnnxRuntime, {"threads": -3}, "threads"),
        (OnnxRuntime, {"threads": 1.5}, "threads"),
        (OpenVino, {"threads": -1}, "threads"),
        (Torch, {"precision": "fp16"}, "precision"),
        (OnnxRuntime, {"threads": True}, "threads"),
        (TensorRT, {"max_batch": 0}, "max_batch must be a whole number, 1 or more, got 0"),
        (TensorRT, {"max_batch": 1.0}, "max_batch"),
        (TensorRT, {"max_batch": True}, "max_batch"),
        (TensorRT, {"workspace": 0}, "workspace"),
        (TensorRT, {"workspace": "1 GB"}, "workspace"),
        (TensorRT, {"timing_cache": "no"}, "timing_cache"),
        (TensorRT, {"hardware_compatible": 1}, "hardware_compatible"),
        (TensorRT, {"precision": "int4"}, "precision"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_options_are_keywords():
    with pytest.raises(TypeError):
        OnnxRuntime("cuda")
