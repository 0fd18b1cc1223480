"""Each gate just at, just inside and just beyond its limit, and the error that it becomes."""

import dataclasses

import numpy as np
import pytest

from edgetl.bundle import GateRecord, Limits
from edgetl.errors import AccuracyError, BudgetError, ParityError
from edgetl.exporter import gates
from edgetl.exporter.timing import Timing

LIMITS = Limits(least_cosine=0.6, mean_cosine=0.8, agreement=0.9, max_drop=2.0)


def at_angles(*cosines):
    """Vectors with these cosines to (1, 0), and that vector as often."""
    found = np.array([[c, np.sqrt(1 - c * c)] for c in cosines], np.float32)
    return 3 * found, np.tile(np.float32([1, 0]), (len(cosines), 1))


@pytest.mark.parametrize(
    ("cosines", "passed"),
    [
        ((1, 0.61), True),
        ((1, 0.59), False),  # the least one
        ((1, 1, 0.61, 0.61), True),
        ((0.99, 0.61, 0.79), False),  # the mean: 0.797
        ((0.99, 0.63, 0.79), True),  # 0.803
        ((1, -1), False),
    ],
)
def test_parity_looks_at_the_least_and_the_mean_cosine(cosines, passed):
    gate = gates.parity(*at_angles(*cosines), LIMITS)
    assert gate.passed is passed
    assert gate.exit_code == 4
    assert f"{len(cosines)} samples" in gate.measured
    assert f"{np.mean(cosines):.5f} on average, {min(cosines):.5f} at least" in gate.measured


def test_parity_exactly_at_its_limits_passes():
    found, expected = np.float32([[3, 4], [1, 0]]), np.float32([[1, 0], [1, 0]])
    exact = dataclasses.replace(LIMITS, least_cosine=0.59999, mean_cosine=0.79999)
    assert gates.parity(found, expected, exact).passed
    beyond = dataclasses.replace(LIMITS, least_cosine=0.60001, mean_cosine=0.79999)
    assert not gates.parity(found, expected, beyond).passed
    whole = dataclasses.replace(LIMITS, least_cosine=1, mean_cosine=1)
    assert gates.parity(expected, expected, whole).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_fail(bad):
    found, expected = at_angles(1, 1, 1, 1)
    found[2, 1] = bad
    lax = dataclasses.replace(LIMITS, least_cosine=-0.5, mean_cosine=0.4)
    gate = gates.parity(found, expected, lax)
    assert gate.passed is False
    assert "-1.00000 at least" in gate.measured
    found, expected = at_angles(1, 1)
    expected[0, 0] = bad
    assert gates.parity(found, expected, lax).passed is False


def test_half_precision_references_will_do():
    found, expected = at_angles(0.9, 0.95)
    gate = gates.parity(found, expected.astype(np.float16), LIMITS)
    assert gate.passed
    assert "0.92500 on average" in gate.measured


@pytest.mark.parametrize(("same", "passed"), [(10, True), (9, True), (8, False)])
def test_agreement_counts_classes_by_name(same, passed):
    gate = gates.agreement(["a"] * same + ["b"] * (10 - same), ["a"] * 10, LIMITS)
    assert gate.passed is passed
    assert gate.measured.startswith(f"{same} of 10 samples ({10 * same}.0 %)")
    assert (gate.limit, gate.exit_code) == ("90 %", 4)


def test_what_has_to_be_alike_names_its_differences():
    assert gates.same("metadata", []).passed
    gate = gates.same("metadata", ["labels differ", "size differs"])
    assert gate.passed is False
    assert gate.measured == "labels differ; size differs"


@pytest.mark.parametrize(
    ("lost", "passed"), [(-5, True), (0, True), (1, True), (2, True), (3, False), (50, False)]
)
def test_accuracy_may_fall_by_the_limit_and_no_more(lost, passed):
    expected = np.arange(100) < 80
    gate = gates.accuracy(np.arange(100) < 80 - lost, expected, LIMITS)
    assert gate.passed is passed
    assert gate.exit_code == 5
    assert gate.measured.startswith(f"{80 - lost}.0 % after 80.0 %, a drop of {lost}.00 points (")


@pytest.mark.parametrize("n", [7, 30, 100, 300, 1000])
def test_rounding_does_not_decide_about_accuracy(n):
    """A drop of k samples of n, asked as 100 k / n percent, is at the limit and passes."""
    for k in range(1, n, max(1, n // 13)):
        limits = dataclasses.replace(LIMITS, max_drop=100 * k / n)
        expected = np.ones(n, bool)
        assert gates.accuracy(np.arange(n) >= k, expected, limits).passed
        assert not gates.accuracy(np.arange(n) >= k + 1, expected, limits).passed


def timing(milliseconds, rounds=5):
    return Timing(tuple(np.full(4, milliseconds / 1e3) for _ in range(rounds)))


@pytest.mark.parametrize(
    ("precision", "ours", "float32", "passed"),
    [
        ("int8", 9.9, 10, True),
        ("int8", 10, 10, True),
        ("int8", 10.1, 10, False),
        ("fp16", 10.4, 10, True),  # as fast, up to the noise
        ("fp16", 10.6, 10, False),
        ("fp32", 10.4, 10, True),
        ("fp32", 20, 10, False),
    ],
)
def test_speed_beside_float32(precision, ours, float32, passed):
    gate = gates.speed(timing(ours), timing(float32), precision, LIMITS)
    assert gate.passed is passed
    assert gate.exit_code == 6
    assert f"{ours:.2f} ms a photo" in gate.measured
    assert f"{float32 / ours:.2f} times as fast as float32" in gate.measured
    slower = dataclasses.replace(LIMITS, slower=True)
    assert gates.speed(timing(ours), timing(float32), precision, slower).passed


@pytest.mark.parametrize(
    ("precision", "ours", "float32", "passed"),
    [
        ("int8", 5.0, None, True),
        ("int8", 5.01, None, False),
        ("int8", 4.9, 10, True),
        ("int8", 4.9, 4.5, False),  # within the budget, and slower than float32
        ("int8", 5.1, 10, False),
        ("fp16", 4.9, 4.0, True),
        ("fp16", 5.1, 10, False),
    ],
)
def test_speed_with_a_budget(precision, ours, float32, passed):
    limits = dataclasses.replace(LIMITS, budget_ms=5.0)
    reference = None if float32 is None else timing(float32)
    gate = gates.speed(timing(ours), reference, precision, limits)
    assert gate.passed is passed
    assert gate.limit.startswith("5 ms")
    slower = dataclasses.replace(limits, slower=True)
    assert gates.speed(timing(ours), reference, precision, slower).passed is (ours <= 5)


def test_speed_without_anything_to_compare_with_is_not_run():
    gate = gates.speed(timing(1), None, "int8", LIMITS)
    assert gate.passed is None
    assert "comparison" in gate.limit


@pytest.mark.parametrize(
    ("graph", "bundle", "budget", "passed"),
    [
        (1_000_000, 9_000_000, None, True),
        (1_000_001, 1_000_002, None, False),
        (5_000_000, 3_000_000, 3.0, True),
        (1, 3_000_001, 3.0, False),
    ],
)
def test_size(graph, bundle, budget, passed):
    limits = dataclasses.replace(LIMITS, budget_mb=budget)
    gate = gates.size(graph, bundle, 1_000_000, limits)
    assert gate.passed is passed
    assert gate.exit_code == 6
    assert f"graph {graph / 1e6:.2f} MB after 1.00" in gate.measured


def records(**passed):
    codes = {"parity": 4, "accuracy": 5, "speed": 6, "size": 6}
    return [
        GateRecord(
            name=name,
            passed=passed.get(name, True),
            measured=f"{name} as it was",
            limit="some",
            exit_code=code,
        )
        for name, code in codes.items()
    ]


@pytest.mark.parametrize(
    ("failed", "error"),
    [
        (("parity",), ParityError),
        (("accuracy",), AccuracyError),
        (("speed",), BudgetError),
        (("size",), BudgetError),
        (("size", "accuracy"), AccuracyError),  # what is wrong goes before what is slow
        (("speed", "accuracy", "parity"), ParityError),
    ],
)
def test_a_failed_gate_is_its_error_with_the_whole_table(failed, error):
    found = records(**dict.fromkeys(failed, False))
    with pytest.raises(error, match="the export failed the gate") as caught:
        gates.refuse(found, what="the export")
    assert caught.value.exit_code == min({"parity": 4, "accuracy": 5}.get(n, 6) for n in failed)
    lines = str(caught.value).splitlines()[1:]
    for record, line in zip(found, lines[:4], strict=True):
        assert ("FAILED" in line) is (record.name in failed)
        assert record.measured in line
    # And a line for each one that failed, about what to do.
    options = {"accuracy": "--max-drop", "speed": "--allow-slower", "size": "--budget-mb"}
    advice = dict(line.removeprefix("about ").split(": ", 1) for line in lines[4:])
    assert set(advice) == set(failed)
    assert all(options.get(name, "export it again") in text for name, text in advice.items())


def test_limits_laxer_than_edgetls_own_are_named_beside_what_was_found():
    lax = Limits(least_cosine=0.5, mean_cosine=0.6, agreement=0.3, max_drop=7)
    same = np.ones(200, bool)
    for precision, cosines, share in (("int8", "0.98 and 0.9", "90 %"), ("fp32", "0.9999", "99 %")):
        found = (
            gates.parity(*at_angles(1, 1), lax, precision=precision),
            gates.agreement(["a"], ["a"], lax, precision=precision),
            gates.accuracy(same, same, lax, precision=precision),
        )
        for gate, own in zip(found, (cosines, share, "0.5 points"), strict=True):
            assert f"laxer than edgetl's own: {own}" in gate.limit
        strict = gates.parity(*at_angles(1, 1), gates.LIMITS[precision], precision=precision)
        assert "laxer" not in strict.limit
    mixed = dataclasses.replace(gates.LIMITS["int8"], least_cosine=0.899)
    assert "laxer" in gates.parity(*at_angles(1), mixed, precision="int8").limit


@pytest.mark.parametrize(
    ("n", "said"), [(10, "one sample is 10.00 points"), (49, "2.04"), (50, "")]
)
def test_samples_too_few_to_tell_a_drop_are_named(n, said):
    gate = gates.accuracy(np.arange(n) > 0, np.ones(n, bool), LIMITS)
    assert ("one sample is" in gate.measured) is bool(said)
    assert said in gate.measured
    assert gate.passed is (n == 50)


def test_what_a_bundle_says_of_its_gates_can_not_steer_the_terminal():
    gate = GateRecord(
        name="parity: \x1b[2J", passed=False, measured="a\x07\nb", limit="\u202e", exit_code=4
    )
    assert gates.table([gate]) == "parity: ?[2J  FAILED   a??b  [limit: ?]"
    with pytest.raises(ParityError) as caught:
        gates.refuse([gate], what="it")
    assert "\x07" not in str(caught.value)


def test_what_passed_or_was_not_run_is_no_error():
    gates.refuse(records(speed=None), what="the export")
    assert "not run" in gates.table(records(speed=None))
    gates.refuse([], what="the export")


def test_every_precision_has_limits():
    assert set(gates.LIMITS) == {"fp32", "fp16", "bf16", "int8"}
    order = [gates.LIMITS[name].least_cosine for name in ("fp32", "fp16", "bf16", "int8")]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(
    "change",
    [
        {"budget_ms": 0},
        {"budget_ms": float("inf")},
        {"budget_mb": -1},
        {"budget_mb": float("nan")},
        {"agreement": 1.1},
        {"agreement": -0.1},
        {"least_cosine": 2},
        {"least_cosine": -1.5},
        {"mean_cosine": float("nan")},
        {"mean_cosine": -float("inf")},
        {"max_drop": float("nan")},
        {"max_drop": float("inf")},
    ],
)
def test_limits_that_nothing_or_everything_could_keep_to_are_refused(change):
    ((name, _),) = change.items()
    with pytest.raises(ValueError, match=f"{name} must be "):
        dataclasses.replace(LIMITS, **change)
