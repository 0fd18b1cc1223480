"""``edgetl predict``: classes and probabilities of photos, without torch."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from edgetl.cli.arguments import Verbs, add_engine, add_verb, serving_target_of

if TYPE_CHECKING:
    from edgetl.runtime import Runtime


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "predict", run, "Predict the class of photos.")
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--task",
        action="append",
        metavar="TASK",
        help="task to answer (default: the main one); several times for several in one pass",
    )
    which.add_argument("--all-tasks", action="store_true", help="answer every task of the bundle")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="how many classes to show")
    add_engine(parser, torch=False)


def run(arguments: argparse.Namespace) -> int:
    """Predict each photo; 1 if any could not be read, after all others were answered."""
    from edgetl.bundle.evidence_table import printable
    from edgetl.errors import DataError
    from edgetl.runtime import load

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    runtime = load(arguments.bundle, target=serving_target_of(arguments))
    tasks = list(runtime.tasks) if arguments.all_tasks else arguments.task
    for name in tasks or ():
        runtime.task(name)  # or refuse, before any photo
    results: list[dict[str, Any]] = []
    for photo in arguments.photos:
        try:
            answer = answer_of(runtime, photo, tasks, top=arguments.top)
        except DataError as error:
            answer = {"error": str(error)}
            print(f"edgetl: {error}", file=sys.stderr)
        results.append({"photo": photo, **answer})
        if not arguments.json and "error" not in answer:
            found = [("", answer)] if tasks is None else list(answer["tasks"].items())
            for name, one in found:
                classes = printable(
                    "  ".join(f"{c['label']} {c['probability']:.3f}" for c in one["top"])
                )
                unknown = "unknown  " if one["unknown"] else ""
                print(f"{photo}  {name}{': ' if name else ''}{unknown}{classes}")
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    return 1 if any("error" in result for result in results) else 0


def answer_of(runtime: Runtime, photo: str, tasks: list[str] | None, *, top: int) -> dict[str, Any]:
    """The answer for a photo as plain JSON types; with `tasks`, one of each by its name."""
    if tasks is None:
        return runtime.predict(photo).to_json(top=top)
    found = runtime.predict(photo, tasks=tasks)
    return {"tasks": {name: one.to_json(top=top) for name, one in found.items()}}
