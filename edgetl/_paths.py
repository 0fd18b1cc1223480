"""Where edgetl keeps what it can make again. It knows nothing about what is kept there."""

from __future__ import annotations

import os
from pathlib import Path

from edgetl._extras import require


def cache_dir() -> Path:
    """The cache folder: ``EDGETL_CACHE_DIR``, or the user's cache folder of the platform."""
    named = os.environ.get("EDGETL_CACHE_DIR")
    if named:
        return Path(named).expanduser()
    platformdirs = require("platformdirs", extra="demo")
    return Path(platformdirs.user_cache_path("edgetl", appauthor=False))


def offline() -> bool:
    """Whether the network may not be used: ``EDGETL_OFFLINE`` or ``HF_HUB_OFFLINE`` is set."""
    return any(
        os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}
        for name in ("EDGETL_OFFLINE", "HF_HUB_OFFLINE")
    )
