"""``edgetl verify``: every gate of an exported bundle again, on this machine."""

from __future__ import annotations

import argparse
import json

from edgetl.cli.arguments import Verbs, add_engine, add_verb, serving_target_of


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "verify", run, "Run every gate of an exported bundle on this machine.")
    parser.add_argument("bundle", help="the folder of an exported bundle")
    parser.add_argument(
        "--data",
        required=True,
        help="labelled photos; of data with train/ and test/, the test part is used",
    )
    parser.add_argument(
        "--reference",
        metavar="BUNDLE",
        help="the bundle that it was exported from; the one it recorded if that is still there",
    )
    parser.add_argument(
        "--budget-ms", type=float, metavar="MS", help="largest median latency of a prediction here"
    )
    parser.add_argument("--budget-mb", type=float, metavar="MB", help="largest size of the bundle")
    parser.add_argument(
        "--max-drop", type=float, metavar="POINTS", help="accuracy that may be lost; as exported"
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="timed seconds of the speed gate (default: 2)"
    )
    add_engine(parser, torch=False)


def run(arguments: argparse.Namespace) -> int:
    """Verify, and print the gates; a failed one is an error with its own exit code."""
    target = serving_target_of(arguments)
    from edgetl._export import measured_gates
    from edgetl.bundle import Bundle
    from edgetl.exporter.gates import refuse, table
    from edgetl.exporter.verify import VerifyOptions, narrowed

    bundle = Bundle.load(arguments.bundle)
    record = bundle.manifest.export
    limits = None
    if record is not None:
        limits = narrowed(
            record.limits,
            budget_ms=arguments.budget_ms,
            budget_mb=arguments.budget_mb,
            max_drop=arguments.max_drop,
        )
    found = measured_gates(
        bundle,
        arguments.data,
        reference=arguments.reference,
        target=target,
        options=VerifyOptions(limits=limits, seconds=arguments.seconds),
    )
    if arguments.json:
        rows = [vars(gate) for gate in found]
        print(json.dumps({"bundle": arguments.bundle, "gates": rows}, indent=2))
    refuse(found, what="the bundle")  # JSON has to be there all the same
    if not arguments.json:
        print(table(found))
    return 0
