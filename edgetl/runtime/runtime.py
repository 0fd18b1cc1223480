"""A bundle opened on a device: photos in, predictions out, without torch.

It knows bundles, engines and heads; it does not know where they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle
from edgetl.decode import Source
from edgetl.runtime.drift import DriftMonitor
from edgetl.runtime.extractor import Extractor, Many
from edgetl.runtime.opening import bundle_engine, bundle_target, with_threads
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.prediction import Prediction
from edgetl.runtime.receiving import Receiver
from edgetl.runtime.task import TaskHead
from edgetl.targets import ServingTarget


class Runtime(Receiver):
    """Predicts with a bundle, learns and takes head updates. Safe to call from several threads.

    Where an earlier runtime learned and was stopped before it saved, this one goes on from there.

    Args:
        bundle: The bundle to run.
        target: The engine that runs its graph; what the bundle was exported for if None, which for
            one that was not exported is ONNX Runtime on the CPU.
        threads: Threads of one prediction, in place of the target's; 0 for as many as there are
            cores. They wait for each other: where other processes have the cores, 1 is faster.
        learning: How it learns, if it does.
        resume: Whether to go on from what was learned and not saved; False answers by the heads of
            the bundle as it was given.

    Raises:
        CorruptError: The graph was changed after the bundle was loaded, or what was learned is
            damaged.
        MissingDependencyError: The engine's package is not installed.
        ParityError: The engine computes other features than the one the head was fitted with.
        ValueError: The target can't run what the bundle was exported for, or has no threads.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        target: ServingTarget | None = None,
        threads: int | None = None,
        learning: LearningOptions | None = None,
        resume: bool = True,
    ) -> None:
        super().__init__(bundle, learning, resume=resume)
        self.target = target or bundle_target(bundle)
        if threads is not None:
            self.target = with_threads(self.target, threads)
        self.engine = bundle_engine(bundle, self.target, purpose="serve")
        self.extractor = Extractor(self.engine, bundle.preprocess)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the main task, in the order of a prediction's probabilities."""
        return self.task().labels

    def task(self, name: str | None = None) -> TaskHead:
        """One of the heads; the main one if `name` is None.

        Raises:
            ValueError: There is no such task.
        """
        self.bundle.manifest.record(name)  # or refuse
        return self.tasks[name or self.bundle.manifest.task]

    @property
    def drift(self) -> DriftMonitor | None:
        """What watches the main task's answers; None for a bundle that does not score novelty."""
        return self.task().drift

    def warm_up(self) -> None:
        """Do everything that is done once, so that the first prediction is as fast as the others.

        The engine loads its graph and plans its memory, and the library that decodes JPEG files is
        found and checked.
        """
        self.extractor.warm_up(self.task().head.predict_proba)

    @overload
    def predict(self, x: Source, *, features: bool = False, tasks: None = None) -> Prediction: ...
    @overload
    def predict(
        self, x: Many, *, features: bool = False, tasks: None = None
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self, x: Source, *, features: bool = False, tasks: Sequence[str]
    ) -> dict[str, Prediction]: ...
    @overload
    def predict(
        self, x: Many, *, features: bool = False, tasks: Sequence[str]
    ) -> list[dict[str, Prediction]]: ...
    def predict(
        self, x: Source | Many, *, features: bool = False, tasks: Sequence[str] | None = None
    ) -> Prediction | list[Prediction] | dict[str, Prediction] | list[dict[str, Prediction]]:
        """Predict the class of one sample, or of each of a list.

        Args:
            x: A path, the bytes of an image file, a uint8 (h, w, 3) RGB array or a PIL image; or a
                list or tuple of those.
            features: Also return the backbone's features.
            tasks: Names of the tasks to answer, all by one pass through the backbone; None for the
                main one.

        Returns:
            A prediction, or a list of them in the order of `x`; with `tasks`, in the place of each
            one of each task by its name.

        Raises:
            DataError: A sample can't be read; the message says which one.
            TypeError: `x` is none of the above, or `tasks` is a text.
            ValueError: An array has a shape that is not an image's, or there is no such task.
        """
        if tasks is not None:
            return self._predict_tasks(x, tasks, features)
        if isinstance(x, list | tuple):
            return self.extractor.read_many(x, partial(self._answer, features=features))
        return self.extractor.read(x, partial(self._answer, features=features))[0]

    def _predict_tasks(
        self, x: Source | Many, tasks: Sequence[str], features: bool
    ) -> dict[str, Prediction] | list[dict[str, Prediction]]:
        """Predictions of several heads by one pass through the backbone."""
        if isinstance(tasks, str):
            raise TypeError(f"tasks must be a list of names, such as [{tasks!r}]")
        if not tasks:
            raise ValueError(f"tasks is empty; the bundle has {', '.join(self.tasks)}")
        heads = {name: self.task(name) for name in tasks}

        def answer(values: NDArray[np.float32]) -> list[dict[str, Prediction]]:
            rows = [head.answer(values, features=features) for head in heads.values()]
            return [dict(zip(heads, row, strict=True)) for row in zip(*rows, strict=True)]

        if isinstance(x, list | tuple):
            return self.extractor.read_many(x, answer)
        return self.extractor.read(x, answer)[0]

    def features(self, samples: Many) -> NDArray[np.float32]:
        """Features (n, dim) of samples; errors as of `predict`."""
        return self.extractor.features(samples)

    def _answer(self, values: NDArray[np.float32], *, features: bool) -> list[Prediction]:
        return self.task().answer(values, features=features)


def load(
    path: str | Path,
    *,
    target: ServingTarget | None = None,
    threads: int | None = None,
    warmup: bool = False,
    learning: LearningOptions | None = None,
) -> Runtime:
    """Open a bundle for prediction and learning.

    Args:
        path: The bundle's folder.
        target: The engine to run it with; what the bundle was exported for if None.
        threads: Threads of one prediction, in place of the target's; see `Runtime`.
        warmup: Whether to load the graph and run it now (`Runtime.warm_up`) rather than at the
            first prediction.
        learning: How it learns, if it does.

    Raises:
        FileNotFoundError: There is no bundle at `path`.
        CorruptError: The bundle was changed after it was written, or what was learned is damaged.
        MissingDependencyError: The engine's package is not installed.
        ParityError: The engine computes other features than the one the head was fitted with.
        ValueError: The target asks for another precision than the graph's, or has no threads.
    """
    runtime = Runtime(Bundle.load(path), target=target, threads=threads, learning=learning)
    if warmup:
        runtime.warm_up()
    return runtime
