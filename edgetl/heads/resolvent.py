"""Two ways to hold a scatter that grows row by row and to solve with it, plus any amount of floor.

Linear discriminants need (S + c I)^-1 M, where both the scatter S and the floor c, a share of S's
trace, change with every sample. `FewRows` solves in the space of the rows, while these are few.
`Resolvent` keeps P = (S + a I)^-1 for an anchor a and the products P^k M for k up to `ORDERS`:
(S + c I)^-1 is nearly a polynomial in P while c is near a. It knows nothing about classes.

The polynomial's relative error is a scaled Chebyshev polynomial of degree p = `ORDERS`, the least
there is in every direction at once (Golub and Varga, Numer. Math. 3, 1961); with the ratio of c and
a at most r it is below ``2 ((r^0.5 - 1) / (r^0.5 + 1))^p``: 4e-9 with the constants here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from numpy.typing import NDArray

from edgetl.heads.learning import Spectrum
from edgetl.native.reference_heads import pack, unpack
from edgetl.native.resolvent import packed_multiply, resolvent_update

FEW = 256
"""Up to so many rows a system of their number is solved faster than a resolvent is updated."""
ORDERS = 6
REACH = 1.15
"""A resolvent is anchored anew where floor and anchor are further apart than by this factor."""
_SHIFTED = Polynomial(chebyshev.cheb2poly([0] * ORDERS + [1]))(Polynomial([-1, 2])).coef
"""Chebyshev's polynomial on [0, 1]."""


@dataclass(frozen=True, eq=False)
class FewRows:
    """A scatter as the rows that it is the sum of.

    Attributes:
        rows: (r, dim).
        gram: (r, r) their products.
    """

    rows: NDArray[np.float64]
    gram: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.float64]) -> FewRows:
        """With products taken here: O(r^2 dim)."""
        return cls(rows, rows @ rows.T)

    @classmethod
    def of_axes(cls, spectrum: Spectrum) -> FewRows:
        """The axes as rows."""
        values = np.maximum(spectrum.eigenvalues, 0.0)
        return cls(spectrum.basis() * np.sqrt(values)[:, None], np.diag(values))

    def after(self, rows: NDArray[np.float64]) -> FewRows:
        """With these rows (m, dim) too: O(m r dim)."""
        if not len(rows):
            return self
        across = self.rows @ rows.T
        gram = np.block([[self.gram, across], [across.T, rows @ rows.T]])
        return FewRows(np.concatenate([self.rows, rows]), gram)

    def solve(self, right: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
        """``(S + floor I)^-1`` of each of `right` (m, dim), by Woodbury's identity."""
        if not len(self.rows):
            return right / floor
        core = self.gram + floor * np.eye(len(self.gram))
        inside = np.linalg.solve(core, self.rows @ right.T)
        return np.asarray((right - inside.T @ self.rows) / floor)


@dataclass(eq=False)
class Resolvent:
    """A scatter S as what (S + anchor I)^-1 makes of some vectors; `add` changes it in place.

    Attributes:
        inverse: (dim (dim + 1) / 2,) lower triangle of P = anchor (S + anchor I)^-1, row by row;
            its eigenvalues are above 0 and at most 1.
        anchor: Positive.
        powers: (ORDERS, m, dim) P, P^2, ... of each vector, seen from `origin`.
        origin: (dim,) what is subtracted from vectors, so that what they share costs no digits.
    """

    inverse: NDArray[np.float64]
    anchor: float
    powers: NDArray[np.float64]
    origin: NDArray[np.float64]

    @classmethod
    def of(
        cls, full: NDArray[np.float64], anchor: float, vectors: NDArray[np.float64]
    ) -> Resolvent:
        """From the whole matrix ``anchor (S + anchor I)^-1``, symmetric."""
        origin = vectors.mean(axis=0)
        powers = np.empty((ORDERS, *vectors.shape))
        last = vectors - origin
        for order in range(ORDERS):
            last = powers[order] = last @ full
        return cls(pack(full), anchor, powers, origin)

    @classmethod
    def of_rows(
        cls, rows: NDArray[np.float64], floor: float, vectors: NDArray[np.float64]
    ) -> Resolvent:
        """Of the scatter of rows (r, dim), for floors from `floor` on: O(dim^3)."""
        anchor, (count, dim) = REACH * floor, rows.shape
        scaled = rows / np.sqrt(anchor)
        if count < dim:  # I - Z' (Z Z' + I)^-1 Z
            core = np.linalg.cholesky(scaled @ scaled.T + np.eye(count))
            half = np.linalg.solve(core, scaled)
            return cls.of(np.eye(dim) - half.T @ half, anchor, vectors)
        return cls.of(_inverse(scaled.T @ scaled + np.eye(dim)), anchor, vectors)

    @classmethod
    def of_axes(cls, spectrum: Spectrum, floor: float, vectors: NDArray[np.float64]) -> Resolvent:
        """Of a scatter known by its axes, for floors from `floor` on: O(r dim^2) for r axes."""
        anchor = REACH * floor
        return cls.of(anchor * spectrum.resolvent(anchor), anchor, vectors)

    def copy(self) -> Resolvent:
        """One that can be changed without this one."""
        return replace(self, inverse=self.inverse.copy(), powers=self.powers.copy())

    def add(self, row: NDArray[np.float64], shares: NDArray[np.float64]) -> None:
        """Add a row to the scatter and its multiples to the vectors, in place: O(ORDERS dim^2).

        Args:
            row: (dim,).
            shares: (m,) how many times the row is added to each vector.

        Raises:
            ValueError: Something is not finite, or the inverse is damaged; nothing was changed.
        """
        root = self.anchor**0.5
        resolvent_update(self.inverse, self.powers, row / root, shares * root)

    def added(
        self, row: NDArray[np.float64], shares: NDArray[np.float64], room: NDArray[np.float64]
    ) -> Resolvent:
        """What `add` makes of this one, which stays; the inverse is written to `room`."""
        root, powers = self.anchor**0.5, self.powers.copy()
        resolvent_update(room, powers, row / root, shares * root, before=self.inverse)
        return replace(self, inverse=room, powers=powers)

    def widened(
        self, count: int, places: NDArray[np.int64], vectors: NDArray[np.float64]
    ) -> Resolvent:
        """With more vectors: those known at `places`, the others, in order, are `vectors`."""
        if not len(vectors):
            return self
        powers = np.empty((ORDERS, count, len(self.origin)))
        powers[:, places] = self.powers
        new = np.delete(np.arange(count), places)
        last = vectors - self.origin
        for order in range(ORDERS):
            last = packed_multiply(self.inverse, np.ascontiguousarray(last))
            powers[order, new] = last
        return replace(self, powers=powers)

    def only(self, kept: NDArray[np.int64]) -> Resolvent:
        """With these vectors."""
        return replace(self, powers=np.ascontiguousarray(self.powers[:, kept]))

    def after(
        self, rows: NDArray[np.float64], floor: float, vectors: NDArray[np.float64]
    ) -> Resolvent:
        """With many rows at once, for floors from `floor` on, and other vectors.

        O(r dim^2) for up to dim / 2 rows, beyond that O(r dim^2 + dim^3).
        """
        full, scaled = unpack(self.inverse), rows / np.sqrt(self.anchor)
        count, dim = rows.shape
        if count > dim // 2:
            full = _inverse(_inverse(full) + scaled.T @ scaled)
        elif count:
            moved = full @ scaled.T
            core = np.linalg.cholesky(np.eye(count) + scaled @ moved)
            half = np.linalg.solve(core, moved.T)
            full -= half.T @ half
        if self.reaches(floor):
            return Resolvent.of(full, self.anchor, vectors)
        return _moved(full, self.anchor, floor, vectors)

    def within(self, floor: float, vectors: NDArray[np.float64]) -> Resolvent:
        """This one, or where it does not reach so far one that does: O(dim^3).

        Args:
            floor: What is to be solved with next, never less than before.
            vectors: (m, dim) what the powers are of.
        """
        if self.reaches(floor):
            return self
        return _moved(unpack(self.inverse), self.anchor, floor, vectors)

    def reaches(self, floor: float) -> bool:
        """Whether `solve` is as exact as it is said to be."""
        return self.anchor / (REACH * (1 + 1e-9)) <= floor <= self.anchor * REACH * (1 + 1e-9)

    def solve(self, floor: float) -> NDArray[np.float64]:
        """``(S + floor I)^-1`` of each vector minus the origin, (m, dim): O(ORDERS m dim)."""
        # With t for the eigenvalues of the inverse it is the sum of weights_k t^(k+1) / anchor that
        # stands for t / (1 + drift t) / anchor.
        drift = floor / self.anchor - 1
        error = np.zeros(ORDERS + 1)
        if abs(drift) > 1e-12:
            error = _SHIFTED / np.polynomial.polynomial.polyval(-1 / drift, _SHIFTED)
        weights, last = np.empty(ORDERS), 0.0
        for order in range(ORDERS):  # (1 - error(t)) / (1 + drift t), which leaves no rest
            last = float(order == 0) - error[order] - drift * last
            weights[order] = last / self.anchor
        return np.asarray(np.tensordot(weights, self.powers, 1))


def _moved(
    full: NDArray[np.float64], anchor: float, floor: float, vectors: NDArray[np.float64]
) -> Resolvent:
    """The same scatter seen from another anchor, by a system that is never ill-conditioned."""
    new = REACH * floor
    ratio = new / anchor
    change = (ratio - 1) * full
    change.flat[:: len(full) + 1] += 1
    moved = ratio * np.linalg.solve(change, full)
    return Resolvent.of((moved + moved.T) / 2, new, vectors)


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    inverse = np.linalg.inv(matrix)
    return np.asarray((inverse + inverse.T) / 2)
