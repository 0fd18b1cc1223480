"""Evaluation: metrics with intervals, baselines, and the evidence made of them."""

from __future__ import annotations

from edgetl.evaluate.neighbours import knn_predictions
from edgetl.evaluate.report import evaluate_head

__all__ = ["evaluate_head", "knn_predictions"]
