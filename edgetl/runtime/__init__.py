"""Bundles at work on a device."""

from __future__ import annotations

from edgetl.runtime.decisions import Decision, RewardLog
from edgetl.runtime.drift import DriftMonitor, DriftReport, DriftTest
from edgetl.runtime.learner import Learner
from edgetl.runtime.novelty import Novelty
from edgetl.runtime.opening import bundle_engine, bundle_target
from edgetl.runtime.options import Generation, LearnerStats, LearningOptions, Quarantined, Update
from edgetl.runtime.policy_learner import PolicyLearner
from edgetl.runtime.prediction import Prediction
from edgetl.runtime.receiving import Receiver, diff
from edgetl.runtime.runtime import Runtime, load
from edgetl.runtime.task import TaskHead

__all__ = [
    "Decision",
    "DriftMonitor",
    "DriftReport",
    "DriftTest",
    "Generation",
    "Learner",
    "LearnerStats",
    "LearningOptions",
    "Novelty",
    "PolicyLearner",
    "Prediction",
    "Quarantined",
    "Receiver",
    "RewardLog",
    "Runtime",
    "TaskHead",
    "Update",
    "bundle_engine",
    "bundle_target",
    "diff",
    "load",
]
