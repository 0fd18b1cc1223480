"""Telling the unknown: which score tells it best, whether the limit holds, what it costs.

Every score is made from the same training features, or the same head (`select_head`), and judged by
AUROC and by the share of the unknown that passes where 5 % of the known are refused ("FPR95"),
averaged over the sets of `novelty_data`; scikit-learn's detectors are beside it. The limit is
judged by the share of test photos that are called unknown, and so is a class that was learned by
a few samples. Drift is simulated with real features: test photos, then changed ones, shuffled.

Candidates that are not edgetl's follow their papers: Mahalanobis by Lee et al. (2018), with one
covariance of all classes, shrunk as Ledoit and Wolf (2004) do; relative Mahalanobis by Ren et al.
(2021); energy by Liu et al. (2020), with the head's calibrated temperature.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from measure import Bar, finish, interleaved, machine, parser
from novelty_data import BACKBONES, CHANGES, KNOWN, Features, features_of, samples
from scipy.stats import binom
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from edgetl.heads import Head, select_head
from edgetl.runtime import DriftMonitor
from edgetl.runtime.novelty import energy, fit_energy, fit_novelty

Score = Callable[[np.ndarray], np.ndarray]
SHOTS = (1, 3, 5, 10, 20)
_UNKNOWN = ("unlabelled_photos", "photo_sketch/photo", "photo_sketch/sketch", "cifar10_small")
_STREAMS = 40
_AXES = 64


def unit(features: np.ndarray) -> np.ndarray:
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def low_rank(features: np.ndarray, codes: np.ndarray) -> Score:
    """Squared Mahalanobis distance to the nearest class mean, by 64 axes and one rest."""
    means = np.stack([features[codes == code].mean(0) for code in np.unique(codes)])
    inner = features - means[codes]
    shrinkage = LedoitWolf(assume_centered=True).fit(inner).shrinkage_
    _, roots, axes = np.linalg.svd(inner, full_matrices=False)
    count, dim = inner.shape
    spectrum = np.zeros(dim)
    spectrum[: len(roots)] = roots**2 / count
    spectrum = (1 - shrinkage) * spectrum + shrinkage * spectrum.mean()
    kept = min(_AXES, len(roots) - 1)
    rest = spectrum[kept:].mean()
    weights = 1 / spectrum[:kept] - 1 / rest

    def score(queries: np.ndarray) -> np.ndarray:
        distances = []
        for mean in means:
            away = queries - mean
            turned = away @ axes[:kept].T
            distances.append((away**2).sum(1) / rest + turned**2 @ weights)
        return np.min(distances, axis=0)

    return score


def candidates(X: np.ndarray, y: np.ndarray, head: Head) -> dict[str, Score]:
    """Every score, the higher the less known; the first is what edgetl ships."""
    shipped, everything = fit_novelty(X, y), fit_novelty(X, y, kept=len(y))
    units, doubles, one = unit(X), X.astype(np.float64), np.zeros_like(y)
    inner, inner_raw, outer = low_rank(units, y), low_rank(doubles, y), low_rank(units, one)
    factor = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(units)
    machine_ = OneClassSVM(nu=0.05, gamma="scale").fit(units)
    return {
        "nearest, as shipped": lambda Q: shipped.score(Q, head),
        "nearest of all": lambda Q: everything.score(Q, head),
        "Mahalanobis, norm 1": lambda Q: inner(unit(Q)),
        "Mahalanobis": lambda Q: inner_raw(Q.astype(np.float64)),
        "relative Mahalanobis": lambda Q: inner(unit(Q)) - outer(unit(Q)),
        "energy": lambda Q: energy(head.scores(Q), head.temperature_),
        "max softmax": lambda Q: -head.predict_proba(Q).max(1),
        "sklearn LOF": lambda Q: -factor.score_samples(unit(Q)),
        "sklearn OneClassSVM": lambda Q: -machine_.score_samples(unit(Q)),
    }


def judge(score: Score, known: np.ndarray, unknown: list[np.ndarray]) -> tuple[float, float]:
    """Mean AUROC and mean FPR95 over sets of unknown samples."""
    inside = score(known)
    limit = np.quantile(inside, 0.95)
    areas, passed = [], []
    for some in unknown:
        outside = score(some)
        truth = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
        areas.append(roc_auc_score(truth, np.r_[inside, outside]))
        passed.append((outside <= limit).mean())
    return float(np.mean(areas)), float(np.mean(passed))


def head_of(X: np.ndarray, y: np.ndarray) -> Head:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return select_head(X, y, seed=0).head


def learned(features: Features, classes: dict, name: str) -> dict[int, float]:
    """Share of a class that is called unknown, by how many of its samples were learned."""
    X, y = features[f"{name}/train"], classes[f"{name}/train"]
    Q, z = features[f"{name}/test"], classes[f"{name}/test"]
    rng = np.random.default_rng(1)
    shares: dict[int, list[float]] = {}
    for code in np.unique(y):
        others = y != code
        places = np.cumsum(np.bincount(y[others], minlength=y.max() + 1) > 0) - 1
        model = fit_novelty(X[others], places[y[others]])
        own = rng.permutation(np.flatnonzero(y == code))
        queries, codes = Q[z == code], np.full((z == code).sum(), y.max())
        for count in (0, *SHOTS):
            taught = model.with_samples(X[own[:count]], np.full(count, y.max()))
            scores = taught.score(queries, None)
            beyond = scores > taught.limit if not count else taught.unknown(scores, codes)
            shares.setdefault(count, []).append(float(beyond.mean()))
    return {count: float(np.mean(values)) for count, values in shares.items()}


def delays(features: Features, classes: dict) -> dict[str, list[int | None]]:
    """Answers from a change on until the alarm, by what changed; None without one.

    "nothing" goes on with test photos, and "before" counts alarms before any change.
    """
    X, y = features["flower_photos/train"], classes["flower_photos/train"]
    head, model = head_of(X, y), fit_novelty(X, y)

    def answers(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, codes = model.score(some, head), head.predict(some)
        return scores, np.where(model.unknown(scores, codes), -1, codes)

    known = answers(features["flower_photos/test"])
    found: dict[str, list[int | None]] = {"before": []}
    for name in ("nothing", *CHANGES, "photo_sketch/sketch", "unlabelled_photos"):
        later = known if name == "nothing" else answers(features[name])
        found[name] = []
        for seed in range(_STREAMS):
            rng = np.random.default_rng(seed)
            first = rng.permutation(len(known[0]))
            start = 125
            second = first[start:] if name == "nothing" else rng.permutation(len(later[0]))[:250]
            monitor = DriftMonitor(model.calibration)
            monitor.watch(known[0][first[:start]].tolist(), known[1][first[:start]].tolist())
            if monitor.drifted:
                found["before"].append(seed)
                continue
            delay = None
            for number, place in enumerate(second.tolist()):
                monitor.watch([float(later[0][place])], [int(later[1][place])])
                if monitor.drifted:
                    delay = number + 1
                    break
            found[name].append(delay)
    return found


def costs() -> dict[str, float]:
    """Median microseconds at 1,280 features and 10 classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 1280)).astype(np.float32)
    y = np.arange(400) % 10
    model = fit_novelty(X, y)
    full = model.with_samples(X[:256] + 1, y[:256])
    head = select_head(X, y, head="ridge", seed=0).head
    query, code = np.ascontiguousarray(X[:1]), y[:1]
    monitor, grown = DriftMonitor(model.calibration), [full]

    def learn() -> None:
        grown[0] = grown[0].with_samples(query, code)

    scores = iter(rng.choice(model.calibration, 1_000_000).tolist())
    found = interleaved(
        {
            "score": lambda: model.unknown(model.score(query, head), code),
            "score with 256 learned": lambda: full.unknown(full.score(query, head), code),
            "learn one sample": learn,
            "watch for drift": lambda: [monitor.watch([next(scores)], [0]) for _ in range(64)],
        },
        301,
    )
    found["watch for drift"] /= 64
    return {name: 1e6 * seconds for name, seconds in found.items()}


@dataclass
class Found:
    """Everything that was measured.

    Attributes:
        columns: Backbone and known data set.
        scores: Mean AUROC and FPR95 of each candidate, by column.
        refused: By kind of model, known test photos called unknown, and how many there were.
        learned: By column, what `learned` gives.
        drift: What `delays` gives.
        micro: What `costs` gives.
    """

    columns: list[str] = field(default_factory=list)
    scores: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    refused: dict[str, tuple[int, int]] = field(default_factory=dict)
    learned: dict[str, dict[int, float]] = field(default_factory=dict)
    drift: dict[str, list[int | None]] = field(default_factory=dict)
    micro: dict[str, float] = field(default_factory=dict)

    @property
    def means(self) -> dict[str, np.ndarray]:
        """AUROC and FPR95 of each candidate over all columns."""
        return {name: np.mean(values, axis=0) for name, values in self.scores.items()}

    def median_delay(self, name: str) -> float:
        """Of the streams with an alarm."""
        hits = [delay for delay in self.drift[name] if delay is not None]
        return float(np.median(hits)) if hits else float("inf")


def measured(cache: Path | None) -> Found:
    sources, classes = samples()
    found = Found()
    for backbone in BACKBONES:
        features = features_of(backbone, sources, cache)
        for name, other in (KNOWN, KNOWN[::-1]):
            X, y = features[f"{name}/train"], classes[f"{name}/train"]
            known, unknown = features[f"{name}/test"], [features[f"{other}/test"]]
            unknown += [features[part] for part in _UNKNOWN]
            head = head_of(X, y)
            found.columns.append(f"{backbone}, {name}")
            for candidate, score in candidates(X, y, head).items():
                found.scores.setdefault(candidate, []).append(judge(score, known, unknown))
            for model in (fit_novelty(X, y), fit_energy(head, X, y)):
                called = model.unknown(model.score(known, head), head.predict(known))
                count, total = found.refused.get(model.kind, (0, 0))
                found.refused[model.kind] = count + int(called.sum()), total + len(called)
            found.learned[found.columns[-1]] = learned(features, classes, name)
        if not found.drift:
            found.drift = delays(features, classes)
    found.micro = costs()
    return found


def told(found: Found) -> list[str]:
    """The tables."""
    lines = ["Mean AUROC / FPR95 over five sets of unknown photos; columns are"]
    lines += [f"  {number}: {column}" for number, column in enumerate(found.columns, 1)]
    numbers = "".join(f"{number:>13}" for number in range(1, len(found.columns) + 1))
    lines += ["", f"{'':22}{numbers}{'mean':>13}"]
    for name, values in found.scores.items():
        cells = "".join(f"{a:>8.3f}/{fpr:.2f}" for a, fpr in [*values, found.means[name]])
        lines.append(f"{name:22}{cells}")
    lines += ["", "Known test photos called unknown, all columns together (limit: 5 %)"]
    for kind, (count, total) in found.refused.items():
        lines.append(f"  {kind:8} {count} of {total}: {count / total:.3f}")
    lines += ["", "Share of a class called unknown after so many of its samples were learned"]
    lines.append(f"{'':32}" + "".join(f"{count:>7}" for count in (0, *SHOTS)))
    for column, shares in found.learned.items():
        lines.append(f"{column:32}" + "".join(f"{share:>7.3f}" for share in shares.values()))
    lines += [
        "",
        "Drift: mobilenetv2_100 on flower_photos; 125 test photos, then up to 250 of these",
    ]
    for name, delays_ in found.drift.items():
        hits = sum(delay is not None for delay in delays_)
        if name == "before":
            lines.append(f"  alarms before that: {hits} in {_STREAMS * (len(found.drift) - 1)}")
        else:
            after = f", median after {found.median_delay(name):.0f} answers" if hits else ""
            lines.append(f"  {name:20} alarm in {hits} of {len(delays_)}{after}")
    lines += ["", "Microseconds at 1,280 features and 10 classes"]
    lines += [f"  {name:24} {value:8.1f}" for name, value in found.micro.items()]
    return [*lines, ""]


def bars_of(found: Found) -> list[Bar]:
    means = found.means
    ours = means["nearest, as shipped"]
    rest = [value for name, value in means.items() if not name.startswith("nearest")]
    count, total = found.refused["nearest"]
    alarms = [d for d in (*found.drift["before"], *found.drift["nothing"]) if d is not None]
    streams = _STREAMS * (len(found.drift) - 1)
    few = max(shares[10] for shares in found.learned.values())
    return [
        Bar("AUROC behind the best other score", max(v[0] for v in rest) - ours[0], "<=", 0.01),
        Bar("FPR95 above the best other score", ours[1] - min(v[1] for v in rest), "<=", 0.02),
        Bar("known called unknown", count, "<=", float(binom.ppf(0.999, total, 0.05))),
        Bar("a class of 10 samples called unknown, at most", few, "<=", 0.15),
        Bar("false alarms of drift", len(alarms), "<=", float(binom.ppf(0.999, streams, 0.01))),
        Bar("answers until sketches", found.median_delay("photo_sketch/sketch"), "<=", 64),
        Bar("microseconds to score", found.micro["score"], "<=", 100),
        Bar("microseconds to learn one sample", found.micro["learn one sample"], "<=", 200),
        Bar("microseconds to watch for drift", found.micro["watch for drift"], "<=", 50),
    ]


def main() -> int:
    command = parser(__doc__)
    command.add_argument("--cache", type=Path, help="folder that keeps features between runs")
    arguments = command.parse_args()
    found = measured(arguments.cache)
    if not arguments.json:
        lines = [machine("numpy", "onnxruntime", "scikit-learn"), "", *told(found)]
        sys.stdout.write("\n".join(lines) + "\n")
    return finish(vars(found), bars_of(found), as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
