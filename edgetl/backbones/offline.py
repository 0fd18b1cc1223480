"""The backbone that is taken where none is named: the best whose weights are on this machine.

It looks where the model hub and torchvision keep what they fetched, asks no network, and imports
neither torch nor timm. What is not there is no reason to fail: edgetl_nano comes with the package.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from edgetl._extras import missing
from edgetl.backbones.nano import NAME as NANO
from edgetl.backbones.recorded import recorded_backbone
from edgetl.errors import WeightsError


@dataclass(frozen=True)
class _Known:
    """A small pretrained network.

    Args:
        name: As `edgetl.backbones.load_backbone` takes it, with its tag.
        checkpoint: The file in torchvision's folder of checkpoints; None for one from the hub.
    """

    name: str
    checkpoint: str | None = None

    @property
    def packages(self) -> tuple[str, ...]:
        """What loading it and writing its graph need; timm imports torchvision."""
        more = ("timm", "huggingface_hub") if self.checkpoint is None else ()
        return ("torch", "torchvision", "onnxscript", *more)


_KNOWN = (
    _Known("mobilenetv2_100.ra_in1k"),
    _Known("torchvision/mobilenet_v2.IMAGENET1K_V1", "mobilenet_v2-b0353104.pth"),
    _Known("tf_mobilenetv3_small_100.in1k"),
    _Known("torchvision/squeezenet1_1.IMAGENET1K_V1", "squeezenet1_1-b8a52dc0.pth"),
)
"""Small networks, best first, by the test accuracy of an adapted head, the mean of flower_photos,
caltech101_20 and photo_sketch/photo in benchmarks/results/transfer_select.txt: MobileNetV2 .954,
MobileNetV3-Small .950, SqueezeNet .928. Larger ones have not been measured there, and are asked for
by name: without being asked, none that is too slow for a small machine."""


def given_or_best(
    backbone: str | Path | None, weights: str | Path | None
) -> tuple[str | Path, str | Path | None]:
    """The backbone and weights that are given; where there is no name, the best at hand.

    With weights alone, what their file says it is of. What was chosen, and why, is said on stderr
    in a line.

    Args:
        backbone: As `edgetl.backbones.load_backbone` takes it, or None.
        weights: A weights file, or None.

    Raises:
        ValueError: Weights without a name, in a file that does not say what network they are of.
        WeightsError: The file does not exist.
    """
    if backbone is not None:
        return backbone, weights
    if weights is not None:
        name, reason = _of_weights(Path(weights).expanduser())
    else:
        name, reason = best_offline()
    sys.stderr.write(f"backbone: {name}, {reason}\n")
    return name, weights


def best_offline() -> tuple[str, str]:
    """The name of the best backbone that can be loaded without a network, and why it is that."""
    usable = [known for known in _KNOWN if not missing(*known.packages)]
    for known in usable:
        if _is_here(known):
            where = "the model hub's cache" if known.checkpoint is None else "torch's checkpoints"
            return known.name, (
                f"whose weights are in {where} on this machine; more accurate on photos than "
                f"{NANO} and slower (--backbone NAME for another)"
            )
    more = (
        "the weights of no larger one that edgetl looks for are on this machine"
        if usable
        else "larger ones need pip install 'edgetl[train]'"
    )
    return NANO, f"which comes with edgetl; {more} (--backbone NAME for another)"


def _of_weights(path: Path) -> tuple[str, str]:
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"the weights file {path} {kind}")
    name = recorded_backbone(path)
    if name is None:
        raise ValueError(
            f"{path} does not say which network its weights are of; name it with --backbone "
            "(backbone= in Python)"
        )
    return name, f"as {path} says"


def _is_here(known: _Known) -> bool:
    """Whether the weights are where loading looks for them first."""
    if known.checkpoint is not None:
        return (_checkpoints() / known.checkpoint).is_file()
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin")
    found = (try_to_load_from_cache(f"timm/{known.name}", file) for file in files)
    return any(isinstance(path, str) for path in found)


def _checkpoints() -> Path:
    """Where torch.hub keeps files, found without importing torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return Path(torch.hub.get_dir()) / "checkpoints"
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(caches) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"
