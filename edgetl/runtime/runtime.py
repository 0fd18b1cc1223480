"""A bundle opened on a device: photos in, predictions out, without torch.

It knows bundles, engines and heads; it does not know where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle
from edgetl.decode import Source
from edgetl.runtime.extractor import Extractor, Many
from edgetl.runtime.opening import bundle_engine, bundle_target, with_threads
from edgetl.runtime.prediction import Prediction
from edgetl.runtime.task import TaskHead
from edgetl.targets import ServingTarget


class Runtime:
    """Predicts with a bundle. Safe to call from several threads.

    Args:
        bundle: The bundle to run.
        target: The engine that runs its graph; what the bundle was exported for if None, which for
            one that was not exported is ONNX Runtime on the CPU.
        threads: Threads of one prediction, in place of the target's; 0 for as many as there are
            cores. They wait for each other: where other processes have the cores, 1 is faster.

    Raises:
        CorruptError: The graph was changed after the bundle was loaded.
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
    ) -> None:
        self.bundle = bundle
        self.target = target or bundle_target(bundle)
        if threads is not None:
            self.target = with_threads(self.target, threads)
        self.engine = bundle_engine(bundle, self.target, purpose="serve")
        self.extractor = Extractor(self.engine, bundle.preprocess)
        manifest = bundle.manifest
        self.tasks: Mapping[str, TaskHead] = {
            name: TaskHead(manifest.record(name).labels, bundle.fitted(name))
            for name in (manifest.task, *manifest.tasks)
        }
        """Every head, the main one first, by the name of its task."""

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

    def warm_up(self) -> None:
        """Do everything that is done once, so that the first prediction is as fast as the others.

        The engine loads its graph and plans its memory, and the library that decodes JPEG files is
        found and checked.
        """
        self.extractor.warm_up(self.task().head.predict_proba)

    @overload
    def predict(self, x: Source, *, features: bool = False) -> Prediction: ...
    @overload
    def predict(self, x: Many, *, features: bool = False) -> list[Prediction]: ...
    def predict(self, x: Source | Many, *, features: bool = False) -> Prediction | list[Prediction]:
        """Predict the class of one sample, or of each of a list.

        Args:
            x: A path, the bytes of an image file, a uint8 (h, w, 3) RGB array or a PIL image; or a
                list or tuple of those.
            features: Also return the backbone's features.

        Returns:
            A prediction, or a list of them in the order of `x`.

        Raises:
            DataError: A sample can't be read; the message says which one.
            TypeError: `x` is none of the above.
            ValueError: An array has a shape that is not an image's.
        """
        if isinstance(x, list | tuple):
            return self.extractor.read_many(x, partial(self._answer, features=features))
        return self.extractor.read(x, partial(self._answer, features=features))[0]

    def _answer(self, values: NDArray[np.float32], *, features: bool) -> list[Prediction]:
        return self.task().answer(values, features=features)


def load(
    path: str | Path,
    *,
    target: ServingTarget | None = None,
    threads: int | None = None,
    warmup: bool = False,
) -> Runtime:
    """Open a bundle for prediction.

    Args:
        path: The bundle's folder.
        target: The engine to run it with; what the bundle was exported for if None.
        threads: Threads of one prediction, in place of the target's; see `Runtime`.
        warmup: Whether to load the graph and run it now (`Runtime.warm_up`) rather than at the
            first prediction.

    Raises:
        FileNotFoundError: There is no bundle at `path`.
        CorruptError: The bundle was changed after it was written.
        MissingDependencyError: The engine's package is not installed.
        ParityError: The engine computes other features than the one the head was fitted with.
        ValueError: The target asks for another precision than the graph's, or has no threads.
    """
    runtime = Runtime(Bundle.load(path), target=target, threads=threads)
    if warmup:
        runtime.warm_up()
    return runtime
