"""``edgetl adapt``: from labelled photos to a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.cli.arguments import (
    Verbs,
    add_engine,
    add_extraction,
    add_verb,
    obey_offline,
    target_of,
)
from edgetl.cli.result import extract_options, print_evidence

_HEADS = ("auto", "softmax", "ridge", "prototype", "knn", "lda")


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "adapt", run, "Adapt a pretrained network to labelled photos.")
    parser.add_argument(
        "data", help="a folder of class folders, or of train/ and test/; or a CSV or Parquet table"
    )
    parser.add_argument(
        "--backbone",
        required=True,
        help="a timm name, torchvision/NAME, or the path of an ONNX file",
    )
    parser.add_argument("--weights", metavar="FILE", help="safetensors or state-dict file")
    parser.add_argument("--head", choices=_HEADS, default="auto", help="default: auto")
    parser.add_argument("-o", "--output", metavar="BUNDLE", help="where to write the bundle")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--test-fraction",
        type=float,
        default=0.2,
        metavar="F",
        help="share kept for testing where the data has no split (default: 0.2)",
    )
    parser.add_argument(
        "--decode",
        choices=("full", "scaled"),
        default="full",
        help="scaled: decode large JPEGs at reduced size; faster, features change slightly",
    )
    parser.add_argument(
        "--storage",
        choices=("float16", "float32"),
        default="float16",
        help="precision of cached features (default: float16)",
    )
    add_engine(parser, torch=True)
    add_extraction(parser)


def run(arguments: argparse.Namespace) -> int:
    """Adapt, save, and print the evidence."""
    target = target_of(arguments)
    if arguments.output is None:
        name = Path(arguments.data).resolve().stem
        raise ValueError(f"name the bundle to write, such as: -o {name}.edgetl")
    obey_offline(arguments)
    from edgetl._adapt import AdaptOptions, adapt

    bundle = adapt(
        arguments.data,
        backbone=arguments.backbone,
        weights=arguments.weights,
        head=arguments.head,
        target=target,
        output=arguments.output,
        options=AdaptOptions(
            seed=arguments.seed,
            test_fraction=arguments.test_fraction,
            decode=arguments.decode,
            storage=arguments.storage,
            cache=not arguments.no_cache,
            extract=extract_options(arguments),
        ),
    )
    assert bundle.evidence is not None  # adapt has just measured it
    more = {"bundle": str(bundle.path), "bundle_bytes": bundle.size}
    print_evidence(bundle.evidence, as_json=arguments.json, more=more)
    return 0
