"""What a device does with a bundle: learn one sample, learn a folder of photos, predict a frame.

Parts, of which ``--only`` takes some:

learn    One sample on features that are there already, 1,280 of them and ten classes, by each kind
         of head: the head alone (``partial_fit``, and a rehearsal where the head needs one), and
         the device (``learn_features``: with the guard, kept features and SQLite). Beside it
         scikit-learn's counterpart fitted again to all samples so far, and river's and avalanche's
         learners where they have the method: ``pip install river avalanche-lib``. The heads know
         200 samples; then 100 come one at a time, and everybody learns the same one in turn.
equal    What single updates leave, against the batch fit on the same samples.
order    A softmax head that knows two flowers from ten photos each, and is then fed all others of
         five flowers one at a time, sorted by class and shuffled, against a refit on everything.
files    Ten classes of 20 photos each, learned from JPEG files in one call, with squeezenet1_1.
predict  One frame of 640 x 480: `Runtime.predict` against preprocessing, the engine's own run and
         the answer, in pairs; and the threads' settings against onnxruntime's default.
delta    Bytes of the update that teaches one more class.

Learning is timed in a process without torch, but for avalanche's part of it. Medians; noise meets
all contestants alike, as they take turns.
"""

from __future__ import annotations

import copy
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from device_peers import one_by_one, refit
from device_predict import compare_predict
from measure import Bar, finish, machine, parser

import edgetl
from edgetl.heads import HEADS, Head
from edgetl.runtime import Runtime

PARTS = ("learn", "equal", "order", "files", "predict", "delta")
MAKES = {"equal": "learn", "delta": "learn"}
"""Parts that measure what another one's bundles are for."""
LIMITS_MS = {"prototype": 1, "knn": 1, "softmax": 1, "ridge": 4, "lda": 4}
REFITS = {"softmax", "ridge", "lda"}
"""Heads whose counterpart computes something when it is fitted; the others' only takes the mean, or
keeps the samples."""
COSINE = {"prototype", "knn"}
PATIENCE = 6.0
REMEMBERED = 32


def say(line: str) -> None:
    """Progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def later_photos(folder: Path, name: str) -> tuple[list[Path], list[str]]:
    """Photos that no bundle knows, in turn one of each class, and their labels."""
    rows = [sorted(path.iterdir()) for path in sorted((folder / f"{name}-later").iterdir())]
    photos = [row[i] for i in range(max(map(len, rows))) for row in rows if i < len(row)]
    return photos, [photo.parent.name for photo in photos]


def part_features(runtime: Runtime, folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Features of a data set's part, and class numbers by the bundle's labels."""
    photos = sorted((folder / part).glob("*/*"))
    codes = [runtime.labels.index(photo.parent.name) for photo in photos]
    return runtime.extractor.features(photos), np.array(codes)


@contextmanager
def opened(path: Path) -> Iterator[Runtime]:
    """A copy of a bundle, which may be learned into, with the guard as it is by default."""
    with tempfile.TemporaryDirectory() as scratch:
        saved = edgetl.Bundle.load(path).save(Path(scratch) / path.name)
        yield edgetl.load(saved.path)


def ready(head: Head, X: np.ndarray, y: np.ndarray) -> Head:
    """The bundle's head fitted again, with its strength, to the very features at hand.

    The bundle's own was fitted to features in float16, as they are cached.
    """
    return head.fixed().fit(X, y)


def head_learner(head: Head, X: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray, int], None]:
    """Learns a sample with the head alone; with a rehearsal of remembered ones if it has one."""
    rng = np.random.default_rng(0)
    rehearses = getattr(head, "rehearses", False)

    def learn(row: np.ndarray, code: int) -> None:
        head.partial_fit(row[None], [code])
        if rehearses:
            drawn = rng.integers(0, len(y), REMEMBERED)
            head.rehearse(X[drawn], y[drawn])

    return learn


def compare_learn(folder: Path) -> tuple[dict, list[Bar]]:
    """One sample by every head, the device, and the peers."""
    figures, bars = {}, []
    for kind in HEADS:
        with opened(folder / f"ten-{kind}.edgetl") as runtime:
            figures[kind] = found = learn_with(runtime, folder, kind)
        say(f"learn: {kind} {found}")
        for who in ("head", "device"):
            if who in found["ms"]:
                what = f"{kind}: one sample by the {who}, ms"
                bars.append(Bar(what, found["ms"][who], "<=", LIMITS_MS[kind]))
        if kind in REFITS:
            what = f"{kind}: times as fast as scikit-learn's refit"
            bars.append(Bar(what, found["times_sklearn"], ">=", 100))
    return figures, bars


def learn_with(runtime: Runtime, folder: Path, kind: str) -> dict:
    """Milliseconds of each contestant, and the accuracy it ends with."""
    X, y = part_features(runtime, folder / "ten", "train")
    X_test, y_test = part_features(runtime, folder / "ten", "test")
    photos, names = later_photos(folder, "ten")
    X_new = runtime.extractor.features(photos)
    y_new = np.array([runtime.labels.index(name) for name in names])
    X_all, y_all = np.concatenate([X, X_new]), np.concatenate([y, y_new])
    head = ready(runtime.bundle.head, X, y)
    learn = head_learner(head, X, y)

    def refit_with(i: int) -> object:
        known = len(X) + i + 1
        return refit(head, X_all[:known], y_all[:known])

    steps: dict[str, Callable[[int], object]] = {
        "head": lambda i: learn(X_new[i], int(y_new[i])),
        "sklearn": refit_with,
    }
    if hasattr(runtime, "learn_features"):
        steps["device"] = lambda i: runtime.learn_features(X_new[i : i + 1], [names[i]])
    peer, absent = one_by_one(kind, X, y)
    if peer is not None:
        steps[peer.name] = lambda i: peer.step(X_new[i], int(y_new[i]))
    found: dict = {"ms": in_turns(steps, len(X_new))}
    for who in set(steps) - {"head", "device"}:
        found[f"times_{who.split()[0]}"] = found["ms"][who] / found["ms"]["head"]
    if absent:
        found["absent"] = absent
    unit = X_test / np.linalg.norm(X_test, axis=1, keepdims=True)
    answers = {
        "head": head.predict(X_test),
        "sklearn": refit(head, X_all, y_all).predict(unit if kind in COSINE else X_test),
    }
    if "device" in steps:
        answers["device"] = runtime.task().head.scores(X_test).argmax(1)
    found["accuracy"] = {who: float(np.mean(codes == y_test)) for who, codes in answers.items()}
    return found


def in_turns(steps: dict[str, Callable[[int], object]], count: int) -> dict[str, float]:
    """Median milliseconds of each contestant on the same samples; the first ones warm up.

    Those that take long stop after `PATIENCE` seconds, with three runs at least; edgetl goes on.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(count):
        for name, step in steps.items():
            spent = seconds[name]
            if name not in ("head", "device") and sum(spent) > PATIENCE and len(spent) > 3:
                continue
            start = time.perf_counter()
            step(i)
            spent.append(time.perf_counter() - start)
    return {
        name: 1e3 * statistics.median(values[5:] if len(values) > 20 else values[1:])
        for name, values in seconds.items()
    }


def compare_equal(folder: Path) -> tuple[dict, list[Bar]]:
    """Single updates against the batch: the largest difference over the largest value."""
    figures, bars = {}, []
    for kind in ("prototype", "ridge", "lda"):
        say(f"equal: {kind}")
        runtime = edgetl.load(folder / f"ten-{kind}.edgetl")
        X, y = part_features(runtime, folder / "ten", "train")
        photos, names = later_photos(folder, "ten")
        X_new = runtime.extractor.features(photos)
        y_new = np.array([runtime.labels.index(name) for name in names])
        head = ready(runtime.bundle.head, X, y)
        for row, code in zip(X_new, y_new, strict=True):
            head.partial_fit(row[None], [code])
        whole = copy.deepcopy(head).fixed()
        whole.fit(np.concatenate([X, X_new]), np.concatenate([y, y_new]))
        arrays = ("prototypes_",) if kind == "prototype" else ("coef_", "intercept_")
        error = max(
            float(np.abs(getattr(head, name) - getattr(whole, name)).max())
            / float(np.abs(getattr(whole, name)).max())
            for name in arrays
        )
        figures[kind] = error
        what = f"{kind}: relative error of {len(y_new)} single updates to the batch fit"
        bars.append(Bar(what, error, "<=", 1e-5))
    return figures, bars


def compare_order(folder: Path) -> tuple[dict, list[Bar]]:
    """Softmax with replay, fed one sample at a time, against a refit on all of them."""
    from device_bundles import FLOWERS

    from edgetl.heads import SoftmaxHead

    figures, bars = {}, []
    path = folder / "flowers-softmax.edgetl"
    probe = edgetl.load(path)
    photos, names = later_photos(folder, "flowers")
    for label in sorted(p.name for p in (FLOWERS / "train").iterdir()):
        if label not in probe.labels:
            more = sorted((FLOWERS / "train" / label).iterdir())
            photos, names = photos + more, names + [label] * len(more)
    known = sorted((folder / "flowers" / "train").glob("*/*"))
    tests = sorted((FLOWERS / "test").glob("*/*"))
    X, X_new, X_test = (probe.extractor.features(part) for part in (known, photos, tests))
    truth = np.array([photo.parent.name for photo in tests])
    y = np.array([photo.parent.name for photo in known])
    whole = SoftmaxHead().fit(np.concatenate([X, X_new]), np.concatenate([y, names]))
    figures["refit"] = float(np.mean(whole.predict(X_test) == truth))
    sequences = {
        "class order": sorted(range(len(names)), key=lambda i: (names[i], i)),
        "shuffled": np.random.default_rng(0).permutation(len(names)).tolist(),
    }
    for name, sequence in sequences.items():
        say(f"order: {name}")
        with opened(path) as runtime:
            updates = [runtime.learn_features(X_new[i : i + 1], [names[i]]) for i in sequence]
            task = runtime.task()
            labels = np.array(task.labels)
            accuracy = float(np.mean(labels[task.head.scores(X_test).argmax(1)] == truth))
        figures[name] = {
            "accuracy": accuracy,
            "kept": sum(update.kept for update in updates),
            "of": len(updates),
        }
        say(f"  {figures[name]}, refit {figures['refit']:.4f}")
        drop = 100 * (figures["refit"] - accuracy)
        bars.append(Bar(f"softmax with replay, {name}: points below the refit", drop, "<=", 1))
    return figures, bars


def compare_files(folder: Path) -> tuple[dict, list[Bar]]:
    """Ten new classes of 20 photos, from their files to the answer, by every head."""
    figures, bars = {}, []
    photos = sorted((folder / "ten" / "train").glob("*/*"))
    tests = sorted((folder / "ten" / "test").glob("*/*"))
    names = [photo.parent.name for photo in photos]
    for kind in HEADS:
        seconds, answers = [], []
        for number in range(3):
            with opened(folder / f"two-{kind}.edgetl") as runtime:
                runtime.warm_up()
                start = time.perf_counter()
                update = runtime.learn(photos, names)
                seconds.append(time.perf_counter() - start)
                answers = runtime.predict(tests) if number == 0 else answers
        right = [a.label == t.parent.name for a, t in zip(answers, tests, strict=True)]
        figures[kind] = {
            "seconds": statistics.median(seconds),
            "accuracy": float(np.mean(right)),
            "update": update.decision if update.kept else f"{update.decision}: {update.reason}",
        }
        say(f"files: {kind} {figures[kind]}")
        what = f"{kind}: {len(photos)} photos of {len(set(names))} new classes, seconds"
        bars.append(Bar(what, figures[kind]["seconds"], "<=", 1.5))
    return figures, bars


def compare_delta(folder: Path) -> tuple[dict, list[Bar]]:
    """Bytes of a signed update for one new class; made by the command line, as one would."""
    figures, bars = {}, []
    photos = sorted((folder / "two" / "train").glob("*/*"))[:5]
    for kind in ("prototype", "softmax"):
        base = folder / f"ten-{kind}.edgetl"
        with opened(base) as runtime, tempfile.TemporaryDirectory() as scratch:
            runtime.learn(photos, ["new class"] * len(photos))
            key, update = Path(scratch) / "key.pem", Path(scratch) / "update.etlh"
            updated = runtime.save().path
            command = [sys.executable, "-m", "edgetl"]
            for words in (
                ("keygen", "-o", key),
                ("diff", base, updated, "-o", update, "--sign", key),
            ):
                subprocess.run([*command, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
            figures[kind] = update.stat().st_size
        what = f"{kind}: bytes of an update with one more class"
        bars.append(Bar(what, figures[kind], "<=", 12_000))
    return figures, bars


def make(folder: Path, parts: list[str]) -> None:
    """Make the bundles in another process."""
    wanted = list(dict.fromkeys(MAKES.get(part, part) for part in parts))
    if "files" in wanted or "order" in wanted or "delta" in wanted:
        wanted = list(dict.fromkeys([*wanted, "learn", "files"]))
    say(f"making bundles for {', '.join(wanted)}")
    command = [sys.executable, str(Path(__file__).with_name("device_bundles.py")), str(folder)]
    subprocess.run([*command, *wanted], check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Run the parts that were asked for."""
    options = parser(__doc__)
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    options.add_argument("--bundles", type=Path, help="a folder that device_bundles.py wrote")
    arguments = options.parse_args()
    compare = {
        "learn": compare_learn,
        "equal": compare_equal,
        "order": compare_order,
        "files": compare_files,
        "predict": compare_predict,
        "delta": compare_delta,
    }
    figures: dict = {"machine": machine("numpy", "onnxruntime", "scikit-learn")}
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault(
            "EDGETL_CACHE_DIR", f"{tempfile.gettempdir()}/edgetl-benchmark-device"
        )
        folder = arguments.bundles or Path(scratch)
        if arguments.bundles is None:
            make(folder, list(arguments.only))
        for part in arguments.only:
            figures[part], more = compare[part](folder)
            bars += more
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
