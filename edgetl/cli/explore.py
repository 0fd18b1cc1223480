"""``edgetl explore``: clusters, near duplicates, outliers, and which photos to label next."""

from __future__ import annotations

import argparse
from typing import Literal

from edgetl.cli.arguments import Verbs, add_backbone, add_extraction, add_verb, obey_offline
from edgetl.cli.result import adapt_options, preprocess_of, print_report

_STRATEGIES = ("auto", "margin", "entropy", "coreset", "badge", "typical", "random")


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs,
        "explore",
        run,
        "Look at photos without labels: clusters, near duplicates, outliers, what to label next.",
    )
    parser.add_argument("data", help="a folder of photos, with or without class folders; a table")
    add_backbone(parser)
    parser.add_argument(
        "--clusters", metavar="K", help="how many clusters, or auto; alone or with the next ones"
    )
    parser.add_argument("--duplicates", action="store_true", help="look for near duplicates")
    parser.add_argument("--outliers", action="store_true", help="look for outliers")
    parser.add_argument(
        "--label-next", type=int, default=0, metavar="N", help="pick N photos to label"
    )
    parser.add_argument(
        "--strategy", choices=_STRATEGIES, default="auto", help="how to pick them (default: auto)"
    )
    parser.add_argument(
        "--labels-from",
        metavar="DATA",
        help="labelled photos, as for adapt: what is labelled already, and what outliers are "
        "compared with",
    )
    parser.add_argument(
        "--min-similarity",
        type=float,
        default=0.85,
        metavar="S",
        help="least cosine of near duplicates (default: 0.85)",
    )
    parser.add_argument(
        "--false-discoveries",
        type=float,
        default=0.05,
        metavar="Q",
        help="expected share of chance findings (default: 0.05)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write a table with a row for each photo")
    parser.add_argument("--preprocess", metavar="JSON", help="as for adapt")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    add_extraction(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explore, and print what was found."""
    clusters = _clusters(arguments.clusters)
    obey_offline(arguments)
    from edgetl._explore import ExploreOptions, explore

    named = (arguments.duplicates, arguments.outliers, arguments.label_next)
    everything = clusters is None and not any(named)  # all that needs no number
    report = explore(
        arguments.data,
        backbone=arguments.backbone,
        weights=arguments.weights,
        labels_from=arguments.labels_from,
        options=ExploreOptions(
            clusters="auto" if everything else clusters,
            duplicates=everything or arguments.duplicates,
            min_similarity=arguments.min_similarity,
            outliers=everything or arguments.outliers,
            false_discoveries=arguments.false_discoveries,
            label_next=arguments.label_next,
            strategy=arguments.strategy,
            adapt=adapt_options(arguments, preprocess=preprocess_of(arguments.preprocess)),
        ),
    )
    if arguments.csv is not None:
        report.to_csv(arguments.csv)
    print_report(report, as_json=arguments.json)
    return 0


def _clusters(text: str | None) -> int | Literal["auto"] | None:
    """What ``--clusters`` gives.

    Raises:
        ValueError: It is neither a whole number nor auto.
    """
    if text is None or text == "auto":
        return None if text is None else "auto"
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--clusters must be a whole number or auto, got {text!r}") from None
