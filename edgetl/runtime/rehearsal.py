"""Which remembered samples a head goes through again after it learned.

What is drawn depends on what is remembered and on the number of the generation alone, so that a
learner that was stopped goes on as if it had not been. It knows nothing about heads.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from math import gcd
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgetl.runtime.events import Draws, parted

Remembered: TypeAlias = Callable[[int], tuple[NDArray[np.float16], float]]
"""Features (dim,) of the remembered sample of a number, and how many samples it stands for."""


def batches(
    pools: dict[int, list[int]],
    remembered: Remembered,
    features: NDArray[np.float16],
    codes: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    size: int,
    steps: int,
    generation: int,
) -> Draws:
    """Batches to rehearse, one after each of `steps` parts of new samples.

    A batch has the samples of its part, and as many of each class as of any other, remembered or of
    the parts so far. A class goes through its samples in turn, in an order that chance decides anew
    each round, and classes alternate. Weights are those for `edgetl.heads.Head.rehearse`: as many
    in all as there are samples.

    Args:
        pools: Numbers of what is remembered, by class; those of the new samples are added to it.
        remembered: What they are the numbers of.
        features: (n, dim) new samples.
        codes: (n,) their classes.
        weights: (n,) how much each counts.
        size: Samples of a batch.
        steps: How many batches, 1 to n.
        generation: Decides what chance decides.
    """
    parts = parted(len(codes), steps)
    width = max(size, parts[0].stop)
    drawn = np.empty((steps, width, features.shape[1]), np.float16)
    drawn_codes = np.empty((steps, width), np.int64)
    drawn_weights, numbers = np.empty((steps, width)), np.empty((steps, width), np.int64)
    for step, part in enumerate(parts):
        new = codes[part].tolist()
        own = Counter(new)
        for row, code in zip(range(len(codes))[part], new, strict=True):
            pools.setdefault(code, []).append(-1 - row)
        classes = tuple(sorted(pools))
        first = (generation + step) * width % len(classes)
        counts, order, of_places = _shares(classes, tuple(own.items()), width, first)
        by_class: list[int] = []
        stands: list[float] = []
        for code, count in counts:
            pool = pools[code]
            chosen = _chosen(len(pool), count, own[code], code, generation + step)
            by_class += [pool[place] for place in chosen]
            stands += [len(pool) / count] * count
        chosen_numbers = [by_class[place] for place in order]
        cards = [
            remembered(number)
            if number >= 0
            else (features[-1 - number], float(weights[-1 - number]))
            for number in chosen_numbers
        ]
        np.concatenate([card[0] for card in cards], out=drawn[step].reshape(-1))
        numbers[step], drawn_codes[step] = chosen_numbers, of_places
        drawn_weights[step] = [
            card[1] * stands[place] for card, place in zip(cards, order, strict=True)
        ]
    return Draws(drawn, numbers, drawn_codes, drawn_weights)


@lru_cache(1024)
def _shares(
    classes: tuple[int, ...], own: tuple[tuple[int, int], ...], width: int, first: int
) -> tuple[tuple[tuple[int, int], ...], tuple[int, ...], tuple[int, ...]]:
    """How many samples of each class, and how they alternate.

    Returns:
        Codes and counts; then, for each place of the batch, which one it is of the samples by
        class, and its code.
    """
    counts = tuple(_counts(classes, own, width, first).items())
    turns = [((i + 0.5) / count, code) for code, count in counts for i in range(count)]
    order = sorted(range(len(turns)), key=turns.__getitem__)
    return counts, tuple(order), tuple(turns[place][1] for place in order)


def _counts(
    classes: tuple[int, ...], own: tuple[tuple[int, int], ...], width: int, first: int
) -> dict[int, int]:
    """As many samples of one class as of another, but all of its own."""
    counts = dict(own)
    left = width - sum(counts.values())
    for place in range(width):
        code = classes[(first + place) % len(classes)]
        if left and counts.get(code, 0) <= place // len(classes):
            counts[code], left = counts.get(code, 0) + 1, left - 1
    while left:
        code = min(counts, key=lambda code: counts[code])
        counts[code], left = counts[code] + 1, left - 1
    return counts


def _chosen(size: int, count: int, fresh: int, code: int, turn: int) -> list[int]:
    """Places in a pool: the last `fresh` ones, and others in turn."""
    chosen = list(range(size - fresh, size))
    number, place = divmod(turn * count, size)
    left = count - fresh
    while left > 0:
        stride, shift = _round(number, code, size)
        end = min(place + left, size)
        chosen += [(i * stride + shift) % size for i in range(place, end)]
        left, number, place = left - (end - place), number + 1, 0
    return chosen


@lru_cache(1024)
def _round(number: int, code: int, size: int) -> tuple[int, int]:
    """A stride through a pool that meets everyone once, and where it starts."""
    chance = random.Random(1009 * number + code)
    stride = chance.randrange(1, size + 1)
    while gcd(stride, size) != 1:
        stride = stride % size + 1
    return stride, chance.randrange(size)
