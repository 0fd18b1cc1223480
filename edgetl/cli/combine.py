"""``edgetl combine``: bundles on the same backbone as one with several tasks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl.bundle import Bundle


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs, "combine", run, "Put the heads of bundles on the same backbone into one bundle."
    )
    parser.add_argument(
        "bundles",
        nargs="+",
        metavar="[TASK=]BUNDLE",
        help="bundles, with the name of the task (default: its own, or the folder's); the first "
        "one's is the main task",
    )
    parser.add_argument("-o", "--output", required=True, metavar="BUNDLE", help="the new bundle")


def run(arguments: argparse.Namespace) -> int:
    """Write the new bundle and list its tasks."""
    from edgetl.bundle import check_destination, combine
    from edgetl.bundle.evidence_table import printable
    from edgetl.runtime.receiving import saved_bundle

    check_destination(Path(arguments.output))
    found: dict[str, Bundle] = {}
    for text in arguments.bundles:
        task, path = split(text)
        bundle = saved_bundle(path)
        name = task or name_of(bundle, path)
        if name in found:
            raise ValueError(f"two tasks are called {name!r}; name them: TASK=BUNDLE")
        found[name] = bundle
    whole = combine(found).save(arguments.output)
    tasks = {
        name: list(whole.manifest.record(name).labels)
        for name in (whole.manifest.task, *whole.manifest.tasks)
    }
    if arguments.json:
        print(
            json.dumps({"bundle": arguments.output, "tasks": tasks}, indent=2, ensure_ascii=False)
        )
        return 0
    print(f"{arguments.output}: {whole.size / 1e6:.1f} MB")
    for name, labels in tasks.items():
        print(printable(f"task {name}: {', '.join(labels)}"))
    return 0


def split(text: str) -> tuple[str | None, str]:
    """Name and path of ``[TASK=]BUNDLE``; a path that exists is one, whatever is in it."""
    if Path(text).exists() or "=" not in text:
        return None, text
    name, _, path = text.partition("=")
    return name, path


def name_of(bundle: Bundle, path: str) -> str:
    """What the task of a bundle is called: as it says, or its folder where it says nothing."""
    from edgetl.bundle import MAIN

    return Path(path).resolve().stem if bundle.manifest.task == MAIN else bundle.manifest.task
