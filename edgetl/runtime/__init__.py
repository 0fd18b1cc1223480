"""Bundles at work on a device."""

from __future__ import annotations

from edgetl.runtime.drift import DriftMonitor, DriftReport, DriftTest
from edgetl.runtime.novelty import Novelty
from edgetl.runtime.opening import bundle_engine, bundle_target
from edgetl.runtime.prediction import Prediction
from edgetl.runtime.runtime import Runtime, load
from edgetl.runtime.task import TaskHead

__all__ = [
    "DriftMonitor",
    "DriftReport",
    "DriftTest",
    "Novelty",
    "Prediction",
    "Runtime",
    "TaskHead",
    "bundle_engine",
    "bundle_target",
    "load",
]
