"""edgetl: adapt a pretrained network with few samples, and ship it to small or fast machines.

Names are resolved on first use: the device side never imports torch, and importing edgetl imports
nothing at all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgetl._adapt import AdaptOptions as AdaptOptions
    from edgetl._adapt import adapt as adapt
    from edgetl._candidates import SourceModel as SourceModel
    from edgetl._distill import distill as distill
    from edgetl._evaluate import evaluate_bundle as evaluate_bundle
    from edgetl._explore import ExploreOptions as ExploreOptions
    from edgetl._explore import explore as explore
    from edgetl._export import ExportOptions as ExportOptions
    from edgetl._export import export as export
    from edgetl._export import verify as verify
    from edgetl._fewshot import FewShotOptions as FewShotOptions
    from edgetl._fewshot import FewShotReport as FewShotReport
    from edgetl._fewshot import fewshot as fewshot
    from edgetl._from_words import from_words as from_words
    from edgetl._report import ReportOptions as ReportOptions
    from edgetl._report import write_report as write_report
    from edgetl._select import SelectOptions as SelectOptions
    from edgetl._select import select as select
    from edgetl.bundle import Bundle as Bundle
    from edgetl.bundle import Delta as Delta
    from edgetl.bundle import Evidence as Evidence
    from edgetl.bundle import Limits as Limits
    from edgetl.bundle import SigningKey as SigningKey
    from edgetl.bundle import with_policy as with_policy
    from edgetl.data import Dataset as Dataset
    from edgetl.data import load_dataset as load_dataset
    from edgetl.errors import EdgetlError as EdgetlError
    from edgetl.exporter.artefact import GraphOptions as GraphOptions
    from edgetl.exporter.bench import BenchOptions as BenchOptions
    from edgetl.exporter.bench import bench as bench
    from edgetl.exporter.search import SearchOptions as SearchOptions
    from edgetl.exporter.verify import VerifyOptions as VerifyOptions
    from edgetl.preprocess import Preprocess as Preprocess
    from edgetl.runtime import LearningOptions as LearningOptions
    from edgetl.runtime import Prediction as Prediction
    from edgetl.runtime import Runtime as Runtime
    from edgetl.runtime import diff as diff
    from edgetl.runtime import load as load
    from edgetl.targets import OnnxRuntime as OnnxRuntime
    from edgetl.targets import OpenVino as OpenVino
    from edgetl.targets import TensorRT as TensorRT
    from edgetl.targets import Torch as Torch
    from edgetl.transfer.distill_options import DistillOptions as DistillOptions
    from edgetl.transfer.distill_options import DistillRecipe as DistillRecipe

__version__ = "0.1.0"

_HOMES = {
    "AdaptOptions": "edgetl._adapt",
    "BenchOptions": "edgetl.exporter.bench",
    "Bundle": "edgetl.bundle",
    "Dataset": "edgetl.data",
    "Delta": "edgetl.bundle",
    "DistillOptions": "edgetl.transfer.distill_options",
    "DistillRecipe": "edgetl.transfer.distill_options",
    "EdgetlError": "edgetl.errors",
    "Evidence": "edgetl.bundle",
    "ExploreOptions": "edgetl._explore",
    "ExportOptions": "edgetl._export",
    "FewShotOptions": "edgetl._fewshot",
    "FewShotReport": "edgetl._fewshot",
    "GraphOptions": "edgetl.exporter.artefact",
    "LearningOptions": "edgetl.runtime",
    "Limits": "edgetl.bundle",
    "OnnxRuntime": "edgetl.targets",
    "OpenVino": "edgetl.targets",
    "Prediction": "edgetl.runtime",
    "Preprocess": "edgetl.preprocess",
    "ReportOptions": "edgetl._report",
    "Runtime": "edgetl.runtime",
    "SearchOptions": "edgetl.exporter.search",
    "SelectOptions": "edgetl._select",
    "SigningKey": "edgetl.bundle",
    "SourceModel": "edgetl._candidates",
    "TensorRT": "edgetl.targets",
    "Torch": "edgetl.targets",
    "VerifyOptions": "edgetl.exporter.verify",
    "adapt": "edgetl._adapt",
    "bench": "edgetl.exporter.bench",
    "diff": "edgetl.runtime",
    "distill": "edgetl._distill",
    "evaluate_bundle": "edgetl._evaluate",
    "explore": "edgetl._explore",
    "export": "edgetl._export",
    "fewshot": "edgetl._fewshot",
    "from_words": "edgetl._from_words",
    "load": "edgetl.runtime",
    "load_dataset": "edgetl.data",
    "select": "edgetl._select",
    "verify": "edgetl._export",
    "write_report": "edgetl._report",
    "with_policy": "edgetl.bundle",
}

__all__ = [
    "AdaptOptions",
    "BenchOptions",
    "Bundle",
    "Dataset",
    "Delta",
    "DistillOptions",
    "DistillRecipe",
    "EdgetlError",
    "Evidence",
    "ExploreOptions",
    "ExportOptions",
    "FewShotOptions",
    "FewShotReport",
    "GraphOptions",
    "LearningOptions",
    "Limits",
    "OnnxRuntime",
    "OpenVino",
    "Prediction",
    "Preprocess",
    "ReportOptions",
    "Runtime",
    "SearchOptions",
    "SelectOptions",
    "SigningKey",
    "SourceModel",
    "TensorRT",
    "Torch",
    "VerifyOptions",
    "adapt",
    "bench",
    "diff",
    "distill",
    "evaluate_bundle",
    "explore",
    "export",
    "fewshot",
    "from_words",
    "load",
    "load_dataset",
    "select",
    "verify",
    "with_policy",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgetl' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
