"""``edgetl bench``: latency, throughput, cold start, memory and sizes of a bundle."""

from __future__ import annotations

import argparse
import json

from edgetl.cli.arguments import Verbs, add_engine, add_verb, serving_target_of


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs, "bench", run, "Measure a bundle's speed, memory and size, beside the fp32 one's."
    )
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "--against",
        metavar="BUNDLE",
        help="the bundle to compare with (default: the one that this was exported from)",
    )
    add_engine(parser, torch=False)
    parser.add_argument(
        "--calls", type=int, default=1000, metavar="N", help="timed calls of each (default: 1000)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="or timed seconds of each, whichever comes first (default: 10)",
    )
    parser.add_argument(
        "--batches",
        default="1,4,8,32",
        metavar="N,N",
        help="batch sizes of the throughput; '' for none (default: 1,4,8,32)",
    )
    parser.add_argument(
        "--starts",
        type=int,
        default=5,
        metavar="N",
        help="fresh processes of each kind, for cold start and memory; 0 for none (default: 5)",
    )
    parser.add_argument(
        "--photo",
        default="640x480",
        metavar="WxH",
        help="width and height of the decoded photo (default: 640x480)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the report."""
    target = serving_target_of(arguments)
    from edgetl.exporter.bench import BenchOptions, bench

    width, height = _numbers("--photo", arguments.photo, "x", count=2)
    options = BenchOptions(
        calls=arguments.calls,
        seconds=arguments.seconds,
        batches=_numbers("--batches", arguments.batches, ","),
        starts=arguments.starts,
        photo=(height, width),
        progress=not arguments.quiet,
    )
    report = bench(arguments.bundle, target=target, against=arguments.against, options=options)
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2, ensure_ascii=False))
    else:
        print(report)
    return 0


def _numbers(option: str, text: str, separator: str, *, count: int = 0) -> tuple[int, ...]:
    """``1,4,8`` as numbers.

    Raises:
        ValueError: They are none, or not `count` of them.
    """
    try:
        values = tuple(int(part) for part in text.split(separator)) if text.strip() else ()
    except ValueError:
        values = ()
        count = count or -1
    if count and len(values) != count:
        example = "640x480" if separator == "x" else "1,4,8,32"
        raise ValueError(f"{option} must be like {example}, got {text!r}")
    return values
