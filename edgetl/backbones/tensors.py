"""Named tensors as numpy arrays: from a file, checked against a network's, into its fingerprint.

It is what `edgetl.backbones.weights` is to torch modules, for networks that need no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetl._extras import require
from edgetl.errors import WeightsError

_SHOWN = 5


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a .safetensors file; of a torch state dict too, where torch is.

    Raises:
        WeightsError: The file can't be read, is damaged, or holds something other than tensors.
        MissingDependencyError: It is another file than safetensors, and torch is not installed.
    """
    if path.suffix != ".safetensors":
        require("torch", extra="train")
        from edgetl.backbones.weights import read_weights

        return {name: value.detach().float().numpy() for name, value in read_weights(path).items()}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"the weights file {path} {kind}")
    try:
        tensors: dict[str, NDArray[Any]] = load_file(path)
    except (SafetensorError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} is not a whole safetensors file: {reason}") from error
    except (AttributeError, KeyError, TypeError) as error:  # bfloat16, which numpy has not
        raise WeightsError(f"{path} has tensors of a type that numpy lacks: {error}") from error
    return tensors


def fit_arrays(
    tensors: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], *, what: str
) -> dict[str, NDArray[np.float32]]:
    """The tensors that a network has, in its order, in float32.

    Args:
        tensors: What was read.
        shapes: Names and shapes of the network's; counts of training steps may be there beside.
        what: The file and the network, for messages.

    Raises:
        WeightsError: A tensor is missing, left over, of another shape, or not finite.
    """
    extra = [
        name for name in tensors if name not in shapes and not name.endswith("num_batches_tracked")
    ]
    reshaped = [
        f"{name} {tensors[name].shape} instead of {shape}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    found = {
        name: np.ascontiguousarray(tensors[name], np.float32) for name in shapes if name in tensors
    }
    faults = (
        ([name for name in shapes if name not in tensors], "tensors are missing"),
        (extra, "tensors are not the network's"),
        (reshaped, "tensors have another shape"),
        (
            [name for name, array in found.items() if not np.isfinite(array).all()],
            "tensors hold NaN or infinity",
        ),
    )
    problems = [f"{len(names)} {fault}: {_some(names)}" for names, fault in faults if names]
    if problems:
        raise WeightsError(f"{what}: {'; '.join(problems)}")
    return found


def hash_arrays(digest: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Feed every array with its name and type, in the order of names, to a hash of `hashlib`."""
    for name, array in sorted(arrays.items()):
        values = np.ascontiguousarray(array)
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.reshape(-1).view(np.uint8).data)


def _some(items: list[str]) -> str:
    left = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {left} more" if left > 0 else "")
