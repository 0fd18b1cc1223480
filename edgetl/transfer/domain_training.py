"""Training of a small linear adapter on features of two domains: what DAN, DANN and SHOT share.

Features are centred by their own domain's mean and brought to the leading principal axes of both
domains together; an encoder starts as the identity there, and a classifier as the softmax head of
the source. All of it is affine, so what was trained is a softmax head on target features. It knows
torch, arrays and a penalty to lower; it knows no photos and no networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edgetl.heads import Selection, SoftmaxHead
from edgetl.transfer.domain_adapter import DomainAdapter, FloatArray, cautious_head, linear_head


@dataclass(kw_only=True)
class TrainedAdapter(DomainAdapter):
    """What the trained adapters share.

    Args:
        steps: Steps of Adam.
        learning_rate: Its rate.
        axes: Principal axes of both domains together that are kept.
        label_smoothing: Of the source's labels.
        batch: At most so many samples of each domain per step.
        seed: Of batches and of what starts at random.
    """

    steps: int = 100
    learning_rate: float = 1e-3
    axes: int = 64
    label_smoothing: float = 0.1
    batch: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.axes < 1 or self.batch < 2:
            raise ValueError(
                "steps and axes must be 1 or more and batch 2 or more, got "
                f"{self.steps}, {self.axes} and {self.batch}"
            )
        if not 0 < self.learning_rate < np.inf or not 0 <= self.label_smoothing < 1:
            raise ValueError(
                "learning_rate must be above 0 and label_smoothing from 0 to below 1, got "
                f"{self.learning_rate} and {self.label_smoothing}"
            )

    def move(self, X: FloatArray) -> FloatArray:
        """Source features with the target's mean: what both domains' coordinates make equal."""
        return X + self.shift_

    def _places(self, source: FloatArray, target: FloatArray) -> Coordinates:
        self.shift_: FloatArray = target.mean(axis=0) - source.mean(axis=0)
        return Coordinates.of(source, target, self.axes)


@dataclass
class Coordinates:
    """Both domains on common axes, each centred by its own mean.

    Attributes:
        source: (n, k) float32.
        target: (m, k) float32.
        matrix: (k, dim) of target features x: ``matrix @ x + offset`` are its coordinates.
        offset: (k,).
    """

    source: torch.Tensor
    target: torch.Tensor
    matrix: FloatArray
    offset: FloatArray

    @classmethod
    def of(cls, source: FloatArray, target: FloatArray, axes: int) -> Coordinates:
        """Coordinates of mean square 1 on at most so many principal axes."""
        mean = target.mean(axis=0)
        source, target = source - source.mean(axis=0), target - mean
        found, squares = _leading_axes(np.concatenate([source, target]), axes)
        power = float(squares.sum()) / (len(squares) * (len(source) + len(target)))
        matrix = found / np.sqrt(power if power > 0 else 1.0)
        return cls(
            torch.from_numpy((source @ matrix.T).astype(np.float32)),
            torch.from_numpy((target @ matrix.T).astype(np.float32)),
            matrix,
            -matrix @ mean,
        )


class LinearNetwork(nn.Module):
    """An affine encoder and an affine classifier.

    Args:
        coef: (classes, k) what the classifier starts as.
        intercept: (classes,).
    """

    def __init__(self, coef: FloatArray, intercept: FloatArray) -> None:
        super().__init__()
        classes, width = coef.shape
        self.encoder = bare_linear(width, width)
        self.classifier = bare_linear(width, classes)
        with torch.no_grad():
            self.encoder.weight.copy_(torch.eye(width))
            self.encoder.bias.zero_()
            self.classifier.weight.copy_(torch.from_numpy(coef))
            self.classifier.bias.copy_(torch.from_numpy(intercept))

    def affine(self) -> tuple[FloatArray, FloatArray]:
        """Coefficients (classes, k) and intercepts (classes,) of both together."""
        tensors = (self.encoder.weight, self.encoder.bias, self.classifier.weight)
        weight, bias, head = (tensor.detach().double().numpy() for tensor in tensors)
        return head @ weight, head @ bias + self.classifier.bias.detach().double().numpy()


def bare_linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights are still to be set; torch's random state is not touched."""
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, inputs, outputs
    )
    return layer


@dataclass
class Step:
    """What a penalty sees of one step.

    Attributes:
        source: (n, k) encoded source samples.
        target: (m, k) encoded target samples.
        progress: From 0 to 1 over the training.
    """

    source: torch.Tensor
    target: torch.Tensor
    progress: float


Penalty = Callable[[Step], torch.Tensor]


def start(source: torch.Tensor, codes: NDArray[np.int64], *, seed: int) -> LinearNetwork:
    """The network that is the source's softmax head."""
    rows = source.numpy().astype(np.float64)
    head = cautious_head(rows, seed=seed).fit(rows, codes)
    return LinearNetwork(head.coef_, head.intercept_)


def train(
    network: LinearNetwork,
    places: Coordinates,
    codes: NDArray[np.int64],
    penalty: Penalty,
    options: TrainedAdapter,
    *,
    parameters: list[nn.Parameter],
) -> None:
    """Lower the source's log loss plus a penalty, by Adam.

    Args:
        network: What is trained.
        places: Both domains.
        codes: (n,) classes of the source.
        penalty: Of a step, to be added to the loss.
        options: Steps, rate, batches.
        parameters: Those of the network and of the penalty that are trained.
    """
    optimiser = torch.optim.Adam(parameters, lr=options.learning_rate)
    labels = torch.from_numpy(codes)
    batches = zip(
        _batches(len(places.source), options.batch, options.seed),
        _batches(len(places.target), options.batch, options.seed + 1),
        strict=True,
    )
    for number, (rows, target_rows) in zip(range(options.steps), batches, strict=False):
        batch = places.source[rows], labels[rows], places.target[target_rows]
        loss = adapted_loss(
            network,
            batch,
            penalty,
            progress=number / options.steps,
            label_smoothing=options.label_smoothing,
        )
        descend(loss, optimiser)


def adapted_loss(
    network: LinearNetwork,
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    penalty: Penalty,
    *,
    progress: float,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """The log loss of source samples and labels, plus the penalty of them and target samples."""
    rows, labels, target_rows = batch
    source, target = network.encoder(rows), network.encoder(target_rows)
    loss = functional.cross_entropy(
        network.classifier(source), labels, label_smoothing=label_smoothing
    )
    return loss + penalty(Step(source, target, progress))


def descend(loss: torch.Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One step of the optimiser down the loss."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def shipped(network: LinearNetwork, places: Coordinates, reason: str) -> Selection:
    """The trained network as a head on target features; there were no rivals, nothing held out."""
    coef, intercept = network.affine()
    head = linear_head(SoftmaxHead, coef @ places.matrix, intercept + coef @ places.offset)
    return Selection(head=head, candidates=(), reason=reason, n_held_out=0)


def ramp(progress: float) -> float:
    """Ganin's schedule, 0 to 1: an untrained penalty should not count yet."""
    return float(2 / (1 + np.exp(-10 * progress)) - 1)


def _batches(count: int, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Rows, without end: all of them, or batches that go through all in ever new orders."""
    generator = np.random.default_rng(seed)
    while True:
        if count <= size:
            yield torch.arange(count)
            continue
        order = torch.from_numpy(generator.permutation(count))
        yield from torch.split(order[: count - count % size], size)


def _leading_axes(rows: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    """At most so many principal axes (k, dim) and the sums of squares along them, by falling size.

    From the smaller Gram matrix, which is several times faster than a singular value decomposition
    and exact enough for axes that stand out.
    """
    wide = rows.shape[1] > len(rows)
    squares, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    kept = max(1, min(count, int((squares > 1e-10 * max(squares[-1], 1e-300)).sum())))
    squares, vectors = squares[::-1][:kept], vectors[:, ::-1][:, :kept]
    if not wide:
        return np.ascontiguousarray(vectors.T), squares
    axes = vectors.T @ rows
    return axes / np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-300), squares
