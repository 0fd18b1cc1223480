"""``edgetl distill``: a small backbone taught by larger ones, on photos without labels."""

from __future__ import annotations

import argparse

from edgetl.cli.arguments import Verbs, add_extraction, add_verb, obey_offline
from edgetl.cli.result import extract_options, preprocess_of, print_report


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs, "distill", run, "Teach a small backbone a larger one's features, without labels."
    )
    parser.add_argument(
        "data",
        nargs="+",
        help="folders with photos at any depth, or tables; labels and test parts are not used",
    )
    parser.add_argument(
        "--teacher",
        required=True,
        action="append",
        metavar="NAME[=FILE]",
        help="a backbone as adapt takes it, with a weights file if wanted; may be repeated",
    )
    parser.add_argument(
        "--teacher-weights",
        action="append",
        metavar="FILE",
        help="weights file of the teacher; with several, once for each, in their order",
    )
    parser.add_argument(
        "--student", required=True, help="edgetl_nano, a timm name, or torchvision/NAME"
    )
    parser.add_argument("--student-weights", metavar="FILE", help="what the student begins with")
    parser.add_argument(
        "--untrained", action="store_true", help="the student begins with random weights"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the .safetensors file to write"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    _add_recipe(parser)
    add_extraction(parser)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training")
    group.add_argument("--size", type=int, metavar="PX", help="side of the student's input")
    group.add_argument(
        "--preprocess", metavar="JSON", help="the student's preprocessing, as for adapt"
    )
    group.add_argument("--epochs", type=int, default=10, metavar="N", help="default: 10")
    group.add_argument(
        "--views", type=int, default=4, metavar="N", help="of each photo (default: 4)"
    )
    group.add_argument(
        "--step-size", type=int, default=64, metavar="N", help="photos of a step (default: 64)"
    )
    group.add_argument(
        "--learning-rate", type=float, default=1e-3, metavar="R", help="default: 0.001"
    )
    group.add_argument(
        "--loss", choices=("cosine", "mse"), default="cosine", help="default: cosine"
    )
    group.add_argument(
        "--relational",
        type=float,
        default=0.0,
        metavar="W",
        help="weight of the loss on distances between photos (default: 0)",
    )
    group.add_argument(
        "--whitening",
        type=float,
        default=0.5,
        metavar="P",
        help="0: the teacher's directions as they are, 1: all alike (default: 0.5)",
    )
    group.add_argument(
        "--ema", type=float, default=0.998, metavar="D", help="decay of averaging (default: 0.998)"
    )
    group.add_argument(
        "--patience",
        type=int,
        default=5,
        metavar="N",
        help="epochs without progress after which it ends (default: 5)",
    )
    group.add_argument(
        "--held-out",
        type=float,
        default=0.1,
        metavar="F",
        help="share of photos to measure on (default: 0.1)",
    )
    group.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    group.add_argument("--bf16", action="store_true", help="train in bfloat16")


def run(arguments: argparse.Namespace) -> int:
    """Distill, write the weights, and print the report."""
    teachers = teachers_of(arguments.teacher, arguments.teacher_weights)
    obey_offline(arguments)
    from edgetl._distill import distill
    from edgetl.transfer.distill_options import DistillOptions, DistillRecipe

    report = distill(
        list(arguments.data) if len(arguments.data) > 1 else arguments.data[0],
        teachers=list(teachers),
        student=arguments.student,
        weights=arguments.student_weights,
        output=arguments.output,
        options=DistillOptions(
            seed=arguments.seed,
            recipe=DistillRecipe(
                epochs=arguments.epochs,
                batch_size=arguments.step_size,
                learning_rate=arguments.learning_rate,
                ema=arguments.ema,
                loss=arguments.loss,
                relational=arguments.relational,
                whitening=arguments.whitening,
                patience=arguments.patience,
            ),
            views=arguments.views,
            size=arguments.size,
            preprocess=preprocess_of(arguments.preprocess),
            untrained=arguments.untrained,
            held_out=arguments.held_out,
            device=arguments.device,
            bf16=arguments.bf16,
            cache=not arguments.no_cache,
            extract=extract_options(arguments),
        ),
    )
    print_report(report, as_json=arguments.json)
    return 0


def teachers_of(names: list[str], weights: list[str] | None) -> list[str | tuple[str, str]]:
    """Teachers with the weights that ``--teacher-weights`` gives them.

    Raises:
        ValueError: There are more or fewer files than teachers, or a teacher names one already.
    """
    if weights is None:
        return list(names)
    if len(weights) != len(names):
        raise ValueError(
            f"{len(weights)} --teacher-weights for {len(names)} --teacher: give one for each, or "
            "write --teacher NAME=FILE"
        )
    for name in names:
        if "=" in name:
            raise ValueError(f"--teacher {name} names its weights already")
    return list(zip(names, weights, strict=True))
