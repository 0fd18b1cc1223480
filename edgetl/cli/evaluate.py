"""``edgetl evaluate``: a bundle measured on labelled photos."""

from __future__ import annotations

import argparse

from edgetl.cli.arguments import (
    Verbs,
    add_engine,
    add_extraction,
    add_task,
    add_verb,
    add_verdict,
    obey_offline,
    refuse_of,
    serving_target_of,
)
from edgetl.cli.result import adapt_options, print_evidence, print_refused
from edgetl.errors import AccuracyError


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "evaluate", run, "Measure a bundle on labelled photos.")
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "data", help="as for adapt; of data with train/ and test/, the test part is used"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    add_task(parser)
    add_verdict(parser)
    add_engine(parser, torch=False)
    add_extraction(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the evidence."""
    target = serving_target_of(arguments)
    obey_offline(arguments)
    from edgetl._evaluate import evaluate_bundle

    options = adapt_options(arguments, groups=arguments.groups, refuse=refuse_of(arguments))
    more = {"bundle": arguments.bundle}
    try:
        evidence = evaluate_bundle(
            arguments.bundle, arguments.data, target=target, task=arguments.task, options=options
        )
    except AccuracyError as error:
        print_refused(error, as_json=arguments.json, more=more)
        raise
    print_evidence(evidence, as_json=arguments.json, more=more)
    return 0
