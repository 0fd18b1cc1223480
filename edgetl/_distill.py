"""Distillation: unlabelled photos and large networks in, the weights of a small one out.

It strings the parts together: photos, features of the teachers, training, evidence, file. How each
works is written in its own file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import edgetl
from edgetl._candidates import Candidate, SourceModel, named_candidates
from edgetl._distill_teachers import Taught, gather, teach
from edgetl._records import Clock
from edgetl.backbones import load_backbone
from edgetl.backbones.load import untrained_backbone
from edgetl.decode import read_image
from edgetl.engines.base import available_cores
from edgetl.engines.torch import find_device
from edgetl.features.views import of_views
from edgetl.preprocess import Preprocess
from edgetl.transfer.distill import (
    fit_projection,
    fit_whitening,
    mean_cosine,
    shared_neighbours,
)
from edgetl.transfer.distill_options import DistillOptions
from edgetl.transfer.distill_report import DistillReport, TeacherScore
from edgetl.transfer.kept_inputs import KeptInputs

if TYPE_CHECKING:
    from edgetl.backbones.module import ModuleBackbone
    from edgetl.transfer.distill_lesson import Lesson, Machine

_MOST_HELD_OUT = 2000
_MOST_KEPT = 4 << 30
"""Bytes of inputs that stay in memory; 13,600 photos in 6 views of 96 x 96 take 2.3 GB."""
_MOST_FITTED = 4000
"""Photos that linear maps and whitening are fitted to; more would change little."""


def distill(
    data: Any,
    *,
    teachers: Candidate | Sequence[Candidate],
    student: str | ModuleBackbone,
    weights: str | Path | None = None,
    output: str | Path,
    options: DistillOptions | None = None,
) -> DistillReport:
    """Teach a small network the features of larger ones, on photos without labels.

    The teachers' features of several views of every photo are had through the graphs that ship, and
    cached. The student learns features that a linear map turns into the teachers' (centred, and
    whitened in part). The averaged weights of the epoch with the best held-out cosine are written
    with the preprocessing inside, so that `edgetl.adapt` and the rest use them as any weights file.

    An interrupted run goes on where it was when it is called again in the same way; until it is
    finished it is kept in a file beside `output`, with ``.unfinished`` added to the name.

    Args:
        data: As for `edgetl.data.load_unlabelled`; or a list of folders, tables and data sets.
            Labels are not looked at, and test parts beside training parts are left out.
        teachers: Backbones as `edgetl.select` takes them; one may stand alone.
        student: ``edgetl_nano``, a timm name, ``torchvision/NAME``, or a backbone of one's own,
            which is not changed.
        weights: What the student begins with; from the model hub if None.
        output: The file to write, ending in ``.safetensors``; an existing one is replaced.
        options: Everything else.

    Raises:
        DataError: There are fewer than 20 different photos that can be read.
        WeightsError: Weights can't be had or don't fit.
        ParityError: A teacher's graph computes other features than its network.
        ValueError: Options don't fit each other, or the training came apart.
        MissingDependencyError: The device is not there.
        FileNotFoundError: The folder of `output` does not exist.
    """
    options, clock = options or DistillOptions(), Clock()
    find_device(options.device)  # now, not after the teachers' work
    file = _checked(Path(output).expanduser())
    models = named_candidates(teachers if isinstance(teachers, list) else [_one(teachers)])
    samples = gather(data)
    begin = _student(student, weights, options)
    sources = [load_backbone(m.backbone, m.weights, preprocess=m.preprocess) for m in models]

    taught = teach(samples, sources, options)
    train, held_out = _divided(taught.photos.digests, options)
    lesson = _lesson(begin, taught, train, held_out, options)
    before, projections = _measured(begin.module, lesson, taught, options)
    key = _key(begin, taught, [source.fingerprint for source in sources], options)
    trained = _train(begin.module, projections, lesson, file, key, options)
    after, _ = _measured(trained.network, lesson, taught, options)

    report = DistillReport(
        student=begin.name,
        output=str(file),
        size=begin.preprocess.size,
        dim=begin.dim,
        untrained=options.untrained,
        teachers=tuple(
            TeacherScore(
                name=str(model.name),
                fingerprint=source.fingerprint,
                dim=source.dim,
                kept=int(targets.shape[2]),
                cosine_before=was[0],
                cosine_after=now[0],
                neighbours_before=was[1],
                neighbours_after=now[1],
            )
            for model, source, targets, was, now in zip(
                models, sources, lesson.targets, before, after, strict=True
            )
        ),
        n_train=len(train),
        n_held_out=len(held_out),
        views=options.views,
        data_digest=taught.digest,
        seed=options.seed,
        recipe=dataclasses.asdict(options.recipe),
        view_options=dataclasses.asdict(options.view),
        losses=tuple(epoch.loss for epoch in trained.epochs),
        cosines=tuple(epoch.cosine for epoch in trained.epochs),
        best_epoch=trained.best + 1,
        versions=_versions(),
        notes=samples.notes,
        skipped=taught.skipped,
        repeated=taught.repeated,
        resumed=trained.resumed,
        seconds=clock.seconds,
    )
    from edgetl.backbones.recorded import save_recorded

    save_recorded(
        file,
        trained.network,
        name=begin.name,
        preprocess=begin.preprocess,
        more={"edgetl.distill": json.dumps(report.record(), sort_keys=True)},
    )
    _unfinished(file).unlink(missing_ok=True)
    return report


def _one(teachers: Any) -> Any:
    """A candidate that stands alone; a tuple is one: a network and its weights."""
    if isinstance(teachers, str | Path | tuple | SourceModel):
        return teachers
    raise TypeError(f"teachers must be a backbone or a list of them, got {type(teachers).__name__}")


def _checked(file: Path) -> Path:
    """Refuse a file that could not be written, before hours of work."""
    if file.suffix != ".safetensors":
        raise ValueError(f"the student's weights go to a .safetensors file, got {file.name!r}")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"the folder {file.parent} does not exist")
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder")
    return file


def _unfinished(file: Path) -> Path:
    return file.with_name(file.name + ".unfinished")


def _student(
    student: str | ModuleBackbone, weights: str | Path | None, options: DistillOptions
) -> ModuleBackbone:
    """The student to begin with, at the size that is wanted.

    Raises:
        ValueError: A backbone of one's own is to change its weights or its input, random weights
            are wanted beside a weights file, or the network is neither timm's nor torchvision's.
    """
    if not isinstance(student, str):
        if not hasattr(student, "module"):
            raise TypeError(f"a student is a name or a torch backbone, got {student!r}")
        if weights is not None or options.untrained or options.size or options.preprocess:
            raise ValueError("a student that is a backbone brings its weights and preprocessing")
        return student
    if student.lower().endswith(".onnx") or student.startswith(("open_clip/", "hf-clip/")):
        raise ValueError(
            f"{student} can't be a student; name edgetl_nano, or a timm or torchvision network"
        )
    if options.untrained and weights is not None:
        raise ValueError("random weights are wanted, and a weights file is given")

    def load(preprocess: Any) -> Any:
        if options.untrained:
            return untrained_backbone(student, seed=options.seed, preprocess=preprocess)
        return load_backbone(student, weights, preprocess=preprocess)

    network: ModuleBackbone = load(options.preprocess)
    own = network.preprocess
    if options.size is not None and options.size != own.size:
        resize = round(options.size * own.resize / own.size)
        network = load(dataclasses.replace(own, size=options.size, resize=resize))
    return network


def _divided(
    digests: Sequence[bytes], options: DistillOptions
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Photos to train on and to hold out, by their content, in an order that it decides too."""
    salt = str(options.seed).encode()
    ranks = [hashlib.blake2b(one, digest_size=8, key=salt).digest() for one in digests]
    order = np.array(sorted(range(len(ranks)), key=ranks.__getitem__), dtype=np.int64)
    count = min(max(2, round(options.held_out * len(order))), len(order) // 2, _MOST_HELD_OUT)
    return order[count:], order[:count]


def _lesson(
    student: ModuleBackbone,
    taught: Taught,
    train: NDArray[np.int64],
    held_out: NDArray[np.int64],
    options: DistillOptions,
) -> Lesson:
    """Images at the student's size, and the whitened features of the teachers."""
    from edgetl.transfer.distill_lesson import Lesson

    sources, count = taught.photos.samples.sources, options.views - 1

    def make(photo: int, view: int, preprocess: Preprocess) -> NDArray[np.uint8]:
        if view == 0:
            return preprocess.apply(read_image(sources[photo], preprocess=preprocess))
        return of_views(preprocess).apply(taught.views[photo * count + view - 1])

    images = KeptInputs(
        make,
        photos=len(sources),
        views=options.views,
        preprocess=student.preprocess,
        most_bytes=_MOST_KEPT,
    )
    targets = []
    for features in taught.features:
        whitening = fit_whitening(features[train[:_MOST_FITTED], 0], power=options.recipe.whitening)
        flat = whitening(features.reshape(-1, features.shape[2]))
        targets.append(flat.reshape(*features.shape[:2], -1))
    return Lesson(images, targets, train, held_out)


def _measured(
    network: Any, lesson: Lesson, taught: Taught, options: DistillOptions
) -> tuple[list[tuple[float, float]], list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """Cosine and neighbours on the held-out photos, and the linear maps that the former is by."""
    from edgetl.transfer.distill_lesson import Student, predict

    fitted, held_out = lesson.train[:_MOST_FITTED], lesson.held_out
    machine = _machine(options)
    student = Student(network, []).to(machine.device)
    with ThreadPoolExecutor(machine.workers, "edgetl-distill") as pool:
        X, _ = predict(student, lesson, fitted, pool, machine)
        X_held_out, _ = predict(student, lesson, held_out, pool, machine)
    network.to("cpu")
    scores, maps = [], []
    for targets, features in zip(lesson.targets, taught.features, strict=True):
        weights, intercept = fit_projection(X, targets[fitted, 0])
        cosine = mean_cosine(X_held_out @ weights.T + intercept, targets[held_out, 0])
        shared = shared_neighbours(X_held_out, features[held_out, 0].astype(np.float32))
        scores.append((cosine, shared))
        maps.append((weights, intercept))
    return scores, maps


def _train(
    network: Any,
    projections: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
    lesson: Lesson,
    file: Path,
    key: str,
    options: DistillOptions,
) -> Any:
    import copy

    from edgetl.transfer.distill_lesson import Student
    from edgetl.transfer.distill_train import train_student
    from edgetl.transfer.training_state import Checkpoint

    machine, kept = _machine(options), _unfinished(file)
    try:
        return train_student(
            Student(copy.deepcopy(network), projections),
            lesson,
            recipe=options.recipe,
            seed=options.seed,
            machine=machine,
            checkpoint=Checkpoint(kept, key),
        )
    except KeyboardInterrupt:
        if kept.is_file():
            machine.say(f"kept in {kept}; the same call goes on from there")
        raise


def _machine(options: DistillOptions) -> Machine:
    from edgetl.transfer.distill_lesson import Machine

    return Machine(
        device=options.device,
        bf16=options.bf16,
        workers=options.extract.workers or available_cores(),
        progress=options.extract.progress,
        say=_say if options.extract.progress else lambda text: None,
    )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _key(
    student: ModuleBackbone, taught: Taught, teachers: list[str], options: DistillOptions
) -> str:
    """What decides the result, so that an interrupted run of something else is not gone on with."""
    settings = {
        name: getattr(options, name)
        for name in ("seed", "views", "held_out", "device", "bf16", "storage")
    }
    # In their order, which decides the view of each photo that the first epoch shows.
    photos = hashlib.sha256(b"".join(taught.photos.digests)).hexdigest()
    parts = [
        *(student.name, student.fingerprint, photos, teachers, _versions(), settings),
        *(dataclasses.asdict(options.recipe), dataclasses.asdict(options.view)),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    versions = {"edgetl": edgetl.__version__, "python": platform.python_version()}
    for package in ("numpy", "timm", "torch", "torchvision"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
