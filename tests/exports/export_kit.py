"""What the tests of the export job share: labels, options, and the kinds of exports."""

import edgetl
from edgetl.exporter.artefact import GraphOptions
from edgetl.exporter.search import SearchOptions

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
# The machine that runs the tests is not the one to be fast on.
QUICK = SearchOptions(rounds=0, seconds=0.05, allow_slower=True)


def options(**graph):
    return edgetl.ExportOptions(
        graph=GraphOptions(search=QUICK, calibration_images=24, **graph),
        verify_seconds=0.05,
        budget_ms=10_000,
    )


KINDS = {
    "int8": (edgetl.OnnxRuntime(precision="int8"), {}, "backbone.int8.onnx"),
    "fp16": (edgetl.OnnxRuntime(precision="fp16"), {}, "backbone.fp16.onnx"),
    "int8-fused-bytes": (
        edgetl.OnnxRuntime(precision="int8"),
        {"fused": True, "input": "uint8"},
        "fused.int8.onnx",
    ),
    "fp32-fused": (edgetl.OnnxRuntime(), {"fused": True, "batch": 1}, "fused.onnx"),
    "int8-ort": (edgetl.OnnxRuntime(precision="int8"), {"format": "ort"}, "backbone.int8.ort"),
    "fp32-ort-fused": (edgetl.OnnxRuntime(), {"format": "ort", "fused": True}, "fused.ort"),
}
