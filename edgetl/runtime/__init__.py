"""Bundles at work on a device."""

from __future__ import annotations

from edgetl.runtime.prediction import Prediction
from edgetl.runtime.runtime import Runtime, load

__all__ = ["Prediction", "Runtime", "load"]
