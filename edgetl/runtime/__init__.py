"""Bundles at work on a device."""

from __future__ import annotations

from edgetl.runtime.prediction import Prediction
from edgetl.runtime.runtime import Runtime, bundle_engine, bundle_target, load

__all__ = ["Prediction", "Runtime", "bundle_engine", "bundle_target", "load"]
