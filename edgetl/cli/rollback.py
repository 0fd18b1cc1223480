"""``edgetl rollback``: a bundle's head as it was before, by the number of a generation."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl.runtime import Generation


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = "Go back to an earlier head of a bundle; without --to, undo the last update."
    parser = add_verb(verbs, "rollback", run, text)
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("--to", type=int, metavar="GENERATION", help="its number, as of --list")
    parser.add_argument("--list", action="store_true", help="show the history, change nothing")
    parser.add_argument("--task", help="whose head (default: the bundle's main one)")


def run(arguments: argparse.Namespace) -> int:
    """Go back and save, or list."""
    if arguments.list and arguments.to is not None:
        raise ValueError("--list changes nothing, so it does not go with --to")
    from edgetl.bundle import Bundle
    from edgetl.runtime import Receiver
    from edgetl.runtime.teachable import history_of

    bundle = Bundle.load(arguments.bundle)
    history = history_of(bundle, arguments.task)
    if arguments.list:
        if not history:
            print("edgetl: nothing was learned here yet", file=sys.stderr)
        _show(history, as_json=arguments.json)
        return 0
    with Receiver(bundle, None) as device:
        head = device.replaced(arguments.task)
        if head is not None and arguments.to in (None, head):  # a head update is taken back
            update = device.undo(task=arguments.task)
        else:
            if not history:
                raise ValueError(f"{arguments.bundle} has learned nothing that could be undone")
            learner = device.learner_of(arguments.task)
            update = learner.undo() if arguments.to is None else learner.rollback(arguments.to)
            head = learner.generations()[-1].head
        saved = str(device.save().path)
    if arguments.json:
        print(json.dumps({"updates": [update.to_json()], "saved": saved}, indent=2))
        return 0
    print(f"generation {update.generation}: {update.kind} to the head of generation {head}")
    if update.accuracy_before is not None and update.accuracy_after is not None:
        print(
            f"accuracy on {update.guard_samples} kept samples: "
            f"{update.accuracy_before:.1%} -> {update.accuracy_after:.1%}"
        )
    print(f"saved: {saved}")
    return 0


def _show(history: list[Generation], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([entry.to_json() for entry in history], indent=2, ensure_ascii=False))
        return
    from edgetl.bundle.evidence_table import printable

    for entry in history:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.created))
        share = "" if entry.accuracy is None else f"{entry.accuracy:.1%}"
        what = f"{entry.kind} {', '.join(entry.labels)}".strip()
        if entry.head != entry.number:
            what += f" to {entry.head}"
        state = "in use" if entry.current else "undone" if entry.undone else ""
        print(f"{entry.number:>6}  {when}  {share:>6}  {state:<6}  {printable(what)}")
