"""The training of a student network towards the features of teachers.

Everything random is drawn from the seed and the step, so that a training that was interrupted goes
on as if it had not been. It knows torch modules, images and targets; where they come from, and what
becomes of the student, is up to `edgetl.distill`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl.features.progress import Progress
from edgetl.transfer.distill import feature_loss, relational_loss
from edgetl.transfer.distill_lesson import Lesson, Machine, Student, predict, prepared
from edgetl.transfer.distill_options import DistillRecipe
from edgetl.transfer.training_state import (
    Checkpoint,
    pack,
    pack_optimizer,
    unpack,
    unpack_optimizer,
)
from edgetl.transfer.weight_average import average_into, ema_decay

_SAVE_SECONDS = 60.0
_CLIP = 5.0
_GAIN = 1e-4
"""A better cosine counts as better from here on."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        loss: Mean over the training photos.
        cosine: Mean over the held-out photos and the teachers, by the averaged weights.
    """

    loss: float
    cosine: float


@dataclass(eq=False)
class Trained:
    """The outcome of a training.

    Attributes:
        network: The student of the best epoch, on the CPU, in evaluation mode.
        epochs: All epochs.
        best: Which of them, from 0.
        resumed: Whether an interrupted training was gone on with.
    """

    network: torch.nn.Module
    epochs: list[Epoch]
    best: int
    resumed: bool


def train_student(
    student: Student,
    lesson: Lesson,
    *,
    recipe: DistillRecipe,
    seed: int,
    machine: Machine | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a student, and keep its averaged weights of the epoch that did best on held-out photos.

    Args:
        student: Changed; its network begins as it is.
        lesson: Photos and targets.
        recipe: How.
        seed: Of everything random.
        machine: What it runs on.
        checkpoint: Where the training is kept once a minute and after every epoch, and from where
            an interrupted one goes on, with the same result; removed by the caller. None: nowhere.

    Raises:
        ValueError: The loss is no longer a number; a lower learning rate helps.
    """
    run = _Run(student, lesson, recipe, seed, machine or Machine(), checkpoint)
    resumed = run.resume()
    pool = ThreadPoolExecutor(run.machine.workers, "edgetl-distill")
    with pool, torch.random.fork_rng(devices=[]):  # the caller's generator stays as it was
        while run.epoch < recipe.epochs and not run.is_over:
            run.train_epoch(pool)
            run.measure(pool)
            run.save()
    best = copy.deepcopy(student.network).cpu()
    start = "network."
    best.load_state_dict(
        {name[len(start) :]: value for name, value in run.best.items() if name.startswith(start)}
    )
    best.to(memory_format=torch.contiguous_format)
    cosines = [epoch.cosine for epoch in run.epochs]
    return Trained(best.eval().requires_grad_(False), run.epochs, run.best_epoch(cosines), resumed)


class _Run:
    """One training, as far as it has come."""

    def __init__(
        self,
        student: Student,
        lesson: Lesson,
        recipe: DistillRecipe,
        seed: int,
        machine: Machine,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.lesson, self.recipe, self.seed = lesson, recipe, seed
        self.machine, self.checkpoint = machine, checkpoint
        self.student = student.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.student.requires_grad_(True)
        self.mean = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(_groups(self.student, recipe), lr=0.0)
        self.batches = max(1, len(lesson.train) // recipe.batch_size)
        self.epoch = self.step = 0
        self.total_loss = 0.0
        self.epochs: list[Epoch] = []
        self.best: dict[str, torch.Tensor] = {}
        self._saved = time.perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether patience has run out."""
        cosines = [epoch.cosine for epoch in self.epochs]
        return bool(cosines) and len(cosines) - 1 - self.best_epoch(cosines) >= self.recipe.patience

    @staticmethod
    def best_epoch(cosines: Sequence[float]) -> int:
        """The epoch that was better than every one before by more than nothing."""
        best = 0
        for at, value in enumerate(cosines):
            if value > cosines[best] + _GAIN:
                best = at
        return best

    def train_epoch(self, pool: ThreadPoolExecutor) -> None:
        """The steps of this epoch that are left."""
        generator = np.random.default_rng([self.seed, self.epoch, 1])
        order = generator.permutation(self.lesson.train)
        first = np.random.default_rng([self.seed, 2]).integers(
            self.lesson.views, size=int(self.lesson.train.max()) + 1
        )
        size = self.recipe.batch_size
        rows = [order[at * size : (at + 1) * size] for at in range(self.step, self.batches)]
        views = [(first[batch] + self.epoch) % self.lesson.views for batch in rows]
        about = f"photos of epoch {self.epoch + 1}/{self.recipe.epochs}"
        total = sum(map(len, rows))
        progress = Progress(total, about) if self.machine.progress else None
        self.student.train()
        for done, images in enumerate(self._prepared(pool, list(zip(rows, views, strict=True)))):
            self._step(images, rows[done], views[done])
            if progress is not None:
                progress.update(min((done + 1) * size, total))
            self.machine.after_step(self.epoch * self.batches + self.step)
        if progress is not None:
            progress.finish(total)

    def _step(
        self, images: NDArray[np.float32], rows: NDArray[np.int64], views: NDArray[np.int64]
    ) -> None:
        device, recipe = self.machine.device, self.recipe
        number = self.epoch * self.batches + self.step
        torch.manual_seed(self.seed * 1_000_003 + number)  # for dropout and the like
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * schedule(
                number, recipe.epochs * self.batches, warmup=recipe.warmup
            )
        batch = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
        with self._precision():
            features, predicted = self.student(batch)
        loss = features.new_zeros(())
        for teacher, guess in zip(self.lesson.targets, predicted, strict=True):
            target = torch.from_numpy(teacher[rows, views]).to(device)
            loss = loss + feature_loss(guess.float(), target, recipe.loss) / len(predicted)
            if recipe.relational:
                apart = relational_loss(features, target)
                loss = loss + recipe.relational * apart / len(predicted)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), _CLIP)
        self.optimizer.step()
        average_into(
            self.mean.state_dict(),
            self.student.state_dict(),
            decay=ema_decay(number, recipe.ema),
        )
        self.total_loss += float(loss.detach())
        self.step += 1
        if time.perf_counter() - self._saved > _SAVE_SECONDS:
            self.save()

    def measure(self, pool: ThreadPoolExecutor) -> None:
        """End the epoch: the held-out cosine of the averaged weights."""
        predictions = predict(self.mean, self.lesson, self.lesson.held_out, pool, self.machine)[1]
        cosines = [
            torch.nn.functional.cosine_similarity(
                torch.from_numpy(guess), torch.from_numpy(teacher[self.lesson.held_out, 0]), dim=1
            ).mean()
            for guess, teacher in zip(predictions, self.lesson.targets, strict=True)
        ]
        ended = Epoch(self.total_loss / self.batches, float(torch.stack(cosines).mean()))
        if not math.isfinite(ended.loss + ended.cosine):
            raise ValueError(
                f"the training came apart in epoch {self.epoch + 1} (loss {ended.loss:g}); "
                f"try a learning rate below {self.recipe.learning_rate:g}"
            )
        self.epochs.append(ended)
        if self.best_epoch([epoch.cosine for epoch in self.epochs]) == self.epoch:
            self.best = {name: value.clone() for name, value in self.mean.state_dict().items()}
        self.machine.say(
            f"epoch {self.epoch + 1}/{self.recipe.epochs}: loss {ended.loss:.4f}, "
            f"held-out cosine {ended.cosine:.4f}"
        )
        self.epoch, self.step, self.total_loss = self.epoch + 1, 0, 0.0

    def save(self) -> None:
        """Keep everything, so that `resume` finds it."""
        self._saved = time.perf_counter()
        if self.checkpoint is None:
            return
        parts = {
            "student": self.student.state_dict(),
            "mean": self.mean.state_dict(),
            "best": self.best,
            "optimizer": pack_optimizer(self.optimizer),
        }
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.step,
            "total_loss": self.total_loss,
            "epochs": [[epoch.loss, epoch.cosine] for epoch in self.epochs],
        }
        self.checkpoint.save(pack(parts), state)

    def resume(self) -> bool:
        """Go on from what was kept; False if there is nothing."""
        found = None if self.checkpoint is None else self.checkpoint.load()
        if found is None:
            return False
        tensors, state = found
        parts = unpack(tensors)
        self.student.load_state_dict(parts["student"])
        self.mean.load_state_dict(parts["mean"])
        self.best = parts.get("best", {})
        unpack_optimizer(self.optimizer, parts.get("optimizer", {}))
        self.epoch, self.step = state["epoch"], state["step"]
        self.total_loss = state["total_loss"]
        self.epochs = [Epoch(*values) for values in state["epochs"]]
        self.machine.say(f"going on in epoch {self.epoch + 1}, after {self.step} steps of it")
        return True

    def _prepared(
        self, pool: ThreadPoolExecutor, batches: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
    ) -> Iterator[NDArray[np.float32]]:
        return prepared(self.lesson.images, batches, pool)

    def _precision(self) -> Any:
        if not self.machine.bf16:
            return nullcontext()
        return torch.autocast(torch.device(self.machine.device).type, torch.bfloat16)


def schedule(step: int, steps: int, *, warmup: float) -> float:
    """The learning rate of a step, as a share of the highest: a straight rise, then half a cosine.

    Loshchilov and Hutter 2017, without restarts.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _groups(student: Student, recipe: DistillRecipe) -> list[dict[str, Any]]:
    parameters = list(student.parameters())
    return [
        {
            "params": [value for value in parameters if value.ndim > 1],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]
