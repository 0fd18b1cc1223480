"""Learning sample by sample by scikit-learn's rules, and what a head needs to go on from.

Heads fill in the hooks. It knows nothing about files: who stores a head that learns stores
`learning_state` beside its arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import CorruptError
from edgetl.heads.learning import Lesson, lesson_of
from edgetl.heads.spare import Spares
from edgetl.heads.validate import NotFittedError, borrowed

if TYPE_CHECKING:
    from typing_extensions import Self


class Incremental:
    """The part of every head that learns in parts."""

    kind: ClassVar[str]
    """Short name, as in a bundle's manifest."""
    needs_statistics: ClassVar[bool] = False
    """Whether `partial_fit` needs more than `arrays` holds: `learning_state`."""
    rehearses: ClassVar[bool] = False
    """Whether the head forgets unless it also goes through remembered samples: `rehearse`."""

    classes_: NDArray[Any]
    n_features_in_: int
    temperature_: float
    learner_: Any
    _shared = False
    _spares: Spares | None = None

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Put the attributes back if the block fails: an interrupt must not leave half a fit."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Learn more samples, of known classes or new ones, without those learned before.

        Nothing is chosen on the way: the strength is that of the last `fit`, or where there was
        none the argument, the middle one of several. The temperature stays as `fit` calibrated it
        (1 without): scores change little with a few samples, and samples just learned can't
        calibrate. After many, fit again. `classes_` stays sorted, so a new class may move others'
        columns. A head that knows one class only can learn on but not be stored. Statistics change
        in place: copy a head by `copy.deepcopy`. Don't use it from other threads meanwhile.

        Args:
            X: (n, dim) finite features in the range of float32.
            y: (n,) labels.
            classes: The labels that may occur; any if None. For scikit-learn's sake, and a guard
                against misspelling: a class is known once it has a sample, not before.
            sample_weight: (n,) not negative: how many times a sample counts, so more than 1 for a
                correction. A sample of weight zero is as if absent.

        Raises:
            NotImplementedError: A head of one's own that only fits.
            ValueError: Shapes or labels don't fit, or this head has no statistics to go on from.
                The head is as before.
        """
        fresh = not hasattr(self, "classes_")
        lesson = lesson_of(
            X,
            y,
            sample_weight,
            known=None if fresh else self.classes_,
            allowed=classes,
            dim=None if fresh else self.n_features_in_,
            name=type(self).__name__,
        )
        with self._whole():
            if fresh:
                self.n_features_in_ = lesson.features.shape[1]
                self.temperature_ = 1.0
                self._begin()
            self._learn(lesson)
            self.classes_ = lesson.classes
        return self

    def prepare_learning(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Gather from all training samples what `partial_fit` goes on from.

        The head becomes what `fit` makes of these samples with the strength and temperature in
        use. It is for fitted heads whose `needs_statistics` is true; others have nothing to gather.

        Args:
            X: (n, dim) the features that the head was fitted to.
            y: (n,) their labels, of all classes of the head.
            sample_weight: (n,) not negative.

        Raises:
            NotFittedError: The head is not fitted.
            ValueError: Shapes don't fit, or the classes are not those of the head.
        """
        self._check_fitted()
        lesson = lesson_of(
            X, y, sample_weight, known=None, dim=self.n_features_in_, name=type(self).__name__
        )
        if not np.array_equal(lesson.classes, self.classes_):
            raise ValueError(
                f"the samples are of {len(lesson.classes)} classes, {lesson.classes.tolist()[:5]}, "
                f"the head's {len(self.classes_)} are {self.classes_.tolist()[:5]}"
            )
        with self._whole():
            self._gather(lesson)
        return self

    def rehearse(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Go a little way towards the fit of everything remembered, by some of it.

        To be called after every `partial_fit` with other samples, of every class alike and none
        again before its others (as `edgetl.runtime.rehearsal` draws them): going through a class in
        turn, instead of at random, halves how far averaged gradient descent stays from its optimum.
        Only heads whose `rehearses` is true have use for it.

        Args:
            X: (n, dim) finite features in the range of float32.
            y: (n,) labels, all of classes that the head knows.
            sample_weight: (n,) not negative: how many samples each stands for. Their sum is how
                many there are, which the strength of a penalty is to be seen beside.

        Raises:
            NotFittedError: The head is not fitted.
            NotImplementedError: This kind of head forgets nothing.
            ValueError: Shapes or labels don't fit. The head is as before.
        """
        self._check_fitted()
        if not self.rehearses:
            raise NotImplementedError(f"a {self.kind} head forgets nothing that it could rehearse")
        lesson = lesson_of(
            X,
            y,
            sample_weight,
            known=self.classes_,
            allowed=self.classes_,
            dim=self.n_features_in_,
            name=type(self).__name__,
        )
        with self._whole():
            self._rehearse(lesson)
        return self

    def rehearse_again(
        self, X: NDArray[np.float32], codes: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> Self:
        """`rehearse` with samples that a head has learned before, so that it need not look at all.

        Args:
            X: (n, dim) finite features.
            codes: (n,) places among `classes_`.
            weights: (n,) positive.

        Raises:
            ValueError: Shapes or codes don't fit. The head is as before.
        """
        classes = self.classes_
        if X.shape[1:] != (self.n_features_in_,) or not X.shape[:1] == codes.shape == weights.shape:
            raise ValueError(
                f"can't rehearse features {X.shape} with {codes.shape} codes and {weights.shape} "
                f"weights; there are {self.n_features_in_} features"
            )
        if not (codes.min() >= 0 and codes.max() < len(classes) and weights.min() > 0):
            raise ValueError(
                f"codes are {codes.min()} to {codes.max()} for {len(classes)} classes, the least "
                f"weight is {weights.min():g}"
            )
        with self._whole():
            self._rehearse(Lesson(X, codes, weights, classes, np.arange(len(classes))))
        return self

    def forget_class(self, label: Any) -> Self:
        """Remove a class; what the statistics can't take apart stays, see the kind of head.

        Raises:
            NotFittedError: The head is not fitted.
            ValueError: There is no such class, or it is the only one; nothing was changed.
        """
        self._check_fitted()
        found = np.flatnonzero(self.classes_ == label)
        if len(found) != 1:
            raise ValueError(f"no class {label!r}; the head has {self.classes_.tolist()[:10]}")
        if len(self.classes_) == 1:
            raise ValueError(f"{label!r} is the only class; a head without any can't answer")
        with self._whole():
            kept = np.delete(np.arange(len(self.classes_)), found[0])
            self._keep(kept)
            self.classes_ = self.classes_[kept]
        return self

    def learning_state(self) -> dict[str, NDArray[Any]]:
        """What `partial_fit` needs beyond `arrays`; empty where that is all.

        Raises:
            NotFittedError: The head is not fitted.
            ValueError: This head needs statistics and has none.
        """
        self._check_fitted()
        return self._learned()

    def state_for(self, head: Self) -> dict[str, NDArray[Any]] | None:
        """What a head that took this one's place, without its samples, can learn on from.

        Args:
            head: The other one, of the same kind and features; its classes may be others.

        Returns:
            As `learning_state`; None where nothing could make up for the samples.

        Raises:
            NotFittedError: This head is not fitted.
            ValueError: It needs statistics and has none.
        """
        self._check_fitted()
        return {} if not self.needs_statistics else None

    def branch(self) -> Self:
        """A head that may learn on while this one stays what it is, for other threads too.

        Only statistics change in place, so all else is shared.
        """
        found = copy(self)
        if self.needs_statistics and hasattr(self, "learner_"):
            # Whichever of the two learns first copies what it is about to change.
            self._shared = found._shared = True
            found._spares = self._spares = getattr(self, "_spares", None) or Spares()
        return found

    def _own(self, array: NDArray[Any], *, copy: bool = False) -> NDArray[Any]:
        """An array of the statistics to be changed in place; a copy if another head has it too."""
        if not self._shared and not copy:
            return array
        self._shared = False
        return array.copy() if self._spares is None else self._spares.copy(array)

    def _memory_like(self, array: NDArray[Any]) -> NDArray[Any]:
        """Memory to put a changed array of the statistics into, where another head has it too."""
        self._shared = False
        return np.empty_like(array) if self._spares is None else self._spares.like(array)

    def restore_learning(self, state: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what `learning_state` gave, into the head that gave it, stored or not.

        Raises:
            NotFittedError: The head is not fitted.
            CorruptError: An array is missing or damaged, or is another head's. The head is as
                before.
        """
        self._check_fitted()
        with self._whole():
            self._relearn(state)
        return self

    def _begin(self) -> None:
        """Set the learned state of a head that knows no class."""
        raise self._only_whole()

    def _learn(self, lesson: Lesson) -> None:
        """Learn; change no array in place unless nothing can fail any more."""
        raise self._only_whole()

    def _rehearse(self, lesson: Lesson) -> None:
        """Learn again; see `rehearse`."""
        raise NotImplementedError

    def _keep(self, kept: NDArray[np.int64]) -> None:
        """Keep these classes, at least one."""
        raise self._only_whole()

    def _only_whole(self) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} does not learn in parts; use fit")

    def _gather(self, lesson: Lesson) -> None:  # most heads have none
        """Set the statistics; see `prepare_learning`."""

    def _learned(self) -> dict[str, NDArray[Any]]:
        """The statistics; see `learning_state`."""
        return {}

    def _relearn(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take statistics back; see `restore_learning`."""
        if state:
            raise CorruptError(f"a {self.kind} head has no statistics, found {sorted(state)}")

    def _check_fitted(self) -> None:
        if not hasattr(self, "classes_"):
            raise borrowed("NotFittedError", NotFittedError)(
                f"this {type(self).__name__} is not fitted yet; call fit first"
            )

    def _without_statistics(self) -> ValueError:
        return ValueError(
            f"this {type(self).__name__} has no statistics to learn on from: bundles keep none, "
            "nor does a fit to more than 8 million numbers (n x dim). Call prepare_learning with "
            "the training features, or restore_learning with what learning_state gave"
        )
