"""A bundle opened on a device: photos in, predictions out, without torch.

It knows bundles, engines and heads; it does not know where they came from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import Bundle
from edgetl.decode import Source, read_image
from edgetl.engines import Engine, open_engine
from edgetl.errors import DataError
from edgetl.runtime.prediction import Prediction
from edgetl.targets import OnnxRuntime, OpenVino

Many: TypeAlias = list[Any] | tuple[Any, ...]
"""Several samples; each is what `edgetl.decode.Source` names."""

_BATCH = 8


class Runtime:
    """Predicts with a bundle. Safe to call from several threads.

    Args:
        bundle: The bundle to run.
        target: The engine that runs its graph.
    """

    def __init__(self, bundle: Bundle, *, target: OnnxRuntime | OpenVino | None = None) -> None:
        self.bundle = bundle
        self.engine: Engine = open_engine(
            target or OnnxRuntime(),
            bundle.graph_path,
            dim=bundle.manifest.dim,
            graph_fingerprint=bundle.manifest.graph_fingerprint,
            purpose="serve",
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of a prediction's probabilities."""
        return self.bundle.labels

    def warm_up(self) -> None:
        """Build the engine's session and run it once, so that the first prediction is fast."""
        self.engine(np.zeros((1, *self.bundle.preprocess.shape), dtype=np.float32))

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
            DataError: A sample can't be read; in a list, the message says which one.
            TypeError: `x` is none of the above.
            ValueError: An array has a shape that is not an image's.
        """
        if isinstance(x, list | tuple):
            return [
                prediction
                for start in range(0, len(x), _BATCH)
                for prediction in self._predict(x[start : start + _BATCH], features, first=start)
            ]
        image = read_image(x, preprocess=self.bundle.preprocess)
        batch = np.empty((1, *self.bundle.preprocess.shape), dtype=np.float32)
        self.bundle.preprocess.apply(image, out=batch[0])
        return self._score(batch, features)[0]

    def _predict(self, sources: Many, features: bool, first: int) -> list[Prediction]:
        batch = np.empty((len(sources), *self.bundle.preprocess.shape), dtype=np.float32)
        for position, source in enumerate(sources):
            try:
                image = read_image(source, preprocess=self.bundle.preprocess)
            except DataError as error:
                name = source if isinstance(source, str | Path) else f"sample {first + position}"
                raise DataError(f"{name}: {error}") from error
            self.bundle.preprocess.apply(image, out=batch[position])
        return self._score(batch, features)

    def _score(self, batch: NDArray[np.float32], features: bool) -> list[Prediction]:
        values = self.engine(batch)
        probabilities = self.bundle.head.predict_proba(values).astype(np.float32)
        labels = self.labels
        return [
            Prediction(labels, row, values[number] if features else None)
            for number, row in enumerate(probabilities)
        ]


def load(path: str | Path, *, target: OnnxRuntime | OpenVino | None = None) -> Runtime:
    """Open a bundle for prediction.

    Args:
        path: The bundle's folder.
        target: The engine to run it with; ONNX Runtime on the CPU by default.

    Raises:
        FileNotFoundError: There is no bundle at `path`.
        CorruptError: The bundle was changed after it was written.
        MissingDependencyError: The engine's package is not installed.
    """
    return Runtime(Bundle.load(path), target=target)
