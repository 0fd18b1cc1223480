"""``edgetl report``: a bundle as one page of HTML to read, print and pass on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgetl.cli.arguments import (
    Verbs,
    add_engine,
    add_extraction,
    add_task,
    add_verb,
    obey_offline,
    serving_target_of,
)
from edgetl.cli.result import extract_options


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(verbs, "report", run, "Write what is known about a bundle as a page of HTML.")
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the page to write")
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="labelled photos as for adapt, whose test part is answered for the calibration plot "
        "and the worst mistakes (default: those that the bundle was made from)",
    )
    parser.add_argument(
        "--select", metavar="FILE", help="what `edgetl select --json` printed, to show it too"
    )
    parser.add_argument(
        "--mistakes",
        type=int,
        default=24,
        metavar="N",
        help="how many of the worst mistakes are shown (default: 24)",
    )
    add_task(parser)
    add_engine(parser, torch=False)
    add_extraction(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page, and say where."""
    target = serving_target_of(arguments)
    obey_offline(arguments)
    from edgetl._report import ReportOptions, write_report

    path = write_report(
        arguments.bundle,
        arguments.output,
        data=arguments.data,
        select=None if arguments.select is None else Path(arguments.select),
        task=arguments.task,
        options=ReportOptions(
            mistakes=arguments.mistakes,
            target=target,
            cache=not arguments.no_cache,
            extract=extract_options(arguments),
        ),
    )
    size = path.stat().st_size
    if arguments.json:
        print(json.dumps({"report": str(path), "bytes": size}))
    else:
        print(f"report: {path}, {size / 1e6:.2f} MB")
    return 0
