"""``edgetl fewshot``: how far few labelled photos go, by method and number of shots."""

from __future__ import annotations

import argparse

from edgetl.cli.arguments import Verbs, add_backbone, add_extraction, add_verb, obey_offline
from edgetl.cli.result import adapt_options, print_report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs, "fewshot", run, "Measure few-shot methods on draws of few labelled photos."
    )
    parser.add_argument("data", help="as for adapt")
    add_backbone(parser)
    parser.add_argument(
        "--shots", default="1,5,10", metavar="N,N", help="samples per class (default: 1,5,10)"
    )
    parser.add_argument(
        "--seeds", type=int, default=20, metavar="N", help="draws per number of shots (default: 20)"
    )
    parser.add_argument(
        "--methods", metavar="A,B", help="auto, cosine, prototype, ridge, ... (default: all)"
    )
    parser.add_argument(
        "--baseline", default="prototype", metavar="A", help="compared with (default: prototype)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split (default: 0)")
    parser.add_argument(
        "--test-fraction",
        type=float,
        default=0.2,
        metavar="F",
        help="share kept for queries where the data has no split (default: 0.2)",
    )
    add_extraction(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the episodes and print the tables."""
    shots = _numbers(arguments.shots)
    obey_offline(arguments)
    from edgetl._fewshot import DEFAULT_METHODS, FewShotOptions, fewshot

    methods = DEFAULT_METHODS
    if arguments.methods is not None:
        methods = tuple(name.strip() for name in arguments.methods.split(","))
    report = fewshot(
        arguments.data,
        backbone=arguments.backbone,
        weights=arguments.weights,
        options=FewShotOptions(
            shots=shots,
            seeds=arguments.seeds,
            methods=methods,
            baseline=arguments.baseline,
            adapt=adapt_options(arguments, test_fraction=arguments.test_fraction),
        ),
    )
    print_report(report, as_json=arguments.json)
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of shots that ``--shots`` gives.

    Raises:
        ValueError: One is no whole number.
    """
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"--shots must be whole numbers such as 1,5,10, got {text!r}") from None
