"""``edgetl diff``: the head update that makes one bundle's head into another's."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any

from edgetl.cli.arguments import Verbs, add_task, add_verb

if TYPE_CHECKING:
    from edgetl.bundle import Delta, SigningKey

PASSWORD = "EDGETL_KEY_PASSWORD"
"""The environment's variable with the password of an encrypted private key."""


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs, "diff", run, "Write what makes one bundle's head into another's, signed."
    )
    parser.add_argument("base", help="the bundle as the devices have it, or as it was shipped")
    parser.add_argument("updated", help="the bundle whose head they are to have")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.etlh", help="the update")
    add_task(parser)
    seal = parser.add_mutually_exclusive_group(required=True)
    seal.add_argument(
        "--sign", metavar="KEY", help=f"private key to sign with ({PASSWORD}: its password)"
    )
    seal.add_argument(
        "--unsigned", action="store_true", help="no signature: devices take it with --unsigned only"
    )
    parser.add_argument(
        "--generation", type=int, metavar="N", help="its number; devices take rising ones only"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="P",
        help="most by which a probability may change by rounding (default: 0.005; 0: none is done)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the update, and say what it does."""
    from edgetl.bundle.delta_make import TOLERANCE
    from edgetl.runtime.receiving import diff

    key = signing_key(arguments)  # before the work
    delta = diff(
        arguments.base,
        arguments.updated,
        task=arguments.task,
        generation=arguments.generation,
        tolerance=TOLERANCE if arguments.tolerance is None else arguments.tolerance,
    )
    size = delta.save(arguments.output, sign=key)
    summary = {
        "file": arguments.output,
        "bytes": size,
        "key": None if key is None else key.id.hex(),
        **told(delta),
    }
    if arguments.json:
        print(json.dumps(summary, indent=2, ensure_ascii=False))
        return 0
    print(f"{arguments.output}: {size:,} bytes, " + described(delta))
    print("signed by " + key.id.hex() if key is not None else "not signed")
    return 0


def signing_key(arguments: argparse.Namespace) -> SigningKey | None:
    """The key of ``--sign``; None with ``--unsigned``."""
    from edgetl.bundle import SigningKey

    if arguments.unsigned:
        return None
    password = os.environ.get(PASSWORD)
    return SigningKey.load(arguments.sign, password=None if password is None else password.encode())


def told(delta: Delta) -> dict[str, Any]:
    """What an update is, as plain JSON types."""
    return {
        "task": delta.task,
        "generation": delta.generation,
        "labels": list(delta.labels),
        "added": list(delta.added),
        "removed": list(delta.removed),
        "created": delta.created,
        "evidence": vars(delta.evidence),
    }


def described(delta: Delta) -> str:
    """What an update is, in one or more lines."""
    from edgetl.bundle.evidence_table import printable

    parts = [f"task {delta.task}, number {delta.generation}, {len(delta.labels)} classes"]
    for word, labels in (("new", delta.added), ("gone", delta.removed)):
        if labels:
            parts.append(f"{word}: {', '.join(labels)}")
    lines = ["; ".join(parts)]
    known = delta.evidence
    if known.accuracy_before is not None and known.accuracy_after is not None:
        text = f"accuracy {known.accuracy_before:.1%} to {known.accuracy_after:.1%}"
        if known.known_before is not None and known.known_after is not None:
            text += f" (classes known before: {known.known_before:.1%} to {known.known_after:.1%})"
        lines.append(f"{text}, on {known.guard} kept samples")
    if known.difference:
        lines.append(
            f"rounded: probabilities change by at most {known.difference:.4f}, by "
            f"{known.compared} samples"
        )
    return "\n".join(printable(line) for line in lines)
