"""``edgetl demo``: the whole chain on data that needs no network."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgetl.cli.arguments import Verbs, add_verb

if TYPE_CHECKING:
    from edgetl.demo.job import DemoReport, Step


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    text = (
        "Show the whole chain on data that the package brings: adapt, export in int8, predict, "
        "learn a class on the device, ship it signed, report. Needs no network."
    )
    parser = add_verb(verbs, "demo", run, text)
    parser.add_argument(
        "folder",
        nargs="?",
        default="edgetl-demo",
        help="where everything is written: new, empty, or an earlier demo's, which is replaced "
        "(default: edgetl-demo)",
    )
    parser.add_argument(
        "--data",
        choices=("parts", "digits"),
        default="parts",
        help="parts: a synthetic inspection set; digits: real handwritten ones (default: parts)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def run(arguments: argparse.Namespace) -> int:
    """Run the steps, and print each when it is done."""
    from edgetl.demo.job import DemoOptions, run_demo

    options = DemoOptions(data=arguments.data, seed=arguments.seed, program=_program())
    report = run_demo(
        arguments.folder,
        options=options,
        begun=_begun,
        done=_passed_over if arguments.json else _print_step,
    )
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        _print_end(report)
    return 0


def _program() -> str:
    """How this program was called, where its bare name would call another one or none."""
    called = Path(sys.argv[0])
    found = shutil.which("edgetl")
    if called.name != "edgetl" or (found is not None and called.resolve() == Path(found).resolve()):
        return "edgetl"
    return str(called)


def _begun(number: int, count: int, name: str) -> None:
    """Say on stderr what is being done; on a terminal the result takes the line's place."""
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"{number}/{count} {name} ...", end=end, file=sys.stderr, flush=True)


def _passed_over(number: int, count: int, step: Step) -> None:
    pass


def _print_step(number: int, count: int, step: Step) -> None:
    from edgetl.bundle.evidence_table import printable

    head = f"{number}/{count} {step.name}"
    print(f"{head:<60}{step.seconds:6.1f} s")
    for line in step.lines:
        print(f"    {printable(line)}")
    for command in step.commands:
        print(f"    $ {printable(command)}")
    print(flush=True)


def _print_end(report: DemoReport) -> None:
    print(f"done in {report.seconds:.1f} s; open {report.page.resolve().as_uri()}")
    print(report.options.chosen.caution)
    program = shlex.quote(report.options.program)
    print(
        f"""
Next, your own photos: a folder with a folder per class, 20 photos of each or more.
    $ {program} adapt YOUR-PHOTOS/ -o mine.edgetl
    $ {program} export mine.edgetl --precision int8 -o mine-int8.edgetl
    $ {program} predict mine-int8.edgetl PHOTO.jpg
    $ {program} report mine.edgetl -o mine.html"""
    )
