"""Evaluation: metrics with intervals, baselines, and the evidence made of them."""

from __future__ import annotations

from edgetl.evaluate.group_change import group_change
from edgetl.evaluate.groups import group_report
from edgetl.evaluate.neighbours import knn_predictions
from edgetl.evaluate.report import evaluate_head
from edgetl.evaluate.verdict import judge

__all__ = ["evaluate_head", "group_change", "group_report", "judge", "knn_predictions"]
