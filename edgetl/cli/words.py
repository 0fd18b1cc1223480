"""What ``edgetl adapt`` takes in words: names of classes, templates, prompts.

It knows the command line; what words are good for, `edgetl.transfer.zeroshot_method` knows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from edgetl.cli.result import preprocess_of

if TYPE_CHECKING:
    from edgetl.bundle import Bundle
    from edgetl.transfer.method import Method


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add ``--labels``, ``--template`` and ``--prompts``."""
    parser.add_argument(
        "--labels",
        metavar="A,B",
        help="with --method zeroshot, instead of DATA: classes by name; nothing is measured then",
    )
    parser.add_argument(
        "--template",
        action="append",
        metavar="TEXT",
        help="with --method zeroshot: a sentence with {} for the class, such as "
        "'a photo of a {}'; may be repeated",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE",
        help="with --method zeroshot: JSON with whole sentences by class",
    )


def worded(method: Method, arguments: argparse.Namespace) -> Method:
    """The method with the templates and prompts that were given.

    Raises:
        ValueError: It takes none, or DATA and ``--labels`` are both given, or neither.
    """
    given: dict[str, object] = {}
    if arguments.template is not None:
        given["templates"] = tuple(arguments.template)
    if arguments.prompts is not None:
        given["prompts"] = arguments.prompts
    wordless = method.name != "zeroshot"
    if wordless and (given or arguments.labels is not None):
        raise ValueError(
            f"--labels, --template and --prompts go with --method zeroshot, not {method.name}"
        )
    if (arguments.data is None) == (arguments.labels is None):
        raise ValueError(
            "name DATA, or with --method zeroshot classes instead (--labels a,b)"
            if arguments.data is None
            else "--labels goes without DATA, whose classes are known; to measure on other photos "
            "leave DATA out, and then: edgetl evaluate BUNDLE DATA"
        )
    return dataclasses.replace(method, **given) if given else method


def run_words(method: Method, arguments: argparse.Namespace) -> int:
    """Make the bundle from names, and say that it is not measured.

    Raises:
        ValueError: An option was given that only photos make use of.
    """
    from edgetl._from_words import from_words
    from edgetl.transfer.zeroshot_method import Zeroshot

    useless = [
        f"--{name.replace('_', '-')}"
        for name in (
            *("unlabelled", "source", "test", "decode", "groups"),
            *("fail_on_negative", "fail_on_no_evidence"),
        )
        if getattr(arguments, name) not in (None, False)
    ]
    if useless or arguments.head != "auto":
        raise ValueError(f"{', '.join(useless) or '--head'} has no use without DATA")
    if arguments.backbone is None:
        raise ValueError(
            "words need an image-text pair: name one with --backbone, such as "
            "open_clip/ViT-B-32.laion2b_s34b_b79k"
        )
    assert isinstance(method, Zeroshot)  # `worded` has looked
    bundle = from_words(
        [name.strip() for name in arguments.labels.split(",") if name.strip()],
        backbone=arguments.backbone,
        weights=arguments.weights,
        method=method,
        output=arguments.output,
        preprocess=preprocess_of(arguments.preprocess),
    )
    _print(bundle, as_json=arguments.json)
    return 0


def _print(bundle: Bundle, *, as_json: bool) -> None:
    if as_json:
        found = {
            "accuracy": None,
            "classes": list(bundle.labels),
            "head": bundle.head.kind,
            "evidence": None,
            "bundle": str(bundle.path),
            "bundle_bytes": bundle.size,
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    from edgetl.bundle.evidence_table import printable

    print(f"{len(bundle.labels)} classes from words: {printable(', '.join(bundle.labels))}")
    print("not measured: there was no labelled photo, and no export is made without; where there")
    print(f"are some: edgetl evaluate {printable(str(bundle.path))} PHOTOS")
    print(f"bundle: {printable(str(bundle.path))}")
    print(f"bundle_bytes: {bundle.size}")
