"""The key changes with everything that changes a feature, and with nothing else."""

import dataclasses

import pytest
from toy import PREPROCESS, ToyEngine

from edgetl import decode
from edgetl.features import feature_key


def test_the_same_parts_give_the_same_key():
    key = feature_key(ToyEngine(), PREPROCESS, dtype="float16")
    assert key == feature_key(ToyEngine(concurrency=7), PREPROCESS, dtype="float16")
    assert len(key) == 64
    assert int(key, 16) >= 0


def test_another_engine_has_another_key():
    other = ToyEngine()
    other.fingerprint = "other weights, or precision"
    assert feature_key(other, PREPROCESS, dtype="float16") != feature_key(
        ToyEngine(), PREPROCESS, dtype="float16"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 48),
        ("resize", 65),
        ("interpolation", "bilinear"),
        ("mean", (0.5, 0.5, 0.5)),
        ("std", (0.5, 0.5, 0.5)),
        ("layout", "nhwc"),
        ("fit", "squash"),
        ("decode", "scaled"),
    ],
)
def test_another_preprocessing_has_another_key(name, value):
    other = dataclasses.replace(PREPROCESS, **{name: value})
    assert feature_key(ToyEngine(), other, dtype="float16") != feature_key(
        ToyEngine(), PREPROCESS, dtype="float16"
    )


def test_another_dtype_has_another_key():
    assert feature_key(ToyEngine(), PREPROCESS, dtype="float16") != feature_key(
        ToyEngine(), PREPROCESS, dtype="float32"
    )


def test_another_decoder_has_another_key(monkeypatch):
    before = feature_key(ToyEngine(), PREPROCESS, dtype="float16")
    monkeypatch.setattr(decode, "DECODER", "another codec 1.0")
    assert feature_key(ToyEngine(), PREPROCESS, dtype="float16") != before


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="'float16' or 'float32', got 'int8'"):
        feature_key(ToyEngine(), PREPROCESS, dtype="int8")
