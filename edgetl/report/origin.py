"""Sections about where the bundle comes from, and about what its figures do not say."""

from __future__ import annotations

from collections.abc import Iterator

from edgetl.bundle.source import manifest_digest
from edgetl.report.loose import outline
from edgetl.report.markup import (
    Child,
    count,
    engine_name,
    megabytes,
    moment,
    name_of,
    percent,
    tag,
    value_text,
)
from edgetl.report.section import Section
from edgetl.report.subject import Subject
from edgetl.report.tables import facts, folded, table

_SHOWN = ("groups", "method", "verdict")
"""What of `Evidence.extra` has a place of its own."""
_NAMES = 50


def further_section(subject: Subject) -> Section | None:
    """What other parts measured, as it is."""
    rest = {key: value for key, value in subject.extra.items() if key not in _SHOWN}
    if not rest:
        return None
    content = [folded(str(key), outline(value, str(key))) for key, value in rest.items()]
    return Section("further", "Further measurements", tuple(content))


def origin_section(subject: Subject) -> Section:
    """Data, seeds, preprocessing, versions and files, with what proves each."""
    manifest, record, evidence = subject.manifest, subject.record, subject.evidence
    known = dict(record.provenance)
    counts = known.pop("train_counts", None)
    place = known.pop("data", None)
    rows: dict[str, Child] = {
        "data": name_of(str(place), limit=120) if place else "in memory, or not recorded",
        "backbone": f"{manifest.backbone}, {manifest.dim:,} features",
        "graph": tag("code", manifest.graph_fingerprint),
    }
    if evidence is not None:
        run = evidence.run
        rows |= {
            "measured": f"{moment(run.started_at) or 'time unknown'}, in {run.seconds:.1f} s, "
            f"by {engine_name(run.engine)}",
            "features": f"{run.cache_hits:,} from the cache, {run.cache_misses:,} computed, "
            f"{run.images_per_second:.4g} photos a second",
            "seed": str(run.seed),
        }
    names = {
        "seed": "seed of the split",
        "test_data": "test photos",
        "train_digest": "training part",
        "test_fraction": "share for testing",
    }
    for key, value in known.items():
        shown = (
            tag("code", value) if isinstance(value, str) and len(value) == 64 else value_text(value)
        )
        rows[names.get(key, key.replace("_", " "))] = shown
    if isinstance(counts, list) and counts and all(isinstance(n, int) for n in counts):
        least, most = min(counts), max(counts)
        each = f"{least:,} of each class" if least == most else f"{least:,} to {most:,} of a class"
        rows["training photos"] = f"{sum(counts):,}; {each}"
    preprocess = {
        key: value_text(list(value) if isinstance(value, tuple) else value)
        for key, value in manifest.preprocess.to_json().items()
    }
    content: list[Child] = [
        facts(rows),
        tag("h3", "Preprocessing"),
        facts(dict(preprocess), tight=True),
    ]
    if evidence is not None and evidence.run.versions:
        content += [
            tag("h3", "Versions"),
            facts(dict(evidence.run.versions), tight=True),
        ]
    content += [tag("h3", "Files"), _files(subject)]
    if evidence is not None:
        content += _listed(
            "Samples that could not be read",
            evidence.run.skipped,
            evidence.run.n_skipped,
            ["sample", "reason"],
        )
        content += _listed(
            "Samples in both parts",
            evidence.run.duplicates,
            evidence.run.n_duplicates,
            ["training", "test"],
        )
    return Section("provenance", "Provenance", tuple(content))


def limits_section(subject: Subject) -> Section:
    """What the figures do not say."""
    return Section(
        "limits",
        "What these figures do not say",
        (tag("ul", [tag("li", text) for text in _limits(subject)], class_="prose"),),
    )


def _limits(subject: Subject) -> Iterator[str]:
    evidence = subject.evidence
    yield (
        "They hold for photos like those of the test part. Another camera, another light or "
        "another season may give other figures; the intervals know nothing of that."
    )
    yield (
        "The intervals take the test photos as independent of each other. Frames of one film, or "
        "photos of one object, are not: then they are too narrow."
    )
    yield (
        "A photo of none of the classes gets one of them all the same, unless the program asks for "
        "novelty."
    )
    if evidence is not None and "groups" not in subject.extra:
        yield "Whether some groups of people, places or devices fare worse was not measured."
    if evidence is not None and not evidence.baselines:
        yield "No baseline was measured on the same photos, so nothing says what training brought."
    if evidence is not None:
        classes = sum(1 for score in evidence.per_class if score.n)
        misses = round(classes * (1 - evidence.confidence))
        if misses:
            yield (
                f"Each class's interval holds by itself with {percent(evidence.confidence, 0)}. Of "
                f"{classes} of them, about {misses} may miss the truth."
            )
    if subject.manifest.export is not None:
        yield (
            "Latency was measured on the machine that exported the bundle. Run edgetl verify on "
            "the device to have every gate again there."
        )
    else:
        yield "Nothing here says how fast it is; edgetl bench measures that on the device."


def _files(subject: Subject) -> Child:
    manifest = subject.manifest
    rows: list[list[Child]] = [
        [
            "manifest.json",
            megabytes(len(manifest.to_bytes())),
            tag("code", manifest_digest(subject.bundle)),
        ]
    ]
    for name, record in manifest.files.items():
        rows.append([name_of(name), megabytes(record.size), tag("code", record.sha256)])
    return table("Files of the bundle", ["file", "size", "SHA-256"], rows, left=(0, 2))


def _listed(
    title: str, pairs: tuple[tuple[str, str], ...], total: int, columns: list[str]
) -> list[Child]:
    if not total:
        return []
    rows = [[name_of(first), name_of(second, limit=200)] for first, second in pairs[:_NAMES]]
    more = f", the first {len(rows)} shown" if total > len(rows) else ""
    return [
        folded(
            f"{title}: {count(total, 'sample')}{more}",
            table(title, columns, rows, left=(0, 1)),
        )
    ]
