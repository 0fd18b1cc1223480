"""Where backbones come from, one file per origin."""

from __future__ import annotations

from edgetl.backbones.load import load_backbone

__all__ = ["load_backbone"]
