"""Options that several verbs share. It knows nothing about what the verbs do with them."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from edgetl.targets import OnnxRuntime, OpenVino, ServingTarget, Target, TensorRT, Torch

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Verbs = Any


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], int], text: str
) -> argparse.ArgumentParser:
    """Add a verb with its ``--json`` option; `run` gets the parsed arguments."""
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_backbone(
    parser: argparse.ArgumentParser,
    names: str = "edgetl_nano, a timm name, torchvision/NAME, or the path of an ONNX file",
) -> None:
    """Add ``--backbone``, whose help is `names`, and ``--weights``."""
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help=f"{names} (default: the best whose weights are on this machine, or else edgetl_nano, "
        "which comes with edgetl)",
    )
    parser.add_argument("--weights", metavar="FILE", help="safetensors or state-dict file")


def add_engine(parser: argparse.ArgumentParser, *, torch: bool) -> None:
    """Add ``--engine`` and ``--threads``; with `torch`, also ``--device`` and ``--bf16``."""
    engines = ["onnxruntime", "openvino", "torch" if torch else "tensorrt"]
    parser.add_argument(
        "--engine",
        choices=engines,
        default="onnxruntime" if torch else None,
        help="what runs the backbone (default: "
        + ("onnxruntime)" if torch else "what the bundle was exported for)"),
    )
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="threads of one call (0: all cores)"
    )
    if torch:
        parser.add_argument("--device", default="cpu", help="cpu or cuda, for --engine torch")
        parser.add_argument("--bf16", action="store_true", help="bfloat16, for --engine torch")


def add_extraction(parser: argparse.ArgumentParser) -> None:
    """Add the options of reading samples and extracting features."""
    parser.add_argument(
        "--strict", action="store_true", help="an unreadable file is an error, not skipped"
    )
    parser.add_argument(
        "--batch-size", type=int, default=None, metavar="N", help="samples per engine call"
    )
    parser.add_argument(
        "--workers", type=int, default=None, metavar="N", help="decoding threads (default: cores)"
    )
    parser.add_argument("--no-cache", action="store_true", help="neither read nor keep features")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument(
        "--offline", action="store_true", help="use no network (as EDGETL_OFFLINE=1)"
    )


def add_task(parser: argparse.ArgumentParser) -> None:
    """Add ``--task``."""
    parser.add_argument("--task", metavar="TASK", help="whose head (default: the main task's)")


def add_verdict(parser: argparse.ArgumentParser) -> None:
    """Add ``--groups``, and which verdicts are an error."""
    parser.add_argument(
        "--groups",
        metavar="COLUMN",
        help="column of a table with the group of each photo: report accuracy and gaps by group",
    )
    parser.add_argument(
        "--fail-on-negative",
        action="store_true",
        help="exit with 5, and write no bundle, where the model is significantly worse than a "
        "baseline",
    )
    parser.add_argument(
        "--fail-on-no-evidence",
        action="store_true",
        help="the same, also where it is not significantly better than every baseline to beat",
    )


def refuse_of(arguments: argparse.Namespace) -> Literal["never", "hurts", "no evidence"]:
    """Which verdicts are an error."""
    if arguments.fail_on_no_evidence:
        return "no evidence"
    return "hurts" if arguments.fail_on_negative else "never"


def add_memory(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--memory-mb``."""
    parser.add_argument(
        "--memory-mb",
        type=float,
        metavar="MB",
        help="features kept in the bundle, so that it can learn on a device; 0: none "
        f"(default: {default})",
    )


def obey_offline(arguments: argparse.Namespace) -> None:
    """Make ``--offline`` hold for this process, for the libraries below too."""
    if arguments.offline:
        os.environ["EDGETL_OFFLINE"] = "1"
        os.environ["HF_HUB_OFFLINE"] = "1"


def serving_target_of(arguments: argparse.Namespace) -> ServingTarget | None:
    """The target that ``--engine`` and ``--threads`` name for ``arguments.bundle``.

    Without ``--engine``, and of TensorRT the largest batch and the like, it is what the bundle was
    exported for; None if nothing was said.

    Raises:
        ValueError: The number of threads is negative, or given for TensorRT.
        FileNotFoundError: There is no bundle to look into.
    """
    engine, threads = arguments.engine, arguments.threads
    if threads < 0:
        raise ValueError(f"--threads must be 0 or more, got {threads}")
    if engine == "openvino":
        return OpenVino(threads=threads)
    if engine == "onnxruntime":
        return OnnxRuntime(threads=threads)
    if engine is None and not threads:
        return None
    from edgetl.bundle import Bundle
    from edgetl.runtime import bundle_target

    target = bundle_target(Bundle.load(arguments.bundle))
    if engine == "tensorrt" and not isinstance(target, TensorRT):
        target = TensorRT()
    if not threads:
        return target
    if isinstance(target, TensorRT):
        raise ValueError("--threads does not go with TensorRT, which runs on the GPU")
    return dataclasses.replace(target, threads=threads)


def target_of(arguments: argparse.Namespace) -> Target:
    """The target that ``--engine`` and its companions name.

    Raises:
        ValueError: An option was given that its engine does not have.
    """
    if arguments.engine == "torch":
        if arguments.threads:
            raise ValueError("--threads does not go with --engine torch; set OMP_NUM_THREADS")
        return Torch(device=arguments.device, precision="bf16" if arguments.bf16 else "fp32")
    if arguments.device != "cpu" or arguments.bf16:
        raise ValueError("--device and --bf16 go with --engine torch")
    target = serving_target_of(arguments)
    assert target is not None  # with torch among the choices, one is the default
    return target
