"""Fine-tuning: the last stages of a network trained on the labelled samples, the rest frozen.

Freezing and unfreezing by stage (`edgetl.transfer.stages`), a recipe of published ingredients
(`edgetl.transfer.recipe`), and activations at the cut kept on disk (`edgetl.transfer.activations`),
so that an epoch costs the stages that train only. The result is a backbone like any other. It knows
neither bundles nor evidence.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from edgetl import decode
from edgetl.backbone import Backbone
from edgetl.backbones.module import ModuleBackbone
from edgetl.decode import Source
from edgetl.engines.torch import find_device
from edgetl.errors import DataError
from edgetl.heads import Selection
from edgetl.transfer.activations import Activations, CacheSettings, Photos, open_photos
from edgetl.transfer.lora import add_lora, attention_layers, merge_lora
from edgetl.transfer.method import HeadTask, Method, NetworkTask
from edgetl.transfer.network_split import split_after
from edgetl.transfer.photo_views import TrainingViews
from edgetl.transfer.recipe import Recipe
from edgetl.transfer.training_state import Checkpoint, keep_newest
from edgetl.transfer.tuned_head import held_out_part, select_tuned_head
from edgetl.transfer.tuned_network import Plan, TunedBackbone
from edgetl.transfer.tuning import Samples, Tuning

_FORMAT = 1
_CHECKPOINTS = 8
"""Of other runs, that stay in the cache; each is up to five times as large as what trains."""


@dataclass(frozen=True)
class Finetune(Recipe, Method):
    """Fine-tuning as a method of `edgetl.adapt`; its options are those of `Recipe`.

    Raises:
        TypeError: The network has no torch module (an ONNX file).
        ValueError: It can't be cut where the recipe says, or holds no stage.
        DataError: A class is left without a sample that can be read.
    """

    name: ClassVar[str] = "finetune"
    paper: ClassVar[str] = (
        "Yosinski et al. 2014; Howard and Ruder 2018 (discriminative rates, gradual unfreezing); "
        "Kumar et al. 2022 (probe first)"
    )

    def network(self, task: NetworkTask) -> Backbone:
        """Train the network's last stages; the given network is left as it is."""
        if not hasattr(task.network, "module"):
            raise TypeError(
                f"{task.network.name} has no torch module to train; fine-tuning needs a timm or "
                "torchvision network, or edgetl_nano"
            )
        tuned = finetune(
            cast("ModuleBackbone", task.network),
            task.train.sources,
            task.train.targets,
            recipe=self.recipe,
            seed=task.seed,
            cache=task.cache,
            workers=task.workers,
            say=task.say,
        )
        task.details.update(
            epochs=len(tuned.history),
            best_epoch=tuned.best_epoch,
            held_out=len(tuned.held_out),
            trained=tuned.trained,
            history=[{**row, "seconds": round(row["seconds"], 1)} for row in tuned.history],
        )
        # Names stand for the samples from here on: those that can't be read will be missing.
        tuned.held_out_names = frozenset(task.train.names[place] for place in tuned.held_out)
        return tuned

    def fit(self, task: HeadTask) -> Selection:
        """The head that samples held out from the tuning speak for; see `select_tuned_head`."""
        tuned = cast("TunedBackbone", task.network)
        return select_tuned_head(
            task.features,
            task.targets,
            self.not_trained_on(task),
            classifier=tuned.classifier,
            head=task.head,
            seed=task.seed,
        )

    def not_trained_on(self, task: HeadTask) -> NDArray[np.bool_]:
        """The samples that were held out from the tuning."""
        held_out = cast("TunedBackbone", task.network).held_out_names
        return np.array([name in held_out for name in task.samples.names], np.bool_)

    @property
    def recipe(self) -> Recipe:
        """Its options as a recipe."""
        return Recipe(
            **{item.name: getattr(self, item.name) for item in dataclasses.fields(Recipe)}
        )


def finetune(
    network: ModuleBackbone,
    images: Sequence[Source],
    targets: NDArray[np.int64],
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    cache: Path | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> TunedBackbone:
    """Fine-tune a network on labelled photos.

    Args:
        network: The pretrained network; it is not changed.
        images: Paths, bytes of image files, or uint8 arrays (h, w, 3).
        targets: (n,) classes, 0 to classes - 1.
        recipe: How; the defaults if None.
        seed: Of the held-out part, the views, the order and dropout.
        cache: A folder for activations and checkpoints, so that a run that was interrupted goes on,
            and the next one finds its activations; None to keep nothing.
        workers: Threads that decode and resize; as many as cores if None.
        say: Told how far it is.

    Returns:
        The tuned network on the CPU, in evaluation mode.

    Raises:
        DataError: A class is left without a photo that can be read, or there is one class only.
        MissingDependencyError: The device, or peft for LoRA, is not there.
        ValueError: The network can't be cut where the recipe says, nothing there can be trained,
            `targets` are no classes, or the training came apart.
    """
    session = Session(
        network,
        images,
        targets,
        recipe=recipe or Recipe(),
        seed=seed,
        cache=cache,
        workers=workers,
        say=say,
    )
    with session:
        return session.run()


class Session:
    """A fine-tuning that is set up: everything `finetune` needs, for whoever wants its steps.

    Args:
        network: As for `finetune`, like the others.
        images: The photos.
        targets: Their classes.
        recipe: How.
        seed: Of everything random.
        cache: A folder, or None.
        workers: Threads.
        say: Told how far it is.

    Attributes:
        inputs: The activations at the cut.
        tuning: The training.
        train: The samples that train.
        held_out: Those held out; None if there are none.
    """

    def __init__(
        self,
        network: ModuleBackbone,
        images: Sequence[Source],
        targets: NDArray[np.int64],
        *,
        recipe: Recipe,
        seed: int = 0,
        cache: Path | None = None,
        workers: int | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._network, self._recipe, self._seed, self._say = network, recipe, seed, say
        self._cache = cache
        self._device = _device(recipe.device)
        self._plan = Plan.of(network, recipe)
        targets = _checked(targets, len(images))
        photos = open_photos(images, network.preprocess, workers=workers)
        codes = targets[photos.index]
        classes = int(targets.max()) + 1
        _check_classes(codes, classes, photos)
        held = held_out_part(photos.digests, codes, share=recipe.validation, seed=seed)
        rows = np.arange(len(codes))
        self.train = Samples(rows[~held], codes[~held])
        self.held_out = Samples(rows[held], codes[held]) if held.any() else None
        self._given = photos.index

        module = copy.deepcopy(network.module).to(self._device)
        module = module.to(memory_format=torch.channels_last)
        self._lora: Any = None
        if recipe.lora:
            trained = {
                name for name, _ in split_after(module, self._plan.cut).suffix.named_modules()
            }
            layers = [name for name in attention_layers(module) if name in trained]
            with torch.random.fork_rng([]):  # half of each update starts at random
                torch.manual_seed(seed)
                self._lora = add_lora(module, layers, rank=recipe.lora, alpha=recipe.lora_alpha)
        self._module = module
        split = split_after(module, self._plan.cut)
        self.trained = self._plan.training(split)
        if not self.trained:
            raise ValueError(
                f"nothing after {self._plan.cut!r} has parameters to train; freeze less of "
                f"{', '.join(stage.name for stage in self._plan.stages)}"
            )
        self.inputs = Activations(
            photos,
            split.prefix,
            preprocess=network.preprocess,
            views=TrainingViews(count=recipe.views, min_area=recipe.min_area, seed=seed),
            device=self._device,
            bf16=recipe.precision == "bf16",
            cache=self._settings(),
            workers=workers,
        )
        with torch.random.fork_rng([]):
            self.tuning = Tuning(
                split.suffix,
                self._plan.stages,
                dim=network.dim,
                classes=classes,
                recipe=recipe,
                seed=seed,
                device=self._device,
            )
        self._run = self._identity(photos, codes)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.inputs.close()

    def fill(self) -> int:
        """Compute the activations of all views that training will ask for; returns how many."""
        rows = self.inputs.fill(self.train.index, range(self._recipe.views), say=self._say)
        if self.held_out is not None:
            rows += self.inputs.fill(self.held_out.index, [0], say=self._say)
        return rows

    def run(self) -> TunedBackbone:
        """Train to the end."""
        tuning = self.tuning
        counts = sum(item.tensor.numel() for item in tuning.learners)
        self._say(
            f"fine-tuning {', '.join(self.trained)} of {self._network.name}: {counts} parameters, "
            f"{len(self.train)} samples, {len(self.held_out or ())} held out"
        )
        self.fill()
        checkpoint = None
        if self._cache is not None:
            file = self._cache / "finetune" / f"{self._run[:40]}.safetensors"
            keep_newest(file, _CHECKPOINTS)
            checkpoint = Checkpoint(file, self._run)
        tuning.run(
            self.inputs,
            self.train,
            self.held_out,
            checkpoint=checkpoint,
            say=self._say,
        )
        return self.result()

    def result(self) -> TunedBackbone:
        """The network as it is now."""
        module = self._module
        if self._lora is not None:
            module, self._lora = merge_lora(self._lora), None
        own = self._network
        tuned = TunedBackbone(
            own.name,
            architecture=own.architecture,
            module=copy.deepcopy(module).to("cpu").to(memory_format=torch.contiguous_format),
            preprocess=own.preprocess,
        )
        layer = self.tuning.classifier
        tuned.classifier = (
            layer.weight.detach().cpu().numpy().copy(),
            layer.bias.detach().cpu().numpy().copy(),
        )
        held = np.empty(0, np.int64) if self.held_out is None else self.held_out.index
        tuned.held_out = self._given[held]
        tuned.history = self.tuning.progress.history
        tuned.best_epoch = self.tuning.progress.best + 1
        tuned.trained = self.trained
        return tuned

    def _settings(self) -> CacheSettings | None:
        recipe = self._recipe
        if not recipe.cache:
            return None
        return CacheSettings(
            origin=f"{self._network.fingerprint} {self._plan.cut}",
            folder=None if self._cache is None else self._cache / "activations",
            dtype=recipe.storage,
            max_bytes=int(recipe.cache_gb * 1e9),
        )

    def _identity(self, photos: Photos, codes: NDArray[np.int64]) -> str:
        """What decides the result; a checkpoint of anything else is not taken up."""
        parts = [
            _FORMAT,
            self._network.fingerprint,
            decode.DECODER,
            torch.__version__,
            self._device.type,
            self._seed,
            dataclasses.asdict(self._recipe),
            [digest.hex() for digest in photos.digests],
            codes.tolist(),
        ]
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=32).hexdigest()


def _checked(targets: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The classes, as they may be.

    Raises:
        ValueError: There are none, not as many as photos, or some that are no classes.
    """
    codes = np.asarray(targets)
    if codes.shape != (count,) or not count:
        raise ValueError(f"targets must be one class for each of {count} photos, got {codes.shape}")
    if codes.dtype.kind not in "iu" or codes.min() < 0:
        raise ValueError(f"targets must be whole numbers from 0, got {codes.dtype} {codes.min()}")
    return codes.astype(np.int64)


def _check_classes(codes: NDArray[np.int64], classes: int, photos: Photos) -> None:
    counts = np.bincount(codes, minlength=classes)
    if len(counts) > 1 and counts.all():
        return
    reasons = "; ".join(f"sample {place}: {reason}" for place, reason in photos.skipped[:5])
    raise DataError(
        f"fine-tuning needs 2 classes or more and a readable sample of each, got "
        f"{counts.tolist()} samples per class" + (f" ({reasons})" if reasons else "")
    )


def _device(name: str) -> torch.device:
    return find_device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
