"""A network's last stages trained on labelled source and unlabelled target photos.

The losses are those of the adapters on features: the source's log loss, plus the domains' MMD (Long
et al. 2015, DAN) or the reversed loss of a domain classifier (Ganin et al. 2016, DANN), both on the
network's pooled features. It knows torch modules and arrays of preprocessed photos, no files.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from edgetl.transfer.dan import mmd2_loss
from edgetl.transfer.dann import discriminator, domain_loss
from edgetl.transfer.domain_adapter import cautious_head
from edgetl.transfer.domain_training import bare_linear, ramp

Photos = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class StageTraining:
    """How stages are trained.

    Args:
        stages: Beginnings of the names of the parameters that are trained, such as
            ``("blocks.6", "conv_head")``; all others stay, and so do batch norms' statistics.
        penalty: What brings the domains together.
        weight: Of the penalty; it grows from 0 by Ganin's schedule.
        epochs: Times that the larger domain is gone through.
        learning_rate: Of Adam.
        batch: Photos of each domain per step, from 2.
        hidden: Units of DANN's domain classifier.
        seed: Of batches and of what starts at random.
    """

    stages: tuple[str, ...]
    penalty: Literal["mmd", "dann"] = "mmd"
    weight: float = 1.0
    epochs: int = 3
    learning_rate: float = 1e-4
    batch: int = 32
    hidden: int = 64
    seed: int = 0


def train_stages(
    module: nn.Module,
    source: Photos,
    codes: NDArray[np.int64],
    target: Photos,
    options: StageTraining,
    *,
    say: Callable[[str], None] | None = None,
) -> nn.Module:
    """A copy of a network whose named stages were trained on both domains.

    Args:
        module: Maps (n, 3, h, w) to features (n, dim); it is not changed.
        source: (n, 3, h, w) preprocessed photos, all of them in memory.
        codes: (n,) their classes, 0 to classes - 1.
        target: (m, 3, h, w) preprocessed photos without labels.
        options: How.
        say: Told the mean loss of every epoch.

    Returns:
        The copy, in evaluation mode and frozen.

    Raises:
        ValueError: No parameter's name begins like that, or a domain has fewer than 2 photos.
    """
    trained = copy.deepcopy(module).eval().requires_grad_(False)
    named = unfreeze(trained, options.stages)
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"need 2 photos or more of each domain, got {len(source)} and {len(target)}"
        )
    rows = _features(trained, source, options.batch)
    head = cautious_head(rows, seed=options.seed).fit(rows, codes)
    classifier = bare_linear(rows.shape[1], len(head.coef_))
    with torch.no_grad():
        classifier.weight.copy_(torch.from_numpy(head.coef_))
        classifier.bias.copy_(torch.from_numpy(head.intercept_))
    judge = discriminator(rows.shape[1], options.hidden, seed=options.seed)
    parameters = [*named, *classifier.parameters(), *judge.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=options.learning_rate)
    labels = torch.from_numpy(codes)
    generator = np.random.default_rng(options.seed)
    size = min(options.batch, len(source), len(target))
    steps = -(-max(len(source), len(target)) // size)
    for epoch in range(options.epochs):
        losses = []
        ours, theirs = (_orders(generator, len(X), steps * size) for X in (source, target))
        for step in range(steps):
            place = slice(step * size, (step + 1) * size)
            progress = (epoch * steps + step) / (options.epochs * steps)
            weight = options.weight * ramp(progress)
            both = np.concatenate([source[ours[place]], target[theirs[place]]])
            features = trained(torch.from_numpy(both))
            mine, other = features[:size], features[size:]
            loss = functional.cross_entropy(classifier(mine), labels[ours[place]])
            if options.penalty == "mmd":
                loss = loss + weight * mmd2_loss(mine, other)
            else:
                loss = loss + domain_loss(judge, mine, other, weight)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
        if say is not None:
            say(f"epoch {epoch + 1}/{options.epochs}: loss {np.mean(losses):.4f}")
    return trained.eval().requires_grad_(False)


def unfreeze(module: nn.Module, stages: Sequence[str]) -> list[nn.Parameter]:
    """Let the parameters be trained whose names begin with one of `stages`, at a dot.

    Raises:
        ValueError: None does, for one of the stages.
    """
    found = []
    names = [name for name, _ in module.named_parameters()]
    for stage in stages:
        if not any(f"{name}.".startswith(f"{stage}.") for name in names):
            parts = dict.fromkeys(name.rpartition(".")[0].split(".")[0] for name in names)
            raise ValueError(
                f"no parameter's name begins with {stage!r}; the network has {', '.join(parts)}"
            )
    for name, parameter in module.named_parameters():
        if any(f"{name}.".startswith(f"{stage}.") for stage in stages):
            parameter.requires_grad_(True)
            found.append(parameter)
    if not found:
        raise ValueError("name one stage or more to train")
    return found


def _orders(generator: np.random.Generator, count: int, length: int) -> NDArray[np.int64]:
    """So many rows, all of them in ever new orders."""
    rounds = [generator.permutation(count) for _ in range(-(-length // count))]
    return np.concatenate(rounds)[:length]


def _features(module: nn.Module, photos: Photos, batch: int) -> NDArray[np.float64]:
    """Features (n, dim) of photos."""
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(photos[start : start + batch])).numpy()
            for start in range(0, len(photos), batch)
        ]
    return np.concatenate(parts).astype(np.float64)
