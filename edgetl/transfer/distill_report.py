"""What a distillation showed, as numbers and as text. It knows nothing of how it came about."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from edgetl.data.wording import counted


@dataclass(frozen=True, kw_only=True)
class TeacherScore:
    """How well the student's features tell a teacher's, on held-out photos.

    Each time by the linear map that fits the training photos best, chosen without the held-out
    ones.

    Attributes:
        name: The teacher.
        fingerprint: Of its network, weights and preprocessing.
        dim: Length of its features.
        kept: Directions of them that the student had to learn.
        cosine_before: Mean cosine of prediction and teacher before the training.
        cosine_after: And after it.
        neighbours_before: Share of a photo's 10 nearest others that student and teacher have in
            common, before the training.
        neighbours_after: And after it.
    """

    name: str
    fingerprint: str
    dim: int
    kept: int
    cosine_before: float
    cosine_after: float
    neighbours_before: float
    neighbours_after: float


@dataclass(frozen=True, kw_only=True)
class DistillReport:
    """What came out of `edgetl.distill`.

    Attributes:
        student: The network's name, for `edgetl.adapt`.
        output: The weights file, for `edgetl.adapt` likewise.
        size: Side of the student's input in pixels.
        dim: Length of its features.
        untrained: Whether it began with random weights.
        teachers: A score of each teacher.
        n_train: Photos trained on.
        n_held_out: Photos measured on.
        views: Of each photo, the plain one included.
        data_digest: Of the content of all these photos.
        seed: Of everything random.
        recipe: How it was trained.
        view_options: What views looked like.
        losses: Mean training loss of each epoch.
        cosines: Held-out cosine of each epoch, by the projection in training.
        best_epoch: The one that was kept, from 1.
        versions: Of the packages that decide the result.
        notes: What a reader should know about the data.
        skipped: Photos that could not be read, and why.
        repeated: Photos left out since another one has the same content.
        resumed: Whether an interrupted run was gone on with.
        seconds: That it took, from the last start on.
    """

    student: str
    output: str
    size: int
    dim: int
    untrained: bool
    teachers: tuple[TeacherScore, ...]
    n_train: int
    n_held_out: int
    views: int
    data_digest: str
    seed: int
    recipe: dict[str, Any]
    view_options: dict[str, Any]
    losses: tuple[float, ...]
    cosines: tuple[float, ...]
    best_epoch: int
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    repeated: int = 0
    resumed: bool = False
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything, as numbers, strings, lists and dicts."""
        return dataclasses.asdict(self)

    @property
    def helped(self) -> bool:
        """Whether the student's features tell every teacher's better than before."""
        return all(score.cosine_after > score.cosine_before for score in self.teachers)

    def record(self) -> dict[str, Any]:
        """What belongs into the weights file: the same for the same data, options and seed.

        Nothing in it tells where the photos lay: weights files are handed on.
        """
        whole = self.to_json()
        for name in ("output", "notes", "skipped", "resumed", "seconds"):
            del whole[name]
        return whole

    def __str__(self) -> str:
        begin = "random weights" if self.untrained else "the weights it came with"
        width = max(len(score.name) for score in self.teachers)
        lines = [
            f"{self.student} at {self.size} px ({self.dim} features), from {begin}: "
            f"{counted(self.n_train, 'photo')}, {counted(self.views, 'view')} of each, "
            f"{self.n_held_out} held out",
            f"{'held out':{width}}    cosine to teacher    neighbours shared",
        ]
        lines += [
            f"{score.name:{width}}    {score.cosine_before:.3f} -> {score.cosine_after:.3f}"
            f"       {score.neighbours_before:.3f} -> {score.neighbours_after:.3f}"
            for score in self.teachers
        ]
        if not self.helped:
            lines.append(
                "the training did not bring it nearer: more photos and epochs, or another learning "
                "rate, may"
            )
        lines += [
            f"best epoch {self.best_epoch} of {len(self.cosines)}, {self.seconds:.0f} s",
            f"use it as: --backbone {self.student} --weights {self.output}",
        ]
        return "\n".join(lines)
