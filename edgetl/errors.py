"""Every error edgetl raises on purpose, and the exit code each one stands for.

::

    EdgetlError                    1
     +-- MissingDependencyError    3   an optional package, or a device, is not there
     +-- WeightsError              1   weights can't be had, or don't fit the architecture
     +-- DataError                 1   samples or labels that can't be used
     +-- ParityError               4   two ways of computing the same features disagree
     +-- AccuracyError             5   the accuracy gate failed
     +-- BudgetError               6   the latency or size gate failed
     +-- CorruptError              7   a file is not what its hash, format or key says
     +-- StorageError              1   what has to be kept can't be: in use, read-only, or full
     +-- SignatureError            8   a signature is missing or wrong
          +-- WrongBaseError       8   a head update is for another bundle or head
          +-- ReplayError          8   a head update is not newer than the last one

A caller's mistake (a wrong type, an impossible value) is ``TypeError`` or ``ValueError``; on the
command line those exit with 2.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EdgetlError(Exception):
    """The root of every error that edgetl raises on purpose."""

    exit_code: ClassVar[int] = 1
    gates: tuple[Any, ...] = ()
    """All of an export's gates (`edgetl.bundle.GateRecord`), where one of them failed."""


class MissingDependencyError(EdgetlError, ImportError):
    """An optional package or a device that the call needs is not there."""

    exit_code = 3


class WeightsError(EdgetlError):
    """Weights can't be had, or don't fit the architecture they were meant for."""


class DataError(EdgetlError):
    """Samples or labels that can't be used as they are."""


class ParityError(EdgetlError):
    """Two ways of computing the same features disagree beyond the stated tolerance."""

    exit_code = 4


class AccuracyError(EdgetlError):
    """A model is less accurate than the caller allows."""

    exit_code = 5
    evidence: Any = None
    """What was measured (`edgetl.Evidence`), where it was an adaptation that was refused."""


class BudgetError(EdgetlError):
    """A model is slower or larger than the caller allows."""

    exit_code = 6


class CorruptError(EdgetlError):
    """A file is not what its hash, its format number or its key says."""

    exit_code = 7


class SignatureError(EdgetlError):
    """A signature is missing, or does not match the content and the trusted key."""

    exit_code = 8


class WrongBaseError(SignatureError):
    """A head update, whoever signed it, is for another bundle, task or head than this one."""


class ReplayError(SignatureError):
    """A head update is not newer than the last one that was applied."""


class StorageError(EdgetlError):
    """What has to be kept can't be: its place is in use, can't be written to, or is full."""
