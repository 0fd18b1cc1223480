"""Heads: light classifiers on features, arrays in and arrays out, numpy alone."""

from __future__ import annotations

from edgetl.heads.base import Head
from edgetl.heads.knn import KnnHead
from edgetl.heads.lda import LdaHead
from edgetl.heads.policy import PolicyHead
from edgetl.heads.prototype import PrototypeHead
from edgetl.heads.ridge import RidgeHead
from edgetl.heads.select import HEADS, STORED, Candidate, Selection, load_head, select_head
from edgetl.heads.softmax import SoftmaxHead

__all__ = [
    "HEADS",
    "STORED",
    "Candidate",
    "Head",
    "KnnHead",
    "LdaHead",
    "PolicyHead",
    "PrototypeHead",
    "RidgeHead",
    "Selection",
    "SoftmaxHead",
    "load_head",
    "select_head",
]
