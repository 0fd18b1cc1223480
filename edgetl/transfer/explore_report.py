"""What `edgetl.explore` found, as names: for reading, for scripts, and as a table of samples.

It knows how findings are written down, not how they come about.
"""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetl.data.wording import counted
from edgetl.transfer.cluster_scores import Agreement

SHOWN = 10
"""Rows of a table that are printed; JSON and CSV have all."""
COLUMNS = (
    *("name", "cluster", "duplicate_group", "outlier_score", "outlier", "p_value"),
    *("label_next", "label_score"),
)


@dataclass(frozen=True)
class ClusterRow:
    """One cluster: its number, size, typical samples, and most frequent class with its share."""

    cluster: int
    size: int
    typical: tuple[str, ...]
    common: tuple[str, float] | None = None


@dataclass(frozen=True)
class DuplicatePair:
    """Two samples that are almost the same, their cosine, and how likely that is by chance."""

    first: str
    second: str
    similarity: float
    p_value: float


@dataclass(frozen=True)
class OutlierRow:
    """A sample and how unlike the others it is; a p-value where there is a reference."""

    name: str
    score: float
    flagged: bool
    p_value: float | None = None


@dataclass(frozen=True)
class PickedRow:
    """A sample to label, and what it was picked by."""

    name: str
    score: float


@dataclass(frozen=True, kw_only=True)
class ExploreReport:
    """Findings; what was not looked for is None.

    Attributes:
        backbone: What gave the features.
        names: All samples that could be read.
        labelled: How many labelled samples there were beside them.
        clusters: The largest first.
        cluster_of: Cluster of each of `names`.
        silhouette: Mean silhouette of the clusters.
        tried: Mean silhouette by number of clusters, where that was chosen.
        agreement: With the classes of the data, where it has some.
        identical: Names of files with the same content, the first one first.
        duplicates: Near duplicates, the least likely by chance first.
        groups: Names that near duplicates connect.
        outliers: All samples, the most unlike first.
        label_next: The first to label first.
        strategy: How they were picked.
        skipped: Samples that could not be read, and why.
        notes: What a reader should know.
    """

    backbone: str
    names: tuple[str, ...]
    labelled: int = 0
    clusters: tuple[ClusterRow, ...] | None = None
    cluster_of: tuple[int, ...] | None = None
    silhouette: float | None = None
    tried: dict[int, float] | None = None
    agreement: Agreement | None = None
    identical: tuple[tuple[str, str], ...] | None = None
    duplicates: tuple[DuplicatePair, ...] | None = None
    groups: tuple[tuple[str, ...], ...] | None = None
    outliers: tuple[OutlierRow, ...] | None = None
    label_next: tuple[PickedRow, ...] | None = None
    strategy: str | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Everything, as numbers, strings, lists and dicts."""
        return dataclasses.asdict(self)

    def rows(self) -> list[dict[str, Any]]:
        """One row per sample with the columns of `COLUMNS`; empty where nothing was looked for."""
        table: dict[str, dict[str, Any]] = {
            name: {**dict.fromkeys(COLUMNS, ""), "name": name} for name in self.names
        }
        for name, cluster in zip(self.names, self.cluster_of or (), strict=False):
            table[name]["cluster"] = cluster
        for number, group in enumerate(self._all_groups()):
            for name in group:
                table[name]["duplicate_group"] = number
        for outlier in self.outliers or ():
            row = table[outlier.name]
            row["outlier_score"], row["outlier"] = f"{outlier.score:.6g}", int(outlier.flagged)
            row["p_value"] = "" if outlier.p_value is None else f"{outlier.p_value:.6g}"
        for rank, picked in enumerate(self.label_next or (), start=1):
            table[picked.name]["label_next"] = rank
            table[picked.name]["label_score"] = f"{picked.score:.6g}"
        return list(table.values())

    def to_csv(self, path: str | Path) -> Path:
        """Write `rows` as a CSV file in UTF-8, with a heading."""
        path = Path(path)
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows())
        return path

    def _all_groups(self) -> list[set[str]]:
        """Near duplicates and identical files together."""
        groups = [set(group) for group in self.groups or ()]
        for pair in self.identical or ():
            touched = [group for group in groups if group & set(pair)]
            groups = [group for group in groups if group not in touched]
            groups.append(set(pair).union(*touched))
        return sorted(groups, key=lambda group: min(group))

    def __str__(self) -> str:
        beside = f", beside {self.labelled} labelled ones" if self.labelled else ""
        lines = [f"{self.backbone}: {len(self.names)} photos{beside}"]
        if self.clusters is not None:
            lines += ["", *self._cluster_lines(self.clusters)]
        if self.duplicates is not None:
            lines += ["", *self._duplicate_lines(self.duplicates)]
        if self.outliers is not None:
            lines += ["", *self._outlier_lines(self.outliers)]
        if self.label_next is not None:
            lines += ["", f"to label next, {self.strategy} first:"]
            lines += _cut([f"  {row.name}" for row in self.label_next])
        return "\n".join(lines)

    def _cluster_lines(self, clusters: tuple[ClusterRow, ...]) -> list[str]:
        text = counted(len(clusters), "cluster")
        if self.silhouette is not None:
            text += f", silhouette {self.silhouette:.3f}"
        if self.tried is not None:
            text += f" (the best of {min(self.tried)} to {max(self.tried)} clusters)"
        if self.agreement is not None:
            text += (
                f"; with the classes: NMI {self.agreement.nmi:.3f}, ARI {self.agreement.ari:.3f}, "
                f"purity {100 * self.agreement.purity:.1f} %"
            )
        lines = []
        for row in clusters:
            common = f"  {row.common[0]} {100 * row.common[1]:.0f} %" if row.common else ""
            lines.append(f"  {row.cluster:3} {row.size:6} photos{common}  {', '.join(row.typical)}")
        return [text, *_cut(lines, 3 * SHOWN)]

    def _duplicate_lines(self, pairs: tuple[DuplicatePair, ...]) -> list[str]:
        lines = []
        if self.identical:
            lines.append(f"{counted(len(self.identical), 'copy', 'copies')} with the same content")
            lines += _cut([f"  {first} = {second}" for first, second in self.identical])
        groups = counted(len(self.groups or ()), "group")
        lines.append(f"{counted(len(pairs), 'pair')} of near duplicates in {groups}")
        lines += _cut(
            [
                f"  {pair.similarity:.3f}  p = {pair.p_value:.1g}  {pair.first}  {pair.second}"
                for pair in pairs
            ]
        )
        return lines

    def _outlier_lines(self, rows: tuple[OutlierRow, ...]) -> list[str]:
        flagged = sum(row.flagged for row in rows)
        against = "the labelled photos" if self.labelled else "the other photos"
        lines = [f"{counted(flagged, 'outlier')}, unlike {against}; the most unlike:"]
        for row in rows[:SHOWN]:
            mark = "*" if row.flagged else " "
            chance = "" if row.p_value is None else f"  p = {row.p_value:.2g}"
            lines.append(f" {mark}{row.score:6.3f}{chance}  {row.name}")
        return lines


def _cut(lines: list[str], most: int = SHOWN) -> list[str]:
    if len(lines) <= most:
        return lines
    return [*lines[:most], f"  and {len(lines) - most} more"]
