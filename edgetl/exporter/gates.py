"""The gates an exported graph has to pass, each as one comparison of figures that were measured.

They know numbers and limits; where the numbers come from is `edgetl.exporter.verify`'s matter. A
gate that failed is an error with its own exit code, never a warning.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgetl.bundle import GateRecord, Limits
from edgetl.bundle.evidence_table import printable
from edgetl.engines import cosines
from edgetl.errors import AccuracyError, BudgetError, EdgetlError, ParityError
from edgetl.evaluate.metrics import paired_gain
from edgetl.exporter.timing import Timing, ratio

LIMITS = {
    "fp32": Limits(least_cosine=0.9999, mean_cosine=0.9999, agreement=0.99, max_drop=0.5),
    "fp16": Limits(least_cosine=0.999, mean_cosine=0.9995, agreement=0.99, max_drop=0.5),
    "bf16": Limits(least_cosine=0.98, mean_cosine=0.99, agreement=0.95, max_drop=0.5),
    "int8": Limits(least_cosine=0.90, mean_cosine=0.98, agreement=0.90, max_drop=0.5),
}
"""What a graph of each precision has to keep to unless told otherwise.

Half precision keeps 10 bits (bfloat16: 7), and errors add up over the layers; of int8, what good
quantization reaches on networks from SqueezeNet to ResNet. Photos with red and blue exchanged, or
normalised for another network, stay below these cosines.
"""
AT_LEAST = {"int8": 1.0}
"""How many times as fast as float32 a graph must be; other precisions only have to be as fast."""
_AS_FAST = 0.95
"""As fast, up to the noise of a comparison."""

_ADVICE = {
    "parity: features": "export in a wider precision, or calibrate int8 on other or more photos",
    "parity: top-1": "export in a wider precision, or calibrate int8 on other or more photos",
    "parity": "the graph is not what the bundle says of it; export it again",
    "accuracy": "allow more with --max-drop, tell better with more test photos, or export in a "
    "wider precision",
    "speed": "export with --allow-slower, or state what is fast enough with --budget-ms",
    "size": "export in a narrower precision, or state what is small enough with --budget-mb",
}
"""What can be done about a gate that failed, by its name or the beginning of it."""

_ERRORS: dict[int, type[EdgetlError]] = {
    error.exit_code: error for error in (ParityError, AccuracyError, BudgetError)
}


def parity(
    features: NDArray[np.float32],
    expected: NDArray[np.floating],
    limits: Limits,
    *,
    precision: str | None = None,
) -> GateRecord:
    """Whether features of the same samples, (n, dim) each, point the same way.

    Where one is not finite, they point in opposite ways.

    Args:
        features: Of the exported graph.
        expected: Of the original.
        limits: Cosines.
        precision: Of the exported graph; limits laxer than `LIMITS` of it are named as such.
    """
    own = LIMITS.get(precision or "", limits)
    lax = limits.least_cosine < own.least_cosine or limits.mean_cosine < own.mean_cosine
    known = expected.astype(np.float32)
    finite = np.asarray((np.isfinite(features) & np.isfinite(known)).all(axis=1))
    ours, theirs = (np.where(finite[:, None], item, np.float32(0)) for item in (features, known))
    found = np.where(finite, cosines(ours, theirs), -1.0)
    least, mean = float(found.min()), float(found.mean())
    return GateRecord(
        name="parity: features",
        passed=least >= limits.least_cosine and mean >= limits.mean_cosine,
        measured=f"{len(found)} samples, cosine {mean:.5f} on average, {least:.5f} at least",
        limit=f"{limits.mean_cosine:g} and {limits.least_cosine:g}"
        + _laxer(lax, f"{own.mean_cosine:g} and {own.least_cosine:g}"),
        exit_code=ParityError.exit_code,
    )


def _laxer(lax: bool, own: str) -> str:
    """What is added to a limit that a bundle, or a caller, has set for itself."""
    return f" (laxer than edgetl's own: {own})" if lax else ""


def agreement(
    classes: Sequence[str],
    expected: Sequence[str],
    limits: Limits,
    *,
    precision: str | None = None,
) -> GateRecord:
    """Whether two models give samples the same class, by its name; see `parity`."""
    own = LIMITS.get(precision or "", limits)
    same = sum(ours == theirs for ours, theirs in zip(classes, expected, strict=True))
    return GateRecord(
        name="parity: top-1",
        passed=same >= limits.agreement * len(classes),
        measured=f"{same} of {len(classes)} samples ({100 * same / len(classes):.1f} %) "
        "get the class that they had",
        limit=f"{100 * limits.agreement:g} %"
        + _laxer(limits.agreement < own.agreement, f"{100 * own.agreement:g} %"),
        exit_code=ParityError.exit_code,
    )


def same(name: str, wrong: Sequence[str]) -> GateRecord:
    """Whether nothing is wrong with what has to be exactly alike.

    Args:
        name: What was compared.
        wrong: One sentence for each difference.
    """
    return GateRecord(
        name=f"parity: {name}",
        passed=not wrong,
        measured="; ".join(wrong) or "as it should be",
        limit="no difference",
        exit_code=ParityError.exit_code,
    )


def accuracy(
    right: NDArray[np.bool_],
    expected: NDArray[np.bool_],
    limits: Limits,
    *,
    precision: str | None = None,
) -> GateRecord:
    """Whether a model is right about as often as the one it replaces.

    Args:
        right: (n,) whether it is right about each sample.
        expected: (n,) whether the original is.
        limits: `max_drop` is in percentage points.
        precision: As for `parity`.
    """
    own = LIMITS.get(precision or "", limits)
    one = 100 / len(right)
    coarse = f"; one sample is {one:.2f} points, more than may be lost" * (one > limits.max_drop)
    gain, low, high = paired_gain(right, expected)
    drop = -100 * gain + 0.0  # no negative zero
    return GateRecord(
        name="accuracy",
        # Counts decide, so that no rounding does.
        passed=int(expected.sum()) - int(right.sum()) <= limits.max_drop / 100 * len(right) + 1e-9,
        measured=f"{100 * right.mean():.1f} % after {100 * expected.mean():.1f} %, a drop of "
        f"{drop:.2f} points ({-100 * high:.2f} to {-100 * low:.2f}), {len(right)} samples{coarse}",
        limit=f"{limits.max_drop:g} points"
        + _laxer(limits.max_drop > own.max_drop, f"{own.max_drop:g} points"),
        exit_code=AccuracyError.exit_code,
    )


def speed(timing: Timing, reference: Timing | None, precision: str, limits: Limits) -> GateRecord:
    """Whether a prediction is soon enough: within the budget, else not later than in float32.

    Args:
        timing: Of the exported bundle.
        reference: Of the original, timed in turns with it; None if it was not at hand.
        precision: Of the exported graph.
        limits: The budget, if there is one.
    """
    measured = f"{timing.median * 1e3:.2f} ms a photo (p90 {timing.p90 * 1e3:.2f})"
    passed: bool | None = None
    limit = "a comparison with float32"
    if reference is not None:
        found = ratio(reference, timing)
        least = AT_LEAST.get(precision, _AS_FAST)
        measured += (
            f", {found.median:.2f} times as fast as float32 ({found.low:.2f} to {found.high:.2f})"
        )
        limit = f"{least:g} times" if not limits.slower else "none"
        passed = limits.slower or found.median >= least
    if limits.budget_ms is not None:
        limit = f"{limits.budget_ms:g} ms"
        passed = timing.median * 1e3 <= limits.budget_ms
        if reference is not None and not limits.slower and precision in AT_LEAST:
            limit += f" and {AT_LEAST[precision]:g} times"
            passed = passed and ratio(reference, timing).median >= AT_LEAST[precision]
    return GateRecord(
        name="speed",
        passed=passed,
        measured=measured,
        limit=limit,
        exit_code=BudgetError.exit_code,
    )


def size(graph_bytes: int, bundle_bytes: int, float_bytes: int, limits: Limits) -> GateRecord:
    """Whether the bundle is within its budget or, without one, the graph not larger than before."""
    allowed = limits.budget_mb
    measured = f"graph {graph_bytes / 1e6:.2f} MB after {float_bytes / 1e6:.2f}, "
    measured += f"bundle {bundle_bytes / 1e6:.2f} MB"
    return GateRecord(
        name="size",
        passed=graph_bytes <= float_bytes if allowed is None else bundle_bytes <= allowed * 1e6,
        measured=measured,
        limit="not larger" if allowed is None else f"{allowed:g} MB",
        exit_code=BudgetError.exit_code,
    )


def refuse(gates: Sequence[GateRecord], *, what: str) -> None:
    """Raise the error of the first gate that failed, with what to do and the table of all gates.

    The error's `gates` are all of them.

    Args:
        gates: What was found.
        what: What went through them, for the message.

    Raises:
        ParityError: A parity gate failed.
        AccuracyError: The accuracy gate failed.
        BudgetError: The speed or the size gate failed.
    """
    failed = [gate for gate in gates if gate.passed is False]
    if failed:
        first = min(failed, key=lambda gate: gate.exit_code)
        error = _ERRORS[first.exit_code](
            printable(
                f"{what} failed the gate {first.name}: {first.measured}; needed: {first.limit}"
            )
            + f"\n{table(gates)}"
            + "".join(f"\nabout {gate.name}: {_advice(gate.name)}" for gate in failed)
        )
        error.gates = tuple(gates)
        raise error


def _advice(name: str) -> str:
    """What to do about a gate that failed."""
    return _ADVICE.get(name) or _ADVICE[name.partition(":")[0]]


def table(gates: Sequence[GateRecord]) -> str:
    """The gates as lines for the terminal, safe to print whatever a bundle says of its own."""
    words = {True: "passed", False: "FAILED", None: "not run"}
    width = max((len(gate.name) for gate in gates), default=0)
    return "\n".join(
        printable(
            f"{gate.name:<{width}}  {words[gate.passed]:<7}  {gate.measured}  [limit: {gate.limit}]"
        )
        for gate in gates
    )
