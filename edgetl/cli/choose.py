"""``edgetl choose``: a policy's action for each photo, written down to be rewarded."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from edgetl.cli.arguments import Verbs, add_engine, add_verb, serving_target_of


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = "Choose an action for each photo by a bundle's policy, to be rewarded by its number."
    parser = add_verb(verbs, "choose", run, text)
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files")
    parser.add_argument("--task", help="which policy (default: the only one)")
    add_engine(parser, torch=False)


def run(arguments: argparse.Namespace) -> int:
    """Choose for each photo; 1 if any could not be read, after all others were answered."""
    from edgetl.bundle.evidence_table import printable
    from edgetl.errors import DataError
    from edgetl.runtime import load

    results: list[dict[str, Any]] = []
    with load(arguments.bundle, target=serving_target_of(arguments)) as device:
        device.policy_of(arguments.task)  # or refuse, before any photo
        for photo in arguments.photos:
            try:
                decision = device.choose(photo, task=arguments.task)
            except DataError as error:
                print(f"edgetl: {error}", file=sys.stderr)
                results.append({"photo": photo, "error": str(error)})
                continue
            results.append({"photo": photo, **decision.to_json()})
            if not arguments.json:
                said = f"{decision.action}  {decision.propensity:.3f}  decision {decision.number}"
                print(printable(f"{photo}  {said}"))
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    return 1 if any("error" in result for result in results) else 0
