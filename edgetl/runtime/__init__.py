"""Bundles at work on a device."""

from __future__ import annotations

from edgetl.runtime.learner import Learner
from edgetl.runtime.opening import bundle_engine, bundle_target
from edgetl.runtime.options import Generation, LearnerStats, LearningOptions, Quarantined, Update
from edgetl.runtime.prediction import Prediction
from edgetl.runtime.receiving import Receiver, diff
from edgetl.runtime.runtime import Runtime, load
from edgetl.runtime.task import TaskHead

__all__ = [
    "Generation",
    "Learner",
    "LearnerStats",
    "LearningOptions",
    "Prediction",
    "Quarantined",
    "Receiver",
    "Runtime",
    "TaskHead",
    "Update",
    "bundle_engine",
    "bundle_target",
    "diff",
    "load",
]
