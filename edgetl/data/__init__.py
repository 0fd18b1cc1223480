"""Data: labelled samples from folders, tables and memory."""

from __future__ import annotations

from edgetl.data.dataset import Dataset
from edgetl.data.duplicates import Duplicate, find_duplicates
from edgetl.data.load import load_dataset
from edgetl.data.unlabelled import load_unlabelled

__all__ = ["Dataset", "Duplicate", "find_duplicates", "load_dataset", "load_unlabelled"]
