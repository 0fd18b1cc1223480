"""What a student learns from and with: photos and targets, the network with its projections.

It knows torch modules, images and targets, and how batches are made ahead; it knows nothing about
training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

_AHEAD = 2
"""Batches that are prepared while one is trained on."""


class Images(Protocol):
    """Photos as the student's input; called from several threads."""

    def __call__(self, photo: int, view: int) -> NDArray[np.float32]:
        """(3, size, size); view 0 is the photo as a device sees it."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What there is to learn.

    Args:
        images: The photos.
        targets: For each teacher (photos, views, k) float32: what the student has to predict.
        train: Photos to train on.
        held_out: Photos to measure on, in view 0.
    """

    images: Images
    targets: Sequence[NDArray[np.float32]]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @property
    def views(self) -> int:
        """Of each photo."""
        return int(self.targets[0].shape[1])


@dataclass(kw_only=True)
class Machine:
    """What the training runs on.

    Args:
        device: A device of torch.
        bf16: Whether the network runs in bfloat16, its weights staying float32.
        workers: Threads that prepare images.
        progress: Whether to say on stderr how far it is.
        say: Takes a line about each epoch.
        after_step: Called with the number of steps done, for tests and for stopping from outside.
    """

    device: str = "cpu"
    bf16: bool = False
    workers: int = 1
    progress: bool = False
    say: Callable[[str], None] = lambda text: None
    after_step: Callable[[int], None] = field(default=lambda steps: None)


class Student(torch.nn.Module):
    """A network with a linear projection for each teacher, used in training only.

    Args:
        network: Maps (n, 3, h, w) to (n, dim).
        projections: For each teacher weights (k, dim) and intercept (k,) to begin with.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        projections: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    ) -> None:
        super().__init__()
        self.network = network
        layers = []
        for weights, intercept in projections:
            layer = torch.nn.Linear(weights.shape[1], weights.shape[0])
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weights))
                layer.bias.copy_(torch.from_numpy(intercept))
            layers.append(layer)
        self.projections = torch.nn.ModuleList(layers)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features (n, dim), and for each teacher the prediction of its targets (n, k)."""
        features = self.network(images).float()
        return features, [layer(features) for layer in self.projections]


def prepared(
    images: Images,
    batches: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    pool: ThreadPoolExecutor,
) -> Iterator[NDArray[np.float32]]:
    """Batches of images (n, 3, size, size) in order, a few of them prepared ahead.

    Args:
        images: What makes one.
        batches: Photos and views of each batch.
        pool: Where they are made.
    """
    waiting: list[list[Future[NDArray[np.float32]]]] = []
    queue = iter(batches)
    try:
        while True:
            while len(waiting) <= _AHEAD and (batch := next(queue, None)) is not None:
                pairs = zip(*(side.tolist() for side in batch), strict=True)
                waiting.append([pool.submit(images, photo, view) for photo, view in pairs])
            if not waiting:
                return
            yield np.stack([future.result() for future in waiting.pop(0)])
    finally:
        for futures in waiting:
            for future in futures:
                future.cancel()


def predict(
    student: Student,
    lesson: Lesson,
    photos: NDArray[np.int64],
    pool: ThreadPoolExecutor,
    machine: Machine,
) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Features (n, dim) of photos in view 0, and predictions (n, k) for each teacher, in float32.

    The student is put into evaluation mode, and stays there.
    """
    student.eval()
    size = 64
    batches = [photos[at : at + size] for at in range(0, len(photos), size)]
    plain = [(batch, np.zeros_like(batch)) for batch in batches]
    features: list[NDArray[np.float32]] = []
    predictions: list[list[NDArray[np.float32]]] = []
    with torch.inference_mode():
        for images in prepared(lesson.images, plain, pool):
            batch = torch.from_numpy(images).to(machine.device, memory_format=torch.channels_last)
            own, guesses = student(batch)
            features.append(own.cpu().numpy())
            predictions.append([guess.cpu().numpy() for guess in guesses])
    joined = [np.concatenate(parts) for parts in zip(*predictions, strict=True)]
    return np.concatenate(features), joined
