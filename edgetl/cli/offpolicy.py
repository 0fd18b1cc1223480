"""``edgetl offpolicy``: what policies would have earned, by a device's log; and a learned one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl._offpolicy import OffPolicyReport


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = "Judge policies by the log of a bundle's policy, and learn one from it."
    parser = add_verb(verbs, "offpolicy", run, text)
    parser.add_argument("bundle", help="the bundle's folder, with what its policy logged")
    parser.add_argument("--task", help="which policy (default: the only one)")
    parser.add_argument(
        "--objective",
        choices=("ips", "snips", "dr"),
        default="dr",
        help="what the learned policy maximises (default: dr)",
    )
    parser.add_argument(
        "--clip", type=float, default=20.0, metavar="W", help="largest weight (default: 20)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the halves (default: 0)")
    parser.add_argument(
        "-o", "--output", metavar="BUNDLE", help="a new bundle with the learned policy as a task"
    )
    parser.add_argument(
        "--as", dest="name", default="learned", metavar="TASK", help="its name (default: learned)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the estimates; write the bundle where one is asked for."""
    from edgetl._offpolicy import offpolicy
    from edgetl.bundle import check_destination
    from edgetl.runtime.receiving import saved_bundle
    from edgetl.transfer.policy_gradient import PolicyGradient

    if arguments.output is not None:
        check_destination(Path(arguments.output))
    options = PolicyGradient(
        objective=arguments.objective, clip=arguments.clip, seed=arguments.seed
    )
    bundle = saved_bundle(arguments.bundle)
    report = offpolicy(bundle, arguments.task, options=options, name=arguments.name)
    if arguments.output is not None:
        report.bundle.save(arguments.output)
    if arguments.json:
        found = {**report.to_json(), "saved": arguments.output}
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(report)))
        if arguments.output is not None:
            print(f"saved: {arguments.output}, task {arguments.name}")
    return 0


def _lines(report: OffPolicyReport) -> list[str]:
    """The estimates, for people."""
    low, high = report.logged
    lines = [
        f"log: {report.samples} rewarded decisions, mean reward {report.mean:.3f} "
        f"({low:.3f} to {high:.3f})"
    ]
    for name, estimates in report.policies.items():
        for one in estimates:
            lines.append(
                f"{name:<8} {one.estimator:<5} {one.value:.3f} ({one.low:.3f} to {one.high:.3f})  "
                f"like {one.effective:.0f} choices of its own"
            )
    return lines
