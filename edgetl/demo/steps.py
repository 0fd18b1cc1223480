"""The steps of the demo, in order; each does one thing with edgetl and says what came of it.

They know edgetl's public calls and the demo's folder. Figures are what was measured in this run, on
photos that nothing was fitted to; a gate that refuses is told of, and the demo goes on without what
it refused.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgetl._adapt import AdaptOptions, adapt
from edgetl._export import ExportOptions, export
from edgetl._extras import CACHE, missing
from edgetl._report import ReportOptions, write_report
from edgetl.bundle import Bundle, generate_keys
from edgetl.demo.job import BACKBONE, Demo
from edgetl.demo.photos import write_photos
from edgetl.errors import AccuracyError, BudgetError, ParityError, SignatureError
from edgetl.exporter.artefact import GraphOptions
from edgetl.exporter.search import SearchOptions
from edgetl.runtime import LearningOptions, Prediction, Runtime, Update, diff, load
from edgetl.targets import OnnxRuntime

_SHOWN = 4
"""Photos that are asked about by name."""
_MAX_DROP = 2.0
"""Points of accuracy that int8 may lose: with some hundred photos, one or two are a matter of
chance, and are more than the half point that is edgetl's own limit."""
_CACHE = not missing(*CACHE)
"""Whether features can be kept from one step to the next; without, they are computed again."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a step says: lines, the same as figures, and commands as lists of words."""

    lines: Sequence[str]
    figures: dict[str, Any]
    commands: Sequence[Sequence[str | Path]] = ()


def photos(demo: Demo) -> Told:
    """Write the photos."""
    chosen, amounts = demo.options.chosen, demo.options.amounts
    count = write_photos(demo.folder, chosen, amounts, seed=demo.options.seed)
    classes = len(chosen.labels)
    return Told(
        lines=[
            f"{chosen.about}",
            f"{classes * amounts.train} to adapt to and {classes * amounts.test} to measure on, "
            f"{classes} classes: {', '.join(chosen.labels)}",
            f"kept back for step 5: {chosen.further}",
            f"look at them in {demo.folder / 'photos'}: a folder per class is what edgetl expects "
            "of yours too",
        ],
        figures={"photos": count, "classes": list(chosen.labels), "further": chosen.further},
    )


def adapted(demo: Demo) -> Told:
    """Adapt the backbone that the package brings, and measure beside baselines."""
    seed = demo.options.seed
    bundle = adapt(
        demo.folder / "photos",
        backbone=BACKBONE,
        output=demo.adapted,
        options=AdaptOptions(seed=seed, cache=_CACHE),
    )
    found = bundle.evidence
    assert found is not None  # adapt has just measured it
    right = sum(n for true, said, n in found.confusion_counts if true == said)
    beside = [f"{name} {_percent(base.accuracy)}" for name, base in found.baselines.items()]
    verdict = found.extra["verdict"]
    return Told(
        lines=[
            f"accuracy {_percent(found.accuracy)} (95 % interval "
            f"{_percent(found.accuracy_low)} to {_percent(found.accuracy_high)}): {right} of "
            f"{found.n_test} test photos right",
            f"beside: {', '.join(beside)}",
            f"verdict: {verdict['sentence']}",
            f"head: {found.head.kind}, on {bundle.manifest.dim} features of {BACKBONE}; bundle "
            f"{bundle.size / 1e6:.2f} MB",
        ],
        figures={
            "accuracy": found.accuracy,
            "accuracy_low": found.accuracy_low,
            "accuracy_high": found.accuracy_high,
            "n_test": found.n_test,
            "baselines": {name: base.accuracy for name, base in found.baselines.items()},
            "verdict": verdict["verdict"],
            "head": found.head.kind,
            "bundle": str(demo.adapted),
            "bundle_bytes": bundle.size,
        },
        commands=[
            [
                *("edgetl", "adapt", demo.folder / "photos", "--backbone", BACKBONE),
                *_seed(seed),
                *("-o", demo.adapted),
            ]
        ],
    )


def exported(demo: Demo) -> Told:
    """Export in int8 through every gate; in float32 where a gate refuses that here."""
    lines: list[str] = []
    refused: dict[str, str] = {}
    for precision in ("int8", "fp32"):
        output = demo.adapted.with_name(f"{demo.options.data}-{precision}.edgetl")
        try:
            bundle = _export(demo, precision, output)
        except (ParityError, AccuracyError, BudgetError) as error:
            refused[precision] = str(error).partition("\n")[0]
            lines.append(f"{precision} is refused on this machine: {refused[precision]}")
            continue
        record = bundle.manifest.export
        assert record is not None  # export has just written it
        demo.shipped = output
        if refused:
            lines.append(f"so the demo goes on in {precision}:")
        words = {True: "passed", False: "FAILED", None: "not run"}
        width = max(len(gate.name) for gate in record.gates)
        lines += [f"{words[g.passed]}  {g.name:<{width}}  {g.measured}" for g in record.gates]
        if precision == "int8":
            lines.append(
                f"{_MAX_DROP:g} points of accuracy may be lost here, more than edgetl's usual 0.5: "
                "so few photos can't tell less"
            )
        return Told(
            lines=lines,
            figures={
                "bundle": str(output),
                "bundle_bytes": bundle.size,
                "precision": precision,
                "accuracy": dict(record.accuracy),
                "gates": [vars(gate) for gate in record.gates],
                "refused": refused,
            },
            commands=[_export_words(demo, tried) for tried in (*refused, precision)],
        )
    lines.append("so the demo goes on with the bundle as it was adapted")
    return Told(
        lines=lines,
        figures={"bundle": str(demo.adapted), "precision": None, "gates": [], "refused": refused},
        commands=[_export_words(demo, tried) for tried in refused],
    )


def _export(demo: Demo, precision: Any, output: Path) -> Bundle:
    return export(
        demo.adapted,
        OnnxRuntime(precision=precision),
        output=output,
        max_drop=_MAX_DROP if precision == "int8" else None,
        options=ExportOptions(
            graph=GraphOptions(search=SearchOptions(rounds=0)),
            seed=demo.options.seed,
            verify_seconds=demo.options.verify_seconds,
            cache=_CACHE,
        ),
    )


def _export_words(demo: Demo, precision: str) -> list[str | Path]:
    output = demo.adapted.with_name(f"{demo.options.data}-{precision}.edgetl")
    quick = _seed(demo.options.seed)
    if precision == "int8":
        quick += ["--search-rounds", "0", "--max-drop", f"{_MAX_DROP:g}"]
    return ["edgetl", "export", demo.adapted, "--precision", precision, *quick, "-o", output]


def predicted(demo: Demo) -> Told:
    """Ask about one test photo each of a few classes: the first ones, not the best ones."""
    labels = demo.options.chosen.labels[:_SHOWN]
    asked = [demo.photos("photos/test", label)[0] for label in labels]
    with load(demo.shipped, warmup=True) as device:
        before = time.perf_counter()
        answers = device.predict(asked)
        each = (time.perf_counter() - before) / len(asked)
    names = [f"{photo.parent.name}/{photo.name}" for photo in asked]
    width = max(map(len, names))
    lines: list[str] = []
    figures: list[dict[str, Any]] = []
    for photo, name, label, answer in zip(asked, names, labels, answers, strict=True):
        likely = ", ".join(f"{known} {p:.3f}" for known, p in answer.top(2))
        right = "right" if answer.answer == label else f"WRONG: it is {label}"
        unknown = "unknown; nearest " * answer.unknown
        lines.append(f"{name:<{width}}  {unknown}{likely}  ({right})")
        figures.append({"photo": str(photo), "truth": label, **answer.to_json(top=2)})
    lines.append(f"{1e3 * each:.1f} ms a photo, decoding included")
    return Told(
        lines=lines,
        figures={"predictions": figures, "milliseconds": 1e3 * each},
        commands=[["edgetl", "predict", demo.shipped, *asked, "--top", "2"]],
    )


def learned(demo: Demo) -> Told:
    """Learn a class from a few photos on a copy of what ships, as a device would."""
    new = demo.options.chosen.further
    lesson: list[Any] = demo.photos("new/learn", new)
    with load(demo.shipped, warmup=True) as device:
        asked = _Asked(demo, device)
        before = asked.answers(device)
    update, seconds, after = _learn(demo, lesson, asked, guard="refuse")
    refused = "" if update.kept else update.reason
    if refused:
        _, seconds, after = _learn(demo, lesson, asked, guard="off")
    taught, force = demo.folder / "new" / "learn" / new, ["--force"] * bool(refused)
    called = Counter(answer.label for answer in before.new)
    names = ", ".join(f"{name} {count}" for name, count in called.most_common())
    unknown = sum(answer.unknown for answer in before.new)
    found = sum(answer.label == new for answer in after.new)
    count = len(after.new)
    lines = [
        f"before: {count} unseen photos of {new} are called {names}; {unknown} of them are marked "
        "unknown",
        f"learned {len(lesson)} photos in {1e3 * seconds:.0f} ms, reading them included",
        f"after: {found} of the {count} are called {new} ({_percent(found / count)})",
        f"classes known before: {_percent(before.known)} right, now {_percent(after.known)}, on "
        f"{asked.count} test photos",
    ]
    if refused:
        lines.insert(1, f"the guard refused to learn them, so it is done without: {refused}")
    return Told(
        lines=lines,
        figures={
            "label": new,
            "samples": len(lesson),
            "milliseconds": 1e3 * seconds,
            "called_before": dict(called),
            "unknown_before": unknown,
            "asked": count,
            "right_after": found,
            "known_before": before.known,
            "known_after": after.known,
            "known_count": asked.count,
            "refused": refused,
        },
        commands=[
            ["edgetl", "learn", demo.shipped, taught, "--label", new, *force, "-o", demo.device],
        ],
    )


def _learn(
    demo: Demo, lesson: list[Any], asked: _Asked, *, guard: Literal["refuse", "off"]
) -> tuple[Update, float, _Answers]:
    """Learn the lesson, and save the device's bundle unless the guard refused."""
    with tempfile.TemporaryDirectory() as place:  # what ships stays as it is
        options = LearningOptions(guard=guard, folder=place)
        with load(demo.shipped, warmup=True, learning=options) as device:
            started = time.perf_counter()
            update = device.learn(lesson, demo.options.chosen.further)
            seconds = time.perf_counter() - started
            if update.kept:
                device.save(demo.device)
            return update, seconds, asked.answers(device)


@dataclass(frozen=True)
class _Answers:
    """To the photos of the further class, and the share of right ones to all others."""

    new: list[Prediction]
    known: float


class _Asked:
    """The test photos' features: computed once, answered by any head on them."""

    def __init__(self, demo: Demo, device: Runtime) -> None:
        chosen = demo.options.chosen
        photos = {label: demo.photos("photos/test", label) for label in chosen.labels}
        self._truth = [label for label, found in photos.items() for _ in found]
        self._old = device.features([photo for found in photos.values() for photo in found])
        self._new = device.features(demo.photos("new/test", chosen.further))
        self.count = len(self._truth)

    def answers(self, device: Runtime) -> _Answers:
        """What the head in use says."""
        new = device.task().answer(self._new, features=False)
        old = device.task().answer(self._old, features=False)
        right = [answer.label == label for answer, label in zip(old, self._truth, strict=True)]
        return _Answers(new, float(np.mean(right)))


def updated(demo: Demo) -> Told:
    """Sign what the device learned, and put it into a second one; refuse a changed file."""
    keys, changed = demo.folder / "keys", demo.folder / "tampered.etlh"
    private, public = keys / "key.pem", keys / "pub.pem"
    keys.mkdir(mode=0o700)
    generate_keys(private, public)
    delta = diff(demo.shipped, demo.device)
    size = delta.save(demo.update, sign=private)
    content = bytearray(demo.update.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    whole = Bundle.load(demo.shipped).save(demo.second).size
    with load(demo.second) as second, load(demo.device) as first:
        refusal = ""
        try:
            second.apply(changed, trust=public)
        except SignatureError as error:
            refusal = str(error)
        update = second.apply(demo.update, trust=public)
        asked = demo.photos("new/test", demo.options.chosen.further)
        features = first.features(asked)
        ours, theirs = (d.task().answer(features, features=False) for d in (first, second))
    third = demo.folder / "third-device.edgetl"  # an update is taken once
    own, own_public = keys / "own-key.pem", keys / "own-pub.pem"  # keys are never replaced
    same = sum(a.label == b.label for a, b in zip(ours, theirs, strict=True))
    if not refusal:
        raise SignatureError(f"{changed} was changed after it was signed, and was not refused")
    return Told(
        lines=[
            f"{demo.update.name}: {size:,} bytes, signed; the bundle that stays as it is has "
            f"{whole:,}; new: {', '.join(delta.added)}",
            f"a second device took it: generation {update.generation}, and calls {same} of "
            f"{len(asked)} photos of {demo.options.chosen.further} as the first device does",
            f"with one bit changed it is refused: {refusal}",
            f"the keys in {keys} are for this demo alone: key.pem lies there unencrypted",
        ],
        figures={
            "update": str(demo.update),
            "bytes": size,
            "bundle_bytes": whole,
            "added": list(delta.added),
            "generation": update.generation,
            "same": same,
            "asked": len(asked),
            "refused": refusal,
        },
        commands=[
            ["edgetl", "keygen", "-o", own, "--public", own_public],
            ["edgetl", "diff", demo.shipped, demo.device, "-o", demo.update, "--sign", own],
            ["cp", "-r", demo.shipped, third],
            ["edgetl", "apply", third, demo.update, "--trust", own_public],
        ],
    )


def reported(demo: Demo) -> Told:
    """Write the page."""
    page = write_report(demo.device, demo.report, options=ReportOptions(cache=_CACHE))
    size = page.stat().st_size
    return Told(
        lines=[f"{page}: {size / 1e6:.2f} MB, loads nothing and runs nothing"],
        figures={"report": str(page), "bytes": size},
        commands=[["edgetl", "report", demo.device, "-o", page]],
    )


ALL: dict[str, Callable[[Demo], Told]] = {
    "photos": photos,
    "adapt": adapted,
    "export in int8": exported,
    "predict": predicted,
    "learn a class on the device": learned,
    "ship what it learned": updated,
    "report": reported,
}
"""The steps by what they are called, in order."""


def _seed(seed: int) -> list[str]:
    return ["--seed", str(seed)] if seed else []


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
