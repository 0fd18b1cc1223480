"""``edgetl learn``: photos that a bundle learns, without torch."""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetl.cli.arguments import Verbs, add_engine, add_verb, serving_target_of

if TYPE_CHECKING:
    from edgetl.runtime import LearnerStats, Update


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = "Learn photos: a new class, or a correction. Harmful updates are refused."
    parser = add_verb(verbs, "learn", run, text)
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "photos",
        nargs="*",
        metavar="PHOTO",
        help="image files; without --label, one folder with a folder per class",
    )
    parser.add_argument("--label", help="the class of the photos; a new one if there is none")
    parser.add_argument(
        "--weight", type=float, default=1.0, metavar="W", help="how many times each photo counts"
    )
    parser.add_argument("--forget", metavar="LABEL", help="remove a class, before anything else")
    parser.add_argument("--task", help="whose head learns (default: the bundle's main one)")
    parser.add_argument("-o", "--output", help="a new bundle; without it, the bundle is updated")
    parser.add_argument(
        "--max-drop",
        type=float,
        default=2.0,
        metavar="POINTS",
        help="accuracy on kept samples that may be lost (default: 2)",
    )
    parser.add_argument(
        "--quarantine", action="store_true", help="put a harmful update aside, rather than refuse"
    )
    parser.add_argument("--force", action="store_true", help="learn without asking the guard")
    add_engine(parser, torch=False)


def run(arguments: argparse.Namespace) -> int:
    """Learn, print what became of it and save; a refused update is an error."""
    if not arguments.photos and arguments.forget is None:
        raise ValueError("name photos to learn, or a class to --forget")
    if arguments.force and arguments.quarantine:
        raise ValueError("--force learns without the guard, so there is nothing to --quarantine")
    photos, labels = _samples(arguments)
    from edgetl.bundle.evidence_table import printable
    from edgetl.errors import AccuracyError
    from edgetl.runtime import LearningOptions, load
    from edgetl.runtime.database import copied

    guard: Any = "off" if arguments.force else "quarantine" if arguments.quarantine else "refuse"
    target = serving_target_of(arguments)
    with contextlib.ExitStack() as stack:
        place = None
        if arguments.output is not None:  # the bundle itself stays as it is
            place = stack.enter_context(tempfile.TemporaryDirectory())
            copied(Path(arguments.bundle), Path(place))
        options = LearningOptions(guard=guard, max_drop=arguments.max_drop, folder=place)
        device = load(arguments.bundle, target=target, learning=options)
        stack.enter_context(device)
        learner = device.learner_of(arguments.task)
        updates = []
        if arguments.forget is not None:
            updates.append(learner.forget(arguments.forget))
        if photos:
            updates.append(
                device.learn(photos, labels, weight=arguments.weight, task=arguments.task)
            )
        saved = None
        if any(update.kept for update in updates):
            saved = str(device.save(arguments.output).path)
        stats = learner.stats
    if arguments.json:
        found = {
            "updates": [update.to_json() for update in updates],
            "stats": stats.to_json(),
            "saved": saved,
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(map(printable, _lines(updates, stats, saved))))
    last = updates[-1]
    if not last.kept:
        aside = "" if last.quarantine is None else f"; put aside as number {last.quarantine}"
        raise AccuracyError(f"the update was {last.decision}: {last.reason}{aside}")
    return 0


def _samples(arguments: argparse.Namespace) -> tuple[list[Any], list[str]]:
    """Photos and their labels."""
    given = arguments.photos
    folders = [photo for photo in given if Path(photo).is_dir()]
    if arguments.label is None and given:
        if len(given) != 1 or not folders:
            raise ValueError("name the photos' class with --label, or give one folder of classes")
        from edgetl.data.folder import read_folder

        listing = read_folder(Path(given[0]))
        wanted = [part == "train" for part in listing.parts] or [True] * len(listing.names)
        if not any(wanted):
            raise ValueError(f"{given[0]} has parts, and none to train on")
        rows = [row for row, use in enumerate(wanted) if use]
        sources: list[Any] = [listing.sources[row] for row in rows]
        return sources, [listing.classes[row] for row in rows]
    photos: list[Any] = []
    for photo in given:
        found = sorted(Path(photo).iterdir()) if Path(photo).is_dir() else [photo]
        photos += [file for file in found if not Path(file).name.startswith(".")]
    if given and not photos:
        raise ValueError(f"{given[0]} holds no photos")
    return photos, [arguments.label] * len(photos)


def _lines(updates: list[Update], stats: LearnerStats, saved: str | None) -> list[str]:
    """What became of it, for people."""
    lines = []
    for update in updates:
        lines.append(f"generation {update.generation}: {update.kind} {update.decision}")
        if update.samples:
            new = f", new: {', '.join(update.new_labels)}" if update.new_labels else ""
            lines.append(f"samples: {update.samples}{new}")
        if update.accuracy_before is not None and update.accuracy_after is not None:
            lines.append(
                f"accuracy on {update.guard_samples} kept samples: "
                f"{update.accuracy_before:.1%} -> {update.accuracy_after:.1%}"
            )
        elif update.reason:
            lines.append(f"note: {update.reason}")
        if update.falls:
            falls = ", ".join(f"{label} {points:g}" for label, points in update.falls.items())
            lines.append(f"points lost: {falls}")
    lines.append(
        f"classes: {stats.classes}, samples learned: {stats.samples}, kept: "
        f"{stats.memory_samples} in {stats.memory_bytes / 1e6:.1f} MB"
    )
    if saved is not None:
        lines.append(f"saved: {saved}")
    return lines
