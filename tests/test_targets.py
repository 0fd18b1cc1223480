"""Targets refuse what no engine could do."""

import pytest

from edgetl.targets import OnnxRuntime, OpenVino, Torch


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (OnnxRuntime, {"provider": "gpu"}, "provider"),
        (OnnxRuntime, {"threads": -3}, "threads"),
        (OnnxRuntime, {"threads": 1.5}, "threads"),
        (OpenVino, {"threads": -1}, "threads"),
        (Torch, {"precision": "fp16"}, "precision"),
    ],
)
def test_impossible_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_options_are_keywords():
    with pytest.raises(TypeError):
        OnnxRuntime("cuda")
