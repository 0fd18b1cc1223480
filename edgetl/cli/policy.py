"""``edgetl policy``: a bundle with a head that chooses actions and learns from rewards."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgetl.cli.arguments import Verbs, add_verb


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = "Give a bundle a policy: a head that chooses actions and learns from rewards."
    parser = add_verb(verbs, "policy", run, text)
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", help="the new bundle")
    parser.add_argument(
        "--actions",
        metavar="A,B",
        help="what there is to choose from (default: the main task's labels, starting from what "
        "the kept samples say)",
    )
    parser.add_argument(
        "--task", default="policy", metavar="TASK", help="what it is called (default: policy)"
    )
    parser.add_argument(
        "--rule",
        choices=("linucb", "thompson", "greedy"),
        default="linucb",
        help="how it explores (default: linucb)",
    )
    parser.add_argument(
        "--width", type=float, metavar="W", help="standard errors hoped for (default: by rule)"
    )
    parser.add_argument(
        "--floor",
        type=float,
        metavar="SHARE",
        help="share of the choices left to chance (default: 0.05)",
    )
    parser.add_argument(
        "--components", type=int, metavar="N", help="most axes of the features (default: 64)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the new bundle and say what its policy is."""
    from edgetl.bundle import check_destination, with_policy
    from edgetl.bundle.evidence_table import printable
    from edgetl.heads import PolicyHead
    from edgetl.runtime.receiving import saved_bundle

    check_destination(Path(arguments.output))
    head = PolicyHead(arguments.rule)
    for name in ("width", "floor", "components"):
        if getattr(arguments, name) is not None:
            head.set_params(**{name: getattr(arguments, name)})
    actions = None
    if arguments.actions is not None:
        actions = [action.strip() for action in arguments.actions.split(",")]
    bundle = saved_bundle(arguments.bundle)
    made = with_policy(bundle, actions, name=arguments.task, policy=head).save(arguments.output)
    labels = made.manifest.record(arguments.task).labels
    if arguments.json:
        found = {"bundle": arguments.output, "task": arguments.task, "actions": list(labels)}
        print(json.dumps(found | {"policy": head.get_params()}, indent=2, ensure_ascii=False))
        return 0
    print(f"{arguments.output}: {made.size / 1e6:.1f} MB")
    print(printable(f"policy {arguments.task} ({head.rule}): {', '.join(labels)}"))
    return 0
