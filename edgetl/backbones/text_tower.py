"""The other half of an image-text pair: texts to the space of the image features.

It knows tensors and a function that encodes texts; where a pair comes from is known by
`edgetl.backbones.open_clip` and `edgetl.backbones.hf_clip`, what prompts are good for by
`edgetl.transfer.prompts`. It stays on the workstation: a bundle stores what came out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl.backbones.module import hash_tensors

_BATCH = 64


class TextTower:
    """A text encoder whose embeddings are compared with a backbone's features by their cosine.

    Args:
        name: The name of its backbone, for messages.
        encode: Embeddings (n, dim) of texts, of any norm.
        count: How many tokens a text has, with the marks at its ends; None where that is unknown.
        context: The most tokens it takes.
        scale: What the pair multiplies cosines by before a softmax over texts; positive.
        tensors: What the fingerprint is taken of: all weights that are not the image tower's.
    """

    def __init__(
        self,
        name: str,
        *,
        encode: Callable[[list[str]], torch.Tensor],
        count: Callable[[str], int] | None,
        context: int,
        scale: float,
        tensors: Mapping[str, torch.Tensor],
    ) -> None:
        if not 0 < scale < float("inf"):
            raise ValueError(f"{name}: the scale of the cosines must be positive, got {scale:g}")
        self.name = name
        self.scale = scale
        self.context = context
        self._encode = encode
        self._count = count
        digest = hashlib.sha256()
        hash_tensors(digest, tensors)
        self.fingerprint = digest.hexdigest()

    def check(self, texts: Sequence[str]) -> None:
        """Refuse texts that can't be embedded whole.

        Raises:
            TypeError: `texts` is one string, or holds something else than strings.
            ValueError: There is none, one is blank, or longer than the tower can read: it would be
                cut without a word.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("texts must be a sequence of strings")
        if not texts or not all(text.strip() for text in texts):
            raise ValueError(f"texts must be words, got {list(texts)[:3]}")
        for text in texts:
            length = 0 if self._count is None else self._count(text)
            if length > self.context:
                raise ValueError(
                    f"{text[:60]!r}... has {length} tokens, {self.name} reads {self.context}; "
                    "describe the class more briefly"
                )

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings (n, dim) with norm 1, on the CPU.

        Raises:
            TypeError: See `check`.
            ValueError: Likewise.
        """
        self.check(texts)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), _BATCH):
                found = self._encode(list(texts[start : start + _BATCH])).float()
                parts.append(torch.nn.functional.normalize(found, dim=-1).cpu().numpy())
        result: NDArray[np.float32] = np.concatenate(parts)
        return result


class ImageTower(torch.nn.Module):
    """The image half as features: what it embeds a photo as, divided by its norm.

    The division is in the graph, so that whatever is linear in the features sees the cosines that
    the pair was trained by: a zero-shot classifier is a linear head, and a device that learns on
    weighs every photo alike.

    Args:
        tower: Maps (n, 3, size, size) to (n, dim), or to a tuple that begins with that.
    """

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, dim) with norm 1."""
        found = self.tower(images)
        embedded = found[0] if isinstance(found, tuple) else found
        return torch.nn.functional.normalize(embedded, dim=-1)


def local_folder(name: str) -> Path | None:
    """The folder that a name is the path of, if it is one."""
    path = Path(name).expanduser()
    return path if path.is_dir() else None
