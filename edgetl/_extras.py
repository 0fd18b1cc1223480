"""Optional packages: whether they are there, and their import with an error naming the extra."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from edgetl.errors import MissingDependencyError

CACHE = ("lance", "pyarrow")
"""What the cache of features needs: the extra ``cache``."""


def missing(*packages: str) -> list[str]:
    """Those of some packages that are not installed; none of them is imported."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional package.

    Args:
        module: The dotted name to import, such as ``"onnxruntime"``.
        extra: The extra of edgetl that brings it.

    Raises:
        MissingDependencyError: The package is not installed. A package that is installed but fails
            to import raises its own error unchanged, since reinstalling would not help.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingDependencyError(
            f"{module} is not installed; install it with: pip install 'edgetl[{extra}]'"
        ) from None
