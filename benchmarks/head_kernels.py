"""The kernels of heads and of pooling beside numpy, at the sizes of a device.

Each line is one call through edgetl's Python face, with all its checks, beside the plain numpy that
does the same, on the same arrays: 1280 features, 10 to 1000 classes, 1 to 32 samples. Steps of
gradient descent are beside torch's autograd and SGD too, and pooling beside torch's. numpy's BLAS
has one thread, as it has in a device's process that runs a network beside it; ``--threads`` gives
it more. Where the face itself hands over to numpy (see its docstrings), the line says so.

The bars were set after the first measurements, with room for noise: they notice when a kernel falls
behind, and claim no more. At one sample no kernel is slower than numpy, but for bare scores, which
a head never asks for alone: there numpy is one product of a BLAS, and the bar is 0.75. For
probabilities of a thousand classes it is 0.9: both read 10 MB, and memory decides. From 2 to 32
samples what the face picks is at most a quarter slower. Reading single rows of a cache has no bar:
nobody does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import torch
from measure import Bar, finish, interleaved, machine, parser
from threadpoolctl import threadpool_limits

from edgetl.features.key import MAX_ROUNDING
from edgetl.native import instruction_set
from edgetl.native.heads import (
    FEW,
    SgdStep,
    cosine,
    linear_probabilities,
    linear_scores,
    nearest,
    softmax,
    softmax_step,
)
from edgetl.native.pool import pool, widen
from edgetl.native.ridge import RidgeState

DIM = 1280
SAMPLES = (1, 8, 32)
CLASSES = (10, 100, 1000)
MEMORY = (500, 5000)
_SECONDS = 0.25
"""Roughly, for the slower side of each line."""


class Table:
    """Lines of one call each: edgetl, numpy, and torch where it is the common way."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.bars: list[Bar] = []

    def add(
        self,
        what: str,
        contestants: dict[str, Callable[[], object]],
        *,
        least: float | None,
        note: str = "",
    ) -> None:
        """Measure a line; `least` is the bar on its ratio."""
        first = interleaved(contestants, 3)
        repeats = int(min(max(_SECONDS / max(first.values()), 15), 401))
        seconds = interleaved(contestants, repeats)
        ratio = seconds["numpy"] / seconds["edgetl"]
        self.rows.append({"what": what, "seconds": seconds, "ratio": ratio, "note": note})
        if least is not None:
            self.bars.append(Bar(f"{what}: times as fast as numpy", ratio, ">=", least))
        cells = "".join(f"{name} {1e6 * value:9.1f} us  " for name, value in seconds.items())
        sys.stderr.write(f"{what:44} {cells} {ratio:6.2f}x {note}\n")


def numpy_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores - scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def numpy_unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


def bar(n: int, *, one: float = 1.0) -> float:
    """The least ratio at `n` samples."""
    return one if n == 1 else 0.8


def scores(table: Table, rng: np.random.Generator) -> None:
    for classes in CLASSES:
        coef, intercept = rng.standard_normal((classes, DIM)), rng.standard_normal(classes)
        narrow = coef.astype(np.float32)
        for n in SAMPLES:
            x = rng.random((n, DIM), dtype=np.float32)
            size = f"{n:2} x {classes:4} classes"
            few = n == 1 or n * coef.size <= FEW
            note = "" if few else "the face picks numpy"

            def plain(x=x, coef=coef, intercept=intercept):
                return x @ coef.T + intercept

            def both(plain=plain):
                return numpy_softmax(plain())

            table.add(
                f"scores, {size}",
                {"edgetl": lambda x=x, c=coef, b=intercept: linear_scores(x, c, b), "numpy": plain},
                least=bar(n, one=0.75),
                note=note,
            )
            if n == 1:
                table.add(
                    f"scores, {size}, stored as float32",
                    {
                        "edgetl": lambda x=x, c=narrow, b=intercept: linear_scores(x, c, b),
                        "numpy": plain,
                    },
                    least=0.75,
                )
            if few:
                table.add(
                    f"probabilities, {size}",
                    {
                        "edgetl": lambda x=x, c=coef, b=intercept: linear_probabilities(
                            x, c, b, 1.0
                        ),
                        "numpy": both,
                    },
                    least=bar(n, one=0.9 if classes == 1000 else 1.0),
                )
            found = plain()
            table.add(
                f"softmax, {size}",
                {"edgetl": lambda s=found: softmax(s), "numpy": lambda s=found: numpy_softmax(s)},
                least=bar(n),
            )


def similarities(table: Table, rng: np.random.Generator) -> None:
    for classes in (10, 100):
        rows = rng.standard_normal((classes, DIM))
        middle = rows.mean(axis=0)
        for n in SAMPLES:
            x = rng.random((n, DIM), dtype=np.float32)

            def plain(x=x, rows=rows, middle=middle):
                return numpy_unit(x - middle) @ numpy_unit(rows - middle).T

            table.add(
                f"cosine, {n:2} x {classes:4} prototypes",
                {"edgetl": lambda x=x, r=rows, m=middle: cosine(x, r, middle=m), "numpy": plain},
                least=bar(n),
                note="" if n * rows.size <= FEW else "the face picks numpy",
            )
    for m in MEMORY:
        memory = numpy_unit(rng.standard_normal((m, DIM))).astype(np.float32)
        for n in SAMPLES:
            x = rng.random((n, DIM), dtype=np.float32)

            def best(x=x, memory=memory):
                similar = numpy_unit(x) @ memory.T
                top = np.argpartition(similar, -5, axis=1)[:, -5:]
                order = np.take_along_axis(similar, top, 1).argsort(axis=1)[:, ::-1]
                return np.take_along_axis(top, order, 1)

            table.add(
                f"nearest 5, {n:2} x {m:4} rows",
                {"edgetl": lambda x=x, r=memory: nearest(x, r, 5), "numpy": best},
                least=bar(n),
                note="" if n <= 8 else "the face picks numpy",
            )


def updates(table: Table, rng: np.random.Generator) -> None:
    for classes in (10, 100):
        rows = rng.standard_normal((200, DIM)).astype(np.float32)
        targets = np.where(rng.integers(0, classes, 200)[:, None] == np.arange(classes), 1.0, -1.0)
        state = RidgeState.of(rows, targets, 10.0)
        full, coef = np.linalg.inv(np.cov(rows.T) * 199 + 10 * np.eye(DIM)), state.coef.copy()
        mean, center = state.mean.copy(), state.target_mean.copy()
        x, wanted = rows[0] * 0.9, targets[0]

        def plain(full=full, coef=coef, mean=mean, center=center, x=x, wanted=wanted):
            step = x - mean
            gain = full @ step
            scale = 1 / (1 + step @ gain)
            coef += scale * np.outer(wanted - center - coef @ step, gain)
            full -= scale * np.outer(gain, gain)

        table.add(
            f"ridge update, {classes:4} classes",
            {"edgetl": lambda s=state, x=x, t=wanted: s.add(x, t), "numpy": plain},
            least=1.0,
        )


def numpy_step(x, codes, coef, intercept, step: SgdStep) -> None:
    chances = numpy_softmax(x @ coef.T + intercept)
    chances[np.arange(len(codes)), codes] -= 1
    chances /= len(codes)
    coef -= step.rate * (chances.T @ x + step.l2 * coef)
    intercept -= step.rate * chances.sum(axis=0)


def steps(table: Table, rng: np.random.Generator) -> None:
    step = SgdStep(0.01, l2=1e-4)
    for classes in CLASSES:
        for n in SAMPLES:
            x = rng.random((n, DIM), dtype=np.float32)
            codes = rng.integers(0, classes, n)
            ours = np.zeros((classes, DIM)), np.zeros(classes)
            theirs = np.zeros((classes, DIM)), np.zeros(classes)
            layer = torch.nn.Linear(DIM, classes).double()
            optimiser = torch.optim.SGD(layer.parameters(), lr=0.01, weight_decay=1e-4)
            wide, labels = torch.from_numpy(x).double(), torch.from_numpy(codes)

            def common(layer=layer, optimiser=optimiser, wide=wide, labels=labels):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(layer(wide), labels).backward()
                optimiser.step()

            table.add(
                f"SGD step, {n:2} x {classes:4} classes",
                {
                    "edgetl": lambda x=x, c=codes, p=ours: softmax_step(x, c, p, step),
                    "numpy": lambda x=x, c=codes, p=theirs: numpy_step(x, c, *p, step),
                    "torch": common,
                },
                least=bar(n),
                note="" if n < 16 or n * classes * DIM <= 2 * FEW else "the face picks numpy",
            )


def numpy_rounded(features: np.ndarray) -> np.ndarray:
    """What was done to features on their way to the cache before there was a kernel."""
    with np.errstate(over="ignore"):
        rounded = features.astype(np.float16)
    assert np.isfinite(rounded).all(axis=1).all()
    exact = features.astype(np.float64)
    error, length = np.linalg.norm(exact - rounded, axis=1), np.linalg.norm(exact, axis=1)
    assert not (error > MAX_ROUNDING * length).any()
    return rounded


def storing(table: Table, rng: np.random.Generator) -> None:
    for n in SAMPLES:
        features = rng.random((n, DIM), dtype=np.float32)
        table.add(
            f"features to the cache, {n:2}",
            {"edgetl": lambda x=features: pool(x), "numpy": lambda x=features: numpy_rounded(x)},
            least=1.0,
        )
        halves, out = features.astype(np.float16), np.empty_like(features)
        table.add(
            f"features from the cache, {n:2}",
            {
                "edgetl": lambda x=halves, out=out: widen(x, out),
                "numpy": lambda x=halves, out=out: np.copyto(out, x),
            },
            least=1.0 if n > 1 else None,  # a cache is read by the thousand
        )
        for layout, shape in (("nchw", (n, DIM, 7, 7)), ("nhwc", (n, 7, 7, DIM))):
            maps = rng.random(shape, dtype=np.float32)
            axis = (2, 3) if layout == "nchw" else (1, 2)

            def plain(maps=maps, axis=axis):
                return numpy_rounded(numpy_unit(maps.mean(axis=axis)))

            same = torch.from_numpy(maps)

            def common(maps=same, axis=axis):
                means = maps.mean(dim=axis)
                return torch.nn.functional.normalize(means).half()

            table.add(
                f"pool, normalise, round, {n:2} maps {layout}",
                {
                    "edgetl": lambda x=maps, layout=layout: pool(x, layout=layout, eps=1e-12),
                    "numpy": plain,
                    "torch": common,
                },
                least=1.0,
            )


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--threads", type=int, default=1, help="of numpy's BLAS and of torch")
    arguments = options.parse_args()
    table, rng = Table(), np.random.default_rng(0)
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        for part in (scores, similarities, updates, steps, storing):
            part(table, rng)
    figures = {
        "machine": machine("numpy", "torch"),
        "instruction_set": instruction_set(),
        "threads": arguments.threads,
        "lines": table.rows,
    }
    if not arguments.json:
        sys.stdout.write(f"{figures['machine']}, {instruction_set()}, {arguments.threads} thread\n")
        for row in table.rows:
            cells = "".join(f"{k} {1e6 * v:9.1f} us  " for k, v in row["seconds"].items())
            sys.stdout.write(
                f"{row['what']:44} {cells} {row['ratio']:6.2f}x {row['note']}".rstrip()
            )
            sys.stdout.write("\n")
    return finish(figures, table.bars, as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
