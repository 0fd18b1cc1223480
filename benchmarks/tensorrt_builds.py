"""What TensorRT builds of three networks in each precision, how long that takes, and how large.

TensorRT for RTX builds ahead of time on the CPU, through the test suite's harness (see
`tests/exporter/trt_harness.py`); nothing is run on a GPU, and the seconds say nothing about the
builder that measures kernels on a GPU. "int8*" leaves depthwise convolutions in float16. The bar is
that every one of them parses and builds.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

from measure import ASSETS, Bar, finish, machine, parser

from edgetl.engines import cuda
from edgetl.errors import EdgetlError
from edgetl.exporter.compile_trt import build_engine, typed_graph
from edgetl.exporter.qdq_trt import activations, depthwise
from edgetl.targets import TensorRT

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "exporter"))
import networks
import trt_harness

NAMES = (
    "mobilenetv2_100",
    "tf_mobilenetv3_small_100",
    "torchvision/squeezenet1_1",
    "torchvision/resnet50.IMAGENET1K_V1",
    "vit_tiny_patch16_224",
)
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8*")


def build(name: str, precision: str, folder: Path) -> dict:
    """Build one, and say what came of it."""
    backbone, model = networks.load(name, ASSETS, folder)
    ranges, exclude = None, []
    if precision.startswith("int8"):
        exclude = depthwise(model) if precision == "int8*" else []
        batch = networks.photos(ASSETS, backbone.preprocess, 2)
        ranges = networks.observe(model, activations(model, exclude=exclude), batch)
    graph = typed_graph(model, precision.rstrip("*"), ranges=ranges, exclude=exclude)
    content = graph.SerializeToString()
    built = build_engine(content, TensorRT(max_batch=8), cache_dir=folder, progress=False)
    return {
        "network": name,
        "precision": precision,
        "seconds": round(built.seconds, 2),
        "engine_mb": round(built.size / 1e6, 2),
        "onnx_mb": round(len(content) / 1e6, 2),
        "layers": built.layers,
    }


def main() -> int:
    arguments = parser(__doc__).parse_args()
    reason = trt_harness.why_not()
    if reason:
        sys.exit(reason)
    logging.disable(logging.WARNING)
    sys.modules["tensorrt_rtx"] = trt_harness.load()
    cuda.find_device = lambda: None  # ahead of time, whatever this machine has
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            for precision in PRECISIONS:
                if precision == "int8*" and "mobilenet" not in name:
                    continue
                try:
                    rows.append(build(name, precision, Path(folder)))
                except EdgetlError as error:
                    failed.append(f"{name} {precision}: {error}")
    about = machine("tensorrt-cu13-bindings", "onnxruntime-ep-nv-tensorrt-rtx-cu13", "onnx")
    if not arguments.json:
        print(f"{about}; real weights where the assets have them, random ones else")
        print(f"{'network':36} precision  seconds  engine MB  ONNX MB  layers")
        for row in rows:
            print(
                f"{row['network']:36} {row['precision']:9} {row['seconds']:8.2f} "
                f"{row['engine_mb']:10.2f} {row['onnx_mb']:8.2f} {row['layers']:7}"
            )
        for line in failed:
            print(f"FAILED {line}")
    bars = [Bar("builds that failed", len(failed), "<=", 0)]
    return finish({"machine": about, "builds": rows}, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
