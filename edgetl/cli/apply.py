"""``edgetl apply``: a head update, checked and put into a bundle where it lies."""

from __future__ import annotations

import argparse
import json

from edgetl.cli.arguments import Verbs, add_task, add_verb


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs,
        "apply",
        run,
        "Check a head update and put it into a bundle, whole or not at all.",
    )
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("update", metavar="FILE.etlh", help="what edgetl diff wrote")
    trust = parser.add_mutually_exclusive_group(required=True)
    trust.add_argument(
        "--trust",
        action="append",
        metavar="PUB",
        help="public key whose signature counts; several times for several",
    )
    trust.add_argument(
        "--unsigned",
        action="store_true",
        help="take an update without signature: anybody may have made it",
    )
    add_task(parser)


def run(arguments: argparse.Namespace) -> int:
    """Apply the update; exit code 8 if it is not to be trusted, which changes nothing."""
    from edgetl.bundle import Delta
    from edgetl.cli.diff import described, told
    from edgetl.runtime.receiving import Receiver

    delta = Delta.load(arguments.update, trust=None if arguments.unsigned else arguments.trust)
    with Receiver.open(arguments.bundle) as receiver:
        update = receiver.accept(delta, task=arguments.task)
    if arguments.json:
        summary = {"bundle": arguments.bundle, "signer": delta.signer, "update": told(delta)}
        print(json.dumps({**summary, **update.to_json()}, indent=2, ensure_ascii=False))
        return 0
    print(f"{arguments.bundle} is at generation {update.generation}: {described(delta)}")
    print("not signed" if delta.signer is None else f"signed by {delta.signer}")
    return 0
