"""What every head is: an estimator by scikit-learn's rules, and arrays that a bundle stores.

A head maps features (n, dim) to scores (n, classes), and scores to calibrated probabilities by one
temperature. It knows nothing about images, engines or files, and needs numpy alone; the hooks that
scikit-learn calls import it when called.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import CorruptError
from edgetl.heads.calibrate import softmax
from edgetl.heads.incremental import Incremental
from edgetl.heads.training import TrainingSet
from edgetl.heads.validate import (
    check_features,
    check_labels,
    check_weights,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class Head(Incremental, ABC):
    """A light classifier on features, fitted in milliseconds.

    The constructor only stores its arguments; what `fit` learns ends in an underscore.

    Attributes:
        classes_: (classes,) labels in the order of the columns of every result.
        n_features_in_: Number of features, dim.
        temperature_: Divides scores before the softmax; 1.0 unless calibrated.
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to labelled features.

        Args:
            X: (n, dim) finite features; float16, float32 or float64.
            y: (n,) labels, at least two different ones.
            sample_weight: (n,) not negative; a sample of weight zero is as if absent.

        Raises:
            ValueError: Shapes don't fit, values aren't finite, or there is only one class.
        """
        features = check_features(X)
        weights = check_weights(sample_weight, len(features))
        if weights.min() == 0:
            counted = weights > 0
            check_labels(y, len(features))
            features, y, weights = features[counted], np.asarray(y)[counted], weights[counted]
        classes, codes = check_labels(y, len(features))
        data = TrainingSet(features, codes, weights, len(classes))
        with self._whole():
            self._fit_whole(data, classes, calibrate=True)
        return self

    def fit_set(self, data: TrainingSet, classes: NDArray[Any], *, calibrate: bool = True) -> Self:
        """Fit to a checked training set, in whichever array library it is.

        If it fails, the head stays what it was: unfitted, or as fitted before. Unlike `fit` it
        keeps no statistics for `partial_fit`; see `prepare_learning`.

        Args:
            data: The samples.
            classes: (classes,) labels, sorted.
            calibrate: Whether to fit the temperature too, which takes held-out scores.

        Raises:
            ValueError: There is only one class, or an argument of the constructor is unusable.
        """
        with self._whole():
            self._fit_whole(data, classes, calibrate=calibrate)
            vars(self).pop("learner_", None)
        return self

    def _fit_whole(self, data: TrainingSet, classes: NDArray[Any], *, calibrate: bool) -> None:
        if len(classes) < 2:
            raise ValueError(
                f"need at least 2 classes to fit a head, got 1 class: {classes.tolist()}"
            )
        vars(self).pop("learner_", None)  # of what was learned before
        self.classes_ = classes
        self.n_features_in_ = data.dim
        self.temperature_ = 1.0
        self._fit(data, calibrate=calibrate)

    @abstractmethod
    def _fit(self, data: TrainingSet, *, calibrate: bool) -> None:
        """Set the learned state; `classes_`, `n_features_in_` and `temperature_` are set."""

    @abstractmethod
    def _scores(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Scores (n, classes) of checked features (n, dim)."""

    def chosen(self) -> dict[str, float]:
        """The arguments that `fit` chose itself, by cross-validation or leave-one-out."""
        return {}

    def fixed(self) -> Self:
        """An unfitted head that repeats this one's fit without choosing anything again."""
        return type(self)(**{**self.get_params(), **self.chosen()})

    def scores(self, X: ArrayLike) -> NDArray[np.float64]:
        """One score per class, (n, classes), also for two classes; higher is more likely.

        Raises:
            NotFittedError: `fit` has not been called (a ValueError and AttributeError).
            ValueError: `X` is not (n, dim), or not finite.
        """
        self._check_fitted()
        features = check_features(X, dim=self.n_features_in_, name=type(self).__name__)
        return self._scores(features)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores by scikit-learn's rules: (n, classes), but (n,) for two classes.

        With two classes it is the second one's score minus the first one's. See `scores` for an
        answer that always has one column per class.
        """
        scores = self.scores(X)
        if scores.shape[1] == 2:
            return np.asarray(scores[:, 1] - scores[:, 0])
        return scores

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities (n, classes), ``softmax(scores / temperature_)``; rows sum to 1."""
        return softmax(self.scores(X) / self.temperature_)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most likely label of each sample, (n,); the earlier class where scores are equal."""
        scores = self.scores(X)
        result: NDArray[Any] = self.classes_[scores.argmax(axis=1)]
        return result

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy on labelled features."""
        right = self.predict(X) == np.asarray(y)
        weights = check_weights(sample_weight, len(right))
        return float(right @ weights / weights.sum())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The learned state as numeric arrays, for a bundle's safetensors file.

        `classes_` is among them only if the labels are numbers; a bundle keeps names itself.

        Raises:
            ValueError: The head has learned one class only.
        """
        return self._labelled(self._state())

    def exact_arrays(self) -> dict[str, NDArray[Any]]:
        """What `arrays` gives, but nothing rounded: for a head that is to learn on the same."""
        return self._labelled(self._exact_state())

    def _labelled(self, state: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        if len(self.classes_) < 2:
            raise ValueError("a head of 1 class can't be stored; it must learn a second one first")
        arrays = {"temperature": np.array(self.temperature_, dtype=np.float64), **state}
        if np.issubdtype(self.classes_.dtype, np.integer):
            arrays["classes"] = self.classes_.astype(np.int64)
        return arrays

    def _exact_state(self) -> dict[str, NDArray[Any]]:
        """`_state` without rounding."""
        own = vars(self)
        return {
            name: np.asarray(own.get(f"{name}_", array)) for name, array in self._state().items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """A fitted head from what `arrays` gave; `classes_` counts from 0 if not stored.

        Raises:
            CorruptError: An array is missing, has another shape or type than it must, or holds NaN
                or infinity.
        """
        head = cls()
        count, head.n_features_in_ = head._restore(arrays)
        if count < 2 or head.n_features_in_ < 1:
            raise CorruptError(
                f"{cls.kind} head: {count} classes of {head.n_features_in_} features; "
                "at least 2 and 1 are needed"
            )
        head.temperature_ = positive(arrays, "temperature")
        head.classes_ = np.arange(count)
        if "classes" in arrays:
            head.classes_ = stored(arrays, "classes", (count,), kind="i")
            if np.any(np.diff(head.classes_) <= 0):
                raise CorruptError(f"{cls.kind} head: classes are not sorted and different")
        return head

    @abstractmethod
    def _state(self) -> dict[str, NDArray[Any]]:
        """The arrays of this kind of head."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
        """Set the learned state from checked arrays; return the numbers of classes and features."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments; `deep` is accepted for scikit-learn and changes nothing."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments.

        Raises:
            ValueError: A name that the constructor does not have.
        """
        names = self._parameter_names()
        for name, value in params.items():
            if name not in names:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {names}")
            setattr(self, name, value)
        return self

    @classmethod
    def _parameter_names(cls) -> list[str]:
        if cls.__init__ is object.__init__:
            return []
        return sorted(name for name in inspect.signature(cls.__init__).parameters if name != "self")

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({given})"

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn needs to know; called by scikit-learn only, so it is there."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(),
        )


def stored(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    shape: tuple[int | None, ...],
    *,
    kind: str = "f",
) -> NDArray[Any]:
    """One array of a stored head, checked.

    Args:
        arrays: What was read.
        name: The key.
        shape: The expected length of each axis; None for any.
        kind: numpy's kind of the dtype: ``"f"`` (which must be finite) or ``"i"``.

    Raises:
        CorruptError: It is missing or not as expected.
    """
    if name not in arrays:
        raise CorruptError(f"head array {name!r} is missing; found {sorted(arrays)}")
    array = np.asarray(arrays[name])
    fits = array.ndim == len(shape) and all(
        expected in (None, length) for expected, length in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise CorruptError(f"head array {name!r} has shape {array.shape}, expected {shape}")
    if array.dtype.kind != kind:
        raise CorruptError(f"head array {name!r} has type {array.dtype}, expected kind {kind!r}")
    if kind == "f" and not np.isfinite(array).all():
        raise CorruptError(f"head array {name!r} holds NaN or infinity")
    return array


def positive(arrays: Mapping[str, NDArray[Any]], name: str) -> float:
    """One positive number of a stored head.

    Raises:
        CorruptError: It is missing, not a number, or not positive.
    """
    value = float(stored(arrays, name, ()))
    if value <= 0:
        raise CorruptError(f"head array {name!r} is {value}, but must be positive")
    return value


def narrow(values: NDArray[np.float64]) -> NDArray[Any]:
    """Values as float32 for storage, or as they are where float32 can't hold them."""
    with np.errstate(over="ignore"):
        small = values.astype(np.float32)
    largest = np.abs(values).max(initial=0.0)
    return small if np.isfinite(small).all() and not 0 < largest < 1e-30 else values
