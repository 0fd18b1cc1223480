"""``edgetl inspect``: what a bundle holds, after proving that it is whole."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl.bundle import Manifest


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "inspect", run, "Show what a bundle holds; check that it is whole.")
    parser.add_argument("bundle", help="the bundle's folder")


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest."""
    from edgetl.bundle import Bundle
    from edgetl.bundle.evidence_table import printable

    bundle = Bundle.load(arguments.bundle)
    manifest = bundle.manifest
    if arguments.json:
        print(json.dumps(json.loads(manifest.to_bytes()), indent=2, ensure_ascii=False))
        return 0
    preprocess = manifest.preprocess
    rows = {
        "backbone": f"{manifest.backbone}, {manifest.dim} features",
        **head_rows(manifest),
        "input": f"{preprocess.size} x {preprocess.size} from {preprocess.resize}, "
        f"{preprocess.interpolation}, {preprocess.layout}, {preprocess.decode} decoding",
        "size": f"{bundle.size / 1e6:.1f} MB",
    }
    rows |= {printable(name): f"{record.size:,} bytes" for name, record in manifest.files.items()}
    width = max(map(len, rows))
    print("\n".join(f"{name:<{width}}  {printable(value)}" for name, value in rows.items()))
    if manifest.export is not None:
        from edgetl.exporter.gates import table

        print(f"\nexported for {manifest.export.engine} in {manifest.export.precision}")
        print(table(manifest.export.gates))
    for name in (manifest.task, *manifest.tasks):
        evidence = manifest.record(name).evidence
        if evidence is not None:
            about = f"task {printable(name)}\n" if manifest.tasks else ""
            print(f"\n{about}{evidence}")
    return 0


def head_rows(manifest: Manifest) -> dict[str, str]:
    """What is said about each head, by what it is."""
    rows: dict[str, str] = {}
    for name in (manifest.task, *manifest.tasks):
        record = manifest.record(name)
        of = f" {name}" if manifest.tasks else ""
        rows[f"head{of}"] = record.head
        rows[f"labels{of}"] = f"{len(record.labels)}: {', '.join(record.labels)}"
        update = record.update
        if update is None:
            continue
        parts = [f"generation {update.generation} of {update.created}"]
        new = [label for label in record.labels if label not in update.base_labels]
        gone = [label for label in update.base_labels if label not in record.labels]
        parts += [f"new: {', '.join(new)}"] if new else []
        parts += [f"gone: {', '.join(gone)}"] if gone else []
        parts += [f"{update.samples} samples learned"] if update.samples else []
        if update.accuracy_before is not None and update.accuracy_after is not None:
            parts.append(f"accuracy {update.accuracy_before:.1%} to {update.accuracy_after:.1%}")
        if update.applied:
            parts.append(f"head update {update.applied} applied")
        rows[f"update{of}"] = "; ".join(parts)
    return rows
