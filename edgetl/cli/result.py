"""What the verbs that measure take from the command line, and how they show their result."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edgetl.errors import AccuracyError

if TYPE_CHECKING:
    from edgetl._adapt import AdaptOptions
    from edgetl.bundle import Evidence
    from edgetl.features import ExtractOptions
    from edgetl.preprocess import Preprocess


_SHOWN = 10
"""Duplicates that are named; where a bundle is measured on what it was fitted to, all are."""


def extract_options(arguments: argparse.Namespace) -> ExtractOptions:
    """The options of extraction as given on the command line."""
    from edgetl.features import ExtractOptions

    return ExtractOptions(
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        progress=not arguments.quiet,
        strict=arguments.strict,
    )


def adapt_options(arguments: argparse.Namespace, **more: Any) -> AdaptOptions:
    """Options as given on the command line, with `more` that not every verb has."""
    from edgetl._adapt import AdaptOptions

    return AdaptOptions(
        seed=arguments.seed,
        cache=not arguments.no_cache,
        extract=extract_options(arguments),
        **more,
    )


def preprocess_of(text: str | None) -> Preprocess | None:
    """The definition that ``--preprocess`` gives, or None if it was not given."""
    if text is None:
        return None
    from edgetl.preprocess import Preprocess

    try:
        fields = json.loads(text)
        return Preprocess.from_json({**Preprocess().to_json(), **fields})
    except (TypeError, ValueError) as error:
        raise ValueError(f"--preprocess {text!r}: {error}") from error


class Report(Protocol):
    """What a verb found out about data."""

    @property
    def skipped(self) -> Sequence[tuple[str, str]]:
        """(name, reason) of unreadable samples."""

    @property
    def notes(self) -> Sequence[str]:
        """What is odd about the data."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""


def print_report(report: Report, *, as_json: bool) -> None:
    """Print a report on stdout, and what was skipped or is odd about the data on stderr."""
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(report.to_json(), indent=2, ensure_ascii=False) if as_json else report)


def print_evidence(evidence: Evidence, *, as_json: bool, more: Mapping[str, Any]) -> None:
    """Print evidence on stdout, and what was skipped or is odd about the data on stderr."""
    run = evidence.run
    for name, reason in run.skipped:
        print(f"skipped {name}: {reason}", file=sys.stderr)
    if run.n_skipped:
        print(f"skipped {run.n_skipped} samples in all", file=sys.stderr)
    for train, test in run.duplicates[:_SHOWN]:
        print(f"the same content in training and test part: {train} = {test}", file=sys.stderr)
    if run.n_duplicates > _SHOWN:
        print(f"and {run.n_duplicates - _SHOWN} more; --json names them", file=sys.stderr)
    for note in run.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        print(json.dumps({**summary(evidence), **more}, indent=2, ensure_ascii=False))
    else:
        print(evidence)
        print("\n".join(f"{key}: {value}" for key, value in more.items()))


def print_refused(error: AccuracyError, *, as_json: bool, more: Mapping[str, Any]) -> None:
    """Print the evidence of what was refused, if there is any, before the error is raised again."""
    if error.evidence is not None:
        print_evidence(error.evidence, as_json=as_json, more={**more, "refused": True})


def summary(evidence: Evidence) -> dict[str, Any]:
    """The figures a script asks for first, flat, with the whole evidence beside them."""
    run = evidence.run
    return {
        "accuracy": evidence.accuracy,
        "accuracy_low": evidence.accuracy_low,
        "accuracy_high": evidence.accuracy_high,
        "macro_f1": evidence.macro_f1,
        "ece": evidence.ece,
        "n_train": evidence.n_train,
        "n_test": evidence.n_test,
        "classes": list(evidence.labels),
        "head": evidence.head.kind,
        "verdict": evidence.extra.get("verdict", {}).get("verdict"),
        "seconds": run.seconds,
        "images_per_second": run.images_per_second,
        "cache_hits": run.cache_hits,
        "cache_misses": run.cache_misses,
        "skipped": [{"name": name, "reason": reason} for name, reason in run.skipped],
        "n_skipped": run.n_skipped,
        "evidence": evidence.to_json(),
    }
