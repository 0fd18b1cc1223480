"""ONNX Runtime's own file format (.ort), and the list of operators that a reduced build needs.

Such a file is loaded without parsing or optimising, by minimal builds too (ONNX Runtime Mobile). It
has its optimisations built in, so the level decides which processors it suits. This module knows
ONNX Runtime, and nothing about heads, preprocessing or bundles.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal, TypeAlias

from edgetl._extras import require
from edgetl.errors import ParityError, WeightsError

Level: TypeAlias = Literal["portable", "mobile", "machine"]
"""``"portable"``: fused operators, in the layout that every processor runs. ``"mobile"``: basic
optimisations, and a record of the others that a build replays on the nodes which an accelerator
(NNAPI, CoreML) left to the CPU. ``"machine"``: the blocked layout (NCHWc) of this machine's
processor too, which others may refuse or run slowly."""

_LEVELS = ("portable", "mobile", "machine")
_MINIMAL = "optimization.minimal_build_optimizations"


def to_ort_format(model: bytes, path: Path, *, level: Level = "portable") -> None:
    """Convert an ONNX graph to ONNX Runtime's own format.

    The file is written whole or not at all, and is proved to load here with the same inputs,
    outputs and metadata. Its version is that of the ONNX Runtime which writes it; newer ones read
    it.

    Args:
        model: The bytes of an ONNX file.
        path: Where to write; should end in ``.ort``, by which ONNX Runtime knows the format of
            files. What is there is replaced.
        level: What is built in.

    Raises:
        WeightsError: ONNX Runtime can't load the graph.
        ParityError: The written file has other ends or metadata than the graph.
        ValueError: `level` is unknown.
    """
    _check_level(level)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
        draft = Path(folder) / "graph.ort"
        _optimise(model, draft, level=level, save="ORT")
        _check_twin(model, draft)
        draft.replace(path)


def required_operators(model: bytes, *, level: Level = "portable") -> str:
    """The configuration of a reduced ONNX Runtime build that runs the converted graph.

    To be saved as ``required_operators.config`` and given to ONNX Runtime's build script as
    ``--include_ops_by_config``. Where optimisations are kept for later (``"mobile"``), operators
    are listed both as they are now and as they are then.

    Args:
        model: The bytes of the ONNX file that was converted.
        level: The level it was converted with.

    Returns:
        Lines ``domain;opset;operator,operator``, sorted, after a comment.

    Raises:
        WeightsError: ONNX Runtime can't load the graph.
        ValueError: `level` is unknown.
    """
    _check_level(level)
    onnx = require("onnx", extra="demo")
    found: set[tuple[str, int, str]] = set()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.onnx"
        for replayed in (False, True) if level == "mobile" else (False,):
            _optimise(model, file, level=level, save="ONNX", replayed=replayed)
            optimised = onnx.load(file)
            opsets = {item.domain: item.version for item in optimised.opset_import}
            found |= set(_operators(onnx, optimised.graph, opsets))
    lines = ["# Operators of one graph, for ONNX Runtime's build.py --include_ops_by_config"]
    for domain, version in sorted({(domain, version) for domain, version, _ in found}):
        names = sorted(name for *place, name in found if place == [domain, version])
        lines.append(f"{domain or 'ai.onnx'};{version};{','.join(names)}")
    return "\n".join(lines) + "\n"


def _check_level(level: str) -> None:
    if level not in _LEVELS:
        raise ValueError(f"level must be one of {_LEVELS}, got {level!r}")


def _optimise(
    model: bytes,
    path: Path,
    *,
    level: Level,
    save: Literal["ORT", "ONNX"],
    replayed: bool = False,
) -> None:
    """Let ONNX Runtime optimise a graph and save it."""
    runtime = require("onnxruntime", extra="ort")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    levels = runtime.GraphOptimizationLevel
    kept_for_later = level == "mobile" and not replayed
    if kept_for_later and save == "ONNX":  # which has no place to keep them
        options.graph_optimization_level = levels.ORT_ENABLE_BASIC
    else:
        options.graph_optimization_level = levels.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", save)
    if level != "machine":
        # Otherwise it would turn s8 activations into the u8 that suits x86 alone.
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if replayed:
        options.add_session_config_entry(_MINIMAL, "apply")
    elif kept_for_later and save == "ORT":
        options.add_session_config_entry(_MINIMAL, "save")
    try:
        runtime.InferenceSession(
            model,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[] if level == "machine" else ["NchwcTransformer"],
        )
    except Exception as error:  # its exception classes share no base
        raise WeightsError(
            f"onnxruntime can't convert the graph: {str(error).strip().splitlines()[0]}"
        ) from error


def _check_twin(model: bytes, path: Path) -> None:
    """Whether a converted file loads and has the ends and metadata of its graph.

    Raises:
        ParityError: It does not.
    """
    runtime = require("onnxruntime", extra="ort")
    outsides = []
    for source, format_name in ((model, "ONNX"), (str(path), "ORT")):
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        # What is compared does not depend on it, and not to optimise is faster.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.load_model_format", format_name)
        try:
            session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exception classes share no base
            raise ParityError(
                f"the converted graph does not load: {str(error).strip().splitlines()[0]}"
            ) from error
        outsides.append(_outside(session))
    for what in outsides[0]:
        if outsides[0][what] != outsides[1][what]:
            raise ParityError(
                f"the converted graph has the {what} {outsides[1][what]}, its original "
                f"{outsides[0][what]}; convert it with another version of onnxruntime"
            )


def _outside(session: Any) -> dict[str, Any]:
    """What a session shows of its graph."""
    return {
        "inputs": [(item.name, item.type, item.shape) for item in session.get_inputs()],
        "outputs": [(item.name, item.type, item.shape) for item in session.get_outputs()],
        "metadata": dict(session.get_modelmeta().custom_metadata_map),
    }


def _operators(onnx: Any, graph: Any, opsets: dict[str, int]) -> list[tuple[str, int, str]]:
    """Domain, version and name of every operator, those inside branches and loops too.

    The version is the operator set in which the operator last changed, as kernels are registered.
    """
    found = []
    for node in graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = 1  # of every operator outside the standard
        if domain == "" or domain.startswith("ai.onnx"):
            schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], domain)
            version = schema.since_version
        found.append((domain, version, node.op_type))
        for attribute in node.attribute:
            for branch in (attribute.g, *attribute.graphs):
                found += _operators(onnx, branch, opsets)
    return found
