"""What was done to a head, as bytes that can be done again, and heads with all they need to go on.

Doing the same events to the same head gives the same head, so a history needs few whole heads: the
rest is replayed. It knows heads, and nothing about files or who decides what is learned.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from edgetl.bundle.checks import read_arrays
from edgetl.errors import CorruptError
from edgetl.heads import STORED, Head, KnnHead, PolicyHead
from edgetl.native.pool import widen

_STATE = "learning."


@dataclass(frozen=True, eq=False)
class Draws:
    """Remembered samples for a head that rehearses, some after every few samples learned.

    Attributes:
        features: (steps, m, dim) float16.
        numbers: (steps, m) of the samples in the memory, or -1 - i for new sample i; they are
            stored instead of the features.
        codes: (steps, m) class of each.
        weights: (steps, m) positive.
    """

    features: NDArray[np.float16]
    numbers: NDArray[np.int64]
    codes: NDArray[np.int64]
    weights: NDArray[np.float64]


Lookup: TypeAlias = Callable[[int], NDArray[np.float16]]
"""Gives the features (dim,) of a sample in the memory, by its number."""
_DRAWN = ("numbers", "codes", "weights")
_DTYPES = {
    np.dtype(kind): name
    for kind, name in (
        (np.float64, "F64"),
        (np.float32, "F32"),
        (np.float16, "F16"),
        (np.int64, "I64"),
        (np.uint8, "U8"),
    )
}


@dataclass(frozen=True, eq=False)
class Event:
    """One change of a head: samples learned, rewards learned, or a class forgotten.

    Attributes:
        labels: The head's labels afterwards, in the order of its columns.
        features: (n, dim) float32 of the samples.
        codes: (n,) class of each among `labels`.
        weights: (n,) positive.
        draws: What to rehearse, or None.
        forgotten: The column to remove, or None.
        neighbours: Samples that a k-nearest-neighbours head keeps at most; 0 for any number.
        rewards: (n,) what doing `codes` brought, for a policy; None where they are labels.
    """

    labels: tuple[str, ...]
    features: NDArray[np.float32]
    codes: NDArray[np.int64]
    weights: NDArray[np.float64]
    draws: Draws | None = None
    forgotten: int | None = None
    neighbours: int = 0
    rewards: NDArray[np.float64] | None = None

    @property
    def size(self) -> int:
        """Bytes that its arrays take."""
        drawn = 0 if self.draws is None else 3 * self.draws.numbers.nbytes
        return self.features.nbytes + self.codes.nbytes + self.weights.nbytes + drawn

    def to_bytes(self) -> bytes:
        """The event, for `from_bytes`."""
        arrays: dict[str, NDArray[Any]] = {"labels": _text(self.labels)}
        if self.forgotten is not None:
            arrays["forgotten"] = np.array(self.forgotten)
        else:
            arrays |= {name: getattr(self, name) for name in ("features", "codes", "weights")}
            arrays["neighbours"] = np.array(self.neighbours)
        if self.rewards is not None:
            arrays["rewards"] = self.rewards
        if self.draws is not None:
            arrays |= {f"draws.{name}": getattr(self.draws, name) for name in _DRAWN}
        return _written(arrays)

    @classmethod
    def from_bytes(cls, content: bytes, lookup: Lookup) -> Event:
        """What `to_bytes` gave.

        Args:
            content: The bytes.
            lookup: Where remembered samples are found.

        Raises:
            CorruptError: It is something else.
        """
        arrays = read_arrays(content, "an event")
        try:
            labels = _labels(arrays)
            if "forgotten" in arrays:
                return forgetting(labels, int(arrays["forgotten"]))
            own: Any = {name: arrays[name] for name in ("features", "codes", "weights")}
            draws = None
            rewards: Any = arrays.get("rewards")
            if rewards is not None and rewards.shape != own["codes"].shape:
                raise ValueError(f"rewards of shape {rewards.shape}")
            if "draws.numbers" in arrays:
                drawn: Any = {name: arrays[f"draws.{name}"] for name in _DRAWN}
                draws = Draws(_looked_up(drawn["numbers"], own["features"], lookup), **drawn)
            neighbours = int(arrays["neighbours"])
            return cls(labels, **own, draws=draws, neighbours=neighbours, rewards=rewards)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"an event of the history can't be read: {error!r}") from error

    def done_to(self, head: Head) -> Head:
        """A new head: this one with the event done to it; this one stays as it is.

        Args:
            head: Its classes are the numbers from 0.

        Raises:
            ValueError: The head has no statistics to learn on from.
        """
        found = head.branch()
        if self.forgotten is not None:
            found.forget_class(self.forgotten)
            found.classes_ = np.arange(len(found.classes_))
            return found
        if self.rewards is not None:
            if not isinstance(found, PolicyHead):
                raise ValueError(f"a {found.kind} head learns from labels, not from rewards")
            return found.reward(self.features, self.codes, self.rewards, self.weights)
        if self.draws is None:
            found.partial_fit(self.features, self.codes, sample_weight=self.weights)
            return _bounded(found, self.neighbours)
        for step, rows in enumerate(parted(len(self.codes), len(self.draws.codes))):
            weights = self.weights[rows]
            found.partial_fit(self.features[rows], self.codes[rows], sample_weight=weights)
            remembered = np.empty(self.draws.features[step].shape, np.float32)
            widen(self.draws.features[step], remembered)
            drawn, stands_for = self.draws.codes[step], self.draws.weights[step]
            if np.array_equal(found.classes_, np.arange(len(self.labels))):
                found.rehearse_again(remembered, drawn, stands_for)
            else:  # some of the new classes come with a later step
                found.rehearse(remembered, drawn, sample_weight=stands_for)
        return found


def parted(n: int, parts: int) -> list[slice]:
    """Positions 0 to n - 1 in parts, as `numpy.array_split` makes them."""
    size, longer = divmod(n, parts)
    ends = [size * (part + 1) + min(part + 1, longer) for part in range(parts)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _looked_up(
    numbers: NDArray[np.int64], new: NDArray[np.float32], lookup: Lookup
) -> NDArray[np.float16]:
    features = np.empty((*numbers.shape, new.shape[1]), np.float16)
    for place, number in np.ndenumerate(numbers):
        features[place] = new[-1 - number] if number < 0 else lookup(int(number))
    return features


def forgetting(labels: tuple[str, ...], column: int) -> Event:
    """The event that removes a column and leaves these labels."""
    nothing = np.empty(0)
    features, codes = np.empty((0, 0), np.float32), nothing.astype(np.int64)
    return Event(labels, features, codes, nothing, forgotten=column)


def head_to_bytes(head: Head, labels: tuple[str, ...], *, learning: bool) -> bytes:
    """A head to the last bit, with its labels; with `learning`, also what it goes on from."""
    arrays = {name: np.asarray(a, order="C") for name, a in head.exact_arrays().items()}
    if learning:
        state = head.learning_state()
        arrays |= {f"{_STATE}{name}": np.asarray(a, order="C") for name, a in state.items()}
    arrays["labels"] = _text(labels)
    return _written(arrays)


def head_from_bytes(kind: str, content: bytes) -> tuple[Head, tuple[str, ...]]:
    """What `head_to_bytes` was given.

    Raises:
        CorruptError: It is something else, or of another kind of head.
    """
    arrays = dict(read_arrays(content, f"a {kind} head of the history"))
    try:
        labels = _labels(arrays)
    except (KeyError, ValueError) as error:
        raise CorruptError(f"a head of the history has no labels: {error!r}") from error
    del arrays["labels"]
    state = {n[len(_STATE) :]: arrays.pop(n) for n in list(arrays) if n.startswith(_STATE)}
    head = whole_head(kind, arrays)
    if len(head.classes_) != len(labels):
        raise CorruptError(
            f"a head of the history has {len(head.classes_)} classes and {len(labels)} labels"
        )
    if state:
        head.restore_learning(state)
    return head, labels


def whole_head(kind: str, arrays: Mapping[str, NDArray[Any]]) -> Head:
    """A head from its arrays, with the numbers from 0 as classes.

    Raises:
        CorruptError: The arrays are no such head's.
    """
    head = STORED[kind].from_arrays(arrays)
    head.classes_ = np.arange(len(head.classes_))
    return head


def outgrows(size: int, head: Head) -> bool:
    """Whether so many bytes are more than `array_bytes` of a head with what it goes on from."""
    held = 0
    for value in vars(head).values():
        held += _bytes_of(value)
        if held >= size:  # mostly the first large array tells
            return False
    return True


def array_bytes(head: Head, *, learning: bool) -> int:
    """Bytes of the arrays that a head holds; with `learning`, of what it goes on from too."""
    held = dict(vars(head))
    if not learning:
        held.pop("learner_", None)
    return sum(_bytes_of(value) for value in held.values())


def _bytes_of(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, tuple):
        return sum(map(_bytes_of, value))
    return sum(map(_bytes_of, vars(value).values())) if is_dataclass(value) else 0


def _bounded(head: Head, most: int) -> Head:
    """Of neighbours beyond `most`, the first ones of the classes with the most leave."""
    if not isinstance(head, KnnHead) or len(head.codes_) <= most or not most:
        return head
    kept = np.ones(len(head.codes_), dtype=bool)
    counts = np.bincount(head.codes_)
    for _ in range(len(head.codes_) - most):
        largest = int(counts.argmax())
        kept[np.flatnonzero(kept & (head.codes_ == largest))[0]] = False
        counts[largest] -= 1
    head.neighbors_, head.codes_ = head.neighbors_[kept], head.codes_[kept]
    head.weights_ = head.weights_[kept]
    return head


def _written(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays in the safetensors format; its own writer takes 50 us more, at every update."""
    if sys.byteorder == "big":
        return bytes(safetensors.numpy.save(dict(arrays)))
    widest_first = sorted(arrays.items(), key=lambda item: -item[1].itemsize)  # so all are aligned
    header = _header(tuple((name, array.dtype, array.shape) for name, array in widest_first))
    return b"".join((header, *(array.tobytes() for _, array in widest_first)))


@lru_cache(64)
def _header(described: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]) -> bytes:
    """What goes before arrays of these names, types and shapes; most updates have the same."""
    header, end = {}, 0
    for name, dtype, shape in described:
        start, end = end, end + dtype.itemsize * prod(shape)
        header[name] = {"dtype": _DTYPES[dtype], "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@lru_cache(16)
def _text(labels: tuple[str, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(labels, ensure_ascii=False).encode(), dtype=np.uint8)


def _labels(arrays: Mapping[str, NDArray[Any]]) -> tuple[str, ...]:
    found = json.loads(arrays["labels"].tobytes())
    return tuple(str(label) for label in found)
