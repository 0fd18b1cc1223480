"""``edgetl predict``: classes and probabilities of photos, without torch."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from edgetl.cli.arguments import Verbs, add_engine, add_verb, serving_target_of


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "predict", run, "Predict the class of photos.")
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="image files")
    parser.add_argument("--top", type=int, default=5, metavar="K", help="how many classes to show")
    add_engine(parser, torch=False)


def run(arguments: argparse.Namespace) -> int:
    """Predict each photo; 1 if any could not be read, after all others were answered."""
    from edgetl.errors import DataError
    from edgetl.runtime import load

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    runtime = load(arguments.bundle, target=serving_target_of(arguments))
    results: list[dict[str, Any]] = []
    for photo in arguments.photos:
        try:
            answer = runtime.predict(photo).to_json(top=arguments.top)
        except DataError as error:
            answer = {"error": str(error)}
            print(f"edgetl: {error}", file=sys.stderr)
        results.append({"photo": photo, **answer})
        if not arguments.json and "error" not in answer:
            classes = "  ".join(f"{c['label']} {c['probability']:.3f}" for c in answer["top"])
            unknown = "unknown  " if answer["unknown"] else ""
            print(f"{photo}  {unknown}{classes}")
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    return 1 if any("error" in result for result in results) else 0
