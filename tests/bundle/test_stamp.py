"""Metadata of ONNX files, written and read without the onnx package."""

import json

import onnx
import pytest

from edgetl.bundle.stamp import metadata_suffix, read_metadata
from edgetl.errors import CorruptError


def test_metadata_without_onnx():
    values = {"edgetl.labels": json.dumps(["Gänseblümchen", "x" * 300]), "empty": ""}
    model = onnx.helper.make_model(onnx.GraphProto(name="g"))
    content = model.SerializeToString() + metadata_suffix(values)
    assert read_metadata(content) == values
    for broken in (
        content[:-1],
        b"\x07\x01",
        b"\x72\xff",
        b"\x72\x04\x0a\x02\xff\xfe",
        b"\xff" * 12,
    ):
        with pytest.raises(CorruptError, match="no ONNX file"):
            read_metadata(broken)
