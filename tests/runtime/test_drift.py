"""Drift: tests against scipy, false alarms at the stated rate, and what is found how soon."""

import itertools
import json
import threading

import numpy as np
import pytest

from edgetl.runtime import DriftMonitor
from edgetl.runtime.drift import NO_CLASS, classes_p_value, smirnov_gap, smirnov_p_value


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 9), (5, 7), (30, 30), (50, 64), (1024, 64), (7, 90)])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5, 4.0])
def test_smirnov_is_scipys_exact_test(rng, sizes, shift):
    stats = pytest.importorskip("scipy.stats")
    first, second = np.sort(rng.normal(size=sizes[0])), np.sort(rng.normal(size=sizes[1]) + shift)
    expected = stats.ks_2samp(first, second, method="exact")
    gap = smirnov_gap(first, second)
    assert gap / (sizes[0] * sizes[1]) == pytest.approx(expected.statistic, abs=1e-12)
    assert smirnov_p_value(gap, *sizes) == pytest.approx(expected.pvalue, rel=1e-9)


def test_smirnov_counts_every_order():
    """All ways to merge 4 and 3 samples, one by one."""
    gaps = []
    for places in itertools.combinations(range(7), 3):
        second = np.array(places, dtype=np.float64)
        first = np.setdiff1d(np.arange(7.0), second)
        gaps.append(smirnov_gap(first, second))
    for gap in range(14):
        share = sum(found >= gap for found in gaps) / len(gaps)
        assert smirnov_p_value(gap, 4, 3) == pytest.approx(share, rel=1e-12)


def test_ties_only_make_smirnov_more_careful(rng):
    levels = [0.5, 0.2, 0.05]
    found = []
    for _ in range(400):
        pool = np.sort(rng.integers(0, 6, 50)).astype(float)
        rng.shuffle(pool)
        gap = smirnov_gap(np.sort(pool[:30]), np.sort(pool[30:]))
        found.append(smirnov_p_value(gap, 30, 20))
    for level in levels:
        assert np.mean(np.array(found) <= level) <= level + 3 * (level / 400) ** 0.5


def test_classes_are_fishers_exact_test(rng):
    stats = pytest.importorskip("scipy.stats")
    first, recent = rng.choice(3, 120, p=[0.7, 0.25, 0.05]), rng.choice(3, 40, p=[0.4, 0.3, 0.3])
    expected = []
    for code in range(3):
        a, b = int((first == code).sum()), int((recent == code).sum())
        table = [[a, 120 - a], [b, 40 - b]]
        tails = [stats.fisher_exact(table, alternative=side).pvalue for side in ("less", "greater")]
        expected.append(2 * min(tails))
    share, p_value = classes_p_value(first.tolist(), recent.tolist())
    assert p_value == pytest.approx(min(1.0, 3 * min(expected)), rel=1e-9)
    assert share == pytest.approx(
        max(abs(np.mean(first == code) - np.mean(recent == code)) for code in range(3))
    )


def test_false_alarms_are_as_rare_as_promised(rng):
    """300 devices, each with a reference of its own, tested all the time."""
    stats = pytest.importorskip("scipy.stats")
    alarms = tests = 0
    for _ in range(300):
        monitor = DriftMonitor(rng.gamma(2, size=100), false_alarms=0.2)
        codes = rng.choice(4, 1000, p=[0.6, 0.25, 0.1, 0.05])
        monitor.watch(rng.gamma(2, size=1000).tolist(), codes.tolist())
        alarms += monitor.drifted
        tests += monitor.report.tests
    assert tests == 300 * 59
    assert 0 < alarms <= stats.binom.ppf(0.999, 300, 0.2)


def test_one_test_alone_has_its_level(rng):
    """The first test is at 1/4 of the promised rate: not so careful that it finds nothing."""
    stats = pytest.importorskip("scipy.stats")
    alarms = 0
    for _ in range(1500):
        monitor = DriftMonitor(rng.normal(size=150), false_alarms=0.4)
        monitor.watch(rng.normal(size=64).tolist(), [0] * 64)
        assert monitor.report.tests == 1
        alarms += monitor.drifted
    # The statistic takes few values near the level, so the true rate lies somewhat below it.
    low, high = stats.binom.ppf([0.0005, 0.9995], 1500, 0.1)
    assert 0.7 * low <= alarms <= high


@pytest.mark.parametrize("scale", [1.0, 0.0, -1.0], ids=["stranger", "stuck", "nearer"])
def test_other_scores_are_found_within_a_window_or_two(rng, scale):
    monitor = DriftMonitor(rng.normal(size=300))
    monitor.watch(rng.normal(size=400).tolist(), [0] * 400)
    assert not monitor.drifted and monitor.report.since is None
    later = scale * (2 + 0.5 * np.abs(rng.normal(size=128)))
    monitor.watch(later.tolist(), [0] * 128)
    report = monitor.report
    assert report.drifted and report.found.watched == "novelty" and report.found.alarm
    assert 400 - 64 <= report.since <= 464
    assert report.found.p_value <= report.found.level < report.false_alarms
    assert json.loads(json.dumps(report.to_json()))["found"]["watched"] == "novelty"
    assert repr(monitor) == f"DriftMonitor(drift since answer {report.since}, 528 answers)"


def test_other_classes_are_found(rng):
    monitor = DriftMonitor(rng.normal(size=300))
    usual = rng.choice(3, 500, p=[0.5, 0.3, 0.2])
    monitor.watch(rng.normal(size=500).tolist(), usual.tolist())
    assert not monitor.drifted
    assert {test.watched for test in monitor.report.latest} == {"novelty", "classes"}
    monitor.watch(rng.normal(size=128).tolist(), [NO_CLASS] * 128)
    report = monitor.report
    assert report.drifted and report.found.watched == "classes"
    assert 0.1 < report.found.statistic < 0.5  # noticed before the window had nothing else
    assert {test.watched: test.statistic for test in report.latest}["classes"] == 1


def test_an_alarm_stays_until_reset_and_can_be_accepted(rng):
    monitor = DriftMonitor(rng.normal(size=300))
    monitor.watch((rng.normal(size=256) + 3).tolist(), [0] * 256)
    first = monitor.report
    monitor.watch(rng.normal(size=128).tolist(), [0] * 128)
    assert monitor.report.found == first.found and monitor.report.since == first.since == 0
    monitor.reset()
    assert not monitor.drifted and monitor.report.answers == monitor.report.tests == 0
    monitor.watch((rng.normal(size=256) + 3).tolist(), [0] * 256)
    assert monitor.drifted
    monitor.reset(accept=True)  # the new normal
    monitor.watch((rng.normal(size=256) + 3).tolist(), [0] * 256)
    assert not monitor.drifted
    monitor.reset(reference=rng.normal(size=100))
    monitor.watch((rng.normal(size=64) + 3).tolist(), [0] * 64)
    assert monitor.drifted
    with pytest.raises(ValueError, match="not both"):
        monitor.reset(reference=np.zeros(9), accept=True)


def test_too_few_known_scores_are_not_compared(rng):
    monitor = DriftMonitor(np.zeros(7))
    monitor.watch((rng.normal(size=200) + 9).tolist(), [0] * 200)
    assert not monitor.drifted and monitor.report.latest == ()


@pytest.mark.parametrize(
    "arguments",
    [{"window": 15}, {"false_alarms": 0.0}, {"false_alarms": 1.0}, {"reference": [np.nan]}],
)
def test_unusable_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=r"window|finite"):
        DriftMonitor(**{"reference": np.zeros(9), **arguments})


def test_threads_lose_no_answer(rng):
    monitor = DriftMonitor(rng.normal(size=300))
    lists = [rng.normal(size=500).tolist() for _ in range(6)]

    def work(scores):
        for score in scores:
            monitor.watch([score], [0])
            assert monitor.report.answers > 0

    threads = [threading.Thread(target=work, args=(scores,)) for scores in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = monitor.report
    assert (report.answers, report.tests) == (3000, 1 + (3000 - 64) // 16)
    assert not report.drifted
