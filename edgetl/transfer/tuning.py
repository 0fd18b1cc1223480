"""The training itself: epochs over activations, with everything a recipe asks for.

Every random number comes from the seed and the epoch's number, so that a training that was
interrupted goes on to the same weights, to the bit on one machine. It knows the part of the network
that trains and where its input comes from; it knows nothing about photos or files of weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl.heads import SoftmaxHead
from edgetl.heads.calibrate import HeldOut
from edgetl.transfer.checkpointing import checkpointed
from edgetl.transfer.recipe import Recipe
from edgetl.transfer.schedule import (
    Learner,
    freed_depth,
    make_optimizer,
    pull_to_start,
    rate_factor,
    set_rates,
)
from edgetl.transfer.stages import Stage, stage_of
from edgetl.transfer.training_state import (
    Checkpoint,
    pack,
    pack_optimizer,
    unpack,
    unpack_optimizer,
)
from edgetl.transfer.weight_average import average_into, ema_decay

_NORMS = torch.nn.modules.batchnorm._BatchNorm
_EVALUATED = 128
"""Samples of one forward pass without gradients."""


class Inputs(Protocol):
    """Where the input of the part that trains comes from; `Activations` is one."""

    def batch(self, samples: NDArray[np.int64], views: NDArray[np.int64]) -> torch.Tensor:
        """(n, ...) float32 on the device, of some views of some samples."""


@dataclass(frozen=True)
class Samples:
    """Labelled samples of one part.

    Attributes:
        index: (n,) what `Inputs` know them by.
        codes: (n,) classes from 0.
    """

    index: NDArray[np.int64]
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)


@dataclass
class Progress:
    """How far a training is, in plain values.

    Attributes:
        epoch: Epochs done.
        best: The epoch whose weights are kept, from 0; -1 before the first.
        history: One row per epoch.
        finished: Whether there is nothing left to do.
    """

    epoch: int = 0
    best: int = -1
    history: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False


class Tuning:
    """Trains the end of a network, and a linear classifier on its features.

    Args:
        suffix: Maps the inputs to features (n, dim); changed in place. Where `lora` adapters are
            in it, they alone train.
        stages: Of the whole network.
        dim: Length of one feature vector.
        classes: How many there are.
        recipe: How to train.
        seed: Of everything random.
        device: Where the network is.

    Attributes:
        classifier: The linear layer.
        learners: What trains.
        progress: How far it is.
    """

    def __init__(
        self,
        suffix: torch.nn.Module,
        stages: Sequence[Stage],
        *,
        dim: int,
        classes: int,
        recipe: Recipe,
        seed: int = 0,
        device: torch.device | None = None,
    ) -> None:
        self.suffix, self.recipe, self.seed = suffix, recipe, seed
        self.device = device or torch.device("cpu")
        self._stages = stages
        self.classifier = torch.nn.Linear(dim, classes).to(self.device)
        torch.nn.init.zeros_(self.classifier.weight)
        torch.nn.init.zeros_(self.classifier.bias)
        self.learners = [
            Learner(name, tensor, self._depth(name), pretrained=not recipe.lora)
            for name, tensor in suffix.named_parameters()
            if not recipe.lora or "lora_" in name
        ] + [
            Learner(f"classifier.{name}", tensor, 0, pretrained=False)
            for name, tensor in self.classifier.named_parameters()
        ]
        suffix.requires_grad_(False)
        self._deepest = max(learner.depth for learner in self.learners)
        self._optimizer = make_optimizer(self.learners, recipe)
        self._start = {
            learner.name: learner.tensor.detach().clone()
            for learner in self.learners
            if recipe.l2_sp and learner.pretrained
        }
        self._average: dict[str, torch.Tensor] = {}
        self._best: dict[str, torch.Tensor] = {}
        self._steps = 0
        self.progress = Progress()

    def fit_classifier(self, inputs: Inputs, samples: Samples) -> None:
        """Start the classifier from a head that is fitted to the features as they are now."""
        head = SoftmaxHead(random_state=self.seed)
        head.fit(self.features(inputs, samples), samples.codes)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.from_numpy(head.coef_))
            self.classifier.bias.copy_(torch.from_numpy(head.intercept_))

    def run(
        self,
        inputs: Inputs,
        train: Samples,
        held_out: Samples | None,
        *,
        checkpoint: Checkpoint | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Train to the end, going on from the checkpoint where there is one of this run.

        Afterwards the network has the weights of the best epoch by the held-out log loss (after a
        temperature, so that growing certainty alone doesn't count), of the last one without a
        held-out part.

        Raises:
            ValueError: The training came apart: the loss is no longer a number.
        """
        if checkpoint is not None and self._resume(checkpoint):
            say(f"going on after epoch {self.progress.epoch}")
        elif self.recipe.start == "probe":
            self.fit_classifier(inputs, train)
        while not self.progress.finished:
            row = self.run_epoch(inputs, train)
            row |= self._judge(inputs, held_out)
            if not all(map(math.isfinite, row.values())):
                raise ValueError(
                    f"the training came apart in epoch {self.progress.epoch} (loss "
                    f"{row['loss']:g}); try a rate lr below {self.recipe.lr:g}"
                )
            self._settle(row, held_out)
            say(", ".join(f"{key} {value:.4g}" for key, value in row.items()))
            if checkpoint is not None:
                self._save(checkpoint)
        self._put(self._best)
        self.suffix.eval()

    def run_epoch(self, inputs: Inputs, train: Samples) -> dict[str, float]:
        """One pass over the training part; what `run` calls again and again."""
        started = time.perf_counter()
        recipe, epoch = self.recipe, self.progress.epoch
        self._free(freed_depth(epoch, recipe.gradual, self._deepest))
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(train))
        views = rng.integers(0, recipe.views, len(train))
        count = -(-len(train) // recipe.batch_size)
        total = torch.zeros((), device=self.device)
        with self._seeded(epoch), checkpointed(self._units(), enabled=recipe.checkpointing):
            for place in np.array_split(order, count):
                set_rates(
                    self._optimizer,
                    rate_factor(self._steps, count * recipe.epochs, recipe.warmup),
                )
                codes = torch.from_numpy(train.codes[place]).to(self.device)
                values = inputs.batch(train.index[place], views[place])
                self._optimizer.zero_grad(set_to_none=True)
                loss = self._loss(values, codes, rng)
                torch.autograd.backward(loss)
                self._optimizer.step()
                pull_to_start(self.learners, self._start, self._optimizer, recipe.l2_sp)
                self._steps += 1
                self._track()
                total += loss.detach() * len(place)
        self.suffix.eval()
        self.progress.epoch += 1
        return {
            "epoch": self.progress.epoch,
            "loss": float(total) / len(train),
            "seconds": round(time.perf_counter() - started, 3),
        }

    def features(self, inputs: Inputs, samples: Samples) -> NDArray[np.float32]:
        """Features (n, dim) of samples as the device sees them."""
        self.suffix.eval()
        parts = []
        with torch.no_grad(), self._autocast():
            for start in range(0, len(samples), _EVALUATED):
                index = samples.index[start : start + _EVALUATED]
                values = self.suffix(inputs.batch(index, np.zeros(len(index), np.int64)))
                parts.append(values.float().cpu().numpy())
        return np.concatenate(parts)

    # ---- one step -------------------------------------------------------------------------------

    def _loss(
        self, values: torch.Tensor, codes: torch.Tensor, rng: np.random.Generator
    ) -> torch.Tensor:
        share, mixed = 1.0, codes
        if self.recipe.mixup:
            share = float(rng.beta(self.recipe.mixup, self.recipe.mixup))
            partners = torch.from_numpy(rng.permutation(len(codes))).to(self.device)
            values = share * values + (1 - share) * values[partners]
            mixed = codes[partners]
        with self._autocast():
            features = torch.nn.functional.dropout(self.suffix(values), self.recipe.dropout)
            logits = self.classifier(features)
        losses = [
            weight
            * torch.nn.functional.cross_entropy(
                logits.float(), target, label_smoothing=self.recipe.label_smoothing
            )
            for weight, target in ((share, codes), (1 - share, mixed))
            if weight > 0
        ]
        return torch.stack(losses).sum()

    def _track(self) -> None:
        """Move the average of the weights on, faster at first."""
        if not self.recipe.ema:
            return
        current = self._current()
        if self._average:
            decay = ema_decay(self._steps, self.recipe.ema)
            average_into(self._average, current, decay=decay)
        else:
            self._average = {name: tensor.detach().clone() for name, tensor in current.items()}

    # ---- between epochs -------------------------------------------------------------------------

    def _judge(self, inputs: Inputs, held_out: Samples | None) -> dict[str, float]:
        """Accuracy and log loss of the held-out part, with averaged weights where there are any."""
        if held_out is None:
            return {}
        weights = {name: tensor.detach().clone() for name, tensor in self._current().items()}
        if self._average:
            self._put(self._average)
        features = self.features(inputs, held_out)
        layer = self.classifier
        scores = features @ layer.weight.detach().cpu().numpy().T
        scores = scores + layer.bias.detach().cpu().numpy()
        self._put(weights)
        rows = np.arange(len(held_out))
        judged = HeldOut.of(scores, rows, held_out.codes, np.ones(len(rows)))
        return {"accuracy": judged.accuracy, "log_loss": judged.log_loss}

    def _settle(self, row: dict[str, float], held_out: Samples | None) -> None:
        """Keep the weights if they are the best, and see whether training is over."""
        progress = self.progress
        progress.history.append(row)
        known = [item.get("log_loss", 0.0) for item in progress.history]
        if held_out is None or known[-1] <= min(known):
            progress.best = len(known) - 1
            chosen = self._average or self._current()
            self._best = {name: tensor.detach().clone() for name, tensor in chosen.items()}
        waited = len(known) - 1 - progress.best
        patient = not self.recipe.patience or waited < self.recipe.patience
        progress.finished = progress.epoch >= self.recipe.epochs or not patient

    def _save(self, checkpoint: Checkpoint) -> None:
        parts = {
            "weights": self._current(),
            "average": self._average,
            "best": self._best,
            "optimizer": pack_optimizer(self._optimizer),
        }
        checkpoint.save(pack(parts), {**vars(self.progress), "steps": self._steps})

    def _resume(self, checkpoint: Checkpoint) -> bool:
        found = checkpoint.load()
        if found is None:
            return False
        tensors, values = found
        self._steps = values.pop("steps")
        self.progress = Progress(**values)
        parts = unpack(tensors)
        unpack_optimizer(self._optimizer, parts.pop("optimizer", {}))
        on_device = {
            part: {name: tensor.to(self.device) for name, tensor in tensors.items()}
            for part, tensors in parts.items()
        }
        self._put(on_device["weights"])
        self._average, self._best = on_device.get("average", {}), on_device["best"]
        return True

    # ---- the network ----------------------------------------------------------------------------

    def _current(self) -> dict[str, torch.Tensor]:
        """What training changes: parameters, and statistics where they are learned."""
        found: dict[str, torch.Tensor] = {item.name: item.tensor for item in self.learners}
        if self.recipe.batch_norm == "train":
            found |= {f"buffer.{name}": tensor for name, tensor in self.suffix.named_buffers()}
        return found

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._current().items():
                tensor.copy_(values[name])

    def _free(self, depth: int) -> None:
        """Let stages down to a depth train, and nothing below."""
        for learner in self.learners:
            learner.tensor.requires_grad_(learner.depth <= depth)
        frozen = self.recipe.batch_norm == "frozen"
        # Code outside of all modules runs as it ships: so was it traced, where the network was cut.
        self.suffix.training = False
        for name, module in self.suffix.named_modules():
            if name:
                norm = isinstance(module, _NORMS)
                module.training = self._depth(name) <= depth and not (norm and frozen)

    def _depth(self, name: str) -> int:
        """Stages between a part of the network and the classifier; what is in none is deepest."""
        place = stage_of(self._stages, name)
        return len(self._stages) - 1 - (0 if place is None else place)

    def _units(self) -> list[torch.nn.Module]:
        """Modules of the part that trains whose insides can be computed again."""
        names = {name for name, _ in self.suffix.named_modules()}
        return [
            self.suffix.get_submodule(unit)
            for stage in self._stages
            for unit in stage.units
            if unit in names and any(True for _ in self.suffix.get_submodule(unit).parameters())
        ]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.recipe.precision == "bf16"
        )

    @contextmanager
    def _seeded(self, epoch: int) -> Iterator[None]:
        """Dropout from the seed and the epoch, and the caller's generators left as they were."""
        devices: Any = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0]))
            yield
