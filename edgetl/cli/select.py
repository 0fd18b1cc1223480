"""``edgetl select``: which backbone to adapt to labelled photos, and how, by measurement."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_extraction, add_verb, obey_offline
from edgetl.cli.result import extract_options, preprocess_of
from edgetl.targets import OnnxRuntime, OpenVino

if TYPE_CHECKING:
    from edgetl.transfer.select_report import SelectReport


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs, "select", run, "Measure backbones on labelled photos, and say which to adapt."
    )
    parser.add_argument(
        "data", help="a folder of class folders, or of train/ and test/; or a CSV or Parquet table"
    )
    parser.add_argument(
        "--candidates",
        required=True,
        action="append",
        metavar="A,B=FILE",
        help="backbones as adapt takes them, each with a weights file if wanted; may be repeated",
    )
    parser.add_argument(
        "--weights",
        metavar="FOLDER",
        help="weights files called like the networks, for candidates that name none",
    )
    parser.add_argument(
        "--max-ms", type=float, metavar="MS", help="largest median latency of a photo here"
    )
    parser.add_argument("--max-mb", type=float, metavar="MB", help="largest size of the graph")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--test-fraction",
        type=float,
        default=0.2,
        metavar="F",
        help="share left for adapt to test with where the data has no split (default: 0.2)",
    )
    parser.add_argument(
        "--max-samples",
        type=int,
        metavar="N",
        help="measure on about so many training samples (default: all)",
    )
    parser.add_argument(
        "--preprocess",
        metavar="JSON",
        help="how photos become the input of those candidates that are ONNX files",
    )
    parser.add_argument(
        "--decode",
        choices=("full", "scaled"),
        help="scaled: decode large JPEGs at reduced size; faster, features change slightly",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="timed seconds of each candidate (default: 2)",
    )
    parser.add_argument(
        "--engine",
        choices=("onnxruntime", "openvino"),
        default="onnxruntime",
        help="what runs the backbones (default: onnxruntime)",
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads of one call (0: all cores)"
    )
    add_extraction(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the report; an error if no candidate is within the budgets."""
    if arguments.threads < 0:
        raise ValueError(f"--threads must be 0 or more, got {arguments.threads}")
    obey_offline(arguments)
    from edgetl._candidates import SourceModel, named_candidates
    from edgetl._select import SelectOptions, select

    names = [name for words in arguments.candidates for name in words.split(",") if name.strip()]
    preprocess = preprocess_of(arguments.preprocess)
    models = [
        SourceModel(model.backbone, model.weights, preprocess, model.name)
        if str(model.backbone).lower().endswith(".onnx")
        else model
        for model in named_candidates(names, arguments.weights)
    ]
    engine = OpenVino if arguments.engine == "openvino" else OnnxRuntime
    report = select(
        arguments.data,
        candidates=models,
        max_ms=arguments.max_ms,
        max_mb=arguments.max_mb,
        target=engine(threads=arguments.threads),
        options=SelectOptions(
            seed=arguments.seed,
            test_fraction=arguments.test_fraction,
            max_samples=arguments.max_samples,
            decode=arguments.decode,
            cache=not arguments.no_cache,
            seconds=arguments.seconds,
            extract=extract_options(arguments),
        ),
    )
    _print(report, as_json=arguments.json)
    report.require_recommendation()
    return 0


def _print(report: SelectReport, *, as_json: bool) -> None:
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if as_json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        print(report)
