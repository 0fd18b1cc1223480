"""``edgetl inspect``: what a bundle holds, after proving that it is whole."""

from __future__ import annotations

import argparse
import json

from edgetl.cli.arguments import Verbs, add_verb


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
        "head": manifest.head,
        "labels": f"{len(manifest.labels)}: {', '.join(manifest.labels)}",
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
    if bundle.evidence is not None:
        print(f"\n{bundle.evidence}")
    return 0
