"""A bundle opened on a device: photos in, predictions out, without torch.

It knows bundles, engines and heads; it does not know where they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle
from edgetl.decode import Source, prepare, read_image
from edgetl.engines.base import available_cores
from edgetl.errors import DataError
from edgetl.runtime.drift import DriftMonitor
from edgetl.runtime.opening import bundle_engine, bundle_target
from edgetl.runtime.options import LearningOptions
from edgetl.runtime.prediction import Prediction
from edgetl.runtime.receiving import Receiver
from edgetl.runtime.task import TaskHead
from edgetl.targets import ServingTarget

Many: TypeAlias = list[Any] | tuple[Any, ...]
"""Several samples; each is what `edgetl.decode.Source` names."""

_BATCH = 8


class Runtime(Receiver):
    """Predicts with a bundle, learns and takes head updates. Safe to call from several threads.

    Where an earlier runtime learned and was stopped before it saved, this one goes on from there.

    Args:
        bundle: The bundle to run.
        target: The engine that runs its graph; what the bundle was exported for if None, which for
            one that was not exported is ONNX Runtime on the CPU.
        learning: How it learns, if it does.

    Raises:
        CorruptError: The graph was changed after the bundle was loaded, or what was learned is
            damaged.
        MissingDependencyError: The engine's package is not installed.
        ParityError: The engine computes other features than the one the head was fitted with.
        ValueError: The target can't run what the bundle was exported for.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        target: ServingTarget | None = None,
        learning: LearningOptions | None = None,
    ) -> None:
        super().__init__(bundle, learning)
        self.target = target or bundle_target(bundle)
        self.engine = bundle_engine(bundle, self.target, purpose="serve")

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
        """Build the engine's session and run it once, so that the first prediction is fast.

        The library that decodes JPEG files is found and checked as well.
        """
        prepare([], preprocess=self.bundle.preprocess, out=self._buffer(0))
        batch = self._buffer(1)
        batch.fill(0)
        self.engine(batch)

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
            return [
                prediction
                for start in range(0, len(x), _BATCH)
                for prediction in self._predict(x[start : start + _BATCH], features, first=start)
            ]
        return self._score(self._prepare([x], ["the sample"]), features)[0]

    def _predict(self, sources: Many, features: bool, first: int) -> list[Prediction]:
        names = [f"sample {first + position}" for position in range(len(sources))]
        return self._score(self._prepare(sources, names), features)

    def _predict_tasks(
        self, x: Source | Many, tasks: Sequence[str], features: bool
    ) -> dict[str, Prediction] | list[dict[str, Prediction]]:
        """Predictions of several heads by one pass through the backbone."""
        if isinstance(tasks, str):
            raise TypeError(f"tasks must be a list of names, such as [{tasks!r}]")
        if not tasks:
            raise ValueError(f"tasks is empty; the bundle has {', '.join(self.tasks)}")
        heads = {name: self.task(name) for name in tasks}
        if isinstance(x, list | tuple) and not x:
            return []
        values = self.features(x if isinstance(x, list | tuple) else [x])
        answers = [head.answer(values, features=features) for head in heads.values()]
        found = [dict(zip(heads, row, strict=True)) for row in zip(*answers, strict=True)]
        return found if isinstance(x, list | tuple) else found[0]

    def features(self, samples: Many) -> NDArray[np.float32]:
        """Features (n, dim) of samples; errors as of `predict`."""
        parts = [
            self.engine(
                self._prepare(
                    samples[start : start + _BATCH],
                    [f"sample {place}" for place in range(start, start + _BATCH)],
                )
            )
            for start in range(0, len(samples), _BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.engine.dim), np.float32)

    def _prepare(self, sources: Many, names: list[str]) -> NDArray[Any]:
        """A batch of the samples, which have `names` in errors."""
        batch = self._buffer(len(sources))
        preprocess = self.bundle.preprocess
        threads = min(len(sources), available_cores())
        left = prepare(sources, preprocess=preprocess, out=batch, threads=threads)
        for position, source in left.items():
            given = sources[position]
            name = str(given) if isinstance(given, str | Path) else names[position]
            preprocess.apply(self._read(source, name), out=batch[position])
        return batch

    def _buffer(self, count: int) -> NDArray[Any]:
        """Memory for `count` preprocessed samples."""
        preprocess = self.bundle.preprocess
        return np.empty((count, *preprocess.shape), dtype=preprocess.array_type)

    def _read(self, source: Source, name: str) -> NDArray[np.uint8]:
        """Decode a sample; errors say which one it is."""
        try:
            return read_image(source, preprocess=self.bundle.preprocess)
        except (DataError, TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error

    def _score(self, batch: NDArray[Any], features: bool) -> list[Prediction]:
        return self.task().answer(self.engine(batch), features=features)


def load(
    path: str | Path,
    *,
    target: ServingTarget | None = None,
    learning: LearningOptions | None = None,
) -> Runtime:
    """Open a bundle for prediction and learning.

    Args:
        path: The bundle's folder.
        target: The engine to run it with; what the bundle was exported for if None.
        learning: How it learns, if it does.

    Raises:
        FileNotFoundError: There is no bundle at `path`.
        CorruptError: The bundle was changed after it was written, or what was learned is damaged.
        MissingDependencyError: The engine's package is not installed.
        ParityError: The engine computes other features than the one the head was fitted with.
        ValueError: The target asks for another precision than the graph's.
    """
    return Runtime(Bundle.load(path), target=target, learning=learning)
