"""Timing in turns, with a clock that the tests hold."""

import numpy as np
import pytest

from edgetl.exporter import timing
from edgetl.exporter.timing import Ratio, Timing, interleaved, ratio


class Clock:
    """A clock that only moves when a contestant or a pause says so."""

    def __init__(self):
        self.now = 0.0
        self.events = []

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.events.append(("pause", seconds))

    def contestant(self, name, durations):
        """A call that takes the next of `durations`, the last one ever after."""
        left = list(durations)

        def call():
            self.events.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_blocks_take_turns_after_a_pause_and_two_warm_calls(clock):
    contestants = {"a": clock.contestant("a", [1.0]), "b": clock.contestant("b", [2.0])}
    times = interleaved(contestants, rounds=2, calls=3, pause=0.5)
    pause = ("pause", 0.5)
    first = [pause, *"aaaaa", pause, *"bbbbb"]
    second = [pause, *"bbbbb", pause, *"aaaaa"]
    assert clock.events == first + second
    assert list(times) == ["a", "b"]
    assert [len(block) for block in times["a"].rounds] == [3, 3]
    np.testing.assert_array_equal(times["b"].seconds, [2.0] * 6)


def test_the_calls_that_warm_up_are_not_counted(clock):
    times = interleaved({"a": clock.contestant("a", [50.0, 9.0, 1.0])}, rounds=1, calls=4)
    assert times["a"].seconds.tolist() == [1.0] * 4


def test_seconds_are_shared_by_the_rounds(clock):
    """Ten seconds over five rounds: a block ends with the call that reaches two seconds."""
    times = interleaved({"a": clock.contestant("a", [0.75])}, rounds=5, calls=100, seconds=10)
    assert [len(block) for block in times["a"].rounds] == [3] * 5


def test_a_call_longer_than_its_share_is_warmed_and_timed_once(clock):
    times = interleaved({"a": clock.contestant("a", [60.0])}, rounds=2, calls=100, seconds=1)
    assert [len(block) for block in times["a"].rounds] == [1, 1]
    assert clock.events.count("a") == 4


def test_percentiles_are_numpys_over_all_calls():
    rng = np.random.default_rng(0)
    seconds = rng.exponential(size=(7, 11))
    measured = Timing(tuple(seconds))
    assert measured.calls == 77
    expected = np.sort(seconds.ravel())
    assert measured.median == expected[38]
    assert measured.p10 == pytest.approx(expected[7] + 0.6 * (expected[8] - expected[7]))
    assert measured.p90 == pytest.approx(expected[68] + 0.4 * (expected[69] - expected[68]))
    assert measured.round_medians == tuple(np.sort(row)[5] for row in seconds)


def test_a_ratio_survives_a_machine_that_slows_down():
    """All medians together would say 10; round by round it is 2 every time but once."""
    drift = np.array([1.0, 1.0, 10.0, 10.0, 10.0])
    slow = Timing(tuple(np.full(3, 2 * value) for value in drift))
    fast = Timing(tuple(np.full(3, value) for value in [*drift[:4], 5.0]))
    assert ratio(slow, fast) == pytest.approx((2.0, 2.0, 3.2))
    assert ratio(slow, fast).inverse == pytest.approx(Ratio(0.5, 1 / 3.2, 0.5))


def test_timings_of_two_runs_are_not_compared():
    with pytest.raises(ValueError, match="2 and 1 rounds"):
        ratio(Timing((np.ones(1), np.ones(1))), Timing((np.ones(1),)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "rounds"),
        ({"calls": 0}, "calls"),
        ({"calls": -3}, "-3"),
        ({"pause": -1.0}, "pause"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
    ],
)
def test_impossible_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        interleaved({"a": lambda: None}, **options)


def test_nobody_is_refused():
    with pytest.raises(ValueError, match="at least one contestant"):
        interleaved({})
