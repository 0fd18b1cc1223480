"""Heads with their whole regularisation sweep against scikit-learn, refit included.

On features of real photos, and on many synthetic ones that have the same class means and the same
spectrum within classes. Both sides get the same arrays, the same strengths and the same folds.
scikit-learn keeps its own solver, tolerance and limit of iterations; its logistic regression takes
many minutes on the synthetic features (``--samples`` makes them fewer).

Where the two do different work: the features are float32, and scikit-learn's two estimators always
convert them to float64. edgetl's ridge does so up to 2**23 numbers or with fewer samples than
features; beyond, its products are float32, and only their sums and the decomposition float64. Its
softmax has float32 products at its default tolerance. A part of the ratios is that, and not the
method; accuracies, objectives and gradients (these two in float64) are compared for this reason.

Both sides run in one process with the threads that BLAS finds, and so under the same
OMP_NUM_THREADS if that is set; LogisticRegressionCV has its default n_jobs=None, and so trains its
folds one after another, as edgetl does.

What is timed how: comparisons on real photos are medians of ``--repeats`` interleaved runs, ridge
on synthetic features of three. Softmax on synthetic features is a single run of each side, edgetl
first, without a warm-up: read its ratio as a size, not to the digit.
"""

from __future__ import annotations

import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
from measure import ASSETS, Bar, finish, interleaved, machine, parser
from sklearn.linear_model import LogisticRegressionCV, RidgeClassifierCV

from edgetl._adapt import AdaptOptions
from edgetl._fewshot import task_features
from edgetl.features import ExtractOptions
from edgetl.heads import RidgeHead, SoftmaxHead, select_head
from edgetl.heads.folds import stratified_folds
from edgetl.heads.ridge import ALPHAS
from edgetl.heads.softmax import STRENGTHS

REAL = ("flower_photos", "caltech101_20")
APART = 4.0
"""Mean distance of synthetic classes in standard deviations: errors, but few, as on real photos."""
_TAIL = 0.05
"""Share of the variance on whose axes a mean of few photos is mostly noise, and is dropped."""


@dataclass(frozen=True)
class Task:
    """Features and classes of a training and a test part."""

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def real_task(name: str) -> Task:
    """Features of mobilenetv2_100 on photos, as `edgetl.adapt` computes them; it caches them."""
    say(f"features of {name}")
    train, test, _ = task_features(
        ASSETS / "data" / name,
        backbone="mobilenetv2_100",
        weights=ASSETS / "weights" / "mobilenetv2_100.safetensors",
        options=AdaptOptions(storage="float32", extract=ExtractOptions(strict=True)),
    )
    return Task(name, train.features, train.targets, test.features, test.targets)


def synthetic_task(tasks: list[Task], samples: int) -> Task:
    """Gaussian classes: the last task's class means, all tasks' pooled spectrum within classes."""
    means = np.stack([tasks[-1].X[tasks[-1].y == c].mean(0) for c in np.unique(tasks[-1].y)])
    inner = [t.X[t.y == c] - t.X[t.y == c].mean(0) for t in tasks for c in np.unique(t.y)]
    pooled = np.concatenate(inner).astype(np.float64)
    values, vectors = np.linalg.eigh(pooled.T @ pooled / len(pooled))
    values = np.maximum(values, values[-1] * 1e-6)
    middle = means.mean(0)
    offsets = (means - middle) @ vectors
    offsets[:, np.cumsum(values) < _TAIL * values.sum()] = 0
    distance = np.sqrt(((offsets[:, None] - offsets[None]) ** 2 / values).sum(2))
    offsets *= APART / distance[np.triu_indices(len(means), 1)].mean()
    generator = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(count) % len(means)
        X = np.empty((count, len(values)), dtype=np.float32)
        turn, root = vectors.T.astype(np.float32), np.sqrt(values).astype(np.float32)
        for start in range(0, count, 4096):
            rows = slice(start, start + 4096)
            noise = generator.standard_normal((len(y[rows]), len(values)), dtype=np.float32) * root
            X[rows] = (noise + offsets[y[rows]].astype(np.float32)) @ turn + middle
        return X, y

    return Task(f"synthetic {samples} x {len(values)}", *draw(samples), *draw(10_000))


def peer_softmax(task: Task) -> LogisticRegressionCV:
    """scikit-learn's sweep over the same strengths and folds, otherwise with its defaults."""
    folds = stratified_folds(task.y)
    splits = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in range(5)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged within its limit of iterations
        return LogisticRegressionCV(
            Cs=STRENGTHS, cv=splits, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False
        ).fit(task.X, task.y)


def objective(coef: np.ndarray, intercept: np.ndarray, C: float, task: Task) -> tuple[float, float]:
    """Mean objective in float64, and the largest absolute entry of its gradient."""
    total, gradient, errors = 0.0, np.zeros(coef.shape), np.zeros(len(intercept))
    for start in range(0, len(task.y), 4096):
        X, y = task.X[start : start + 4096].astype(np.float64), task.y[start : start + 4096]
        logits = X @ coef.T + intercept
        logits -= logits.max(1, keepdims=True)
        total -= logits[np.arange(len(y)), y].sum()
        probabilities = np.exp(logits)
        sums = probabilities.sum(1, keepdims=True)
        total += np.log(sums).sum()
        probabilities /= sums
        probabilities[np.arange(len(y)), y] -= 1
        gradient += probabilities.T @ X
        errors += probabilities.sum(0)
    total += (coef**2).sum() / (2 * C)
    gradient += coef / C
    largest = max(np.abs(gradient).max(), np.abs(errors).max())
    return float(total) / len(task.y), float(largest) / len(task.y)


def compare_softmax(task: Task, repeats: int) -> tuple[dict, list[Bar]]:
    """The sweep on both sides, and the same objective at the strength the peer chose."""
    made: dict[str, SoftmaxHead | LogisticRegressionCV] = {}
    contestants = {
        "edgetl": lambda: made.update(ours=SoftmaxHead().fit(task.X, task.y)),
        "sklearn": lambda: made.update(theirs=peer_softmax(task)),
    }
    seconds = timed(contestants, repeats)
    ours, theirs = made["ours"], made["theirs"]
    strength = float(np.ravel(theirs.C_)[0])
    same = SoftmaxHead(C=strength).fit(task.X, task.y)
    our_value, our_gradient = objective(same.coef_, same.intercept_, strength, task)
    their_value, their_gradient = objective(theirs.coef_, theirs.intercept_, strength, task)
    figures = {
        "seconds": seconds,
        "ratio": seconds["sklearn"] / seconds["edgetl"],
        "C": {"edgetl": ours.C_, "sklearn": strength},
        "accuracy": accuracies(ours, theirs, task),
        "objective_at_sklearns_C": {"edgetl": our_value, "sklearn": their_value},
        "gradient_at_sklearns_C": {"edgetl": our_gradient, "sklearn": their_gradient},
    }
    excess = (our_value - their_value) / their_value
    what = f"{task.name}, softmax"
    return figures, [
        Bar(f"{what}: times as fast as LogisticRegressionCV", figures["ratio"], ">=", 5),
        Bar(f"{what}: accuracy minus the peer's", lead(figures), ">=", 0),
        Bar(f"{what}: relative excess of the objective", excess, "<=", 1e-6),
        Bar(f"{what}: gradient over the peer's", our_gradient / their_gradient, "<=", 1),
    ]


def compare_ridge(task: Task, repeats: int) -> tuple[dict, list[Bar]]:
    """All strengths by leave-one-out on both sides."""
    made: dict[str, RidgeHead | RidgeClassifierCV] = {}
    contestants = {
        "edgetl": lambda: made.update(ours=RidgeHead(ALPHAS).fit(task.X, task.y)),
        "sklearn": lambda: made.update(theirs=RidgeClassifierCV(alphas=ALPHAS).fit(task.X, task.y)),
    }
    seconds = timed(contestants, repeats)
    ours, theirs = made["ours"], made["theirs"]
    figures = {
        "seconds": seconds,
        "ratio": seconds["sklearn"] / seconds["edgetl"],
        "alpha": {"edgetl": ours.alpha_, "sklearn": float(theirs.alpha_)},
        "accuracy": accuracies(ours, theirs, task),
    }
    return figures, [
        Bar(f"{task.name}, ridge: times as fast as RidgeClassifierCV", figures["ratio"], ">=", 2),
        Bar(f"{task.name}, ridge: accuracy minus the peer's", lead(figures), ">=", 0),
    ]


def timed(contestants: dict, repeats: int) -> dict[str, float]:
    """Median seconds, interleaved; with one repeat neither side is warmed up first."""
    if repeats > 1:
        return interleaved(contestants, repeats)
    seconds = {}
    for name, call in contestants.items():
        start = time.perf_counter()
        call()
        seconds[name] = time.perf_counter() - start
        say(f"  {name}: {seconds[name]:.1f} s")
    return seconds


def accuracies(ours, theirs, task: Task) -> dict[str, float]:
    """Accuracy of both on the test part."""
    return {
        "edgetl": float(np.mean(ours.predict(task.X_test) == task.y_test)),
        "sklearn": float(np.mean(theirs.predict(task.X_test) == task.y_test)),
    }


def lead(figures: dict) -> float:
    """Accuracy ahead of the peer's."""
    return figures["accuracy"]["edgetl"] - figures["accuracy"]["sklearn"]


def compare_auto(task: Task) -> tuple[dict, list[Bar]]:
    """The choice among all heads, on its own."""
    seconds = interleaved({"edgetl": lambda: select_head(task.X, task.y)}, 3)["edgetl"]
    chosen = select_head(task.X, task.y).head
    accuracy = float(np.mean(chosen.predict(task.X_test) == task.y_test))
    figures = {"seconds": seconds, "head": chosen.kind, "accuracy": accuracy}
    return figures, [Bar(f"{task.name}, select_head: seconds", seconds, "<=", 2)]


def say(line: str) -> None:
    """Progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> int:
    """Run the comparisons that were asked for."""
    options = parser(__doc__)
    options.add_argument("--only", choices=("real", "synthetic"), help="one of the two halves")
    options.add_argument("--samples", type=int, default=50_000, help="synthetic samples")
    options.add_argument("--repeats", type=int, default=5, help="of each real comparison")
    arguments = options.parse_args()
    real = [real_task(name) for name in REAL]
    jobs: list[tuple[Task, int]] = []
    if arguments.only != "synthetic":
        jobs += [(task, arguments.repeats) for task in real]
    if arguments.only != "real":
        jobs.append((synthetic_task(real, arguments.samples), 1))
    figures: dict = {"machine": machine("numpy", "scikit-learn"), "tasks": {}}
    bars: list[Bar] = []
    for task, repeats in jobs:
        say(f"{task.name}: {len(task.y)} x {task.X.shape[1]}, {task.y.max() + 1} classes")
        found: dict = {}
        found["ridge"], more = compare_ridge(task, max(repeats, 3))
        bars += more
        say(f"  ridge: {found['ridge']}")
        found["softmax"], more = compare_softmax(task, repeats)
        bars += more
        say(f"  softmax: {found['softmax']}")
        if repeats > 1:
            found["auto"], more = compare_auto(task)
            bars += more
            say(f"  auto: {found['auto']}")
        figures["tasks"][task.name] = found
    return finish(figures, bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
