"""``edgetl adapt``: from labelled photos to a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgetl.cli.arguments import (
    Verbs,
    add_backbone,
    add_engine,
    add_extraction,
    add_memory,
    add_verb,
    add_verdict,
    obey_offline,
    refuse_of,
    target_of,
)
from edgetl.cli.result import adapt_options, preprocess_of, print_evidence, print_refused
from edgetl.cli.words import add_words, run_words, worded
from edgetl.errors import AccuracyError
from edgetl.transfer.names import ABOUT, options_of

_MITIGATIONS = {"balanced": "group-balanced", "dro": "group-dro"}
_HEADS = ("auto", "softmax", "ridge", "prototype", "knn", "lda")


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "adapt", run, "Adapt a pretrained network to labelled photos.")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(map(len, ABOUT))
    lines = [f"  {name:<{width}}  {about}" for name, about in ABOUT.items()]
    parser.epilog = "\n".join(["methods (--method NAME):", *lines])
    parser.add_argument(
        "data",
        nargs="?",
        help="a folder of class folders, or of train/ and test/; or a CSV or Parquet table",
    )
    add_backbone(
        parser,
        "edgetl_nano, a timm name, torchvision/NAME, the path of an ONNX file, or an image-text "
        "pair: open_clip/NAME.TAG or hf-clip/FOLDER",
    )
    parser.add_argument("--head", choices=_HEADS, default="auto", help="default: auto")
    add_method(parser)
    add_words(parser)
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
        "--preprocess",
        metavar="JSON",
        help="how photos become the input, where it is not as the backbone's weights want it: "
        'such as \'{"size": 192, "resize": 192}\'; the rest as edgetl.Preprocess()',
    )
    parser.add_argument(
        "--decode",
        choices=("full", "scaled"),
        help="scaled: decode large JPEGs at reduced size; faster, features change slightly",
    )
    parser.add_argument(
        "--storage",
        choices=("float16", "float32"),
        default="float16",
        help="precision of cached features (default: float16)",
    )
    add_verdict(parser)
    parser.add_argument(
        "--mitigate",
        choices=tuple(_MITIGATIONS),
        help="weight the head's samples for the sake of the worst group: the same as --method "
        + " or ".join(_MITIGATIONS.values()),
    )
    add_memory(parser, "2")
    add_engine(parser, torch=True)
    add_extraction(parser)


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add ``--method`` with its options, and the samples that some methods take."""
    parser.add_argument(
        "--method",
        default="head",
        metavar="NAME",
        help="how to adapt; the methods are listed below (default: head)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, such as epochs=10; may be repeated",
    )
    parser.add_argument(
        "--unlabelled", metavar="DATA", help="photos of the domain that the model is for"
    )
    parser.add_argument(
        "--source", metavar="DATA", help="labelled photos of another domain, with the same classes"
    )
    parser.add_argument(
        "--test", metavar="DATA", help="labelled photos to measure on (default: a part of DATA)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Adapt, save, and print the evidence."""
    target = target_of(arguments)
    if arguments.output is None:
        name = "task" if arguments.data is None else Path(arguments.data).resolve().stem
        raise ValueError(f"name the bundle to write, such as: -o {name}.edgetl")
    obey_offline(arguments)
    from edgetl._adapt import adapt
    from edgetl._learning import MEMORY_MB
    from edgetl.transfer.methods import load_method

    named = load_method(method_of(arguments), options_of(arguments.set))
    method = worded(named, arguments)
    if arguments.data is None:
        return run_words(method, arguments)
    options = adapt_options(
        arguments,
        preprocess=preprocess_of(arguments.preprocess),
        test_fraction=arguments.test_fraction,
        decode=arguments.decode,
        storage=arguments.storage,
        memory_mb=MEMORY_MB if arguments.memory_mb is None else arguments.memory_mb,
        groups=arguments.groups,
        refuse=refuse_of(arguments),
    )
    try:
        bundle = adapt(
            arguments.data,
            backbone=arguments.backbone,
            weights=arguments.weights,
            head=arguments.head,
            method=method,
            unlabelled=arguments.unlabelled,
            source=arguments.source,
            test=arguments.test,
            target=target,
            output=arguments.output,
            options=options,
        )
    except AccuracyError as error:
        print_refused(error, as_json=arguments.json, more={"bundle": None})
        raise
    assert bundle.evidence is not None  # adapt has just measured it
    more = {"bundle": str(bundle.path), "bundle_bytes": bundle.size}
    print_evidence(bundle.evidence, as_json=arguments.json, more=more)
    return 0


def method_of(arguments: argparse.Namespace) -> str:
    """The method that ``--method`` or ``--mitigate`` names.

    Raises:
        ValueError: Both are given, or a mitigation without groups.
    """
    if arguments.mitigate is None:
        return str(arguments.method)
    if arguments.method != "head":
        raise ValueError("--mitigate is a method itself, so it does not go with --method")
    if arguments.groups is None:
        raise ValueError("--mitigate needs --groups COLUMN: the groups to serve")
    return _MITIGATIONS[arguments.mitigate]
