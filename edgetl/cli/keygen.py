"""``edgetl keygen``: the keys that head updates are signed and checked with."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgetl.cli.arguments import Verbs, add_verb


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "keygen", run, "Make an Ed25519 key pair to sign head updates with.")
    parser.add_argument(
        "-o", "--output", required=True, metavar="KEY", help="the private key's file; keep it"
    )
    parser.add_argument(
        "--public", metavar="PUB", help="the public key's file (default: pub.pem beside it)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the keys; files that exist stay as they are."""
    from edgetl.bundle import generate_keys

    private = Path(arguments.output)
    public = private.with_name("pub.pem") if arguments.public is None else Path(arguments.public)
    name = generate_keys(private, public).hex()
    if arguments.json:
        found = {"private": str(private), "public": str(public), "key": name}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    print(f"private  {private} (whoever has it can sign; it is not encrypted)")
    print(f"public   {public} (for the devices: edgetl apply --trust)")
    print(f"key      {name}")
    return 0
