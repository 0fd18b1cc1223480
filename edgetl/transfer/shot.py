"""SHOT: the source's classifier stays, and target features are moved to where it is sure.

Liang, Hu and Feng, "Do We Really Need to Access Source Data? Source Hypothesis Transfer for
Unsupervised Domain Adaptation" (ICML 2020): information maximisation (sure of each sample, varied
over all) and pseudo-labels by the nearest of weighted centroids, on features. Training on the
source and on the target follow each other, so the second needs no source sample. It knows torch
and arrays, no networks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgetl.heads import Selection
from edgetl.transfer.domain_adapter import FloatArray
from edgetl.transfer.domain_training import (
    LinearNetwork,
    TrainedAdapter,
    descend,
    shipped,
    start,
)

_EPSILON = 1e-8


def information_loss(logits: torch.Tensor) -> torch.Tensor:
    """The mean entropy of the answers (n, classes) minus the entropy of their mean, in nats."""
    shares = logits.softmax(dim=1)
    mean = shares.mean(dim=0)
    sure = -(shares * logits.log_softmax(dim=1)).sum(dim=1).mean()
    varied = -(mean * (mean + _EPSILON).log()).sum()
    return sure - varied


def centroid_labels(
    features: torch.Tensor, shares: torch.Tensor, *, rounds: int = 1
) -> torch.Tensor:
    """Pseudo-labels (n,) by the nearest centroid in cosine.

    The first centroids weigh all samples by their `shares` (n, classes); then ``rounds`` times they
    are the means of the samples that were labelled so (once in the paper, equations 4 to 6).
    Features (n, k) get a constant 1 more before they are brought to norm 1, as the authors' program
    does. A class that has no sample any more keeps its centroid.
    """
    ones = torch.ones(len(features), 1, dtype=features.dtype)
    rows = functional.normalize(torch.cat([features, ones], dim=1))
    centroids = shares.T @ rows / (shares.sum(dim=0)[:, None] + _EPSILON)
    labels = (rows @ functional.normalize(centroids).T).argmax(dim=1)
    for _ in range(rounds):
        members = functional.one_hot(labels, shares.shape[1]).to(rows.dtype)
        counts = members.sum(dim=0)[:, None]
        centroids = torch.where(counts > 0, members.T @ rows / counts.clamp_min(1), centroids)
        labels = (rows @ functional.normalize(centroids).T).argmax(dim=1)
    return labels


@dataclass(kw_only=True)
class ShotAdapter(TrainedAdapter):
    """A linear adapter moved by what the source's classifier says of target samples.

    `label_smoothing` and `batch` have no effect: the classifier is the source's softmax head, and
    the target's samples are used all at once.

    Args:
        weight: Of the pseudo-labels' log loss beside the information loss (0.3 in the paper).
        refresh: Steps after which pseudo-labels are taken anew.
    """

    weight: float = 0.3
    refresh: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < np.inf or self.refresh < 1:
            raise ValueError(
                f"weight must be 0 or more and refresh 1 or more, got {self.weight} and "
                f"{self.refresh}"
            )

    def _fit(self, source: FloatArray, codes: NDArray[np.int64], target: FloatArray) -> Selection:
        places = self._places(source, target)
        network = start(places.source, codes, seed=self.seed)
        self._move(network, places.target)
        return shipped(
            network, places, "the source's classifier, on features moved to where it is sure"
        )

    def _move(self, network: LinearNetwork, target: torch.Tensor) -> None:
        """Train the encoder on target samples; the classifier stays."""
        optimiser = torch.optim.Adam(network.encoder.parameters(), lr=self.learning_rate)
        labels = torch.empty(0)
        for number in range(self.steps):
            features = network.encoder(target)
            logits = network.classifier(features)
            if number % self.refresh == 0:
                labels = centroid_labels(features.detach(), logits.detach().softmax(dim=1))
            loss = information_loss(logits)
            loss = loss + self.weight * functional.cross_entropy(logits, labels)
            descend(loss, optimiser)
