"""``edgetl reward``: what decisions brought, learned and saved; or what was decided."""

from __future__ import annotations

import argparse
import json
import time
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl.runtime import Decision, Update


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = "Learn what a policy's decisions brought; without any, list what waits for a reward."
    parser = add_verb(verbs, "reward", run, text)
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "rewards",
        nargs="*",
        metavar="NUMBER=REWARD",
        help="number of a decision, as of choose, and from 0 (bad) to 1 (good)",
    )
    parser.add_argument("--task", help="which policy (default: the only one)")
    parser.add_argument("--all", action="store_true", help="list decisions with a reward too")
    parser.add_argument("--force", action="store_true", help="learn without asking the guard")


def run(arguments: argparse.Namespace) -> int:
    """Learn and save, or list; a refused update is an error."""
    if arguments.all and arguments.rewards:
        raise ValueError("--all lists decisions, so it does not go with rewards")
    given = [parsed(text) for text in arguments.rewards]
    from edgetl.errors import AccuracyError
    from edgetl.runtime import LearningOptions, Receiver

    if not given:
        return _list(arguments)
    options = LearningOptions(guard="off" if arguments.force else "refuse")
    with Receiver.open(arguments.bundle, learning=options) as device:
        policy = device.policy_of(arguments.task)
        update = policy.reward_decisions(
            [number for number, _ in given], [reward for _, reward in given]
        )
        saved = str(device.save().path) if update.kept else None
        waiting = len(policy.decisions(waiting=True))
    if arguments.json:
        print(json.dumps({"updates": [update.to_json()], "waiting": waiting, "saved": saved}))
    else:
        _tell(update, waiting, saved)
    if not update.kept:
        raise AccuracyError(f"the rewards were {update.decision}: {update.reason}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    """Only read, so that a process that chooses there may go on."""
    from edgetl.bundle import Bundle
    from edgetl.runtime.rewarded import decisions_of

    found = decisions_of(Bundle.load(arguments.bundle), arguments.task)
    shown = [one for one in found if arguments.all or one.reward is None]
    _show(shown, as_json=arguments.json)
    return 0


def parsed(text: str) -> tuple[int, float]:
    """Number and reward of ``NUMBER=REWARD``.

    Raises:
        ValueError: It is something else.
    """
    number, _, reward = text.partition("=")
    try:
        return int(number), float(reward)
    except ValueError:
        raise ValueError(f"expected NUMBER=REWARD such as 12=1, got {text!r}") from None


def _show(decisions: list[Decision], *, as_json: bool) -> None:
    if as_json:
        found = [decision.to_json() for decision in decisions]
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    from edgetl.bundle.evidence_table import printable

    for one in decisions:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.created))
        reward = "" if one.reward is None else f"  reward {one.reward:g}"
        print(printable(f"{one.number:>6}  {when}  {one.propensity:.3f}  {one.action}{reward}"))


def _tell(update: Update, waiting: int, saved: str | None) -> None:
    print(f"generation {update.generation}: {update.kind} {update.decision}")
    if update.accuracy_before is not None and update.accuracy_after is not None:
        print(
            f"accuracy on {update.guard_samples} kept samples: "
            f"{update.accuracy_before:.1%} -> {update.accuracy_after:.1%}"
        )
    print(f"rewards: {update.samples}, decisions without one: {waiting}")
    if saved is not None:
        print(f"saved: {saved}")
