"""``edgetl export``: a bundle in another precision, if every gate lets it pass."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from edgetl.cli.arguments import Verbs, add_extraction, add_memory, add_verb, obey_offline
from edgetl.cli.result import extract_options
from edgetl.errors import AccuracyError, BudgetError, EdgetlError, ParityError
from edgetl.targets import OnnxRuntime, TensorRT

if TYPE_CHECKING:
    from edgetl._export import ExportOptions
    from edgetl.bundle import Bundle

_PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def add_parser(verbs: Verbs) -> None:
    """Add the verb to the command line."""
    parser = add_verb(
        verbs, "export", run, "Export a bundle for a target; refuse what does not hold there."
    )
    parser.add_argument("bundle", help="the folder of a bundle that adapt made")
    parser.add_argument("-o", "--output", metavar="BUNDLE", help="where to write the new bundle")
    parser.add_argument(
        "--target", choices=("onnxruntime", "tensorrt"), default="onnxruntime", help="the engine"
    )
    parser.add_argument("--precision", choices=_PRECISIONS, default="fp32", help="default: fp32")
    _add_samples(parser)
    _add_graph(parser)
    _add_gates(parser)
    _add_targets(parser)
    add_extraction(parser)


def _add_samples(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibration",
        metavar="DATA",
        help="labelled training photos; the training part that the bundle was made from if not "
        "given",
    )
    parser.add_argument(
        "--test",
        metavar="DATA",
        help="labelled photos to measure on; the test part that the bundle was measured on if not "
        "given",
    )
    parser.add_argument(
        "--calibration-images",
        type=int,
        metavar="N",
        help="photos that the ranges of int8 are taken from, at most (default: 512)",
    )
    add_memory(parser, "2 where the bundle that is exported keeps some")
    parser.add_argument("--no-refit", action="store_true", help="keep the head as it is")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def _add_graph(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fused", action="store_true", help="put head, temperature and softmax into the graph"
    )
    parser.add_argument(
        "--input",
        choices=("float32", "uint8"),
        default="float32",
        help="uint8: the graph takes camera bytes and normalises them itself",
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="a fixed batch length (default: any)"
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "ort"),
        default="onnx",
        help="ort: the format of ONNX Runtime Mobile",
    )
    parser.add_argument(
        "--ort-level",
        choices=("portable", "mobile", "machine"),
        help="what is built into a .ort file: for any processor, for accelerators of phones, or "
        "for this machine's kind of processor (default: portable)",
    )
    parser.add_argument(
        "--search-rounds",
        type=int,
        metavar="N",
        help="rounds of the search for the fastest int8 graph; 0 is quick (default: 3)",
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="int8 that is right on x86 processors without VNNI too",
    )


def _add_gates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="accuracy that may be lost, in percentage points (default: 0.5)",
    )
    parser.add_argument(
        "--budget-ms", type=float, metavar="MS", help="largest median latency of a prediction here"
    )
    parser.add_argument("--budget-mb", type=float, metavar="MB", help="largest size of the bundle")
    parser.add_argument(
        "--allow-slower", action="store_true", help="let pass what is slower than float32"
    )


def _add_targets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--provider", choices=("cpu", "cuda"), default="cpu", help="for --target onnxruntime"
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads of one call (0: all cores)"
    )
    parser.add_argument(
        "--max-batch", type=int, default=1, metavar="N", help="for --target tensorrt (default: 1)"
    )
    parser.add_argument(
        "--workspace", type=int, metavar="MB", help="GPU memory that TensorRT may build with"
    )
    parser.add_argument(
        "--hardware-compatible",
        action="store_true",
        help="TensorRT engines for all GPUs from Ampere on; somewhat slower",
    )
    parser.add_argument(
        "--ahead-of-time",
        action="store_true",
        help="compile with TensorRT for RTX without its GPU; run edgetl verify on the device",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, and print the gates; a failed one is an error with its own exit code."""
    _refuse_unused(arguments)
    target, options = _target(arguments), _options(arguments)
    obey_offline(arguments)
    from edgetl._export import export

    try:
        bundle = export(
            arguments.bundle,
            target,
            calibration=arguments.calibration,
            test=arguments.test,
            max_drop=arguments.max_drop,
            output=arguments.output,
            options=options,
        )
    except (ParityError, AccuracyError, BudgetError) as error:
        if arguments.json:
            _print_refusal(error)
        raise
    _print(bundle, as_json=arguments.json)
    return 0


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        ValueError: There is one.
    """
    if arguments.ort_level is not None and arguments.format != "ort":
        raise ValueError("--ort-level goes with --format ort")
    if arguments.calibration_images is not None and arguments.precision != "int8":
        raise ValueError(
            f"--calibration-images goes with --precision int8, and this is {arguments.precision}"
        )
    searched = arguments.search_rounds is not None or arguments.portable
    if searched and (arguments.precision, arguments.target) != ("int8", "onnxruntime"):
        raise ValueError(
            "--search-rounds and --portable go with --target onnxruntime --precision int8; nothing "
            "else is searched for"
        )


def _target(arguments: argparse.Namespace) -> OnnxRuntime | TensorRT:
    if arguments.target == "tensorrt":
        if arguments.provider != "cpu" or arguments.threads:
            raise ValueError("--provider and --threads go with --target onnxruntime")
        return TensorRT(
            precision=arguments.precision,
            max_batch=arguments.max_batch,
            workspace=None if arguments.workspace is None else arguments.workspace * 1_000_000,
            hardware_compatible=arguments.hardware_compatible,
        )
    if arguments.precision == "bf16":
        raise ValueError("ONNX Runtime has no bfloat16 kernels here; bf16 goes with tensorrt")
    given = (arguments.max_batch != 1, arguments.workspace is not None)
    if any(given) or arguments.hardware_compatible:
        raise ValueError(
            "--max-batch, --workspace and --hardware-compatible go with --target tensorrt"
        )
    return OnnxRuntime(
        precision=arguments.precision, provider=arguments.provider, threads=arguments.threads
    )


def _options(arguments: argparse.Namespace) -> ExportOptions:
    from edgetl._export import ExportOptions
    from edgetl.exporter.artefact import GraphOptions
    from edgetl.exporter.search import SearchOptions

    images, rounds = arguments.calibration_images, arguments.search_rounds
    return ExportOptions(
        graph=GraphOptions(
            input=arguments.input,
            batch=arguments.batch,
            format=arguments.format,
            ort_level=arguments.ort_level or "portable",
            fused=arguments.fused,
            calibration_images=512 if images is None else images,
            search=SearchOptions(
                rounds=3 if rounds is None else rounds,
                portable=arguments.portable,
                allow_slower=arguments.allow_slower,
            ),
        ),
        refit=not arguments.no_refit,
        budget_ms=arguments.budget_ms,
        budget_mb=arguments.budget_mb,
        ahead_of_time=arguments.ahead_of_time,
        seed=arguments.seed,
        cache=not arguments.no_cache,
        memory_mb=arguments.memory_mb,
        extract=extract_options(arguments),
    )


def _print_refusal(error: EdgetlError) -> None:
    """What was measured, for machines; the words go to stderr."""
    gates = [vars(gate) for gate in getattr(error, "gates", ())]
    found = {
        "bundle": None,
        "error": str(error).partition("\n")[0],
        "exit_code": error.exit_code,
        "gates": gates,
    }
    print(json.dumps(found, indent=2, ensure_ascii=False))


def _print(bundle: Bundle, *, as_json: bool) -> None:
    record = bundle.manifest.export
    assert record is not None  # export has just written it
    if as_json:
        found: dict[str, Any] = {
            "bundle": str(bundle.path),
            "bundle_bytes": bundle.size,
            "graph": bundle.manifest.graph,
            "accuracy": record.accuracy,
            "export": record.to_json(),
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    from edgetl.exporter.gates import table

    print(table(record.gates))
    shown = ", ".join(f"{name} {100 * value:.1f} %" for name, value in record.accuracy.items())
    print(f"accuracy: {shown}")
    if "reason" in record.search:
        print(f"chosen: {record.search['reason']}")
    print(f"bundle: {bundle.path}, {bundle.size / 1e6:.2f} MB")
